"""The models of a run: its best and its last evaluation, which of the two was exported, and why."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from vitreous.errors import CheckpointError
from vitreous.evaluation.final_test import (
    SplitFigures,
    TestMeasurement,
    describe_measurements,
    read_measurements,
)
from vitreous.evaluation.overfitting import Overfitting, find_overfitting
from vitreous.evaluation.refit import Refit, read_refit
from vitreous.metrics.headline import select_judged
from vitreous.run_folder import RunRecord
from vitreous.runtime.display import Shown
from vitreous.weights.model_folder import read_origin


@dataclass(frozen=True)
class Handover(Shown):
    """The evaluations of a run, and which of them was exported."""

    best: SplitFigures
    last: SplitFigures
    exported: int
    """Step of the weights in the model folder."""
    evaluations: int
    kept: Path | None = None
    """The model folder of the best evaluation, if another one was exported."""
    overfitting: Overfitting | None = None
    pretrained: bool = False
    """Whether the run began with pre-trained weights."""
    learned: bool = False
    """Whether the images are among those trained on, for lack of others."""
    refit: Refit | None = None
    """The second fit of the exported model's head, to the held-out images too."""
    measured: Path | None = None
    """The model folder as it was before that fit."""
    tests: list[TestMeasurement] = field(default_factory=list)
    """Every measurement of the test split."""
    selects: bool = True
    """Whether the run exports the best evaluation, rather than the last whatever it is."""

    def __str__(self) -> str:
        return "\n".join(f"  {word:<12} {said}" for word, said in self.lines)

    @property
    def lines(self) -> list[tuple[str, str]]:
        """The summary at the end of a training: pairs of a word and a sentence."""
        if self.best.step == self.last.step:
            said = [("best, last", str(self.best))]
        else:
            said = [("best", str(self.best)), ("last", str(self.last))]
        said.append(("handed over", self.reason))
        if self.refit is not None:
            said.append(("refitted", str(self.refit)))
            said.append(("measured", f"the model before that, in {self.measured}" if self.measured else "it is gone"))
        if self.exported != self.best.step:
            said.append(("kept", f"the best, in {self.kept}" if self.kept else "not the best: its weights are gone"))
        if self.caveat:
            said.append(("note", self.caveat))
        if self.tests:
            said.append(("test", f"{self.tests[-1]}; {describe_measurements(self.tests)}"))
        if self.overfitting is not None:
            said.append(("overfitting", f"{self.overfitting}. {self.remedy}"))
        return said

    def describe_for_others(self, step: int) -> tuple[str, ...]:
        """Return facts about one step's model for people elsewhere, one sentence each, without paths of this
        machine."""
        lines = replace(self, exported=step).lines
        return tuple(f"{word}: {said}" for word, said in lines if word not in ("kept", "measured", "overfitting"))

    @property
    def reason(self) -> str:
        """Which evaluation's model was exported, and why."""
        if self.evaluations == 1:
            return f"the model of step {self.exported:,}, the only one that was evaluated"
        if self.exported == self.best.step == self.last.step:
            return f"the last, which is the best of {self.evaluations} evaluations"
        if self.exported == self.best.step:
            return f"the best of {self.evaluations} evaluations, chosen by the held-out images"
        if self.exported != self.last.step:
            return f"the model of step {self.exported:,}, neither the best nor the last"
        return "the last, whatever the held-out images say (--export best would export the best)"

    @property
    def chosen(self) -> bool:
        """Whether the exported model was chosen among several by its evaluation: not the last of a run that exports it in
        any case."""
        best = self.exported == self.best.step and (self.selects or self.best.step != self.last.step)
        return best and self.evaluations > 1

    @property
    def caveat(self) -> str:
        """How choosing by the held-out images affects their figures; empty if nothing was chosen."""
        if not self.chosen or self.learned:
            return ""
        return (
            f"it was chosen as the best of {self.evaluations} evaluations on the same images, which flatters it a "
            "little; expect less on new images"
        )

    @property
    def remedy(self) -> str:
        """What to do about overfitting."""
        since = self.overfitting.since if self.overfitting else None
        first = ""
        if since is not None and self.exported > since:
            first = "The best is in best/; the next run exports it by --export best, or stops earlier (--duration, --early-stop.patience 3). "
        elif since is not None:
            first = (
                "The exported model is from before most of that; a shorter run (--duration) would have been enough. "
            )
        start = "" if self.pretrained else "pre-trained weights (--weights auto), "
        return f"{first}More images help most; then {start}stronger augmentation (--augment.randaugment 2 10), or a smaller --model"


def describe_handover(record: RunRecord) -> Handover | None:
    """Return a run's models, from its records and its model folders; None before its first evaluation and export."""
    held = [one for one in record.metrics if one.get("kind") == "evaluation" and one.get("loss") is not None]
    exported = read_step(record.model)
    if not held or exported is None:
        return None
    settings, data = (record.config.get(name) or {} for name in ("config", "data"))
    images, learned = int(data.get("validation") or 0), bool(data.get("validation_learned"))
    which = "images that it learned from" if learned else "held-out images"
    best = next((one for one in reversed(held) if one.get("best")), held[-1])
    found, last = (SplitFigures(one["step"], select_judged(one), images, which) for one in (best, held[-1]))
    return Handover(
        best=found,
        last=last,
        exported=exported,
        evaluations=len({one["step"] for one in held}),
        selects=settings.get("export") != "last",
        refit=read_refit(record.model),
        measured=record.measured,
        kept=record.best if read_step(record.best) == found.step else None,
        overfitting=find_overfitting(record.metrics, images) if images and not learned else None,
        pretrained=settings.get("weights") is not None,
        learned=learned,
        tests=read_measurements(record.path),
    )


def read_step(model: Path | None) -> int | None:
    """Return the step of the weights in a run's model folder; None if there is none, or it doesn't say."""
    try:
        return None if model is None else read_origin(model).get("step")
    except CheckpointError:
        return None
