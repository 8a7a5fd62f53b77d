"""The versions of the software that wrote a folder, which every folder records."""

import platform
from importlib.metadata import version

import torch


def read_versions() -> dict[str, str]:
    """Return the versions of vitreous, torch and python in use, and the platform."""
    return {
        "vitreous": version("vitreous"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
