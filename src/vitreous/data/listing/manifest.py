"""Manifests: CSV, TSV or JSONL files that list images with labels, and optionally a split."""

import difflib
import json
import os
import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vitreous.characters import CONTROLS, holds
from vitreous.data.listing.listing import (
    BETWEEN,
    SPLITS,
    TEST,
    TRAIN,
    VALIDATION,
    Listing,
    Row,
    Splits,
    format_names,
    get_split,
    read_stamp,
)
from vitreous.data.listing.table import JSON_LINES, read_rows
from vitreous.errors import DataError
from vitreous.images.config import SUFFIXES
from vitreous.storage.presence import explain_url, is_file

MANIFESTS = (".csv", ".tsv", *JSON_LINES)
PATH = (
    *("path", "file", "file_name", "filename", "filepath", "file_path", "image", "image_path", "image_name"),
    *("imagepath", "img", "img_path"),
)
LABEL = ("label", "class", "target", "category", "class_name", "label_name", "classname")
SPLIT = ("split", "subset", "set", "partition")
"""Columns: the documented name, then its synonyms. Synonyms of the split's column count only if their first value is
a split's name."""
LABELS = ("labels",)
"""The column of a manifest whose images have several labels each, or none."""
FOREIGN = re.compile(r"[A-Za-z]:[\\/]|\\\\|[A-Za-z][A-Za-z0-9+.-]+://")
"""The start of a path that names a Windows drive or server, or a URL."""
LONGEST = {"path": 4096, "label": 1000, "split": 100}
"""Most characters of a value."""


def read_splits(path: Path, multilabel: bool = False) -> Splits:
    """Read a manifest with columns path, label and optionally split (train, val, test); without it, all is for
    training.

    Paths are relative to the manifest; a backslash separates folders, as on Windows, unless a file has one in its name.

    Args:
        path: the manifest.
        multilabel: it has the column labels instead of label, and a row's label is all of them, separated by BETWEEN.

    Raises:
        DataError: a row is wrong; names the line.
    """
    reader, root = Reader(path, multilabel), path.parent.absolute()
    parts: dict[str, list[Row]] = {"train": []}
    seen: dict[str, int] = {}
    for line, fields in read_rows(path, reader.check):
        part, row = reader.row(line, fields)
        name = os.path.relpath(row.name, root) if Path(row.name).is_absolute() else row.name
        if name in seen:
            raise DataError(
                f"{path}, line {line}: {row.name} is already listed in line {seen[name]}; list each image once"
            )
        seen[name] = line
        parts.setdefault(part, []).append(row)
    if not seen:
        raise DataError(f"{path} lists no images")
    notes = tuple(reader.notes())
    train = Listing(path.parent, tuple(parts["train"]), notes=notes, manifest=path, multilabel=multilabel)
    others = (
        replace(train, rows=tuple(parts[part]), notes=()) if part in parts else None
        for part in (VALIDATION[0], TEST[0])
    )
    return Splits(train, *others)


def read_manifest(path: Path, multilabel: bool = False) -> tuple[Listing, Listing]:
    """Return both parts of a manifest, either of which may be empty; rows marked test stand in if none are marked
    val."""
    train, held = read_splits(path, multilabel).let_test_stand_in()
    return train, held or replace(train, rows=(), notes=())


def is_multilabel(path: Path) -> bool:
    """Return whether a path is a manifest with several labels per image: its first row has labels and no label."""
    if path.suffix.lower() not in MANIFESTS or not is_file(path):
        return False
    try:
        fields = next((fields for _, fields in read_rows(path)), {})
    except DataError:
        return False
    return bool(set(LABELS) & set(fields)) and not set(LABEL) & set(fields)


@dataclass(frozen=True)
class Columns:
    """The meaning of a row's fields."""

    path: str
    label: str
    split: str | None


@dataclass
class Reader:
    """Turns a manifest's fields into rows, and remembers what the user should know about it."""

    manifest: Path
    multilabel: bool = False
    columns: dict[tuple[str, ...], Columns] = field(default_factory=dict)
    """By the names of a row's fields, which may differ in JSON lines."""
    windows: int = 0
    """Paths whose backslashes separate folders."""

    def row(self, line: int, fields: dict[str, Any]) -> tuple[str, Row]:
        """Return a row and its split; raises DataError."""
        where = f"{self.manifest}, line {line}"
        columns = self.columns.get(tuple(fields)) or self.find(fields, where)
        name = self.file_name(_read_value(fields, columns.path, "path", where), where)
        label = _read_labels(fields, where) if self.multilabel else _read_value(fields, columns.label, "label", where)
        said = "train" if columns.split is None else _read_value(fields, columns.split, "split", where)
        split = get_split(said)
        if split is None:
            raise DataError(f"{where}: {columns.split} is {said!r}; it must be one of {', '.join(SPLITS)}")
        row = Row(name, unicodedata.normalize("NFC", label), *read_stamp(self.manifest.parent / name), line)
        return "train" if split in TRAIN else VALIDATION[0] if split in VALIDATION else split, row

    def check(self, names: Sequence[str], where: str) -> tuple[str, str]:
        """Return which columns are the path and the label; raises DataError if that is unclear."""
        return _find_column(PATH, names, where), _find_column(LABELS if self.multilabel else LABEL, names, where)

    def find(self, fields: dict[str, Any], where: str) -> Columns:
        """Return the meaning of a row's fields, and remember it; raises DataError."""
        splits = [
            SPLIT[0],
            *(name for name in SPLIT[1:] if get_split(str(fields.get(name)).strip())),
        ]
        split = _find_column(tuple(splits), fields, where) if set(splits) & set(fields) else None
        return self.columns.setdefault(tuple(fields), Columns(*self.check(tuple(fields), where), split))

    def file_name(self, text: str, where: str) -> str:
        """Return a path in this system's form; raises DataError for one that can't lead to a file here."""
        if os.sep == "/" and (FOREIGN.match(text) or "\\" in text) and read_stamp(self.manifest.parent / text)[1] < 0:
            if explain_url(text):
                raise DataError(f"{where}: {explain_url(text)}")
            if FOREIGN.match(text):
                raise DataError(f"{where}: {text[:80]} is on a Windows drive; list paths relative to the manifest")
            self.windows += 1
            text = text.replace("\\", "/")
        return os.path.normpath(text)

    def notes(self) -> list[str]:
        """Describe how columns were interpreted, and how paths were changed."""
        read = {
            f"{name!r} is the {known}": None
            for found in self.columns.values()
            for known, name in (("path", found.path), ("label", found.label), ("split", found.split))
            if name not in (None, known, *LABELS)
        }
        used = {name for found in self.columns.values() for name in (found.path, found.label, found.split)}
        unread = [name for name in dict.fromkeys(name for names in self.columns for name in names) if name not in used]
        notes = [f"columns: {', '.join(read)}"] if read else []
        notes += (
            [f"columns that are not read: {format_names([name or '(no name)' for name in unread])}"] if unread else []
        )
        notes += [f"backslashes separate folders in {self.windows:,} paths"] if self.windows else []
        return notes


def _find_column(wanted: tuple[str, ...], found: Collection[str], where: str) -> str:
    """Return the one existing column among these names; the first, documented one wins."""
    there = [name for name in wanted if name in found]
    if not there:
        raise DataError(f"{where}: {_explain_no_column(wanted, list(found))}")
    if len(there) > 1 and there[0] != wanted[0]:
        raise DataError(
            f"{where}: the {wanted[0]} may be in any of the columns {', '.join(map(repr, there))}; call the right one {wanted[0]!r}"
        )
    return there[0]


def _read_value(fields: dict[str, Any], name: str, meaning: str, where: str) -> str:
    """Return a field as text."""
    value = fields[name]
    if value is None or (isinstance(value, str) and not value.strip()):
        raise DataError(f"{where}: {name} is empty")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"{where}: {name} is {json.dumps(value)[:40]}; it must be a text or a whole number")
    return _check_text(str(value).strip(), name, meaning, where)


def _check_text(text: str, name: str, meaning: str, where: str) -> str:
    """Refuse a text that no file system or label allows; raises DataError."""
    if len(text) > LONGEST[meaning]:
        raise DataError(f"{where}: {name} has {len(text):,} characters; at most {LONGEST[meaning]:,} are allowed")
    if "\0" in text:
        raise DataError(f"{where}: {name} has a NUL character, which no name can have")
    if meaning == "label" and holds(text, CONTROLS):
        raise DataError(
            f"{where}: {name} is {text[:40]!r}; it must be without line breaks and other control characters"
        )
    try:
        os.fsencode(text)
    except UnicodeEncodeError as error:
        half = text[error.start].encode("unicode_escape", "surrogatepass").decode("ascii", "backslashreplace")
        raise DataError(f"{where}: {name} has {half}, half of a character, which no name can have") from error
    return text


def _read_labels(fields: dict[str, Any], where: str) -> str:
    """Return the labels of an image, sorted, each once: from a list of texts, or a text separated by ; or |; may be
    empty."""
    value = fields.get(LABELS[0])
    if value is None:
        raise DataError(f"{where}: {_explain_no_column(LABELS, list(fields))}")
    if not isinstance(value, str | list) or not all(isinstance(one, str) for one in value):
        raise DataError(
            f"{where}: labels is {json.dumps(value)[:40]}; it must be a text such as cat;dog, or a list of texts"
        )
    every = value.replace("|", ";").split(";") if isinstance(value, str) else value
    each = {_check_text(one.strip(), "labels", "label", where) for one in every if one.strip()}
    return BETWEEN.join(sorted(each))


def _explain_no_column(wanted: tuple[str, ...], found: list[str]) -> str:
    near = [name for name in found if difflib.get_close_matches(name, wanted, n=1, cutoff=0.6)]
    if wanted == LABEL and set(LABELS) & set(found):
        return "the column labels gives several labels an image, but one is needed; give it in a column label"
    named = ", ".join(repr(name[:40]) for name in found[:12]) + (", ..." if len(found) > 12 else "")
    if any(os.path.splitext(name)[1] in SUFFIXES for name in found):  # noqa: PTH122 (a field, not yet a path)
        return f"no column {wanted[0]!r} among {named or 'none'}; the header is missing: put a line before it that names the columns, such as path,label"
    advice = f"is {near[0]!r} meant? Rename it" if near else "the first line must name the columns: path,label"
    return f"no column {wanted[0]!r} among {named or 'none'}; {advice}"
