"""Several processes on one port; a process that dies is replaced."""

import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import Pipe, parent_process

from prometheus_client.multiprocess import mark_process_dead
from uvicorn.config import STARTUP_FAILURE, Config
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from vitreous.errors import ConfigError
from vitreous.runtime.threads import count_threads
from vitreous.serving.measurements import SHARED
from vitreous.serving.options import ModelSource, ServiceOptions
from vitreous.serving.server import Server, set_up_logs

LOG = logging.getLogger("vitreous.serving")
Work = tuple[list[ModelSource], ServiceOptions]
LONGEST_START = 600.0
"""Seconds after which a started process must have reported; it first imports torch, at the same time as all others."""
LONGEST_PAUSE = 30.0
"""Seconds between two attempts to replace processes that end before they can answer."""
HANGUPS = [getattr(signal, name) for name in ("SIGHUP",) if hasattr(signal, name)]
"""Signals of a closed terminal."""


class Worker(Process):
    """One of several processes; it is ready once its models are. If others already answer, it accepts no requests
    before that."""

    def __init__(self, config: Config, sockets: list[socket.socket], work: Work, early: bool) -> None:
        self.work, self.early = work, early
        self.receiver, self.sender = Pipe(duplex=False)
        self.answered, self.asked, self.began = False, False, time.monotonic()
        """Whether it has ever reported; whether it was asked and hasn't reported; when it was started."""
        self.ended: float | None = None
        """When it was found to have ended."""
        self.failures = 0
        """How many processes in its place have ended in a row before they could answer."""
        super().__init__(config, sockets)

    def is_well(self, timeout: float) -> bool:
        """Return whether it answers in time, in seconds, or is still starting."""
        if not self.process.is_alive():
            return False
        if self.answered:
            return self.ping(timeout)
        if not self.asked:
            self.parent_conn.send(b"ping")
            self.asked = True
        if self.parent_conn.poll(0):
            self.parent_conn.recv()
            self.answered = True
        return self.answered or time.monotonic() - self.began < LONGEST_START

    def pong(self) -> None:
        """Tell the supervisor whether it can answer."""
        self.child_conn.recv()
        server = self._server
        self.child_conn.send(isinstance(server, Server) and server.started and server.service.models.warm)

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve; if a model can't be loaded, end with STARTUP_FAILURE and report why in one line."""
        sources, options = self.work
        threading.Thread(target=self.always_pong, daemon=True).start()
        set_up_logs(options.log)
        self._server = server = Server(sources, options, self.early)
        threading.Thread(target=self.end_with_supervisor, args=(server,), daemon=True).start()
        with suppress(KeyboardInterrupt):
            server.run(sockets)
        if server.failure is not None:
            self.sender.send(str(server.failure))
            sys.exit(STARTUP_FAILURE)

    @staticmethod
    def end_with_supervisor(server: Server) -> None:
        """End if the supervisor was killed, since nobody would replace or stop this process."""
        supervisor = parent_process()
        if supervisor is not None:
            supervisor.join()
            server.should_exit = True

    def explain_end(self) -> str:
        """Return why it has ended, in one line."""
        return (
            self.receiver.recv()
            if self.receiver.poll()
            else "a process ended before it could answer; its log has the details"
        )


class Supervisor(Multiprocess):
    """Starts the wanted number of processes, the first one before the others, and a new one for each that dies."""

    def __init__(self, work: Work, sockets: list[socket.socket]) -> None:
        self.work = work
        ignored = [one for one in HANGUPS if signal.getsignal(one) == signal.SIG_IGN]
        super().__init__(Config("unused", workers=work[1].processes, log_config=None), sockets)
        for one in ignored:  # as with nohup
            signal.signal(one, signal.SIG_IGN)

    def start_one(self) -> Worker:
        """Start a process; it accepts requests immediately, only to refuse them, if no other process can answer."""
        os.makedirs(os.environ[SHARED], exist_ok=True)  # noqa: PTH103  (cleanup may have removed it)
        alone = not any(isinstance(one, Worker) and one.answered and one.process.is_alive() for one in self.processes)
        worker = Worker(self.config, self.sockets, self.work, early=alone)
        worker.start()
        return worker

    def handle_hup(self) -> None:
        """End, as when the terminal is closed."""
        self.should_exit.set()

    def handle_ttin(self) -> None:
        """Do nothing: the number of processes is fixed."""

    def handle_ttou(self) -> None:
        """Do nothing: the number of processes is fixed."""

    def init_processes(self) -> None:
        """Start the first process, and the others once its models are loaded; raises ConfigError if they can't be."""
        first = self.start_one()
        self.processes.append(first)
        ended = threading.Event()
        while not first.wait_until_ready(1.0, ended):
            self.handle_signals()
            if self.should_exit.is_set():
                return
            if not first.process.is_alive():
                raise ConfigError(first.explain_end())
        first.answered = True
        self.processes += [self.start_one() for _ in range(self.processes_num - 1)]

    def keep_subprocess_alive(self) -> None:
        """Replace each process that has ended or no longer answers; processes that can't start are retried less and
        less often."""
        for index, process in enumerate(self.processes):
            assert isinstance(process, Worker)
            if self.should_exit.is_set():
                return
            if process.ended is None:
                if process.is_well(self.config.timeout_worker_healthcheck):
                    continue
                process.ended = self._note_end(process)
                process.failures = 0 if process.answered else process.failures + 1
            pause = min(LONGEST_PAUSE, 2 ** min(process.failures, 10)) if process.failures else 0
            if time.monotonic() - process.ended >= pause:
                following = self.start_one()
                following.failures = process.failures
                self.processes[index] = following

    def _note_end(self, process: Worker) -> float:
        """End a process that doesn't answer, if it hasn't ended by itself, and log why; return when."""
        hangs = process.process.is_alive()
        process.kill()
        process.join()
        mark_process_dead(process.pid)
        if process.receiver.poll():
            LOG.error("a process can't be replaced yet", extra={"facts": {"why": process.explain_end()}})
        else:
            why = "it didn't answer, and was killed" if hangs else f"it ended with code {process.exitcode}"
            LOG.error("a process is replaced", extra={"facts": {"why": why}})
        return time.monotonic()


@contextmanager
def share_measurements() -> Iterator[None]:
    """Let processes that are started within add up what they measure."""
    with tempfile.TemporaryDirectory(prefix="vitreous-metrics-") as folder:
        os.environ[SHARED] = folder
        try:
            yield
        finally:
            del os.environ[SHARED]


def supervise(work: Work, listening: socket.socket) -> None:
    """Serve with several processes until a signal ends it; raises ConfigError if a model can't be loaded."""
    threads = str(max(1, count_threads() // work[1].processes))
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = threads
    try:
        with share_measurements():
            Supervisor(work, [listening]).run()
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
