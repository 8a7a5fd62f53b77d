"""Python's garbage collector, kept from traversing again and again what imports make. Imports no torch."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def pause_collection(*, keep: bool = False) -> Iterator[None]:
    """Collect nothing within: importing torch and building a model make hundreds of thousands of objects that stay, and
    the collector would traverse them several times, for a fifth of the time that `import torch` takes.

    Args:
        keep: never traverse afterwards what is there at the end, not even when the process ends. For programs that are
            this package's own: what a caller's program has let go of by then would never be freed.
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
