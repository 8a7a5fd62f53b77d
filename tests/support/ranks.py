"""Several processes of one run, forked from the test's, that meet by gloo as those that torchrun starts do."""

import faulthandler
import os
import socket
from collections.abc import Callable
from contextlib import closing

from tests.support.forked import Forked

STUCK = 240
"""Seconds after which a process says where it is, and ends."""


def find_port() -> int:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start_ranks(work: Callable[[int], int], size: int, absent: tuple[int, ...] = (), restarts: int = 0) -> list[Forked]:
    """Start `work(rank)` in as many processes, which return exit codes; `absent` ones never start."""
    port = str(find_port())

    def start(rank: int) -> Forked:
        launch = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}

        def settle() -> None:
            faulthandler.dump_traceback_later(STUCK, exit=True, file=open(2, "w", closefd=False))  # noqa: SIM115
            os.environ.update({name: str(value) for name, value in launch.items()}, MASTER_ADDR="127.0.0.1")
            os.environ["TORCHELASTIC_RESTART_COUNT"] = str(restarts)

        return Forked(lambda: work(rank), settle)

    return [start(rank) for rank in range(size) if rank not in absent]


def run_ranks(work: Callable[[int], int], size: int, absent: tuple[int, ...] = ()) -> list[tuple[int | None, str, str]]:
    """Run `work(rank)` in as many processes to their ends; return exit code, standard output and standard error of each."""
    processes = start_ranks(work, size, absent)
    said = [process.communicate(STUCK + 30) for process in processes]
    return [(process.returncode, *texts) for process, texts in zip(processes, said, strict=True)]
