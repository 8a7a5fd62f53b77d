"""A job: everything that one training run works with, and the part of it that a checkpoint holds."""

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from vitreous.data.sources.base import Source
from vitreous.data.stream.loader import TrainStream
from vitreous.errors import CheckpointError
from vitreous.evaluation.probes.features import Features
from vitreous.model.factory import Model
from vitreous.objectives.base import Objective
from vitreous.shapes import Size
from vitreous.training.config import RunConfig
from vitreous.training.optimizer import Optimizer
from vitreous.training.schedule import Schedule


@dataclass
class Progress:
    """The progress of a run. All of it goes into each checkpoint, as JSON; floats survive exactly."""

    step: int = 0
    """Optimizer steps taken."""
    evaluated: int = 0
    """Step of the last evaluation."""
    best: dict[str, float] | None = None
    """step, headline (top1; map with several labels an image; none without labels) and loss of the best evaluation so far."""
    stale: int = 0
    """Evaluations since the best."""
    finished: bool = False
    """Whether the run has reached its end."""
    seconds: float = 0.0
    """Time spent in training steps, in seconds."""
    head: dict[str, float] | None = None
    """Figures of a head by logistic regression before the first step: l2, accuracy on training images that its fits
    had not seen, that accuracy's interval from low to high, views of each image, and the temperature of those
    predictions."""
    window: dict[str, float] = field(default_factory=lambda: {"loss": 0.0, "correct": 0.0, "samples": 0.0})
    """Sums since the last training record."""


@dataclass
class Job:
    """The moving parts of a run. Only the model, the optimizer, the average, the progress and `whole` change."""

    config: RunConfig
    classes: tuple[str, ...]
    objective: Objective
    optimizer: Optimizer
    average: AveragedModel | None
    schedule: Schedule
    stream: TrainStream
    validation: Source
    device: torch.device
    test: Source | None = None
    """Measured once, at the end."""
    progress: Progress = field(default_factory=Progress)
    whole: bool = True
    """Whether the weights are those of `progress.step`: false from the optimizer's step until it is counted."""
    low_steps: int = 0
    """Steps at the beginning that use the low resolution."""
    low_size: Size | None = None
    """Rows and columns of the low resolution, in pixels."""
    compiled: Any = None
    views: list[Features] | None = None
    """Features of the training images, by view, that a head by logistic regression was fitted to; kept to fit it again."""

    @property
    def model(self) -> Model:
        """The model in training."""
        return self.objective.model

    @property
    def evaluated_model(self) -> nn.Module:
        """The model to evaluate and export: the moving average if there is one."""
        return self.model if self.average is None else self.average.module

    @property
    def temperature(self) -> float:
        """The divisor of the model's logits: fitted with a head by logistic regression, 1 once a step has changed
        it."""
        head = self.progress.head
        return head.get("temperature", 1.0) if head is not None and self.progress.step == 0 else 1.0

    def resolution(self, step: int) -> Size | None:
        """Return the size of the images in this step; None: the configured one."""
        return self.low_size if step < self.low_steps else None

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors for a checkpoint, under prefixed names."""
        parts = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_tensors()}
        if self.average is not None:
            parts["average"] = self.average.state_dict()
        parts["objective"] = self.objective.extras()
        return {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}

    def state(self) -> dict[str, Any]:
        """Return the JSON values for a checkpoint."""
        return asdict(self.progress)

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Restore the contents of a checkpoint; raises CheckpointError if it belongs to another configuration."""
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "average": {}, "objective": {}}
        try:
            for key, tensor in tensors.items():
                part, name = key.split(".", 1)
                parts[part][name] = tensor
            self.model.load_state_dict(parts["model"])
            self.optimizer.load_state_tensors(parts["optimizer"])
            if self.average is not None:
                self.average.load_state_dict(parts["average"])
            self.objective.load_extras(parts["objective"])
            self.progress = Progress(**state)
        except (KeyError, ValueError, RuntimeError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(
                f"the checkpoint doesn't fit this run's config.json ({reason}); was config.json edited? "
                "Put it back as it was, or start a new run from the model with --weights"
            ) from error
