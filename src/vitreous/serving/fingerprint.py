"""The state of a model's files, by which a change is noticed without reading them."""

from pathlib import Path

from vitreous.storage.atomic import find_settled

Fingerprint = dict[str, tuple[int, int, int]]
"""Of each file: its size, its time of change, its inode."""
KINDS = (".json", ".safetensors", ".onnx", ".data", ".xml", ".bin", ".npz", ".pth", ".pt")
INSIDE = ("", "model", "best")
"""Folders of a run folder that hold models."""


def read_fingerprint(path: str) -> Fingerprint:
    """Return the fingerprint of a model's files; an empty one if there are none, as for a name on the Hub."""
    place = find_settled(Path(path))
    folders = [find_settled(place / inside) if inside else place for inside in INSIDE]
    found: Fingerprint = {}
    try:
        if place.is_file():
            files = [place]
        else:
            files = [file for folder in folders if folder.is_dir() for file in folder.iterdir() if file.suffix in KINDS]
        for file in sorted(files):
            status = file.stat()
            found[str(file.relative_to(place.parent))] = (status.st_size, status.st_mtime_ns, status.st_ino)
    except OSError:  # removed meanwhile
        return {}
    return found
