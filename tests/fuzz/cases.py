"""Kinds of files to mutate, and case n of a kind: a pure function of the seed, the kind and n.

A kind is a module in this folder (`python -m tests.fuzz --kind NAME`) that has:

    COUNT = 3_000
        cases of a plain `make fuzz`
    def seeds(folder: Path) -> list[Path]
        Writes valid samples into the folder, always the same ones, and returns them: files, or folders of which a case
        mutates one file. Many small ones of every format and variant (a few KiB each).
    def attempt(path: Path) -> None
        Does what the product does with such a file or folder. An error of `vitreous.errors` is a refusal, and fine; any
        other exception is a failure. Every sample itself must pass without an error.
    def mend(name: str, data: bytes, chance: Random) -> bytes
        Optional: corrects checksums after a mutation, so that it gets past them; called for half of the cases, with the
        file's name.
"""

import importlib
import shutil
from pathlib import Path
from random import Random
from types import ModuleType

from tests.fuzz.mutate import mutate

HARNESS = {"__main__", "cases", "mutate", "worker"}


def kinds() -> list[str]:
    """List the kinds: the modules of this folder that aren't the harness."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in HARNESS)


def kind_named(name: str) -> ModuleType:
    """Import a kind by its module's name here, or by a full one."""
    return importlib.import_module(name if "." in name else f"tests.fuzz.{name}")


def make_case(kind: ModuleType, samples: list[Path], seed: int, number: int, folder: Path) -> Path:
    """Write case `number` into an empty folder and return its path. Samples take turns."""
    chance = Random(f"{seed} {kind.__name__} {number}")
    sample = samples[number % len(samples)]
    path = folder / f"case{sample.suffix}"
    if sample.is_dir():
        shutil.copytree(sample, path)
    else:
        shutil.copyfile(sample, path)
    target = chance.choice(contents(path))
    data = mutate(target.read_bytes(), chance, chance.choice(contents(chance.choice(samples))).read_bytes())
    if hasattr(kind, "mend") and chance.random() < 0.5:
        data = kind.mend(target.name, data, chance)
    target.write_bytes(data)
    return path


def contents(path: Path) -> list[Path]:
    """Return the files of a folder, sorted; of a file, itself."""
    return sorted(inner for inner in path.rglob("*") if inner.is_file()) if path.is_dir() else [path]
