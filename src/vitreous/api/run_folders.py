"""Folders of runs: a free one, and those that hold several runs."""

from collections.abc import Callable
from pathlib import Path

from vitreous.cross_validation import continue_folds, is_folds
from vitreous.data.dataset import name_dataset
from vitreous.rate_search import continue_search, is_search
from vitreous.self_training.rounds import continue_rounds, is_self_training
from vitreous.storage.atomic import claim_folder
from vitreous.training.config import RunConfig
from vitreous.training.reporter import Reporter
from vitreous.training.results import TrainResult

RUNS = Path("runs")
Continue = Callable[[Path, Reporter | None], TrainResult]
GROUPS: tuple[tuple[Callable[[Path], bool], str, Continue], ...] = (
    (is_search, "rate search", continue_search),
    (is_folds, "cross-validation", continue_folds),
    (is_self_training, "self-training", continue_rounds),
)
"""How folders of several runs are recognised, what they are called, and how they are continued."""


def find_group(path: Path) -> tuple[str, Continue] | None:
    """Return what the runs in a folder are called together, and how they are continued; None if there is at most one
    run."""
    return next(((what, go_on) for holds, what, go_on in GROUPS if holds(path)), None)


def claim_run(config: RunConfig) -> Path:
    """Make the next free folder runs/<data>-<recipe>-<n> and return it."""
    return claim_folder(RUNS, name_run(config))


def name_run(config: RunConfig) -> str:
    """Return a run folder's default name, without its number."""
    return f"{name_dataset(config.data.path)}-{config.recipe}"
