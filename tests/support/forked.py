"""Processes of their own for commands, forked from the test's: to import torch anew would take longer than most commands.

What a fresh interpreter does with its streams and its locale is for tests that start one.
"""

import functools
import gc
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from subprocess import CompletedProcess
from tempfile import TemporaryFile

import jaxtyping
import torch
import torch._dynamo  # the first optimizer of a process imports it, which takes seconds

FORK = multiprocessing.get_context("fork")


class Forked:
    """A process that does some work, as subprocess.Popen is one that runs a program."""

    def __init__(self, work: Callable[[], int], before: Callable[[], None] | None = None, stdin: bytes = b"") -> None:
        self._streams = TemporaryFile(), TemporaryFile(), TemporaryFile()  # noqa: SIM115
        self._streams[0].write(stdin)
        self._streams[0].seek(0)
        self._process = FORK.Process(target=self._run, args=(work, before))
        self._process.start()
        self.pid = self._process.pid

    def _run(self, work: Callable[[], int], before: Callable[[], None] | None) -> None:
        gc.freeze()
        torch.set_num_threads(1)  # OpenMP's threads stay behind in the test's process, and would be waited for
        jaxtyping.config.update("jaxtyping_disable", True)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        for number, stream in enumerate(self._streams):
            os.dup2(stream.fileno(), number)
        if before:
            before()
        # Which `before` may have redirected; a process that is forked from here replaces these objects, and keeps its streams.
        streams = [open(number, mode, closefd=False) for number, mode in enumerate("rww")]  # noqa: SIM115
        sys.stdin, sys.stdout, sys.stderr = streams
        code = work()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    @property
    def returncode(self) -> int | None:
        """The exit code; a signal's number with a minus; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self.returncode

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Wait for the end; return what was written to standard output and standard error."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self.kill()
            raise TimeoutError(f"the process did not end within {timeout} s: {self._said()}")
        return self._said()

    def _said(self) -> tuple[str, str]:
        texts = []
        for stream in self._streams[1:]:
            stream.seek(0)
            texts.append(stream.read().decode(errors="surrogateescape"))
        return texts[0], texts[1]


def vitreous(*arguments: object) -> Callable[[], int]:
    """Return the work of a command: vitreous("predict", run, image)."""
    from vitreous.cli.main import main

    ready()
    return lambda: main([str(argument) for argument in arguments])


@functools.cache
def ready() -> None:
    """Import and read once, in the test's process, what each command's process would for itself."""
    import typeguard  # noqa: F401 which tyro imports

    import vitreous.cli.train
    import vitreous.drawing.charts
    import vitreous.evaluation.accuracy
    import vitreous.predictor
    import vitreous.reports.run.page
    import vitreous.training.run  # noqa: F401
    from vitreous.drawing import html

    html.build_environment().get_template(html.BLOCKS)


def run(work: Callable[[], int], before: Callable[[], None] | None = None, stdin: bytes = b"") -> CompletedProcess:
    """Do some work in a process of its own, to its end."""
    process = Forked(work, before, stdin)
    out, err = process.communicate()
    return CompletedProcess((), process.returncode, out, err)
