"""Read files of rows, CSV, TSV or JSON lines, to (line number, fields); every unreadable line is named."""

import codecs
import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from vitreous.errors import DataError
from vitreous.storage.presence import explain_irregular

JSON_LINES = (".jsonl", ".ndjson")
MAX_LINE = 2**20
"""Characters of the longest line that is read."""
SEPARATORS = ",;\t"
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks with their encodings; UTF-32's little-endian one begins with UTF-16's."""


Check = Callable[[Sequence[str], str], object]
"""Called with a table's columns and their location, the start of a message; raises DataError if one is missing."""


def read_rows(path: Path, check: Check = lambda names, where: None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, fields) of a manifest; field names are in lower case, with _ for spaces.

    The first line decides whether commas, semicolons or tabs separate fields; lines without a value are skipped. The
    text is UTF-8, or what its byte order mark says.

    Args:
        path: the file; its extension distinguishes JSON lines from a table.
        check: called with a table's header before its rows are read.

    Raises:
        DataError: not a regular file, or a line that can't be read.
    """
    try:
        kind = explain_irregular(path)
        if kind:
            raise DataError(f"{path} is {kind}, not a file of rows; write the rows to a regular file and name that")
        with path.open("rb") as file:
            start = file.read(4)
        encoding = next((name for mark, name in MARKS if start.startswith(mark)), guess_encoding(start))
        with path.open(encoding=encoding, newline="") as file:
            lines = _limit_lines(file, path)
            yield from (
                _read_objects(lines, path) if path.suffix.lower() in JSON_LINES else _read_csv(lines, path, check)
            )
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} can't be read as {detect_encoding(error)} text: {_explain_undecoded(path, error)}"
        ) from error
    except OSError as error:
        raise DataError(f"can't read {path}: {error.strerror or error}") from error


def guess_encoding(start: bytes) -> str:
    """Guess the encoding of a text without a byte order mark from its first four bytes, where UTF-16 has its zeros."""
    zeros = [byte == 0 for byte in start]
    return {(False, True, False, True): "utf-16-le", (True, False, True, False): "utf-16-be"}.get(tuple(zeros), "utf-8")


def detect_encoding(error: UnicodeDecodeError) -> str:
    """Return an encoding's usual name."""
    return error.encoding.upper().replace("UTF8", "UTF-8")


def _explain_undecoded(path: Path, error: UnicodeDecodeError) -> str:
    """Explain where a text stops being UTF-8, and what to do."""
    if not error.encoding.startswith("utf-8"):
        return error.reason
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as found:
                byte = line[found.start]
                return f"byte 0x{byte:02x} in line {number}; save it as UTF-8 (Excel: 'CSV UTF-8', a shell: iconv -f WINDOWS-1252 -t UTF-8)"
    return error.reason


def _limit_lines(file: TextIO, path: Path) -> Iterator[str]:
    """Yield lines of limited length; raises DataError."""
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise DataError(f"{path}, line {number}: longer than {MAX_LINE:,} characters; is this a manifest?")
        if "\0" in line:
            raise DataError(f"{path}, line {number}: has a NUL character, which no text has; is this a manifest?")
        yield line


def name_field(name: str) -> str:
    """Return a column's name in the form used for comparison: lower case, _ for spaces and hyphens."""
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _read_csv(lines: Iterator[str], path: Path, check: Check) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows of a CSV."""
    skipped, first = 0, ""
    separator = ""
    for line in lines:
        if line.strip().lower() in {f"sep={one}".strip() for one in SEPARATORS}:  # Excel puts it first
            separator = line.strip()[4:] or "\t"
        elif line.strip():
            first = line
            break
        skipped += 1
    separator = separator or max(SEPARATORS, key=first.count)
    reader = csv.reader(_chain(first, lines), delimiter=separator, skipinitialspace=True, strict=True)
    rows = _split_rows(reader, path, skipped)
    at, names = next(rows, (1, []))
    header = [name_field(name) for name in names]
    if not header:
        raise DataError(f"{path} is empty; its first line must name the columns: path,label")
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise DataError(f"{path}, line {at}: a column is named twice: {', '.join(twice)}")
    check(header, f"{path}, line {at}")
    for number, values in rows:
        if len(values) != len(header):
            raise DataError(
                f"{path}, line {number}: {len(values)} fields, but the first line names {len(header)} columns; "
                "put quotes around a field that contains a separator"
            )
        yield number, dict(zip(header, values, strict=True))


def _chain(first: str, lines: Iterable[str]) -> Iterator[str]:
    if first:
        yield first
    yield from lines


def _split_rows(reader: Any, path: Path, skipped: int) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, fields) of the rows that aren't empty; the header is the first of them."""
    try:
        for values in reader:
            if any(value.strip() for value in values):
                yield reader.line_num + skipped, values
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num + skipped}: {_explain_csv_error(str(error))}") from error


def _explain_csv_error(words: str) -> str:
    """Translate an error of Python's CSV reader, with what to do about it."""
    if "expected after" in words:
        return f'{words}: a quote ends a field, so one inside a field is written twice ("")'
    if "unexpected end" in words:
        return f"{words}: a quote is opened and not closed"
    return words


def _read_objects(lines: Iterator[str], path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of JSON lines."""
    for number, text in enumerate(lines, start=1):
        if text.strip():
            yield number, _read_object(text, f"{path}, line {number}")


def _read_object(text: str, where: str) -> dict[str, Any]:
    try:
        fields = json.loads(text, object_pairs_hook=lambda pairs: _check_unique(pairs, where))
    except DataError:
        raise
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON ({error})") from error
    if not isinstance(fields, dict):
        raise DataError(f'{where}: expected an object such as {{"path": "a.jpg", "label": "cat"}}')
    return _check_unique([(name_field(name), value) for name, value in fields.items()], where)


def _check_unique(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{where}: {twice!r} is given twice")
    return fields
