"""What an evaluation in training is judged by: accuracy; with several labels an image, mAP; without labels, the loss."""

from collections.abc import Mapping
from typing import Any

NAMES = ("top1", "map")
"""The figures that stand before all others: a higher one is better."""
SAID = {"top1": "top-1", "top5": "top-5", "map": "mAP", "micro_f1": "micro F1", "macro_f1": "macro F1"}
"""Figures that are shown, in this order, and how they are called."""


def find_headline(metrics: Mapping[str, Any]) -> str | None:
    """Return the name of the figure that an evaluation is judged by; None where it has a loss alone."""
    return next((name for name in NAMES if name in metrics), None)


def select_judged(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return what is kept of the best evaluation: its headline and its loss."""
    return {name: metrics[name] for name in (*NAMES, "loss") if name in metrics}


def rank_evaluation(metrics: Mapping[str, Any]) -> tuple[float, float]:
    """Return what the best evaluation has most of: the headline, and at an equal one the least loss."""
    name = find_headline(metrics)
    return metrics[name] if name else 0.0, -metrics.get("loss", float("inf"))


def format_figure(name: str, value: float) -> str:
    """Write a number: average precision and loss to four digits, shares in percent."""
    return f"{value:.4f}" if name in ("map", "loss") else f"{value:.2%}"


def format_named(name: str, value: float) -> str:
    """Write a figure, or the loss, with what it is called."""
    return f"{SAID.get(name, name)} {format_figure(name, value)}"


def format_reached(metrics: Mapping[str, Any]) -> str:
    """Write what an evaluation came to, in short: its headline, or its loss."""
    name = find_headline(metrics) or "loss"
    return format_named(name, metrics[name])
