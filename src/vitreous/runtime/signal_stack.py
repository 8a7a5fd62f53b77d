"""The stack that this thread's signal handlers run on (`sigaltstack`), which a library may take away."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache


class _Stack(ctypes.Structure):
    """`stack_t` of Linux."""

    _fields_ = (("pointer", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@cache
def _open_library() -> ctypes.CDLL:
    """Return the C library."""
    return ctypes.CDLL(None)


@contextmanager
def keep_signal_stack() -> Iterator[None]:
    """Restore this thread's alternate signal stack at the end of the block, whatever the code within sets.

    OpenVINO gives a thread that opens or runs a model a stack of 12 KB, and afterwards restores the previous one. If
    several models overlap, that can be another model's stack, already freed, and the next signal (Ctrl-C, the end of a
    child) kills the process. If every model finds the thread's own stack, each restores that one. Seen with OpenVINO
    2026.4 on Linux; elsewhere this does nothing.
    """
    if sys.platform != "linux":
        yield
        return
    call, stack = _open_library().sigaltstack, _Stack()
    call(None, ctypes.byref(stack))
    try:
        yield
    finally:
        call(ctypes.byref(stack), None)
