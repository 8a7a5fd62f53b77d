"""Mutated files of every kind, in processes with limits: no crash, no foreign exception, none slow or large.

    python -m tests.fuzz [--kind images] [--count 20000] [--seed 0] [--first 0] [--workers 2] [--keep FOLDER]

Fails, with the reproducing file kept, on: a crash; an exception outside of vitreous.errors, or a message of more than a
line; more than 5 seconds of the processor, or no answer in 20, twice; more than 1 GiB beyond what the process had. How to
add a kind: `cases.py`.
"""

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import SimpleQueue

from tests.fuzz.cases import kind_named, kinds, make_case
from tests.fuzz.worker import Answer, work

SECONDS = 5.0
"""A case may take, of the processor ..."""
PATIENCE = 20.0
"""... and of the clock, which runs on while a busy machine does something else."""
START = 300.0
"""Seconds that a worker may take to import the product and attempt the samples."""
CONTEXT = multiprocessing.get_context("spawn")


class Worker:
    """A process that attempts cases; one that dies or hangs is replaced."""

    def __init__(self, name: str, samples: list[Path], seed: int, scratch: Path) -> None:
        self.name, self.samples, self.seed, self.scratch = name, samples, seed, scratch
        self.process: BaseProcess | None = None

    def answer(self, number: int) -> Answer:
        """Have a case attempted; one that is slow, twice."""
        answer = self.once(number)
        return self.once(number) if answer.verdict == "slow" else answer

    def once(self, number: int) -> Answer:
        """Have a case attempted."""
        if self.process is None:
            self.start()
        self.pipe.send(number)
        if not self.pipe.poll(PATIENCE):
            return Answer(number, "slow", f"no answer within {PATIENCE:.0f} s\n{self.end()}", SECONDS)
        try:
            answer: Answer = self.pipe.recv()
        except EOFError:
            return Answer(number, "crashed", self.end(), 0.0)
        return answer._replace(verdict="slow") if answer.cpu > SECONDS else answer

    def start(self) -> None:
        """Start the process and wait until it has attempted the samples; raises SystemExit if it can't."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.pipe, inner = CONTEXT.Pipe()
        given = (self.name, self.samples, self.seed, self.scratch, inner)
        self.process = CONTEXT.Process(target=work, args=given, daemon=True)
        self.process.start()
        inner.close()
        try:
            ready = self.pipe.poll(START) and self.pipe.recv() is None
        except EOFError:
            ready = False
        if not ready:
            raise SystemExit(f"{self.name}: a valid sample was not read, or the worker could not start\n{self.end()}")

    def end(self) -> str:
        """End the process; say how it ended and what it wrote last."""
        if self.process is None:
            return ""
        self.process.join(0.5)
        code = self.process.exitcode
        self.process.kill()
        self.process.join()
        self.process = None
        self.pipe.close()
        log = self.scratch / "log"
        said = log.read_text(errors="replace")[-2000:] if log.exists() else ""
        return f"exit code {code}\n{said}"


def attempt_all(name: str, samples: list[Path], seed: int, numbers: Iterable[int], workers: int) -> Iterator[Answer]:
    """Yield an answer for each case, in order."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, ThreadPoolExecutor(workers) as pool:
        team = [Worker(name, samples, seed, Path(folder, str(number))) for number in range(workers)]
        free: SimpleQueue[Worker] = SimpleQueue()
        for worker in team:
            free.put(worker)

        def answer(number: int) -> Answer:
            worker = free.get()
            try:
                return worker.answer(number)
            finally:
                free.put(worker)

        try:
            yield from pool.map(answer, numbers)
        finally:
            pool.shutdown(cancel_futures=True)
            for worker in team:
                worker.end()


def run(name: str, count: int, options: argparse.Namespace) -> int:
    """Attempt cases of a kind, report, keep what failed; return the number of failures."""
    kind, found, slowest, failures = kind_named(name), Counter[str](), (0.0, -1), 0
    with tempfile.TemporaryDirectory(prefix="fuzz-samples-") as folder:
        samples = kind.seeds(Path(folder))
        numbers = range(options.first, options.first + count)
        print(f"{name}: {count:,} cases from {len(samples)} samples, seed {options.seed}", flush=True)
        began = said = time.monotonic()
        for done, answer in enumerate(attempt_all(name, samples, options.seed, numbers, options.workers), start=1):
            found[answer.verdict] += 1
            slowest = max(slowest, (answer.cpu, answer.number))
            if answer.verdict not in ("passed", "refused"):
                failures += 1
                kept = options.keep / f"{name}-{options.seed}-{answer.number}"
                shutil.rmtree(kept, ignore_errors=True)
                kept.mkdir(parents=True)
                path = make_case(kind, samples, options.seed, answer.number, kept)
                print(f"FAILED {name} {answer.number}: {answer.verdict}; kept as {path}\n{answer.detail}", flush=True)
            if time.monotonic() - said > 10 or done == count:
                said = time.monotonic()
                rate = done / (said - began)
                print(f"  {done:,} of {count:,}, {rate:.0f} a second, {(count - done) / rate:.0f} s to go", flush=True)
    told = ", ".join(f"{number:,} {verdict}" for verdict, number in sorted(found.items()))
    print(f"{name}: {told}; the slowest took {slowest[0]:.2f} s (case {slowest[1]})", flush=True)
    return failures


def main() -> int:
    """Read the options and go through the kinds."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description="Mutated files, in processes with limits."
    )
    parser.add_argument("--kind", choices=kinds(), action="append", help="only this kind; may be given several times")
    parser.add_argument("--count", type=int, help="cases of each kind (default: what the kind says)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case, to try one again")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", type=Path, default=Path("runs/fuzz"), help="folder for files that failed")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    names = options.kind or kinds()
    failures = sum(run(name, options.count or kind_named(name).COUNT, options) for name in names)
    print(f"{failures} failures" if failures else "no failure")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
