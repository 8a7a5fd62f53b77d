"""The figure by which training judges an evaluation: accuracy; mAP with several labels an image; the loss without
labels."""

from collections.abc import Mapping
from typing import Any

NAMES = ("top1", "map")
"""Headline figures; higher is better."""
SAID = {"top1": "top-1", "top5": "top-5", "map": "mAP", "micro_f1": "micro F1", "macro_f1": "macro F1"}
"""Figures to show, in this order, with their names."""


def find_headline(metrics: Mapping[str, Any]) -> str | None:
    """Return the name of the figure that judges an evaluation; None if it has only a loss."""
    return next((name for name in NAMES if metrics.get(name) is not None), None)


def select_judged(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return what is recorded of the best evaluation: its headline and its loss."""
    return {name: metrics[name] for name in (*NAMES, "loss") if metrics.get(name) is not None}


def rank_evaluation(metrics: Mapping[str, Any]) -> tuple[float, float]:
    """Return the sort key for the best evaluation: the highest headline, and among equal ones the lowest loss."""
    name = find_headline(metrics)
    return metrics[name] if name else 0.0, -metrics.get("loss", float("inf"))


def format_figure(name: str, value: float) -> str:
    """Format a number: average precision and loss with four digits, shares in percent."""
    return f"{value:.4f}" if name in ("map", "loss") else f"{value:.2%}"


def format_interval(interval: tuple[float, float], digits: int = 1) -> str:
    """Format a 95% interval of a share, its ends in percent.

    >>> format_interval((0.396, 0.705))
    '95% interval 39.6% to 70.5%'
    """
    low, high = interval
    return f"95% interval {low:.{digits}%} to {high:.{digits}%}"


def format_named(name: str, value: float) -> str:
    """Format a figure, or the loss, with its name."""
    return f"{SAID.get(name, name)} {format_figure(name, value)}"


def format_reached(metrics: Mapping[str, Any]) -> str:
    """Format an evaluation's result in short: its headline, or its loss."""
    name = find_headline(metrics) or "loss"
    return format_named(name, metrics[name])
