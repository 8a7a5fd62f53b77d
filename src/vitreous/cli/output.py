"""Where results go: known to be possible before anything takes long."""

from pathlib import Path

from vitreous.errors import ConfigError
from vitreous.storage.atomic import check_name, claim_file, claim_folder
from vitreous.storage.lock import never_began
from vitreous.storage.presence import is_file, is_folder, is_there

EVALUATIONS = Path("evaluations")


def result_file(named: str, overwrite: bool, option: str = "--out") -> Path:
    """Return the file that results shall go to, new or empty; a device or a pipe is one too.

    Args:
        named: as it was typed.
        overwrite: let it hold something, which the results will replace once they are whole.
        option: the option that names it, for messages.

    Raises:
        ConfigError: it holds something, is a folder, lies in none, or no file can have that name.
    """
    path = Path(named)
    check_name(path)
    if is_folder(path):
        raise ConfigError(f"{path} is a folder; {option} must name a file")
    if not is_there(path.parent):
        raise ConfigError(
            f"can't write {path}: there is no folder {path.parent}; make it, or name another file with {option}"
        )
    if not overwrite and is_file(path) and path.stat().st_size:
        raise ConfigError(f"{path} is there already; name another file with {option}, or add --overwrite to replace it")
    return path


def free_file(stem: str, ending: str) -> Path:
    """Make <stem><ending> here, or where that is taken the next free <stem>-<n><ending>, and return it."""
    return claim_file(Path(), stem, ending)


def free_or_named(named: str | None, stem: str, parent: Path = EVALUATIONS) -> Path:
    """Return the named folder, new or empty; without a name the next free <parent>/<stem>-<n>.

    Raises:
        ConfigError: the named folder holds something, is a file, or can't be.
    """
    return claim_folder(parent, stem) if named is None else result_folder(named)


def result_folder(named: str) -> Path:
    """Return the folder that results shall go to, new or empty.

    Raises:
        ConfigError: it holds something, is a file, or no folder can have that name.
    """
    path = Path(named)
    check_name(path)
    if is_there(path) and not path.is_dir():
        raise ConfigError(f"{path} is a file; --out must name a new or empty folder")
    if is_there(path) and not never_began(path):
        raise ConfigError(f"{path} is not empty; choose another folder with --out")
    return path
