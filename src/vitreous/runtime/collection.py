"""Keep Python's garbage collector from traversing again and again the objects that imports make. Imports no torch."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def pause_collection(*, keep: bool = False) -> Iterator[None]:
    """Pause the collector within the block: importing torch and building a model make hundreds of thousands of lasting
    objects, which it would traverse several times, a fifth of the time of `import torch`.

    Args:
        keep: never traverse the objects that exist at the end of the block, not even when the process ends. Only for
        this package's own programs: garbage of a caller's program would never be freed.
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
