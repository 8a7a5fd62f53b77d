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
    (is_search, "search of rates", continue_search),
    (is_folds, "cross-validation", continue_folds),
    (is_self_training, "self-training", continue_rounds),
)
"""What several runs in a folder are recognised by, what they are called, and how they go on."""


def find_group(path: Path) -> tuple[str, Continue] | None:
    """Return what several runs in a folder are called, and how they go on; None if there is at most one run."""
    return next(((what, go_on) for holds, what, go_on in GROUPS if holds(path)), None)


def claim_run(config: RunConfig) -> Path:
    """Make the next free folder runs/<data>-<recipe>-<n> and return it."""
    return claim_folder(RUNS, name_run(config))


def name_run(config: RunConfig) -> str:
    """Return a run folder's default name, without its number."""
    return f"{name_dataset(config.data.path)}-{config.recipe}"
