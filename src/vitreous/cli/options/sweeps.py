"""Options of `vitreous sweep`."""

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from vitreous.training.config import RunConfig


@dataclass(frozen=True)
class Sweep:
    """Train with every combination of some settings, each with several seeds, and compare them by the validation images.

    Killed at any instant, the same command goes on; with more values or seeds it adds their runs. Any setting of `vitreous
    train` may be given too, for all runs.
    """

    data: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[DATA]")] = None
    """What to train on, as for `train`."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A setting and its values, such as optimizer.lr=1e-3,3e-3 or model=S/16,B/16; once for each setting, and every combination
    is tried."""
    grid: str | None = None
    """A file of JSON or TOML: lists of values by name, of which every combination is tried; or in JSON a list of the settings
    to try."""
    seeds: int = 1
    """Runs of each setting, with the seeds from --seed on. Two give an interval, five a narrow one."""
    jobs: int = 1
    """Runs at once, each in a process of its own with its share of the cores, or a GPU of its own where there are enough."""
    processes: int = 1
    """Processes of each run (docs/scaling.md)."""
    process_timeout: float = 10.0
    """Minutes that one process waits for another, under torchrun."""
    out: str | None = None
    """The folder of the runs; by default sweeps/<data>-<hash>, which the same command finds again."""
    json: bool = False
    """Print all figures as JSON."""
    config: str | None = None
    """Settings that override the recipe's, as for `train`."""
    model: str | None = None
    """A size and a patch, as for `train`."""
    image: tuple[int, int] | None = None
    """Rows and columns that the model sees, in pixels."""
    channels: int | None = None
    """Channels that the model sees, kept as they are in the files."""
    minutes: float | None = None
    """Length of each run, about."""
    settings: Annotated[RunConfig, tyro.conf.arg(name="")] = field(default_factory=lambda: RunConfig(recipe="auto"))
