"""VTAB-1k from the user's own copy: 800 images to train on, 200 to choose settings, and the whole test split."""

import csv
import hashlib
import io
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vitreous.data.listing.class_folders import list_classes, list_subfolders
from vitreous.data.listing.listing import TRAIN, Listing, Row, format_names, read_stamp
from vitreous.data.listing.scan import scan
from vitreous.data.sources.base import FileSource, Source
from vitreous.data.sources.files import ScannedListing, build_source, keep_readable
from vitreous.data.sources.packed_data import find_packed
from vitreous.data.sources.packs import Contents, list_contents
from vitreous.errors import DataError
from vitreous.evaluation.benchmarks.vtab_tasks import OTHER_NAMES, TASKS, find_task
from vitreous.images.config import DecodeConfig
from vitreous.storage.presence import is_folder

BOTH, TRAINING, VALIDATION, TEST = "train800val200.txt", "train800.txt", "val200.txt", "test.txt"
"""Lists of "path label" lines, as in the circulating copies of VTAB-1k."""
FEW, MORE = 800, 1000
"""Images to train on, without and with those for choosing settings."""


@dataclass(frozen=True)
class Opened:
    """One task's images, under one numbering of classes."""

    task: str
    train: Source
    """800 images, or four fifths of fewer."""
    validation: Source
    """200 images for choosing settings."""
    both: Source
    """All 1,000 of them, to train on once settings are chosen."""
    test: Source
    notes: tuple[str, ...] = ()
    """Notes for the user about how the copy was read."""


def open_task(
    root: Path, name: str, decode: DecodeConfig = DecodeConfig(), broken: str = "raise", seed: int = 0
) -> Opened:
    """Open one task of the user's copy, at root/TASK.

    Three layouts are supported: the lists train800val200.txt and test.txt (with train800.txt and val200.txt if present)
    of lines "path label", paths relative to the task's folder, labels from 0; or class folders below train/ and test/,
    and optionally val/, which counts as training; or shards and parquet files (`data/sources/packed_data.py`). For the last
    two, 1,000 training images are drawn by a hash of the seed and their names.

    Args:
        root: the folder of the tasks.
        name: of the task, see TASKS.
        decode: limits of decoding.
        broken: raise, or skip.
        seed: of the draw.

    Raises:
        UnknownName: no such task. DataError: no such folder, a list that is missing or wrong, images that can't be read.
    """
    task = find_task(name)
    folder = task_folder(root, task)
    packed = {} if (folder / BOTH).is_file() else find_packed(folder)
    if packed:
        listings, notes = _from_packs(folder, packed, seed)
    else:
        listings, notes = (_from_lists if (folder / BOTH).is_file() else _from_folders)(folder, task, seed)
    parts = [ScannedListing(listing, scan(listing, decode, "full")) for listing in listings]
    sizes = [len(part) for part in parts]
    parts = [keep_readable(part, broken) for part in parts]
    train, validation, test = parts
    classes = _name_classes(folder, task, listings) if packed else _classes(task, parts)
    both = ScannedListing(
        replace(train.listing, rows=train.listing.rows + validation.listing.rows), train.records + validation.records
    )
    lost = sum(sizes) - sum(map(len, parts))
    notes += [f"{lost:,} images that can't be read were left out"] if lost else []
    notes += [*_compare_count(task, len(test)), *_find_repeats(both, test)]
    sources = [build_source(part, classes, decode, ()) for part in (train, validation, both, test)]
    return Opened(task, *sources, tuple(notes))


def _from_packs(
    folder: Path, found: Mapping[str, Sequence[Callable[[], Contents]]], seed: int
) -> tuple[list[Listing], list[str]]:
    """List the images in shards or parquet files, and draw the training images; raises DataError."""
    if "train" not in found or "test" not in found:
        raise DataError(f"{folder} has shards only for {' and '.join(found)}; it needs some for train and for test")
    pool, test = (
        list_contents([one() for name in names for one in found.get(name, ())], folder, str(folder), False)
        for names in (("train", "validation"), ("test",))
    )
    chosen, note = _draw_training(pool, seed)
    return [*_divide(chosen, seed), test], [note]


def _find_repeats(both: ScannedListing, test: ScannedListing) -> list[str]:
    """Note test images that are also among the training images, and images that come several times, by their bytes."""
    learned = {record.digest for record in both.records}
    shared = sum(record.digest in learned for record in test.records)
    repeated = sum(len(part) - len({record.digest for record in part.records}) for part in (both, test))
    notes = [f"{shared:,} test images are also among the training images; the accuracy flatters the model"]
    again = [f"{repeated:,} images come again within the training or the test images"]
    return notes * bool(shared) + again * bool(repeated)


def _name_classes(folder: Path, task: str, parts: Sequence[Listing]) -> tuple[str, ...]:
    """Return the classes of packed images: the numbers up to the highest, or their names, sorted; raises DataError."""
    found = {label for part in parts for label in part.labels}
    if not all(label.isascii() and label.isdigit() for label in found):
        return _sort_classes(task, found)
    highest = max((row for part in parts for row in part.rows), key=lambda row: int(row.label))
    if int(highest.label) >= TASKS[task].classes:
        raise DataError(
            f"{folder}: {highest.name} has class {highest.label}; {TASKS[task].title} has 0 to {TASKS[task].classes - 1}"
        )
    return tuple(str(number) for number in range(int(highest.label) + 1))


def _compare_count(task: str, test: int) -> list[str]:
    """Note it if the test split differs in size from the benchmark's."""
    right = test == TASKS[task].test
    return [] if right else [f"the test split has {test:,} images; the benchmark's has {TASKS[task].test:,}"]


def list_tasks(root: Path) -> list[str]:
    """Return the tasks in a copy, in the benchmark's order.

    Raises:
        DataError: no such folder, or no task in it.
    """
    if not is_folder(root):
        raise DataError(f"no such folder: {root}; name your copy of VTAB-1k, with one folder for each task")
    names = {folder.name.lower() for folder in list_subfolders(root)}
    own = {OTHER_NAMES.get(name, name) for name in names}
    found = [task for task in TASKS if task in own]
    if not found:
        raise DataError(f"{root} has no folder named after a task of VTAB; the tasks are {', '.join(TASKS)}")
    return found


def format_manifest(task: Opened, folder: Path) -> tuple[str, int]:
    """Return a manifest of the 1,000 images, for a file in `folder`, with the test split as validation; and the number of the latter.

    Test images of classes that the 1,000 lack are left out, since they could not be learned.

    Raises:
        DataError: the images are not in files of their own.
    """
    if not (isinstance(task.both, FileSource) and isinstance(task.test, FileSource)):
        raise DataError(f"the copy of {TASKS[task.task].title} is in shards, but training needs image files; unpack it")
    learned, rows = set(task.both.labels.tolist()), []
    for source, split in ((task.both, "train"), (task.test, "val")):
        for name, label in zip(source.names, source.labels.tolist(), strict=True):
            if label in learned:
                rows.append([os.path.relpath(source.root / name, folder), source.classes[label], split])
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["path", "label", "split"], *rows])
    return text.getvalue(), len(rows) - len(task.both)


def task_folder(root: Path, task: str) -> Path:
    """Return a task's folder, under any of its names; raises DataError."""
    own = [task, *(other for other, name in OTHER_NAMES.items() if name == task)]
    folders = {folder.name.lower(): folder for folder in list_subfolders(root)} if root.is_dir() else {}
    found = next((folders[name] for name in own if name in folders), None)
    if found is None:
        raise DataError(f"{root} has no folder {task}/ for {TASKS[task].title}")
    return found


def _from_lists(folder: Path, task: str, seed: int) -> tuple[list[Listing], list[str]]:
    """Read the lists."""
    if not (folder / TEST).is_file():
        raise DataError(f"{folder} has {BOTH} but no {TEST}; add the list of the test images")
    both, test = read_list(folder / BOTH, task), read_list(folder / TEST, task)
    if (folder / TRAINING).is_file() and (folder / VALIDATION).is_file():
        train, validation = read_list(folder / TRAINING, task), read_list(folder / VALIDATION, task)
        listed = {row.name for row in train.rows + validation.rows}
        if listed != {row.name for row in both.rows}:
            raise DataError(f"{folder}: {TRAINING} and {VALIDATION} together don't list the images of {BOTH}")
        return [train, validation, test], []
    train, validation = _divide(both, seed)
    return [train, validation, test], [f"{BOTH} was divided by seed {seed}: there is no {TRAINING} with {VALIDATION}"]


def read_list(path: Path, task: str) -> Listing:
    """Read a list of "path label" lines; raises DataError naming the line that is wrong."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read: {error}") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            name, _, label = line.strip().rpartition(" ")
            if not name or not label.isascii() or not label.isdigit() or int(label) >= TASKS[task].classes:
                raise DataError(
                    f"{path}, line {number}: {line.strip()[:80]!r} is not a path and a label from 0 to "
                    f"{TASKS[task].classes - 1}, the classes of {TASKS[task].title}"
                )
            rows.append(Row(os.path.normpath(name), str(int(label)), *read_stamp(path.parent / name), number))
    if not rows:
        raise DataError(f"{path} lists no images")
    return Listing(path.parent, tuple(rows), manifest=path)


def _from_folders(folder: Path, task: str, seed: int) -> tuple[list[Listing], list[str]]:
    """List class folders below train/, val/ and test/, and draw the training images."""
    named = {one.name.lower(): one for one in list_subfolders(folder)}
    train = next((named[name] for name in TRAIN if name in named), None)
    if train is None or "test" not in named:
        listed = format_names([f"{name}/" for name in named]) or "no folders"
        raise DataError(
            f"{folder} has neither {BOTH} with {TEST} nor train/ and test/ (folders, shards or parquet), but {listed}; "
            "see docs/evaluation.md"
        )
    pools = [train, *(named[name] for name in ("val", "valid", "validation") if name in named)]
    rows = [row for pool in pools for row in _list_below(folder, pool)]
    chosen, note = _draw_training(Listing(folder, tuple(rows)), seed)
    return [*_divide(chosen, seed), Listing(folder, tuple(_list_below(folder, named["test"])))], [note]


def _draw_training(pool: Listing, seed: int) -> tuple[Listing, str]:
    """Draw 1,000 images by a hash of the seed and the names; return them with a note for the user."""
    rows = tuple(sorted(pool.rows, key=lambda row: _draw(seed, row.name))[:MORE])
    return replace(pool, rows=rows), f"{len(rows):,} of {len(pool.rows):,} training images were drawn by seed {seed}"


def _list_below(folder: Path, pool: Path) -> list[Row]:
    """List a pool's images in class folders, with names relative to the task's folder."""
    return [row._replace(name=f"{pool.name}/{row.name}") for row in list_classes(pool).rows]


def _divide(both: Listing, seed: int) -> tuple[Listing, Listing]:
    """Draw 800 of 1,000, or four fifths of fewer, by a hash of the seed and the names."""
    order = sorted(both.rows, key=lambda row: _draw(seed, row.name))
    first = _count_training(len(order))
    return replace(both, rows=tuple(order[:first])), replace(both, rows=tuple(order[first:]))


def _count_training(count: int) -> int:
    return min(FEW, count * FEW // MORE) or 1


def _draw(seed: int, name: str) -> bytes:
    return hashlib.blake2b(f"{seed}\0{name}".encode(errors="surrogateescape"), digest_size=16).digest()


def _classes(task: str, parts: Sequence[ScannedListing]) -> tuple[str, ...]:
    """Return the class names of the parts, numbers in numerical order; raises DataError for too many."""
    return _sort_classes(task, {label for part in parts for label in part.listing.labels})


def _sort_classes(task: str, found: Collection[str]) -> tuple[str, ...]:
    """Return class names, numbers in numerical order; raises DataError for more than the benchmark has."""
    if len(found) > TASKS[task].classes:
        raise DataError(
            f"the copy of {TASKS[task].title} has {len(found):,} classes, but the benchmark has {TASKS[task].classes:,}"
        )
    key: Callable[[str], object] = int if all(name.isascii() and name.isdigit() for name in found) else str
    return tuple(sorted(found, key=key))
