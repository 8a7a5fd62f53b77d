"""Report a worker's death between two batches, never in the middle of a step, and with its real cause.

Torch raises from its SIGCHLD handler, wherever the main thread is: even in the middle of an optimizer's step, which
leaves weights that belong to no step. Here the handler raises only while a batch is awaited; deaths in between are
noticed when the next batch is due.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from typing import Any

from torch.utils.data import DataLoader
from torch.utils.data._utils import signal_handling

from vitreous.errors import FailedError, WorkerKilled, explain_exhaustion

GRACE = 1.0
"""Seconds to wait for a worker to be seen dead after its pipe broke."""
CAUSES = {
    "SIGKILL": "most often for lack of memory",
    "SIGBUS": "most often because shared memory (/dev/shm) is full",
    "SIGSEGV": "by a fault in a library that decodes images",
}
HANGUP = getattr(signal, "SIGHUP", None)


class _Waiting:
    """Whether a batch is being awaited, so that a death may be raised."""

    now = False


def start_workers(loader: DataLoader) -> Iterator[Any]:
    """Return the loader's iterator, its workers started; raises OutOfMemory or OutOfMeans if they can't be."""
    before = _get_handler()
    try:
        items = iter(loader)
    except Exception as error:
        if (failure := explain_exhaustion(error)) is None:
            raise
        raise failure from error
    if _is_torch_handler(_get_handler()) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, _make_handler(None if _is_torch_handler(before) else before))
    return items


def take_next(items: Iterator[Any]) -> Any | None:
    """Return the next item, or None at the end.

    Raises:
        WorkerKilled: a worker was killed. OutOfMemory, OutOfMeans: the machine has too little of something.
    """
    workers = getattr(items, "_workers", [])
    try:
        _Waiting.now = bool(workers)
        if workers:
            signal_handling._error_if_any_worker_fails()
        return next(items, None)
    except Exception as error:
        _Waiting.now = False
        failure = _explain_death(workers, error) or explain_exhaustion(error)
        if failure is None:
            raise
        raise failure from error
    finally:
        _Waiting.now = False


def settle_worker(worker: int) -> None:
    """Leave Ctrl-C and a closed terminal to the parent, which checkpoints; end at once when the parent says so."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if HANGUP is not None:
        signal.signal(HANGUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _get_handler() -> Any:
    return signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None


def _is_torch_handler(handler: Any) -> bool:
    return getattr(handler, "__module__", None) == signal_handling.__name__


def _make_handler(before: Any) -> Callable[[int, Any], None]:
    """Return a SIGCHLD handler that raises for dead workers while a batch is awaited, and then calls the previous
    handler."""

    def handler(number: int, frame: Any) -> None:
        if _Waiting.now:
            signal_handling._error_if_any_worker_fails()
        if callable(before):
            before(number, frame)

    return handler


def _explain_death(workers: list[Any], error: Exception) -> FailedError | None:
    """Explain how a worker died, by a signal or by itself; None if the error has another cause."""
    is_worker = "DataLoader worker" in str(error)
    if not workers or not (is_worker or isinstance(error, (OSError, EOFError))):
        return None
    for sentinel in wait([worker.sentinel for worker in workers], timeout=GRACE):
        next(worker for worker in workers if worker.sentinel == sentinel).join(
            GRACE
        )  # its pipes close before it has ended
    dead = next((worker for worker in workers if worker.exitcode), None)
    if dead is None and not is_worker:
        return None
    if dead is None:  # a worker of another loader
        message = str(error).splitlines()[0]
        number = next((one for one in signal.Signals if f"signal: {signal.strsignal(one)}." in message), None)
        return WorkerKilled(f"a data worker was lost ({message}); use fewer --workers", number)
    who, code = f"a data worker (process {dead.pid})", dead.exitcode
    if code > 0:
        return WorkerKilled(f"{who} ended by itself, with exit code {code}; use --workers 0")
    name = next((one.name for one in signal.Signals if one == -code), f"signal {-code}")
    cause = f", {CAUSES[name]}" if name in CAUSES else ""
    return WorkerKilled(f"{who} was killed by {name}{cause}; use fewer --workers or a smaller --batch", -code)
