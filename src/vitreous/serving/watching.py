"""Whether a model's files have changed, without reading them."""

from pathlib import Path

from vitreous.storage.atomic import find_settled

Fingerprint = dict[str, tuple[int, int, int]]
"""Of each file: its size, its time of change, its inode."""
KINDS = (".json", ".safetensors", ".onnx", ".data", ".xml", ".bin", ".npz", ".pth", ".pt")
INSIDE = ("", "model", "best")
"""Where a run folder has its model folders."""


def take_fingerprint(path: str) -> Fingerprint:
    """Return what tells one state of a model's files from another; nothing if there are none, as of a name on the Hub."""
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
    except OSError:  # gone while it was looked at
        return {}
    return found
