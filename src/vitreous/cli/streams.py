"""Handle the standard streams in any state: closed, in any encoding, with a reader that goes away.

If a command's output is its product (predict), the command ends when the reader goes away. If its output is only progress
(train), the command continues to the end, and the output is discarded.
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
"""How characters outside the encoding are written: undecodable bytes of file names as these bytes, everything else
escaped."""


class Outlet(io.RawIOBase):
    """A file descriptor to write to. After an error everything is discarded; an outlet that `endures` doesn't raise
    it."""

    def __init__(self, handle: int, endures: bool) -> None:
        self.handle, self.endures = handle, endures
        self.gone: OSError | None = None
        """Why output is now discarded; None while it is written."""

    def write(self, data: "bytes | bytearray | memoryview") -> int:
        """Write some of the bytes; return how many. Raises OSError once, unless the outlet endures."""
        while self.gone is None:
            try:
                return os.write(self.handle, data)
            except BlockingIOError:  # a non-blocking pipe that is full
                select.select([], [self.handle], [])
            except OSError as error:
                self.gone = error
                if not self.endures:
                    raise
        return memoryview(data).nbytes

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor."""
        return self.handle

    def isatty(self) -> bool:
        """Return whether this is a terminal."""
        return os.isatty(self.handle)


@contextmanager
def replace_streams(endures: bool) -> Iterator[None]:
    """Replace the standard streams with streams that can be written to in any state.

    Closed ones lead to the null device, so that no other file gets their numbers. Streams that aren't the process's own (in
    a notebook, a test) stay.

    Args:
        endures: standard output is only progress: losing its reader doesn't end the command. Losing the reader of
            standard error never does.
    """
    codecs.register_error(ESCAPE, _escape)
    before = sys.stdin, sys.stdout, sys.stderr
    _hold_numbers()
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123 (open for the process's life)
    elif isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape", newline="\n")
    sys.stdout, sys.stderr = _build_stream(sys.stdout, 1, endures), _build_stream(sys.stderr, 2, True)
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
    """From now on, treat standard output as mere progress: the product is elsewhere."""
    outlet = _find_outlet(sys.stdout)
    if outlet is not None:
        outlet.endures = True


def find_lost_output() -> OSError | None:
    """Return the error that cut standard output short unnoticed, unless the reader just went away."""
    outlet = _find_outlet(sys.stdout)
    gone = None if outlet is None or not outlet.endures else outlet.gone
    return None if gone is None or gone.errno in (errno.EPIPE, errno.EIO, errno.EBADF) else gone


def is_of_output(error: BaseException) -> bool:
    """Return whether an error is the one that writing to standard output raised."""
    outlet = _find_outlet(sys.stdout)
    return outlet is not None and outlet.gone is error


def _hold_numbers() -> None:
    """Open the null device for those of the first three descriptors that are closed, so that no other file gets their
    numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDONLY)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)


def _build_stream(now: io.TextIOWrapper | None, number: int, endures: bool) -> io.TextIOWrapper:
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


def _find_outlet(stream: object) -> Outlet | None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, Outlet) else None


def _escape(error: UnicodeError) -> tuple[bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    written = b""
    for character in error.object[error.start : error.end]:
        number = ord(character)
        named = 0xDC80 <= number <= 0xDCFF
        written += bytes([number - 0xDC00]) if named else character.encode("ascii", "backslashreplace")
    return written, error.end
