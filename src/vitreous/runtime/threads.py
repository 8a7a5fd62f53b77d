"""How many cores there are, and how many threads compute, for what doesn't ask torch."""

import os


def count_threads() -> int:
    """Return the number of cores that this process may use, or OMP_NUM_THREADS if it is set, as torch does."""
    said = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if said.isdigit() and int(said):
        return int(said)
    return count_cores()


def count_cores() -> int:
    """Return the number of cores that this process may use, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
