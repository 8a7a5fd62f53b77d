"""The options of `vitreous sweep`."""

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from vitreous.training.config import RunConfig


@dataclass(frozen=True)
class Sweep:
    """Train with every combination of some settings, with several seeds each, and compare them on validation images.

    If it is killed, the same command continues; with more values or seeds it adds their runs. Any setting of `vitreous
    train` may be given too and then applies to all runs.
    """

    data: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[DATA]")] = None
    """What to train on, as for `train`."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A setting and its values, such as optimizer.lr=1e-3,3e-3 or model=S/16,B/16. Give it once for each setting; every
    combination is tried."""
    grid: str | None = None
    """A JSON or TOML file with a list of values for each name, of which every combination is tried; or a JSON list of
    the settings to try."""
    seeds: int = 1
    """Runs of each combination, with seeds from --seed upwards. Two give a confidence interval, five a narrow one."""
    jobs: int = 1
    """Runs at the same time, each in its own process with its share of the cores, or with its own GPU if there are
    enough."""
    processes: int = 1
    """Number of processes per run (docs/scaling.md)."""
    process_timeout: float = 10.0
    """Under torchrun: minutes that one process waits for another."""
    out: str | None = None
    """The folder for the runs; by default sweeps/<data>-<hash>, which the same command finds again."""
    json: bool = False
    """Print all figures as JSON."""
    config: str | None = None
    """Settings that override the recipe's, as for `train`."""
    model: str | None = None
    """A size and a patch, as for `train`."""
    image: tuple[int, int] | None = None
    """Rows and columns that the model sees, in pixels."""
    channels: int | None = None
    """Number of channels that the model sees, kept as they are in the files."""
    minutes: float | None = None
    """Approximate length of each run."""
    settings: Annotated[RunConfig, tyro.conf.arg(name="")] = field(default_factory=lambda: RunConfig(recipe="auto"))
