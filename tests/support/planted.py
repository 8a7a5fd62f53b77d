"""A kind of files for `tests.fuzz` whose every mutated case goes wrong, in the way that PLANTED names."""

import os
import signal
import time
from pathlib import Path

from vitreous.errors import DataError

SAMPLE = b"a valid file"


def seeds(folder: Path) -> list[Path]:
    (folder / "sample.txt").write_bytes(SAMPLE)
    return [folder / "sample.txt"]


def attempt(path: Path) -> None:
    if path.read_bytes() != SAMPLE:
        {"crash": crash, "hang": hang, "escape": escape, "memory": memory, "refuse": refuse}[os.environ["PLANTED"]]()


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def hang() -> None:
    time.sleep(60)


def escape() -> None:
    raise KeyError("nobody's error")


def memory() -> None:
    try:
        bytearray(2**40)
    except MemoryError as error:
        raise DataError("a clear line that hides what happened") from error


def refuse() -> None:
    raise DataError("a clear line")
