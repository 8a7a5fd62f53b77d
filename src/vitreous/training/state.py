"""A job: everything that one training run works with, and the part of it that a checkpoint holds."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.optim.swa_utils import AveragedModel

from vitreous.data.sources.base import Source
from vitreous.data.stream.loader import TrainStream
from vitreous.errors import CheckpointError
from vitreous.evaluation.probes.features import Features
from vitreous.model.factory import Model
from vitreous.objectives.base import Objective
from vitreous.shapes import Size
from vitreous.storage.shards import Pieces
from vitreous.training.callbacks import Callback
from vitreous.training.config import RunConfig
from vitreous.training.distributed import ALONE, World
from vitreous.training.optimizer import Optimizer
from vitreous.training.schedule import Schedule
from vitreous.training.sharding import divide_like, gather_on_cpu
from vitreous.training.teacher import Teacher


@dataclass
class Progress:
    """The progress of a run. All of it goes into each checkpoint, as JSON; floats survive exactly."""

    step: int = 0
    """Optimizer steps taken."""
    evaluated: int = 0
    """Step of the last evaluation."""
    best: dict[str, float] | None = None
    """step, headline (top1; map with several labels an image; none without labels) and loss of the best evaluation so far."""
    reference: dict[str, float] | None = None
    """The same of the last evaluation that was better than the reference before it by more than `early_stop.min_delta`."""
    stale: int = 0
    """Evaluations since the reference."""
    finished: bool = False
    """Whether the run has reached its end."""
    seconds: float = 0.0
    """Time spent in training steps, in seconds."""
    head: dict[str, float] | None = None
    """Figures of a head by logistic regression before the first step: l2, accuracy on training images that its fits
    had not seen, that accuracy's interval from low to high, views of each image, and the temperature of those
    predictions."""
    skipped: int = 0
    """Steps in a row that were skipped, since their loss or gradient was not finite."""
    rolled_back: int = 0
    """Times that the run went back to a checkpoint, since its loss was not finite."""
    avoided: list[int] = field(default_factory=list)
    """Steps left out since then, ascending."""
    recent: dict[str, float] = field(default_factory=lambda: {"mean": 0.0, "variance": 0.0, "steps": 0.0})
    """Running mean and variance of the loss, and of how many steps."""
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
    """Images that are measured once, at the end."""
    progress: Progress = field(default_factory=Progress)
    whole: bool = True
    """Whether the weights are those of `progress.step`: false from the optimizer's step until it is counted."""
    low_steps: int = 0
    """Steps at the beginning that use the low resolution."""
    low_size: Size | None = None
    """Rows and columns of the low resolution, in pixels."""
    compiled: Any = None
    world: World = ALONE
    """The processes of this run."""
    runner: nn.Module | None = None
    """The module called in place of the objective if there are several processes."""
    blueprint: Model | None = None
    """A whole model to fill, in the first process, if the model is divided among several."""
    teacher: Teacher | None = None
    """Whom the model learns from besides the labels."""
    callbacks: tuple[Callback, ...] = ()
    """Who hears of this run, in its first process."""
    layers: dict[str, dict[str, float]] | None = None
    """Norms of the newest step by layer, where they are measured: see `layer_statistics.py`."""
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
    def is_divided(self) -> bool:
        """Whether the model is divided among the processes."""
        return isinstance(self.objective, FSDPModule)

    def predict(self, images: Tensor) -> Tensor:
        """Return the output of the model to evaluate for normalised images."""
        if not self.is_divided:
            return self.evaluated_model(images)
        return self.objective.predict(images) if self.average is None else self.average.module(images)

    def gather_model(self) -> Model | None:
        """Return the whole model to evaluate in the first process, None in the others; all of them must call this."""
        if not self.is_divided:
            return cast("Model", self.evaluated_model)
        weights = gather_on_cpu(self.evaluated_model.state_dict(), self.world.leads)
        if self.blueprint is not None:
            self.blueprint.load_state_dict(weights)
        return self.blueprint

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

    def restore(self, tensors: Mapping[str, Tensor | Pieces], state: dict[str, Any]) -> None:
        """Restore the contents of a checkpoint; raises CheckpointError if it belongs to another configuration."""
        parts: dict[str, dict[str, Tensor | Pieces]] = {"model": {}, "optimizer": {}, "average": {}, "objective": {}}
        try:
            for key, tensor in tensors.items():
                part, name = key.split(".", 1)
                parts[part][name] = tensor
            self.model.load_state_dict(divide_all(parts["model"], self.model.state_dict()))
            self.optimizer.load_state_tensors(parts["optimizer"])
            if self.average is not None:
                self.average.load_state_dict(divide_all(parts["average"], self.average.state_dict()))
            self.objective.load_extras(divide_all(parts["objective"], self.objective.extras()))
            self.progress = Progress(**{"reference": state.get("best"), **state})  # earlier versions had the best alone
        except (KeyError, ValueError, RuntimeError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(
                f"the checkpoint doesn't fit this run's config.json ({reason}); was config.json edited? "
                "Put it back as it was, or start a new run from the model with --weights"
            ) from error


def divide_all(whole: Mapping[str, Tensor | Pieces], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors divided like those of the same name; one without a counterpart stays as it is, for the caller to
    check."""
    nothing = torch.empty(0)
    return {name: divide_like(tensor, like.get(name, nothing)) for name, tensor in whole.items()}


def autocast_context(job: Job) -> torch.autocast | nullcontext[None]:
    """Return the autocast context of the configured precision."""
    if job.config.precision == "bf16":
        return torch.autocast(job.device.type, torch.bfloat16)
    return nullcontext()
