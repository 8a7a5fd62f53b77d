"""What is at a path: links, pipes, URLs given as paths, and names that no file system takes are told apart."""

import os
import re
import stat
from pathlib import Path


def explain_absence(path: Path) -> str:
    """Say why nothing is at a path: it isn't there, or it is a link that leads nowhere, perhaps to itself."""
    if is_link(path):
        return f"{path} is a link that leads nowhere (to {path.readlink()})"
    return f"no such file or folder: {path}"


URL = re.compile(r"([a-z][a-z0-9+.-]+)://|(https?|s3|gs|hf|file):/", re.IGNORECASE)
"""How a URL begins; of the usual ones also with the one slash that is left of a URL that became a path."""


def explain_url(text: str | Path) -> str | None:
    """Say of what was given as a path that it is a URL, and what to give instead; None if it is none, or a file of that name.

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
    return (
        f"{shown} is a URL, and a file or folder on this machine is needed; download it, and name what was downloaded"
    )


def path_exists(path: str | Path) -> bool:
    """Tell whether anything is at a path, links followed; at one that no file system takes, too long or with a NUL, is nothing."""
    return os.path.exists(path)  # noqa: PTH110 (Path.exists raises on names that are too long)


def is_folder(path: str | Path) -> bool:
    """Tell whether a folder is at a path, links followed; False where nothing can be, as in `path_exists`."""
    return os.path.isdir(path)  # noqa: PTH112 (Path.is_dir raises on names that are too long)


def is_file(path: str | Path) -> bool:
    """Tell whether a file is at a path, links followed; False where nothing can be, as in `path_exists`."""
    return os.path.isfile(path)  # noqa: PTH113 (Path.is_file raises on names that are too long)


def is_link(path: Path) -> bool:
    """Tell whether a path is a link; one that can't be looked at, such as an endless name, is none."""
    try:
        return path.is_symlink()
    except OSError:
        return False


def explain_irregular(path: Path) -> str | None:
    """Say what is at a path where it is no regular file, links followed: opening a pipe waits, and a device never ends.

    Raises:
        OSError: nothing is there, or it can't be looked at.
    """
    mode = path.stat().st_mode
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"))
    if stat.S_ISREG(mode):
        return None
    return next((word for is_kind, word in kinds if is_kind(mode)), "a device")
