"""Restarted processes, after one of a run's has ended, continue in the run folder that they began."""

import os
from pathlib import Path

from vitreous.errors import ConfigError
from vitreous.storage.run_config import is_run
from vitreous.training.distributed import World

NOTE = "VITREOUS_RUN_NOTE"
"""Environment variable: the file in which the first process records the run folder, for the processes restarted in its
place."""


def was_restarted() -> bool:
    """Return whether torch's agent has restarted this process."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT") or 0) > 0


def find_begun(out: Path | None, world: World) -> Path | None:
    """Return the run folder that these processes began before they were restarted, if they did.

    Args:
        out: the folder that the command names, if any.
        world: the processes.

    Raises:
        ConfigError: there are several processes, which wouldn't know their folder after a restart.
    """
    note = Path(os.environ[NOTE]) if NOTE in os.environ else None
    if world.together and out is None and note is None:
        raise ConfigError(
            "several processes need a run folder with a name, with which they go on if they are started again; add --out FOLDER"
        )
    begun = None
    if world.leads and was_restarted():
        noted = Path(note.read_text()) if note is not None and note.exists() else None
        begun = next((one for one in (out, noted) if one is not None and is_run(one)), None)
    return world.share(begun)


def note_folder(path: Path, world: World) -> None:
    """Record the run folder for processes that are restarted in place of these."""
    if NOTE in os.environ and world.leads:
        Path(os.environ[NOTE]).write_text(str(path.absolute()))
