"""Manifests: CSV, TSV or JSONL files that list images with labels, and perhaps a split."""

import csv
import difflib
import json
import os
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from vitreous.data.rows import BETWEEN, TRAIN, VALIDATION, Listing, Row, stamp
from vitreous.errors import DataError, is_file

MANIFESTS = (".csv", ".tsv", ".jsonl", ".ndjson")
PATH, LABEL, SPLIT = (
    ("path", "file", "file_name", "filename", "filepath", "image", "image_path"),
    ("label", "class", "target", "category"),
    ("split",),
)
"""Columns: the name that is documented, then others that mean the same."""
LABELS = ("labels",)
"""The column of a manifest whose images have several labels each, or none."""


def read_manifest(path: Path, several: bool = False) -> tuple[Listing, Listing]:
    """Read a manifest with the columns path and label, and perhaps split (train, val); return both parts.

    Paths are relative to the manifest. Where rows are marked val, those marked test are left out; else they are the
    validation, as with folders.

    Args:
        path: the manifest.
        several: it has the column labels instead of label, and a row's label is all of them with BETWEEN between.

    Raises:
        DataError: naming the line that is wrong.
    """
    needed = (PATH, LABELS if several else LABEL)
    parts: dict[str, list[Row]] = {"train": []}
    seen: dict[str, int] = {}
    for line, fields in _rows(path, needed):
        where = f"{path}, line {line}"
        name = os.path.normpath(_value(fields, PATH, where))
        label = _labels(fields, where) if several else _value(fields, LABEL, where)
        label = unicodedata.normalize("NFC", label)
        split = _value(fields, SPLIT, where).lower() if "split" in fields else "train"
        if name in seen:
            raise DataError(f"{where}: {name} is listed in line {seen[name]} already; list each image once")
        seen[name] = line
        if split not in TRAIN + VALIDATION:
            raise DataError(f"{where}: split is {split!r}; it must be one of {', '.join(TRAIN + VALIDATION)}")
        part = "train" if split in TRAIN else split
        parts.setdefault(part, []).append(Row(name, label, *stamp(path.parent / name), line))
    if not seen:
        raise DataError(f"{path} lists no images")
    held = [part for part in VALIDATION if part in parts]
    notes = [f"the {held[0]} rows are the validation: none are marked val"] if held and held[0] != "val" else []
    notes += [f"{len(parts[part]):,} rows marked {part} were left out" for part in held[1:]]
    train = Listing(path.parent, tuple(parts["train"]), notes=tuple(notes), manifest=path, several=several)
    return train, replace(train, rows=tuple(parts[held[0]]) if held else (), notes=())


def has_label_sets(path: Path) -> bool:
    """Tell whether a path is a manifest that gives several labels an image: its first row has labels and no label."""
    if path.suffix.lower() not in MANIFESTS or not is_file(path):
        return False
    try:
        fields = next((fields for _, fields in _rows(path, ())), {})
    except DataError:
        return False
    return bool(set(LABELS) & set(fields)) and not set(LABEL) & set(fields)


def _rows(path: Path, needed: tuple[tuple[str, ...], ...]) -> Iterator[tuple[int, dict]]:
    """Yield (line number, fields) of a manifest; a table's first line must name the needed columns."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() in (".jsonl", ".ndjson"):
                for number, text in enumerate(file, start=1):
                    if text.strip():
                        yield number, _object(text, f"{path}, line {number}")
            else:
                yield from _table(file, path, needed)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} can't be read as UTF-8 text: {error}") from error
    except OSError as error:
        raise DataError(f"can't read {path}: {error.strerror or error}") from error


def _table(file, path: Path, needed: tuple[tuple[str, ...], ...]) -> Iterator[tuple[int, dict]]:
    """Yield the rows of a CSV; it may be separated by commas, semicolons or tabs, as its first line is."""
    first = file.readline()
    file.seek(0)
    separator = max(",;\t", key=first.count)
    reader = csv.reader(file, delimiter=separator, strict=True)
    header = [name.strip().lower() for name in next(reader, [])]
    if not header:
        raise DataError(f"{path} is empty; its first line must name the columns: path,label")
    for wanted in needed:
        if not set(wanted) & set(header):
            raise DataError(f"{path}, line 1: {_no_column(wanted, header)}")
    if len(set(header)) < len(header):
        raise DataError(f"{path}, line 1: a column is named twice: {', '.join(header)}")
    for values in _lines(reader, path):
        if len(values) != len(header):
            raise DataError(
                f"{path}, line {reader.line_num}: {len(values)} fields where the first line names {len(header)} columns; "
                "put quotes around a field that has a separator in it"
            )
        yield reader.line_num, dict(zip(header, values, strict=True))


def _lines(reader, path: Path) -> Iterator[list[str]]:
    """Yield the rows that aren't blank."""
    try:
        yield from (values for values in reader if values)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from error


def _object(text: str, where: str) -> dict:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON ({error})") from error
    if not isinstance(fields, dict):
        raise DataError(f'{where}: expected an object such as {{"path": "a.jpg", "label": "cat"}}')
    return {key.strip().lower(): value for key, value in fields.items()}


def _value(fields: dict, wanted: tuple[str, ...], where: str) -> str:
    """Return the value of the first of these columns that there is."""
    name = next((name for name in wanted if name in fields), None)
    if name is None:
        raise DataError(f"{where}: {_no_column(wanted, list(fields))}")
    value = fields[name]
    if value is None or (isinstance(value, str) and not value.strip()):
        raise DataError(f"{where}: {name} is empty")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"{where}: {name} is {json.dumps(value)[:40]}; it must be a text or a whole number")
    return str(value).strip()


def _labels(fields: dict, where: str) -> str:
    """Return the labels of an image, sorted, each once: a list of texts, or a text with ; or | between; there may be none."""
    value = fields.get(LABELS[0])
    if value is None:
        raise DataError(f"{where}: {_no_column(LABELS, list(fields))}")
    if not isinstance(value, str | list) or not all(isinstance(one, str) for one in value):
        raise DataError(
            f"{where}: labels is {json.dumps(value)[:40]}; it must be a text such as cat;dog, or a list of texts"
        )
    every = value.replace("|", ";").split(";") if isinstance(value, str) else value
    return BETWEEN.join(sorted({one.strip() for one in every if one.strip()}))


def _no_column(wanted: tuple[str, ...], found: list[str]) -> str:
    near = [name for name in found if difflib.get_close_matches(name, wanted, n=1, cutoff=0.6)]
    if wanted == LABEL and set(LABELS) & set(found):
        return "labels are several an image, and here one is needed; one label an image stands in a column label"
    advice = f"is {near[0]!r} meant? Rename it" if near else "the first line must name the columns: path,label"
    return f"no column {wanted[0]!r} among {', '.join(map(repr, found)) or 'none'}; {advice}"
