"""Where what can be computed again is kept: ~/.cache/vitreous, or $VITREOUS_CACHE. Imports no torch."""

import os
from pathlib import Path


def find_cache() -> Path:
    """Return the folder of all caches, which need not exist."""
    own = os.environ.get("VITREOUS_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vitreous"
