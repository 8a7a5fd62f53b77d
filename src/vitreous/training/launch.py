"""Several processes of one command on this machine, started and watched by torch's elastic agent, as torchrun does."""

import logging
import os
import signal
import sys
import uuid
from collections.abc import Sequence

from vitreous.errors import ConfigError, ProcessLost, Signalled
from vitreous.runtime.threads import count_threads

MOST = 1024
"""Largest number of processes; no machine can use more."""


def launch(arguments: Sequence[str], processes: int, restarts: int = 0) -> int:
    """Run `vitreous ARGUMENTS` in several processes that make up one run; return the exit code.

    Args:
        arguments: the command and its arguments, without the program's name.
        processes: the number of processes, each with its share of the cores.
        restarts: how often all of them are restarted after one has failed.

    Raises:
        ConfigError: the number of processes or restarts is impossible.
        ProcessLost: one was killed, or ended without a report.
        Signalled: a signal ended this process, and so the others.
    """
    if not 1 <= processes <= MOST:
        raise ConfigError(f"--processes is {processes}; it must be 1 to {MOST}")
    if restarts < 0:
        raise ConfigError(f"--restarts is {restarts}; it must be at least 0")
    import torch.distributed.elastic.multiprocessing as elastic
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed").setLevel(
        logging.CRITICAL + 1
    )  # the processes themselves report what goes wrong
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, count_threads() // processes)))
    plan = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=restarts,
        monitor_interval=0.1,
    )
    try:
        elastic_launch(plan, sys.executable)("-m", "vitreous", *arguments)
    except elastic.errors.ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode >= 0:
            return failure.exitcode
        raise ProcessLost(
            f"process {rank} of {processes} was ended by signal {-failure.exitcode} ({signal.Signals(-failure.exitcode).name}), "
            "and so were the others; go on from the newest checkpoint with `vitreous resume`, or let that happen by itself "
            "with --restarts 3"
        ) from error
    except elastic.api.SignalException as error:
        raise Signalled(error.sigval) from error
    return 0
