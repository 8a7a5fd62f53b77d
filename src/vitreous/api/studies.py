"""`vitreous.study`: repeat one of the paper's experiments."""

from pathlib import Path
from typing import cast, get_args

from vitreous.api.progress import shows_progress
from vitreous.errors import UnknownName
from vitreous.studies.catalog import find
from vitreous.studies.engine.data_subset import open_setting
from vitreous.studies.engine.run import StudyResult, run_study
from vitreous.studies.engine.study import Scale
from vitreous.training.reporter import Reporter, Silent


@shows_progress
def study(
    name: str,
    *,
    scale: str = "laptop",
    data: str | Path = "digits",
    out: str | Path | None = None,
    only: str = "*",
    progress: bool | None = None,
    reporter: Reporter | None = None,
) -> StudyResult:
    """Repeat one of the paper's experiments: runs, table, figure, and whether its finding was reproduced.

    Called again with the same arguments, it continues where it stopped.

    >>> found = vitreous.study("positions")                                              # doctest: +SKIP
    >>> [(one.claim, one.seen) for one in found.conclusion.verdicts]                       # doctest: +SKIP

    Args:
        name: which study; see docs/studies.md.
        scale: laptop (minutes on a core or two), gpu, paper, or smoke (a trial of seconds).
        data: what to train on, as in `vitreous.train`.
        out: the study's folder; None: studies/<name>-<scale>.
        only: run only the cells whose names match this pattern, and the cells that they need.
        progress: show progress; None: only in a notebook or on a terminal.
        reporter: receives the progress instead of that display.

    Raises:
        UnknownName: no such study, scale or cell. DataError: data that can't be used.
        RunError: the folder holds another study, or cells with other settings.
    """
    found, display = find(name), reporter or Silent()
    if scale not in get_args(Scale):
        raise UnknownName("scale", scale, get_args(Scale))
    folder = Path(out or f"studies/{name}-{scale}")
    return run_study(found, open_setting(cast(Scale, scale), str(data), folder, display), display, only)
