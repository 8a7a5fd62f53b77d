"""Find out what is at a path: links, pipes, URLs given as paths, and names that no file system accepts are
distinguished."""

import difflib
import os
import re
import stat
from pathlib import Path


def explain_absence(path: Path) -> str:
    """Explain why nothing is at a path: it doesn't exist, or it is a link that leads nowhere, perhaps to itself."""
    if is_link(path):
        return f"{path} is a link that leads nowhere (to {path.readlink()})"
    return f"no such file or folder: {path}"


URL = re.compile(r"([a-z][a-z0-9+.-]+)://|(https?|s3|gs|hf|file):/", re.IGNORECASE)
"""How a URL begins; for the usual schemes also with the single slash that remains when a URL becomes a path."""


def explain_url(text: str | Path) -> str | None:
    """Explain that the given path is a URL, and what to give instead; None if it is not a URL, or a file has that name.

    >>> explain_url("https://huggingface.co/google/vit-base-patch16-224")
    'https://huggingface.co/google/vit-base-patch16-224 is a URL; a model on the Hub is named google/vit-base-patch16-224'
    """
    found = URL.match(str(text))
    if found is None or path_exists(text):
        return None
    scheme, rest = (found[1] or found[2]).lower(), str(text)[found.end() :].lstrip("/")
    shown = f"{scheme}://{rest}" if len(rest) <= 160 else f"{scheme}://{rest[:157]}..."
    parts = rest.removeprefix("huggingface.co/").split("/")
    if (scheme == "hf" or rest.startswith("huggingface.co/")) and len(parts) == 2 and all(parts):
        return f"{shown} is a URL; a model on the Hub is named {'/'.join(parts)}"
    if scheme == "file":
        return f"{shown} is a URL; give the path itself: /{rest}"
    return f"{shown} is a URL, but a file or folder on this machine is needed; download it, and name the download"


def expand_home(path: str | Path) -> Path:
    """Return a path with `~` or `~name` replaced by that user's home folder; for an unknown user the path stays
    unchanged, and no file will be found there."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 (Path.expanduser raises for an unknown user)


def path_exists(path: str | Path) -> bool:
    """Return whether anything is at a path, links followed; False for a path that no file system accepts because it is
    too long or has a NUL."""
    return os.path.exists(path)  # noqa: PTH110 (Path.exists raises on names that are too long)


def is_folder(path: str | Path) -> bool:
    """Return whether a folder is at a path, links followed; False for an impossible path, as in `path_exists`."""
    return os.path.isdir(path)  # noqa: PTH112 (Path.is_dir raises on names that are too long)


def is_file(path: str | Path) -> bool:
    """Return whether a file is at a path, links followed; False for an impossible path, as in `path_exists`."""
    return os.path.isfile(path)  # noqa: PTH113 (Path.is_file raises on names that are too long)


def is_utf8(path: Path) -> bool:
    """Return whether a path is valid UTF-8: some libraries can't open others."""
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        return False
    return True


def is_link(path: Path) -> bool:
    """Return whether a path is a link; False if it can't be examined, such as a name that is too long."""
    try:
        return path.is_symlink()
    except OSError:
        return False


DESCRIPTORS = re.compile(r"/proc/[^/]+/(task/[^/]+/)?fd")
"""Folders of the files that a process has open."""
MOST_LINKS = 40
"""Number of links that are followed at most, as in Linux."""


def follow_links(path: Path) -> Path:
    """Return where a path's links lead, even if nothing is there; for a file that a process has open (/dev/stdout), the
    path in /proc stays."""
    for _ in range(MOST_LINKS):
        if not is_link(path) or is_descriptor(path):
            break
        path = path.parent / path.readlink()
    return path


def is_descriptor(path: Path) -> bool:
    """Return whether a path denotes a file that a process has open, such as /dev/fd/1."""
    return DESCRIPTORS.fullmatch(os.path.realpath(path.parent)) is not None


def explain_irregular(path: Path) -> str | None:
    """Describe what is at a path, links followed; None for a regular file. Opening a pipe blocks, and a device never
    ends.

    Raises:
        OSError: nothing is there, or it can't be examined.
    """
    mode = path.stat().st_mode
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"))
    if stat.S_ISREG(mode):
        return None
    return next((word for is_kind, word in kinds if is_kind(mode)), "a device")


def find_similar(path: Path) -> Path | None:
    """Return the file or folder whose name is most similar to that of a path that doesn't exist, in the same folder;
    None if none is."""
    try:
        siblings = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return None
    lower = {name.lower(): name for name in siblings}
    near = difflib.get_close_matches(path.name, siblings, n=1)
    near = near or [lower[name] for name in difflib.get_close_matches(path.name.lower(), lower, n=1)]
    return path.parent / near[0] if near else None
