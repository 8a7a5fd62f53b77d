"""The options of the commands that look at runs: `vitreous report`, `board` and `runs`. Imports no torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Report:
    """Rewrite the report.html of a run."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run folder."""


@dataclass(frozen=True)
class Board:
    """Show all runs under a folder on a web page that keeps itself up to date, until Ctrl-C. It only reads.

    Needs FastAPI and uvicorn (pip install 'vitreous[serve]').
    """

    runs: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[RUNS]")] = "runs"
    """A folder of run folders, at any depth; links in it are not followed."""
    host: str = "127.0.0.1"
    """Address to listen on; 127.0.0.1: this machine only; 0.0.0.0: everyone who can reach this machine may look,
    without a password."""
    port: int = 8100
    """Port to listen on; 0: any free one."""


@dataclass(frozen=True)
class ListRuns:
    """List the runs under a folder with their best evaluation, and the settings in which they differ. It only reads."""

    folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[FOLDER]")] = "runs"
    """A folder of run folders, at any depth; links in it are not followed."""
    find: str = ""
    """List only runs whose name, recipe, data or state contains these words."""
    sort: Literal["newest", "name", "best", "state"] = "newest"
    """Order of the rows."""
    compare: tuple[str, ...] = ()
    """Only these runs, by name, with all settings side by side; those that differ come first, marked with *."""
    json: bool = False
    """Print JSON: every run with all its settings, and those that differ."""
