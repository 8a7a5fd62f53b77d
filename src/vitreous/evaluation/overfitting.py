"""Find overfitting in a run's own records: training keeps improving, but the held-out images don't."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from vitreous.metrics.classification import wilson_interval
from vitreous.metrics.headline import SAID, find_headline
from vitreous.runtime.display import Shown

RISE, LEAST_RISE, FALL = 0.15, 0.05, 0.10
"""Thresholds: the held-out loss rises by this share of its lowest, and by this many nats; the training loss falls by
this share."""
AFTER = 2
"""Evaluations after the lowest held-out loss that must all have risen: a single one may be chance."""
GAP = 0.15
"""Gap threshold: training accuracy exceeds held-out accuracy by this, and the upper end of its interval."""
WINDOW = 0.1
"""Share of the run's steps over which training figures are averaged."""
SHARES = (("accuracy", "top1"), ("micro_f1", "micro_f1"))
"""Figures of training records, with those of evaluations to compare them with."""
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Overfitting(Shown):
    """Signs of overfitting in a run's records; at least one of the two."""

    since: int | None = None
    """Step of the lowest held-out loss, after which it rose while the training loss fell; None if it did not."""
    held_out: tuple[float, float] = (0.0, 0.0)
    """Held-out loss at that step and at the end."""
    training: tuple[float, float] = (0.0, 0.0)
    """Training loss at that step and at the end."""
    shares: tuple[float, float] | None = None
    """Accuracy (several labels an image: micro F1) at the end, on training and on held-out images, if they are far
    apart."""
    figure: str = "top1"
    """Name of that figure."""

    def __str__(self) -> str:
        said = []
        if self.since is not None:
            said.append(
                "from step {:,} on the held-out loss rose from {:.3g} to {:.3g} while the training loss fell from {:.3g} to {:.3g}".format(
                    self.since, *self.held_out, *self.training
                )
            )
        if self.shares is not None:
            name = SAID[self.figure]
            said.append(
                f"{name} at the end {self.shares[0]:.1%} on training images, {self.shares[1]:.1%} on held-out ones"
            )
        return "; ".join(said)


def find_overfitting(records: Sequence[Record], images: int) -> Overfitting | None:
    """Return the signs of overfitting in records; None if there are none, as in a run without steps.

    Either sign is enough. The held-out loss has risen from its lowest: at least the last two evaluations exceed it by
    15% and 0.05 nats, while the training loss fell by 10% or more and the headline (accuracy, mAP) has not improved. Or
    the training accuracy at the end (mean over the last tenth of the steps, augmented images) exceeds the held-out one
    by 15 points and its 95% interval.

    Args:
        records: those of metrics.jsonl, in order: of training with step and loss, and accuracy or micro_f1 if there is
            one;
            of evaluations with step and loss, and top1 or micro_f1.
        images: number of held-out images, at least 1.
    """
    train = [one for one in records if one.get("kind") == "train" and one.get("loss") is not None]
    held = [one for one in records if one.get("kind") == "evaluation" and one.get("loss") is not None]
    if not train or not held:
        return None
    rise, gap = find_rise(train, held), find_gap(train, held[-1], images)
    return replace(rise, shares=gap.shares, figure=gap.figure) if rise and gap else rise or gap


def find_rise(train: Sequence[Record], held: Sequence[Record]) -> Overfitting | None:
    """Return the step since which the held-out loss has risen while the training loss fell, if so."""
    lowest = min(held, key=lambda one: one["loss"])
    last, name = held[-1], find_headline(held[-1])
    after = [one["loss"] for one in held if one["step"] > lowest["step"]]
    border = max(lowest["loss"] * (1 + RISE), lowest["loss"] + LEAST_RISE)
    if len(after) < AFTER or min(after[-AFTER:]) < border or (name and last[name] > lowest.get(name, 0.0)):
        return None
    before, now = (average_before(train, one["step"], "loss") for one in (lowest, last))
    if now > before - FALL * abs(before):
        return None
    return Overfitting(lowest["step"], (lowest["loss"], last["loss"]), (before, now))


def find_gap(train: Sequence[Record], last: Record, images: int) -> Overfitting | None:
    """Return the training and the held-out share at the end if the first is far above the second."""
    for learned, measured in SHARES:
        if last.get(measured) is None or train[-1].get(learned) is None:
            continue
        share = average_before(train, last["step"], learned)
        _, high = wilson_interval(round(last[measured] * images), images)
        if share > max(last[measured] + GAP, high):
            return Overfitting(shares=(share, last[measured]), figure=measured)
    return None


def average_before(train: Sequence[Record], step: int, name: str) -> float:
    """Return the mean of a training figure over the tenth of the run that ends at a step, or the nearest record's."""
    width = max(1.0, WINDOW * train[-1]["step"])
    known = [one for one in train if one.get(name) is not None]
    near = [one[name] for one in known if step - width < one["step"] <= step]
    return fmean(near) if near else min(known, key=lambda one: abs(one["step"] - step))[name]
