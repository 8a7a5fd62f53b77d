"""The options of `vitreous train` and `vitreous resume`. Imports no torch."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from vitreous.self_training.options import SelfTrainingOptions
from vitreous.training.changes import Changes
from vitreous.training.config import RunConfig


@dataclass(frozen=True)
class Processes:
    """How many processes make up the run. Under torchrun, which starts them itself, only --process-timeout counts."""

    processes: int = 1
    """Number of processes on this machine, each with its share of every batch; give one per GPU. On several machines:
    torchrun (docs/scaling.md). The examples stay the same; only sums are rounded differently."""
    restarts: int = 0
    """With --processes: how often all processes are restarted, from the newest checkpoint, after one has failed."""
    process_timeout: float = 10.0
    """Minutes that one process waits for another before the run ends."""


@dataclass(frozen=True)
class Train:
    """Train a model on labelled images by a recipe, every setting of which can be overridden.

    The defaults shown here are not those of a recipe; `--dry-run` shows the values that the recipe chooses. Other
    trainers' names, such as --epochs, --lr, --batch-size and --imgsz, are understood too (docs/recipes.md).
    """

    data: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[DATA]")] = None
    """A folder of class folders, a CSV or JSONL manifest, `digits` (the default), or images drawn from formulas, such as
    'formula:fractals?classes=1000' (docs/data.md)."""
    config: str | None = None
    """Settings that override the recipe's, all or a few; options on the command line override them. A run folder or its
    config.json, or a JSON or TOML file with the same nested names (docs/recipes.md)."""
    model: str | None = None
    """A size and a patch, such as S/16 (mu, Ti, S, B, L, H, g, G), a hybrid (R50+B/16), a ResNet (R50x1), an
    EfficientNet (EfficientNet-B0) or a Swin Transformer (Swin-T, SwinV2-B), whose settings are --model.depths and the like; by default the recipe chooses."""
    image: tuple[int, int] | None = None
    """Rows and columns that the model sees, in pixels; by default the recipe chooses."""
    channels: int | None = None
    """Number of channels that the model sees, kept as they are in the files, with all their bits; by default colour or
    grey in 8 bits, and images of more than 4 channels as they are."""
    minutes: float | None = None
    """Train for about this many minutes: the speed is measured first, then the number of steps is fixed."""
    out: str | None = None
    """The run folder, new or empty; by default the next free runs/<data>-<recipe>-<n>."""
    rates: Literal["auto"] | tuple[float, ...] = ()
    """Learning rates to try on a part of the training images before training on all of them with the best; auto: the
    paper's rates (recipe finetune). --out then holds all these runs."""
    folds: int | None = None
    """Cross-validate first, with this many folds of all images, then train on all of them. --out then holds these runs,
    the prediction for each image (predictions.csv), and the model."""
    unlabelled: str | None = None
    """With recipe noisy-student: further images to learn from, whose labels are not read: a folder, a manifest or
    packed files."""
    self_training: SelfTrainingOptions = field(default_factory=SelfTrainingOptions)
    dry_run: bool = False
    """Describe the run without starting it: data, model, memory, recipe, length, time, differences from the recipe, and
    the run folder. Runs one batch and writes nothing."""
    json: bool = False
    """With --dry-run: print the complete configuration instead, as JSON for --config."""
    launch: Annotated[Processes, tyro.conf.arg(name="")] = field(default_factory=Processes)
    settings: Annotated[RunConfig, tyro.conf.arg(name="")] = field(default_factory=lambda: RunConfig(recipe="auto"))


@dataclass(frozen=True)
class Resume:
    """Resume a run from its newest undamaged checkpoint, with bit-identical results; or extend a finished run with
    --duration.

    Settings that are not listed here can't change after a run has begun.
    """

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run folder."""
    optimizer: str | None = None
    """The run's optimizer, if its class isn't from torch (my.module:Class). Its code runs only if you name it here."""
    changes: Annotated[Changes, tyro.conf.arg(name="")] = field(default_factory=Changes)
    launch: Annotated[Processes, tyro.conf.arg(name="")] = field(default_factory=Processes)
