"""The machine's memory. Imports no torch."""

import os
from contextlib import suppress
from functools import cache
from pathlib import Path


@cache
def read_memory() -> int:
    """Return the machine's memory in bytes, or its container's limit."""
    found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):  # "max" if there is no limit
        found = min(found, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return found
