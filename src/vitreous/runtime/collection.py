"""Keep Python's garbage collector from repeatedly traversing the objects that imports create. Imports no torch."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def pause_collection(*, keep: bool = False) -> Iterator[None]:
    """Pause the collector within the block: importing torch and building a model create hundreds of thousands of
    lasting objects. The collector would traverse them several times, which takes a fifth of the time of `import torch`.

    Args:
        keep: never traverse the objects that exist at the end of the block, not even when the process ends. Only for
            vitreous's own commands: garbage of a caller's program would never be freed.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
        if keep and was:
            gc.freeze()
    finally:
        if was:
            gc.enable()


@contextmanager
def keep_memory_shared(forks: bool = True) -> Iterator[None]:
    """Keep the collector from traversing, within the block, the objects that exist at its start. Forked processes share
    their parent's memory until one of them writes to it, and a traversal writes to every object: with torch imported it
    copies 80 MiB in each process.

    Existing garbage is freed first; new garbage cycles among these objects are freed once the block has ended. A nested
    block does nothing.

    Args:
        forks: whether processes are forked in the block; nothing is done otherwise.
    """
    global _frozen
    if not forks or not gc.isenabled() or _is_frozen():
        yield
        return
    gc.collect()
    gc.freeze()
    _frozen = True
    try:
        yield
    finally:
        gc.unfreeze()
        _frozen = False


_frozen = False
"""Whether frozen objects have ever been seen; from then on they are assumed to exist."""


def _is_frozen() -> bool:
    """Return whether there are frozen objects; they are counted one by one, which takes a tenth of a second for a
    million."""
    global _frozen
    _frozen = _frozen or gc.get_freeze_count() > 0
    return _frozen
