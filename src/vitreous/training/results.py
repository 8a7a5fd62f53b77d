"""The result of a run, and the description of one before it begins."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from vitreous.characters import escape
from vitreous.data.dataset import Facts
from vitreous.evaluation.baselines import Baselines
from vitreous.evaluation.final_test import TestMeasurement
from vitreous.evaluation.handover import Handover
from vitreous.metrics.headline import format_reached
from vitreous.objectives.config import ClassifyConfig
from vitreous.reports.notebook import embed_page
from vitreous.run_folder import read_run
from vitreous.runtime.data_frames import Tabular
from vitreous.runtime.display import Shown, format_text
from vitreous.storage.run_config import find_own_run
from vitreous.training.changes import format_differences
from vitreous.training.config import RunConfig
from vitreous.training.cost import Cost
from vitreous.training.loop import Stopped
from vitreous.training.reporter import format_duration
from vitreous.weights.auto_weights import find_licence
from vitreous.weights.compatibility import describe

NO_BETTER = "the model is no better than these; try a lower rate (--lr), a longer run (--minutes) or pre-trained weights (--weights auto)"


@dataclass(frozen=True, repr=False)
class TrainResult(Shown, Tabular):
    """The result of a run."""

    run: Path
    """The run folder."""
    model: Path | None
    """The model folder inside it, if an evaluation was reached."""
    report: Path | None
    """The report inside it, if the run reached its end."""
    metrics: dict[str, float]
    """The validation numbers of the exported weights: step, loss, top1 (or map), ..."""
    stopped: Stopped
    """Why training ended."""
    signal: int | None = None
    """Number of the signal that interrupted it."""
    baselines: Baselines | None = None
    """Results without a network on the same images, if measured."""
    handover: Handover | None = None
    """Best and last evaluation, which of them was exported and why, and whether the run has overfitted."""
    test: TestMeasurement | None = None
    """The exported model's result on the test split of the data, if there is one."""
    folds: str | None = None
    """The result of cross-validation, in words; `metrics` are then means over the folds."""
    rounds: str | None = None
    """The result of each round of self-training, in words; everything else is the last student's."""

    def __str__(self) -> str:
        ended = {"interrupted": "interrupted", "early": "stopped early"}.get(self.stopped, "finished")
        judged = "mean of the folds," if self.folds else "validation"
        lines = [one for one in (self.folds, self.rounds) if one]
        lines += [f"the model of all images on the test split: {self.test}"] if self.folds and self.test else []
        lines += ["", f"{ended}{f': {judged} {format_reached(self.metrics)}' if self.metrics else ''}"]
        lines += [str(self.handover)] if self.handover else []
        lines += [f"without a network: {self.baselines}"] if self.baselines else []
        lines += [f"note: {NO_BETTER}"] if self.is_no_better and self.stopped != "interrupted" else []
        places = {"run": self.run, "model": self.model, "report": self.report}
        return "\n".join([*lines, *(f"  {name:<7} {place}" for name, place in places.items() if place)]).lstrip("\n")

    @property
    def is_no_better(self) -> bool:
        """Whether the exported model is no more accurate than what needs no network."""
        found, top1 = self.baselines, self.metrics.get("top1")
        return found is not None and top1 is not None and top1 <= max(found.majority, found.histogram)

    def _repr_html_(self) -> str:
        """Return the run's page for a notebook, or its figures where there is none yet."""
        return embed_page(self.report.read_text(encoding="utf-8")) if self.report else format_text(self)

    @cached_property
    def columns(self) -> dict[str, list[Any]]:
        """What the run recorded in training and at evaluations, as columns, in order: kind, step, epoch, loss, ...; None where a record has none."""
        records = read_run(find_own_run(self.run) or self.run).metrics
        records = [one for one in records if one.get("kind") in ("train", "evaluation")]
        names = dict.fromkeys(
            name for one in records for name, value in one.items() if not isinstance(value, dict | list)
        )
        return {name: [one.get(name) for one in records] for name in names}


SMALL = 1e17
"""Operations below which a run's cost is nothing to speak of: minutes of a GPU."""


@dataclass(frozen=True, repr=False)
class DryRun(Shown):
    """The description of a run before it begins."""

    config: RunConfig
    parameters: int
    flops: int
    """Operations of one image's forward pass."""
    memory: int
    """Estimated peak of training, in bytes: weights, gradients, optimizer state and activations."""
    steps: int
    loss: float | None
    """Loss of one real batch, or of its first examples; None where there was no memory for one."""
    seconds: float | None
    """Seconds of that step."""
    folds: str = ""
    """Description of the runs of a cross-validation or a self-training; the fields above are then its configuration, and a batch
    of no particular fold, or of the first teacher."""
    facts: Facts | None = None
    """Facts about the data: classes, images, their size."""
    epoch: int = 0
    """Examples of an epoch, pseudo-labelled ones included."""
    test: int = 0
    """Images that are measured once, at the end."""
    forecast: float = 0.0
    """Approximate seconds that the run takes on this machine, without evaluations."""
    machine: str = ""
    """This machine: device and threads."""
    examples: int = 0
    """Examples of the batch that were tried."""
    cost: Cost | None = None
    """Operations, GPU-hours, and memory in each process."""
    changed: dict[str, list[Any]] = field(default_factory=dict)
    """Settings that differ from the recipe's choice, by dotted name: the recipe's value, and the requested one."""
    out: str = ""
    """The run folder that would be made."""

    def __str__(self) -> str:
        config, objective = self.config, self.config.objective
        start = f"from {escape(config.weights)}" if config.weights else "from scratch"
        known = find_licence(config.weights) if config.weights else ""
        licence = f" (licence {known})" if known else ""
        labels = "" if isinstance(objective, ClassifyConfig) else f", objective {objective.KIND}, without labels"
        table = {
            "data": "\n".join(self._describe_data()),
            "model": f"{describe(config.model)}, {config.model.channels} channel{'s'[: config.model.channels > 1]}",
            "parameters": f"{self.parameters:,}; {self.flops / 1e9:.3f} GFLOPs an image (forward)",
            "memory": f"about {self.memory / 2**20:,.0f} MiB in training, data aside",
            "recipe": f"{config.recipe}, {start}{licence}{labels}",
            "teacher": escape(config.teacher or ""),
            "steps": self._describe_length(),
            **self._describe_trial(),
            "cost": str(self.cost) if self.cost and (self.cost.operations > SMALL or self.cost.processes > 1) else "",
            "changed": escape(format_differences(self.changed, most=20)),
            "run folder": escape(self.out),
        }
        lines = [f"{name:12} {one}" for name, text in table.items() for name, one in label_lines(name, text)]
        return "\n".join([*lines, *([f"\n{self.folds}"] if self.folds else [])])

    def _describe_trial(self) -> dict[str, str]:
        """Describe the batch that was tried, and how long all of them would take."""
        if self.loss is None:
            return {"one batch": "not tried: this machine lacks the memory for even one example of a run of this size"}
        some = f" of {self.examples:,} of its {self.config.batch:,} images" if self.examples < self.config.batch else ""
        return {
            "time": f"about {format_duration(self.forecast)} on this machine ({self.machine}), evaluations aside",
            "one batch": f"loss {self.loss:.4f}, {self.seconds:.2f} s{some} (the first, so slower than later ones)",
        }

    def _describe_data(self) -> list[str]:
        """Describe the data and its splits in two lines."""
        facts = self.facts
        if facts is None:
            return [escape(self.config.data.path)]
        each = f" of {min(facts.counts):,} to {max(facts.counts):,} images" if facts.counts else ""
        test = f", {self.test:,} for the test at the end" if self.test else ""
        rows, cols = self.config.model.image
        return [
            f"{escape(self.config.data.path)}: {facts.train:,} images to train on, {facts.validation:,} for validation{test}",
            f"{len(facts.classes):,} classes{each} to train on; {facts.size} in the median, seen as {rows}x{cols}",
        ]

    def _describe_length(self) -> str:
        """Describe the length of the run and the course of its learning rate."""
        config, schedule = self.config, self.config.schedule
        if not self.steps:
            views = f" and {config.head_views} augmented views of each" if config.head_views else ""
            again = "; once it is measured, to those of the held-out images too" if config.refit else ""
            return f"none; the head is fitted to the frozen features of the training images{views}{again}"
        epochs = f", {self.steps * config.batch / self.epoch:,.4g} epochs" if self.epoch else ""
        peak = config.optimizer.scale_to(config.batch).lr
        rate = f"{config.optimizer.name}, learning rate to {peak:g}, then {schedule.kind}"
        return f"{self.steps:,} of {config.batch} images{epochs} ({config.duration}); {rate}"


def label_lines(name: str, text: str) -> list[tuple[str, str]]:
    """Return the lines of a text, the first one with its name; none for an empty text."""
    return [(name if place == 0 else "", line) for place, line in enumerate(text.splitlines())]
