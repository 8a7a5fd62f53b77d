"""Check that a run folder can be made where a caller wants it, before any long work."""

from pathlib import Path
from tempfile import TemporaryDirectory

from vitreous.errors import RunError
from vitreous.storage.atomic import FULL
from vitreous.storage.lock import has_never_begun
from vitreous.storage.presence import path_exists
from vitreous.storage.run_config import CONFIG, METRICS
from vitreous.training.config_file import GROUPS


def refuse_used(out: str | Path | None) -> None:
    """Refuse a run folder that is in use, before any long work; raises RunError."""
    if out is None:
        return
    path = Path(out)
    if path_exists(path) and not path.is_dir():
        raise RunError(f"{path} is a file; --out must name a new or empty folder")
    if path_exists(path) and not has_never_begun(path, METRICS):
        go_on = (
            f"continue it with `vitreous resume {path}`, or "
            if any((path / name).exists() for name in (CONFIG, *GROUPS))
            else ""
        )
        raise RunError(f"{path} is not empty; {go_on}choose another folder with --out")
    refuse_impossible(path)


def refuse_impossible(path: Path) -> None:
    """Refuse a folder that can't be made or written to, by making a temporary one; raises RunError."""
    try:
        above = next(place for place in (path, *path.absolute().parents) if path_exists(place))
        with TemporaryDirectory(dir=above, prefix=".vitreous-"):
            pass
    except OSError as error:
        if error.errno in FULL:  # a disk failure, reported when something is written
            return
        raise RunError(f"no folder can be made at {path}: {error.strerror}; choose another folder with --out") from None
