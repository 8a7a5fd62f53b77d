"""What a run came to, and what one would be."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitreous.evaluation.baselines import Baselines
from vitreous.evaluation.final_test import TestMeasurement
from vitreous.evaluation.handover import Handover
from vitreous.metrics.headline import format_reached
from vitreous.reports.notebook import embed_page
from vitreous.run_folder import is_run, read_run
from vitreous.runtime.data_frames import data_frame
from vitreous.runtime.display import Shown, format_text
from vitreous.settings import to_dict
from vitreous.storage.run_config import FINAL
from vitreous.training.config import RunConfig
from vitreous.training.loop import Stopped

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, repr=False)
class TrainResult(Shown):
    """What a run came to."""

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

    def __str__(self) -> str:
        ended = {"interrupted": "interrupted", "early": "stopped early"}.get(self.stopped, "finished")
        judged = "mean of the folds," if self.folds else "validation"
        lines = [self.folds] if self.folds else []
        lines += [f"the model of all images on the test split: {self.test}"] if self.folds and self.test else []
        lines += ["", f"{ended}{f': {judged} {format_reached(self.metrics)}' if self.metrics else ''}"]
        lines += [str(self.handover)] if self.handover else []
        lines += [f"without a network: {self.baselines}"] if self.baselines else []
        places = {"run": self.run, "model": self.model, "report": self.report}
        return "\n".join([*lines, *(f"  {name:<7} {place}" for name, place in places.items() if place)]).lstrip("\n")

    def _repr_html_(self) -> str:
        """Return the run's page for a notebook, or its figures where there is none yet."""
        return embed_page(self.report.read_text(encoding="utf-8")) if self.report else format_text(self)

    @cached_property
    def columns(self) -> dict[str, list[Any]]:
        """What the run recorded in training and at evaluations, as columns, in order: kind, step, epoch, loss, ...; None where a record has none."""
        records = read_run(find_run(self.run)).metrics
        records = [one for one in records if one.get("kind") in ("train", "evaluation")]
        names = dict.fromkeys(
            name for one in records for name, value in one.items() if not isinstance(value, dict | list)
        )
        return {name: [one.get(name) for one in records] for name in names}

    def to_pandas(self) -> "pandas.DataFrame":
        """Return `columns` as a pandas frame; raises ConfigError where pandas is not installed."""
        return data_frame(self.columns)


@dataclass(frozen=True, repr=False)
class DryRun(Shown):
    """What a run would be."""

    config: RunConfig
    parameters: int
    flops: int
    """Operations of one image's forward pass."""
    memory: int
    """Estimated peak of training, in bytes: weights, gradients, optimizer state and activations."""
    steps: int
    loss: float
    """Of one real batch."""
    seconds: float
    """That one step took."""
    folds: str = ""
    """Description of the runs of a cross-validation; the fields above are then its configuration, and a batch of no
    particular fold."""

    def __str__(self) -> str:
        rows, cols = self.config.model.image
        lines = [
            json.dumps(to_dict(self.config), indent=2),
            f"\nparameters   {self.parameters:,}",
            f"FLOPs        {self.flops / 1e9:.3f} G an image of {rows}x{cols} (forward)",
            f"memory       about {self.memory / 2**20:,.0f} MiB in training, data aside",
            f"steps        {self.steps:,} of {self.config.batch} images ({self.config.duration})",
            f"one batch    loss {self.loss:.4f}, {self.seconds:.2f} s (the first, so slower than later ones)",
        ]
        return "\n".join([*lines, *([f"\n{self.folds}"] if self.folds else [])])


def find_run(path: Path) -> Path:
    """Return the run of a run folder; of a sweep or a cross-validation the last one, whose model it hands over."""
    return path if is_run(path) or not is_run(path / FINAL) else path / FINAL
