"""The processes of one run: how they meet, agree and part. torchrun, or `vitreous train --processes`, starts them.

A run in one process needs none of this: its world is `ALONE`, in which every function returns its argument.
"""

import itertools
import math
import os
import platform
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from vitreous.errors import ConfigError, ProcessLost, ReportedElsewhere, RunError, Signalled, VitreousError
from vitreous.training.interrupt import Interrupt
from vitreous.training.reporter import Reporter, Silent

T = TypeVar("T")
LAUNCH = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Environment variables in which torchrun describes each process."""
TIMEOUT = 10.0
"""Minutes that a process waits for the others."""
MOST_MINUTES = 1_000_000
"""Of such a wait."""
WHATEVER = timedelta(days=365)
FIRST_TO_TELL, LAST_WORDS = 10.0, 3.0
"""Seconds that a process waits until the first process has reported an error that both have, or until a process that
has ended has reported why."""
LOST = (
    "gloo",
    "NCCL",
    "Connection reset",
    "Connection closed",
    "Broken pipe",
    "Timed out",
    "timeout",
    "recvVector",
    "sendBytes",
)
"""Parts of torch's error messages when another process has ended or doesn't answer."""


@dataclass
class Pulse:
    """The progress of a process: a count that grows whenever the processes have waited for each other (see
    `watch.py`)."""

    count: int = 0

    def beat(self) -> None:
        """Go on."""
        self.count += 1


@dataclass(frozen=True)
class World:
    """The processes of a run, and which one of them this is. Every method is called by all of them, in the same order."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """This process's number on its machine."""
    local_size: int = 1
    """Processes on this machine."""
    store: Any = None
    timeout: float = math.inf
    """Seconds that one process waits for another."""
    turns: Iterator[int] = field(default_factory=itertools.count)
    pulse: Pulse = field(default_factory=Pulse)

    @property
    def leads(self) -> bool:
        """Whether this process speaks for all, and writes the run folder."""
        return self.rank == 0

    @property
    def together(self) -> bool:
        """Whether there are other processes."""
        return self.size > 1

    def share(self, value: T) -> T:
        """Return the first process's value, in all of them."""
        if not self.together:
            return value
        box: list[Any] = [value if self.leads else None]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes, by rank, in the first process; an empty list in the others."""
        if not self.together:
            return [value]
        found: list[Any] | None = [None] * self.size if self.leads else None
        dist.gather_object(value, found, dst=0)
        return found or []

    def add_up(self, values: Tensor) -> Tensor:
        """Return the sum of the processes' tensors, with the same bits in all of them."""
        if self.together:
            dist.all_reduce(values)
        return values

    def agree(self, interrupt: Interrupt) -> None:
        """Let the run stop if any process was asked to."""
        if self.together:
            interrupt.adopt(self.add_up(torch.tensor(interrupt.ballot())).tolist())

    @contextmanager
    def take_turns(self) -> Iterator[None]:
        """Run the block in the first process, which fills caches and downloads, however long it takes, then in the
        others."""
        key = f"turn/{next(self.turns)}"
        if self.together and not self.leads:
            self.store.wait([key], WHATEVER)
        yield
        if self.together and self.leads:
            self.store.set(key, "")

    def hush(self, reporter: Reporter) -> Reporter:
        """Return the reporter in the first process, and a silent one in the others."""
        return reporter if self.leads else Silent()

    def place(self, device: torch.device) -> torch.device:
        """Return this process's own device of the given kind."""
        if not self.together or device.type != "cuda":
            return device
        if self.local_rank >= torch.cuda.device_count():
            raise ConfigError(
                f"{self.local_size} processes on a machine with {torch.cuda.device_count()} GPUs: each needs its own; start "
                "fewer processes, or train on the CPU (--device cpu)"
            )
        torch.cuda.set_device(self.local_rank)
        return torch.device("cuda", self.local_rank)

    def divide(self, batch: int) -> int:
        """Return the number of examples of each batch for one process; raises ConfigError unless it is the same for
        all."""
        if batch % self.size:
            below = batch // self.size * self.size
            nearest = f"{below + self.size:,}" if not below else f"{below:,} or {below + self.size:,}"
            raise ConfigError(
                f"a batch of {batch:,} can't be divided among {self.size} processes; give --batch {nearest}, or another number "
                "of processes"
            )
        return batch // self.size

    def refuse_others(self, what: str) -> None:
        """Raise ConfigError if there are several processes. `what`: says which work trains many models, and so needs
        one process."""
        if self.together:
            raise ConfigError(f"{what}, but several processes can only train one model; use one process")

    def check_same(self, facts: dict[str, str]) -> None:
        """Raise RunError in all processes, naming the first difference, if they differ in values that must be equal."""
        if not self.together:
            return
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, (platform.node(), facts))
        (first_host, first), *others = found
        for rank, (host, those) in enumerate(others, start=1):
            for name, value in first.items():
                if those.get(name) != value:
                    raise RunError(
                        f"the processes differ: {name} is {those.get(name)} in process {rank} (on {host}), {value} in process 0 "
                        f"(on {first_host}); give all of them the same"
                    )


ALONE = World()
_joined: list[World] = []


def get_world() -> World:
    """Return the world that this process has joined."""
    return _joined[-1] if _joined else ALONE


@contextmanager
def join(timeout: float = TIMEOUT) -> Iterator[World]:
    """Join the other processes of this run, if there are any, until the block ends.

    Only one process reports an error inside the block: the first, or the only one in which it occurs.

    Args:
        timeout: minutes that a process waits for another, here and later.

    Raises:
        ConfigError: some processes don't come, or a number from the launcher or the timeout is not valid.
        ReportedElsewhere: the work has ended, and another process reports why.
    """
    if not 0 < timeout < MOST_MINUTES:
        raise ConfigError(f"--process-timeout is {timeout:g}; it must be a number of minutes above 0")
    if _joined or not all(os.environ.get(name) for name in LAUNCH) or read_count("WORLD_SIZE") < 2:
        yield get_world()
        return
    world = meet(timedelta(minutes=timeout))
    _joined.append(world)
    try:
        yield world
    except (Exception, KeyboardInterrupt) as error:
        raise settle_error(world, error) from error
    finally:
        _joined.pop()
        part()


def read_count(name: str, default: int | None = None) -> int:
    """Return a number that the launcher left in the environment; raises ConfigError if the value is not a number."""
    value = os.environ.get(name, "" if default is None else str(default))
    if not value.isdecimal():
        raise ConfigError(f"{name} is {value!r} in the environment; it must be a whole number, as torchrun sets it")
    return int(value)


def meet(timeout: timedelta) -> World:
    """Wait for all processes, and make torch's process group of them.

    Raises:
        ConfigError: some processes, which it names, don't come. ProcessLost: one came, and ended.
    """
    rank, size = read_count("RANK"), read_count("WORLD_SIZE")
    where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    said = f"within {timeout.total_seconds() / 60:g} min (--process-timeout)"
    try:
        store = open_store(rank, timeout)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"process {rank} of {size} can't meet the others at {where} {said}; are all of them started, with the same "
            "MASTER_ADDR and MASTER_PORT?"
        ) from error
    local = read_count("LOCAL_RANK", rank), read_count("LOCAL_WORLD_SIZE", size)
    world = World(rank, size, *local, store, timeout.total_seconds())
    try:
        world = await_others(world, said, where)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=world.store, rank=rank, world_size=size, timeout=timeout)
    except (RuntimeError, ConfigError) as error:
        raise settle_error(world, error) from error
    return world


def await_others(world: World, said: str, where: str) -> World:
    """Wait until all processes have come; return their world, with a part of the store that only they use.

    When torch's agent restarts the processes, it keeps its store, with the addresses and errors of the earlier
    processes: a process that read them there would call one that has ended. So each process comes with a unique name,
    and the first process answers that name with the place where they meet.

    Args:
        world: the processes as they were started.
        said: the time that it waits, in words. where: the address of the store.

    Raises:
        ConfigError: some don't come, which it names.
    """
    end, own = time.monotonic() + world.timeout, uuid.uuid4().hex
    meeting = own
    if not world.leads:
        world.store.set(f"came/{world.rank}", own)
        if not await_key(world.store, f"meeting/{own}", world.timeout):
            raise ConfigError(
                f"process 0 of {world.size} hasn't come {said}; start it, with {where} for the place where they meet"
            )
        meeting = world.store.get(f"meeting/{own}").decode()
    store = dist.PrefixStore(meeting, world.store)
    store.set(f"here/{world.rank}", "")
    missing = list(range(world.size))
    while missing := [one for one in missing if not store.check([f"here/{one}"])]:
        for one in missing if world.leads else ():
            if world.store.check([f"came/{one}"]):
                world.store.set(f"meeting/{world.store.get(f'came/{one}').decode()}", meeting)
        if time.monotonic() > end:
            raise ConfigError(
                f"{world.size - len(missing)} of {world.size} processes have come {said}; missing: "
                f"{', '.join(map(str, missing))}. Start all of them, with {where} for the place where they meet"
            )
        time.sleep(0.05)
    return replace(world, store=store)


def open_store(rank: int, timeout: timedelta) -> Any:
    """Return the store through which the processes meet: that of torch's agent, or one in the first process."""
    if has_agent():
        return next(dist.rendezvous("env://", timeout=timeout))[0]
    host, port = os.environ["MASTER_ADDR"], read_count("MASTER_PORT")
    return dist.TCPStore(host, port, is_master=rank == 0, timeout=timeout, wait_for_workers=False)


def has_agent() -> bool:
    """Return whether torch's agent, which outlives the processes, has a store for them."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def part() -> None:
    """Leave the process group, so that processes that wait for this one notice; once is enough."""
    with suppress(RuntimeError):
        if dist.is_initialized():
            dist.destroy_process_group()


def explain_loss(error: BaseException) -> BaseException:
    """Return torch's error about a lost process as one of vitreous's, and any other error unchanged."""
    if isinstance(error, VitreousError) or not isinstance(error, RuntimeError):
        return error
    if not isinstance(error, dist.DistError) and not any(word in str(error) for word in LOST):
        return error
    gone = ProcessLost("another process of this run has ended, or hasn't answered in time")
    gone.__cause__ = error
    return gone


def settle_error(world: World, error: BaseException) -> BaseException:
    """Return the error to raise in this process: only one process of the run reports what went wrong."""
    error = explain_loss(error)
    code = 128 + error.number if isinstance(error, Signalled) else getattr(error, "exit_code", 1)
    with suppress(RuntimeError, ValueError):
        store = world.store
        note_failure(store, world.rank, code)
        if isinstance(error, (ProcessLost, KeyboardInterrupt)):
            await_key(store, "told", LAST_WORDS if isinstance(error, ProcessLost) else 0)
        elif not world.leads and await_key(store, "failed/0", FIRST_TO_TELL):
            await_key(store, "told", LAST_WORDS)
        teller = choose_teller(store, world.rank)
        code = int(store.get(f"failed/{teller}"))
        store.set(f"settled/{world.rank}", "")
        if world.leads and not has_agent():  # the store ends with this process
            part()
            for rank in range(world.size):
                await_key(store, f"settled/{rank}", LAST_WORDS / world.size)
        if teller != world.rank:
            return ReportedElsewhere(code)
        if not world.leads and isinstance(error, VitreousError) and not isinstance(error, ProcessLost):
            error.args = (f"process {world.rank} of {world.size}: {error}",)
    return error


def note_failure(store: Any, rank: int, code: int) -> None:
    """Record in the store that a process has failed, with its exit code."""
    store.set(f"failed/{rank}", str(code))


def choose_teller(store: Any, rank: int) -> int:
    """Return the rank of the process that reports what went wrong: the first that calls this."""
    return int(store.compare_set("told", "", str(rank)))


def await_key(store: Any, key: str, seconds: float) -> bool:
    """Wait for a key in the store, at most this long; return whether it came."""
    end = time.monotonic() + seconds
    while not (found := store.check([key])) and time.monotonic() < end:
        time.sleep(0.05)
    return found
