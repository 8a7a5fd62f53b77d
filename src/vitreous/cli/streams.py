"""The standard streams as they come: closed, of any encoding, with a reader who goes away.

Where a command's output is its product (predict), a reader who has gone is the end. Where it only tells how far the work
is (train), the work goes on to its end, and what would be said goes nowhere.
"""

import codecs
import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

ESCAPE = "vitreous-escape"
"""How what the encoding has no bytes for is written: names that are no text as the bytes that they are, all else escaped."""


class Outlet(io.RawIOBase):
    """A file descriptor to write to. One that `endures` takes everything after its reader has gone, and writes nothing."""

    def __init__(self, handle: int, endures: bool) -> None:
        self.handle, self.endures = handle, endures
        self.gone: OSError | None = None
        """Why nothing is written any more."""

    def write(self, data: "bytes | bytearray | memoryview") -> int:
        """Write some of the bytes; return how many. Raises OSError unless the outlet endures."""
        while self.gone is None:
            try:
                return os.write(self.handle, data)
            except BlockingIOError:  # a pipe that somebody made non-blocking, and that is full
                select.select([], [self.handle], [])
            except OSError as error:
                if not self.endures:
                    raise
                self.gone = error
        return memoryview(data).nbytes

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor."""
        return self.handle

    def isatty(self) -> bool:
        """Tell whether a terminal is there."""
        return os.isatty(self.handle)


@contextmanager
def standard_streams(endures: bool) -> Iterator[None]:
    """Put streams in place of the standard ones that write what there is to write, whatever they are.

    Closed ones lead nowhere, so that no file of ours gets their numbers. What is no stream of the process (in a notebook, a
    test) stays.

    Args:
        endures: standard output only tells of the work: it ends nothing. Standard error never does.
    """
    codecs.register_error(ESCAPE, _escaped)
    before = sys.stdin, sys.stdout, sys.stderr
    _hold_numbers()
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123 (open for the process's life)
    elif isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape", newline="\n")
    sys.stdout, sys.stderr = _stream(sys.stdout, 1, endures), _stream(sys.stderr, 2, True)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        if before[1] is not None:
            sys.stdout = before[1]
        if before[2] is not None:
            sys.stderr = before[2]


def endure() -> None:
    """From here on standard output only tells of the work: what it made lies elsewhere."""
    outlet = _outlet(sys.stdout)
    if outlet is not None:
        outlet.endures = True


def lost() -> OSError | None:
    """Return why what was said on standard output did not all come out, where it was no reader who went away."""
    outlet = _outlet(sys.stdout)
    gone = None if outlet is None else outlet.gone
    return None if gone is None or gone.errno in (errno.EPIPE, errno.EIO, errno.EBADF) else gone


def _hold_numbers() -> None:
    """Open what is closed of the first three descriptors, for reading from nothing, so that no file of ours becomes one."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDONLY)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)


def _stream(now: io.TextIOWrapper | None, number: int, endures: bool) -> io.TextIOWrapper:
    """Return the stream to write to in place of `now`."""
    if now is not None and not isinstance(now, io.TextIOWrapper):
        return now
    errors = ESCAPE if number == 1 else "backslashreplace"
    if now is not None:
        now.flush()
        now.reconfigure(errors=errors)
        if now.fileno() != number:
            return now
    encoding = "utf-8" if now is None else now.encoding
    outlet = Outlet(number, endures)
    return io.TextIOWrapper(io.BufferedWriter(outlet), encoding, errors, line_buffering=number == 2 or outlet.isatty())


def _outlet(stream: object) -> Outlet | None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, Outlet) else None


def _escaped(error: UnicodeError) -> tuple[bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    written = b""
    for character in error.object[error.start : error.end]:
        number = ord(character)
        named = 0xDC80 <= number <= 0xDCFF
        written += bytes([number - 0xDC00]) if named else character.encode("ascii", "backslashreplace")
    return written, error.end
