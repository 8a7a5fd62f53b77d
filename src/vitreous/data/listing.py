"""Which files with which labels: class folders and manifests, listed in an order that is the same on every machine."""

import csv
import difflib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vitreous.errors import DataError
from vitreous.images.config import SUFFIXES

TRAIN, VALIDATION = ("train", "training"), ("val", "valid", "validation", "test")
MANIFESTS = (".csv", ".tsv", ".jsonl", ".ndjson")
PATH_COLUMNS, LABEL_COLUMNS, SPLIT_COLUMNS = (
    ("path", "file", "filename", "image"),
    ("label", "class", "target"),
    ("split",),
)


@dataclass(frozen=True)
class Listing:
    """Files and their class names, before any file is opened."""

    root: Path
    """What the names are relative to."""
    names: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    """The class name of each."""
    ignored: int = 0
    """Files that are no images by their ending."""
    notes: tuple[str, ...] = field(default=())
    """What a person should know about how the files were found."""

    def __len__(self) -> int:
        return len(self.names)


def list_data(path: Path) -> tuple[Listing, Listing | None]:
    """Return the training files and, where the data has its own split, the validation files.

    Raises:
        DataError: nothing there, or nothing that can be used.
    """
    if not path.exists():
        raise DataError(missing(path))
    if path.is_file():
        return read_manifest(path)
    folders = {entry.name.lower(): entry for entry in path.iterdir() if entry.is_dir()}
    train = next((folders[name] for name in TRAIN if name in folders), None)
    if train is None:
        return list_classes(path), None
    held = next((folders[name] for name in VALIDATION if name in folders), None)
    listing = list_classes(train)
    if held is None:
        return listing, None
    validation = list_classes(held)
    notes = (f"validation is {held.name}/: there is no val/",) if held.name.lower() == "test" else ()
    return listing, Listing(validation.root, validation.names, validation.labels, validation.ignored, notes)


def missing(path: Path) -> str:
    """Say that a path isn't there, and what near it is."""
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, n=1)
    hint = (
        f"; did you mean {path.parent / near[0]}?"
        if near
        else "; give a folder of class folders, a CSV or JSONL file, or digits"
    )
    return f"no such file or folder: {path}{hint}"


def list_classes(root: Path) -> Listing:
    """List a folder of class folders: an image at any depth belongs to the class folder at the top.

    Hidden files and folders are passed over. A linked folder is followed once.
    """
    classes = sorted(
        (entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")), key=_name
    )
    names: list[str] = []
    labels: list[str] = []
    ignored, nested = 0, 0
    for folder in classes:
        for file in walk(folder):
            if file.suffix.lower() not in SUFFIXES:
                ignored += 1
                continue
            nested += file.parent != folder
            names.append(file.relative_to(root).as_posix())
            labels.append(folder.name)
    if not names:
        raise DataError(empty(root))
    notes = (f"{nested:,} images lie in folders below their class folder; they count as that class",) if nested else ()
    return Listing(root, tuple(names), tuple(labels), ignored, notes)


def empty(root: Path) -> str:
    """Say why a folder has no examples."""
    loose = sum(entry.suffix.lower() in SUFFIXES for entry in root.iterdir() if entry.is_file())
    if loose:
        return f"{root} holds {loose:,} images but no class folders; put each class's images into a folder of its own"
    if not any(root.iterdir()):
        return f"{root} is empty; it should hold one folder of images for each class"
    return f"{root} holds no images in class folders; known endings: {' '.join(sorted(SUFFIXES))}"


def walk(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, sorted by name, hidden ones left out."""
    seen: set[str] = set()
    for current, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(current)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real in seen:
            continue
        seen.add(real)
        yield from (Path(current, name) for name in sorted(files) if not name.startswith("."))


def read_manifest(path: Path) -> tuple[Listing, Listing | None]:
    """Read a CSV, TSV or JSONL manifest with the columns path and label, and perhaps split (train, val).

    Paths are relative to the manifest.
    """
    if path.suffix.lower() not in MANIFESTS:
        raise DataError(f"{path} is a file, but no manifest ({', '.join(MANIFESTS)}); give a folder of class folders")
    parts: dict[str, list[tuple[str, str]]] = {"train": [], "val": []}
    seen: dict[str, int] = {}
    for line, row in _rows(path):
        name, label = _column(row, PATH_COLUMNS, path, line), _column(row, LABEL_COLUMNS, path, line)
        if name in seen:
            raise DataError(
                f"{path}, line {line}: {name} was listed before, in line {seen[name]}; list each image once"
            )
        seen[name] = line
        split = next((str(row[key]).strip().lower() for key in SPLIT_COLUMNS if row.get(key)), "train")
        if split not in TRAIN + VALIDATION:
            raise DataError(
                f"{path}, line {line}: split is {split!r}; it must be one of {', '.join(TRAIN + VALIDATION)}"
            )
        parts["train" if split in TRAIN else "val"].append((name, label))
    if not parts["train"]:
        raise DataError(f"{path} lists no images" + (" for training" if parts["val"] else ""))
    listings = {key: _listing(path.parent, rows) for key, rows in parts.items() if rows}
    return listings["train"], listings.get("val")


def _listing(root: Path, rows: list[tuple[str, str]]) -> Listing:
    return Listing(root, tuple(name for name, _ in rows), tuple(label for _, label in rows))


def _rows(path: Path) -> Iterator[tuple[int, dict]]:
    """Yield (line number, row) of a manifest."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() in (".jsonl", ".ndjson"):
                for number, text in enumerate(file, start=1):
                    if text.strip():
                        yield number, _json_row(text, path, number)
            else:
                reader = csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
                for row in reader:
                    yield reader.line_num, {(key or "").strip().lower(): value for key, value in row.items()}
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} can't be read as UTF-8 text: {error}") from error
    except OSError as error:
        raise DataError(f"can't read {path}: {error.strerror}") from error


def _json_row(text: str, path: Path, line: int) -> dict:
    try:
        row = json.loads(text)
    except ValueError as error:
        raise DataError(f"{path}, line {line}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise DataError(f'{path}, line {line}: expected an object such as {{"path": "a.jpg", "label": "cat"}}')
    return row


def _column(row: dict, names: tuple[str, ...], path: Path, line: int) -> str:
    """Return the value of the first of these columns that the row has."""
    for name in names:
        if name in row:
            value = "" if row[name] is None else str(row[name]).strip()
            if not value:
                raise DataError(f"{path}, line {line}: {name} is empty")
            return value
    found = ", ".join(str(key) for key in row) or "none"
    raise DataError(f"{path}, line {line}: no column {names[0]!r} (or {', '.join(names[1:])}); found: {found}")


def _name(path: Path) -> str:
    return path.name
