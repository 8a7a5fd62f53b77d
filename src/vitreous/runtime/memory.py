"""The machine's memory. Imports no torch."""

import os
from contextlib import suppress
from functools import cache
from pathlib import Path

CONTAINER = Path("/sys/fs/cgroup")
"""Where Linux describes a container's control group."""


@cache
def read_memory() -> int:
    """Return the machine's memory in bytes, or the container's limit."""
    found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):  # "max" if there is no limit
        found = min(found, read_limit())
    return found


def read_free_memory() -> int:
    """Return the bytes of memory that this machine, and its container, have available."""
    found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        found = int(fields["MemAvailable"].split()[0]) * 1024
    with suppress(OSError, ValueError):
        used = int((CONTAINER / "memory.current").read_text())
        held = dict(line.split() for line in (CONTAINER / "memory.stat").read_text().splitlines())
        cached = int(held.get("active_file", 0)) + int(held.get("inactive_file", 0))  # released on demand
        found = min(found, max(0, read_limit() - used + cached))
    return found


def read_limit() -> int:
    """Return the container's limit in bytes; raises OSError or ValueError if it has none."""
    return int((CONTAINER / "memory.max").read_text())
