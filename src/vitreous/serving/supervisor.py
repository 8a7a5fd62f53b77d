"""Several processes on one port: one that dies is replaced."""

import logging
import os
import socket
import sys
import tempfile
import threading
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


class Worker(Process):
    """A process among several; ready once its models are. Where others answer already, it accepts nothing before that."""

    def __init__(self, config: Config, sockets: list[socket.socket], work: Work, early: bool) -> None:
        self.work, self.early = work, early
        self.receiver, self.sender = Pipe(duplex=False)
        super().__init__(config, sockets)

    def pong(self) -> None:
        """Tell the supervisor whether it can answer."""
        self.child_conn.recv()
        server = self._server
        self.child_conn.send(isinstance(server, Server) and server.started and server.service.models.warm)

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve; ends with STARTUP_FAILURE, and tells why in one line, if a model can't be loaded."""
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
        """End where the supervisor was killed: nobody would replace this process, or stop it."""
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
    """Starts as many processes as are wanted, the first one alone, and another one for each that dies."""

    def __init__(self, work: Work, sockets: list[socket.socket]) -> None:
        self.work = work
        super().__init__(Config("unused", workers=work[1].processes, log_config=None), sockets)

    def start_one(self) -> Worker:
        """Start a process."""
        worker = Worker(self.config, self.sockets, self.work, early=not self.processes)
        worker.start()
        return worker

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
        self.processes += [self.start_one() for _ in range(self.processes_num - 1)]

    def keep_subprocess_alive(self) -> None:
        """Replace each process that has ended or doesn't answer any more."""
        for index, process in enumerate(self.processes):
            if self.should_exit.is_set() or process.is_alive(self.config.timeout_worker_healthcheck):
                continue
            process.kill()
            process.join()
            if isinstance(process, Worker) and process.receiver.poll():
                LOG.error("a process can't be replaced yet", extra={"facts": {"why": process.explain_end()}})
            mark_process_dead(process.pid)
            self.processes[index] = self.start_one()


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
