"""A process that attempts one case after the other, under limits, and says what became of each."""

import faulthandler
import os
import resource
import shutil
import time
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.cases import kind_named, make_case

from vitreous.errors import VitreousError

MEMORY = 2**30
"""Bytes that a case may take beyond what the process had."""


class Answer(NamedTuple):
    """What became of a case."""

    number: int
    verdict: str
    """passed, refused, escaped (an exception outside of vitreous.errors), memory."""
    detail: str
    cpu: float
    """Seconds of processor time."""


def work(name: str, samples: list[Path], seed: int, scratch: Path, pipe: Connection) -> None:
    """Answer case numbers that come through the pipe until it is closed. Every sample is attempted first."""
    scratch.mkdir()
    log = os.open(scratch / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 2)
    faulthandler.enable()
    kind = kind_named(name)
    for sample in samples:
        kind.attempt(sample)
    pages = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (pages + 2 * MEMORY, pages + 2 * MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pipe.send(None)
    while True:
        try:
            number = pipe.recv()
        except EOFError:
            return
        shutil.rmtree(scratch / "case", ignore_errors=True)
        (scratch / "case").mkdir()
        pipe.send(attempt(kind.attempt, make_case(kind, samples, seed, number, scratch / "case"), number))


def attempt(action, path: Path, number: int = 0) -> Answer:
    """Do one case and judge it, but for crashes and hangs, which whoever started this process sees."""
    verdict, detail = "passed", ""
    before, began = _peak(reset=True), time.process_time()
    try:
        action(path)
    except VitreousError as error:
        verdict, detail = "refused", str(error)
        if "\n" in detail:
            verdict, detail = "escaped", f"a message of several lines: {detail}"
        if _out_of_memory(error):
            verdict, detail = "memory", traceback.format_exc()
    except BaseException as error:
        verdict = "memory" if _out_of_memory(error) else "escaped"
        detail = traceback.format_exc()
    cpu, taken = time.process_time() - began, _peak() - before
    if taken > MEMORY:
        verdict, detail = "memory", f"{taken / 2**20:,.0f} MiB more than before; {detail}"
    return Answer(number, verdict, detail, cpu)


def _out_of_memory(error: BaseException | None) -> bool:
    """Tell whether memory ran out anywhere behind an error, even if the error is a well-formed one."""
    while error is not None:
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _peak(reset: bool = False) -> int:
    """Return the most bytes of memory that this process has had at once, since the last reset where Linux can."""
    if reset:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
