"""A model's files: their state, by which a change is noticed without reading them, and a private copy of them."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from vitreous.errors import CheckpointError, VitreousError
from vitreous.storage.atomic import find_settled

Fingerprint = dict[str, tuple[int, int, int]]
"""Of each file: its size, its time of change, its inode."""
KINDS = (".json", ".safetensors", ".onnx", ".data", ".xml", ".bin", ".npz", ".pth", ".pt", ".pt2")
INSIDE = ("", "model", "best")
"""Folders of a run folder that hold models."""
SMALL = 1 << 26
"""Bytes of a file of another kind up to which it is copied with the model's."""


def read_fingerprint(path: str) -> Fingerprint:
    """Return the fingerprint of a model's files; an empty one if there are none, as for a name on the Hub."""
    place = find_settled(Path(path))
    found: Fingerprint = {}
    try:
        files = [place] if place.is_file() else [file for file in _list_files(place) if file.suffix in KINDS]
        for file in sorted(files):
            status = file.stat()
            found[str(file.relative_to(place.parent))] = (status.st_size, status.st_mtime_ns, status.st_ino)
    except OSError:  # removed meanwhile
        return {}
    return found


@contextmanager
def copy_model(path: str) -> Iterator[str]:
    """Copy a model's files to where nobody writes over them, which would end a process that has mapped them; yield where the copy is.

    Raises:
        CheckpointError: they can't be copied. Errors that name the copy name the model instead.
    """
    place = find_settled(Path(path))
    with TemporaryDirectory(prefix="vitreous-") as private:
        copy = Path(private) / place.name
        try:
            for file in _list_files(place.parent if place.is_file() else place):
                beside = place.is_file() and file != place  # a file's configuration lies beside it
                if (file.suffix in KINDS and not beside) or file.stat().st_size <= SMALL:
                    target = Path(private) / file.relative_to(place.parent)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(file, target)
        except OSError as error:
            raise CheckpointError(f"{path} can't be copied: {error.strerror or error}") from error
        try:
            yield str(copy)
        except VitreousError as error:
            error.args = (str(error).replace(str(copy), path), *error.args[1:])
            raise


def _list_files(place: Path) -> list[Path]:
    """Return the files of a folder and of those in it that hold models."""
    folders = [find_settled(place / inside) if inside else place for inside in INSIDE]
    return [file for folder in folders if folder.is_dir() for file in folder.iterdir() if file.is_file()]
