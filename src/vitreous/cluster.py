"""Work in parts on a Ray cluster: each actor has an engine, each part becomes a file, and is done once.

The parts are the rows of a Ray data set. A part's file gets its name once it is complete, so an actor that dies in the
middle of a part leaves nothing, and Ray gives the part to another actor. If a command is killed, the same command
continues with the missing parts.
"""

import logging
import os
import pickle
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

from vitreous.errors import ConfigError, FailedError
from vitreous.runtime.memory import read_memory
from vitreous.runtime.packages import require_packages
from vitreous.runtime.threads import count_cores
from vitreous.storage.atomic import atomic_file, clear_partials, translate_write_errors
from vitreous.storage.job_facts import begin_facts
from vitreous.storage.lock import FolderLock
from vitreous.storage.parquet import check_parquet

Make = Callable[[list[Any], BinaryIO], None]
"""Computes a part's images and writes the results to a file."""
JOB = "_job.json"
"""The file that records what the parts depend on; pyarrow and others ignore names that begin with _ when they read the
folder."""
CORES = 4
"""Cores per actor without a GPU, if no number of actors is given."""
STORE = 2**27
"""Bytes of a local Ray's object store, which only holds names."""
PAUSE = 0.5
"""Seconds before a part is tried again; doubled after each try."""
MOST_BLOCKS = 20_000


class Actors(NamedTuple):
    """How many actors compute, and where."""

    count: int = 0
    """0: one per GPU of the cluster or, without any, one per 4 cores."""
    device: str = "auto"
    """cpu: no actor uses a GPU."""
    tries: int = 3
    """How often a part is tried before it is given up on."""


AS_MANY = Actors()


@dataclass(frozen=True)
class ClusterResult:
    """How much of a job was done."""

    images: int
    """Rows in the files of all parts, including those from earlier commands."""
    broken: int
    """Rows with an error."""
    parts: int
    """Files in the folder."""
    earlier: int
    """Files among them from earlier commands."""
    retried: int
    """How often parts were tried again, after an error or the death of their actor."""
    restarted: int
    """How many actors were restarted."""
    failed: tuple[tuple[int, str], ...] = ()
    """Parts that were given up on, and why."""

    def __str__(self) -> str:
        said = [f"{self.images:,} images in {self.parts:,} files"]
        said += [f"{self.earlier:,} of them from before"] if self.earlier else []
        said += [f"{self.retried:,} repeated tr{'y' if self.retried == 1 else 'ies'}"] if self.retried else []
        said += [f"{self.restarted:,} actor{'s'[: self.restarted != 1]} started again"] if self.restarted else []
        return ", ".join(said)


class JobFolder:
    """The files of a job's parts, locked while they are written.

    Args:
        folder: new, empty, or holding parts of this job.
        facts: what the files depend on, as JSON values.
        parts: how many parts the job has.

    Raises:
        ConfigError: the folder holds another job, or something else; pyarrow is missing. RunLocked: another process
            writes to it. StorageError: it can't be written.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any], parts: int) -> None:
        check_parquet("leave out --on ray")
        self.folder, self.parts = folder, parts
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"{folder} is a file; with --on ray, --out names a folder of parquet files")
        if (
            folder.is_dir()
            and not (folder / JOB).is_file()
            and any(not one.name.startswith(".") for one in folder.iterdir())
        ):
            raise ConfigError(
                f"{folder} is not empty and doesn't hold a job of --on ray; choose another folder with --out"
            )
        with translate_write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(folder)
        try:
            clear_partials(folder)
            begin_facts(folder / JOB, facts, any(folder.glob("part-*.parquet")), folder)
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> "JobFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        clear_partials(self.folder)
        self._lock.release(remove=True)

    def list_missing(self) -> list[int]:
        """Return the parts without a file."""
        return [number for number in range(self.parts) if not locate_part(self.folder, number).exists()]

    def count_rows(self) -> tuple[int, int]:
        """Return the number of rows in all files, and how many have an error."""
        import pyarrow.parquet as parquet

        rows = errors = 0
        for number in range(self.parts):
            if (path := locate_part(self.folder, number)).exists():
                column = parquet.read_table(path, columns=["error"]).column(0)
                rows, errors = rows + len(column), errors + len(column) - column.null_count
        return rows, errors


def locate_part(folder: Path, number: int) -> Path:
    """Return where a part's file goes."""
    return folder / f"part-{number:06}.parquet"


class FileWorker:
    """An actor: it builds an engine once, and makes the files of the parts that it is given.

    Args:
        begin: builds the engine; returns the function that makes a part.
        folder: for the files. It and `place`, the directory that relative paths start from, have the same paths on all
            machines.
        tries: see `Actors`.
    """

    def __init__(self, begin: Callable[[], Make], folder: str, place: str, tries: int) -> None:
        import ray  # pyrefly: ignore[missing-import]

        os.chdir(place)
        self.make, self.folder, self.tries = begin(), Path(folder), tries
        self.again = ray.get_runtime_context().was_current_actor_reconstructed

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Make a part's file; return a record of what happened."""
        number, images = int(row["part"]), pickle.loads(row["images"])
        again, error, tries = self.again, "", 0
        while tries < self.tries:
            tries += 1
            try:
                with atomic_file(locate_part(self.folder, number)) as file:
                    self.make(images, file)
                error = ""
                break
            except Exception as raised:  # whatever it is, the other parts continue
                error = " ".join(str(raised).split()) or type(raised).__name__
                if tries < self.tries:
                    time.sleep(PAUSE * 2 ** (tries - 1))
        who = f"{platform.node()} {os.getpid()}"
        return {"part": number, "images": len(images), "tries": tries, "error": error, "who": who, "again": again}


def run_parts(
    parts: Sequence[list[Any]],
    folder: JobFolder,
    begin: Callable[[], Make],
    actors: Actors = AS_MANY,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ClusterResult:
    """Make the missing files, on the cluster that RAY_ADDRESS names or, without one, on this machine.

    Args:
        parts: the images of each part; must be picklable.
        folder: for the files.
        begin: called in each actor; the function that it returns is called for each of the actor's parts. Pickled by
            reference.
        actors: how many actors compute, and where.
        progress: called with the number of images done and the number to do now.

    Raises:
        ConfigError: Ray is not installed, or the cluster has too little for the requested actors. FailedError: Ray gave
            up.
    """
    check_ray()
    missing = folder.list_missing()
    total, done, rows = sum(len(parts[number]) for number in missing), 0, list[dict[str, Any]]()
    if missing:
        with start_ray() as ray:
            for row in stream_parts(ray, {number: parts[number] for number in missing}, folder.folder, begin, actors):
                done += int(row["images"])
                rows.append(row)
                progress(done, total)
    images, broken = folder.count_rows()
    failed = tuple((int(row["part"]), str(row["error"])) for row in rows if row["error"])
    reborn = {row["who"] for row in rows if row["again"]}
    retried = sum(int(row["tries"]) - 1 for row in rows)
    return ClusterResult(
        images, broken, len(parts) - len(failed), len(parts) - len(missing), retried + len(reborn), len(reborn), failed
    )


def stream_parts(
    ray: Any, parts: Mapping[int, list[Any]], folder: Path, begin: Callable[[], Make], actors: Actors
) -> Iterator[dict[str, Any]]:
    """Yield the outcome of each part as it is done; raises ConfigError, FailedError."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    count, cores, gpus = divide_cluster([node["Resources"] for node in ray.nodes() if node["Alive"]], actors)
    rows = [{"part": number, "images": pickle.dumps(images)} for number, images in parts.items()]
    data = ray.data.from_items(rows, override_num_blocks=min(len(rows), MOST_BLOCKS))
    how = {"begin": begin, "folder": str(folder.absolute()), "place": str(Path.cwd()), "tries": actors.tries}
    done = data.map(
        FileWorker,
        fn_constructor_kwargs=how,
        compute=ray.data.ActorPoolStrategy(size=min(count, len(rows))),
        num_cpus=cores,
        num_gpus=gpus,
    )
    try:
        yield from done.iter_rows()
    except ray.exceptions.RayError as error:
        said = next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
        raise FailedError(
            f"Ray gave up: {said.strip()}. Finished parts are kept; the same command continues with the others"
        ) from error


def divide_cluster(nodes: Sequence[Mapping[str, float]], actors: Actors) -> tuple[int, int, int]:
    """Return the number of actors, and the cores and GPUs of each, such that all fit at the same time, each on one
    node.

    Args:
        nodes: the resources of each machine.
        actors: how many are requested, and where they compute.

    Raises:
        ConfigError: more actors than there is room for.
    """
    free = [(int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in nodes]
    on_gpus = actors.device in ("auto", "cuda") and any(gpus for _, gpus in free)
    if actors.device == "cuda" and not on_gpus:
        raise ConfigError("the cluster has no GPU; use --device cpu")

    def count_fitting(cores: int) -> int:
        return sum(min(own // cores, gpus) if on_gpus else own // cores for own, gpus in free)

    most = count_fitting(1)
    count = actors.count or (most if on_gpus else sum(max(1, own // CORES) for own, _ in free if own))
    if not 0 < count <= most:
        asked = f"--actors {actors.count}, but " if actors.count else ""
        raise ConfigError(
            f"{asked}the machines of the cluster have {most:,} {'GPUs with a core' if on_gpus else 'cores'}; "
            f"{f'give at most {most}' if most else 'add machines'}"
        )
    cores = max(each for each in range(1, max(own for own, _ in free) + 1) if count_fitting(each) >= count)
    return count, cores, int(on_gpus)


def check_ray() -> None:
    """Raise ConfigError unless Ray is installed."""
    require_packages(["ray"], "--on ray", "ray")


@contextmanager
def start_ray() -> Iterator[Any]:
    """Yield Ray, connected to the cluster that RAY_ADDRESS names or started on this machine; raises FailedError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray  # pyrefly: ignore[missing-import]
    import ray.data  # pyrefly: ignore[missing-import]

    address = os.environ.get("RAY_ADDRESS")
    quiet: dict[str, Any] = {"logging_level": logging.CRITICAL, "log_to_driver": False}
    local: dict[str, Any] = {
        "include_dashboard": False,
        "object_store_memory": min(STORE, read_memory() // 8),
        "num_cpus": count_cores(),
    }
    began = not ray.is_initialized()
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    if began:
        handler = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(address or "local", **quiet, **({} if address else local))
        except Exception as error:  # ConnectionError, RuntimeError, ValueError, Ray's own errors, ...
            said = " ".join(str(error).split())[:300]
            raise FailedError(f"Ray can't be started ({address or 'on this machine'}): {said}") from error
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray's handler would end the command as if it had failed
    try:
        yield ray
    finally:
        if began:
            ray.shutdown()
