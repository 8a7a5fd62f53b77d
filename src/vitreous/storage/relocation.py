"""Where a run's files were, and where they are now: relative paths have no meaning in another folder."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vitreous.storage.presence import expand_home, path_exists


def note_places(paths: Iterable[str | None], run: Path) -> dict[str, dict[str, str]]:
    """Return, for each path that exists, its location: absolute, and relative to the run folder.

    Values that aren't paths (digits, a formula, a name on the Hub) are left out.
    """
    found: dict[str, dict[str, str]] = {}
    for path in paths:
        whole = expand_home(path) if path else None
        if not path or whole is None or not path_exists(whole):
            continue
        found[path] = {"absolute": str(whole.resolve())}
        try:
            found[path]["from_run"] = Path(os.path.relpath(whole.resolve(), run.resolve())).as_posix()
        except ValueError:  # on another drive
            continue
    return found


def locate(path: str, known: Any, run: Path) -> str:
    """Return a path's current location, the first of the noted ones that exists: absolute, relative to the run folder,
    or as typed.

    Args:
        path: as it was typed.
        known: what `note_places` returned, read from config.json; any other value is ignored.
        run: the run folder, perhaps moved together with its data.
    """
    noted = known.get(path) if isinstance(known, Mapping) else None
    if not isinstance(noted, Mapping):
        return path
    candidates = [noted.get("absolute"), noted.get("from_run") and str(run.resolve() / str(noted.get("from_run")))]
    return next((str(place) for place in candidates if place and path_exists(str(place))), path)
