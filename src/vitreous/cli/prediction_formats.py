"""How `vitreous predict` writes predictions, one by one: as a table, JSON lines, CSV or parquet."""

import csv
import json
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from vitreous.characters import escape
from vitreous.errors import ConfigError
from vitreous.storage.parquet import check_parquet, replace_bytes

if TYPE_CHECKING:
    from vitreous.prediction import Prediction


ROWS = 4096
"""Images in each row group of a parquet file."""


def report_failure(one: "Prediction") -> None:
    """Report an image that could not be read."""
    print(f"vitreous: {escape(one.error or '')}", file=sys.stderr)


@dataclass(frozen=True)
class Layout:
    """What is written for each prediction."""

    top: int
    """Number of most probable classes to list."""
    multilabel: bool = False
    """Whether the model is multilabel; the predicted classes then come first."""
    guess: bool = False
    """Whether images may be unknown; a column of a CSV then has the most probable class anyway."""
    reduction: bool = False
    """Whether images may be decoded at reduced scale; a column of a CSV then has the divisor of each image's size."""


def write_table(results: "Iterable[Prediction]", stream: TextIO, layout: Layout) -> tuple[int, int]:
    """Write aligned lines, one by one; return how many images were classified, and how many failed."""
    done = broken = 0
    for one in results:
        if one.error:
            broken += 1
            report_failure(one)
            print(f"{escape(one.name)}  -  {'read in part' if one.partial else 'unreadable'}", file=stream)
            continue
        done += 1
        print(escape(f"{one.name}  {format_labels(one, layout.top)}"), file=stream, flush=stream is sys.stdout)
    return done, broken


def format_labels(one: "Prediction", top: int) -> str:
    """List the most probable classes; for multilabel models, first the predicted ones, then others in brackets."""
    each = [f"{label} {score:.1%}" for label, score in one.top]
    if one.unknown:
        return f"{one.label}   ({'   '.join(each[:top])})"
    if one.labels is None:
        return "   ".join(each[:top])
    there, others = each[: len(one.labels)], each[len(one.labels) : top]
    return "   ".join(["   ".join(there) or "none", *([f"({'   '.join(others)})"] if others else [])])


def write_jsonl(results: "Iterable[Prediction]", stream: TextIO, layout: Layout) -> tuple[int, int]:
    """Write one JSON object per line; unreadable images have `error` set."""
    done = broken = 0
    for one in results:
        print(encode_line(one.to_dict(), stream), file=stream, flush=stream is sys.stdout)
        done, broken = done + (not one.error), broken + bool(one.error)
        if one.error:
            report_failure(one)
    return done, broken


def encode_line(values: dict[str, Any], stream: TextIO) -> str:
    """Return readable JSON, or pure ASCII if it has control characters or characters that the stream can't encode."""
    text = json.dumps(values, ensure_ascii=False)
    try:
        text.encode(stream.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(values)
    return text if text.isprintable() else json.dumps(values)


def write_csv(results: "Iterable[Prediction]", stream: TextIO, layout: Layout) -> tuple[int, int]:
    """Write a CSV with a header: name, label, score, then label2, score2, ... up to `top`, and error.

    For multilabel models, a column labels after the name has the predicted classes, separated by ;. If images may be
    unknown, a column guess has the most probable class. If JPEGs may be decoded at reduced scale, a column reduction
    has the divisor of the image's size.
    """
    numbers = ["", *map(str, range(2, layout.top + 1))]
    table = csv.writer(stream)
    first = ["name", "labels"] if layout.multilabel else ["name"]
    last = [*["guess"] * layout.guess, *["reduction"] * layout.reduction, "error"]
    table.writerow([*first, *(f"{kind}{number}" for number in numbers for kind in ("label", "score")), *last])
    done = broken = 0
    for one in results:
        cells = [cell for label, score in one.top[: layout.top] for cell in (label, f"{score:.6f}")]
        cells[:1] = [one.label or ""] if cells else []
        cells += [""] * (2 * len(numbers) - len(cells))
        said = [";".join(one.labels or ())] if layout.multilabel else []
        guess = [one.top[0][0] if one.top else ""] if layout.guess else []
        scale = [str(one.reduction) if cells[0] else ""] if layout.reduction else []
        row = [one.name, *said, *cells, *guess, *scale, one.error or ""]
        table.writerow(map(escape, row) if stream.isatty() else row)
        done, broken = done + (not one.error), broken + bool(one.error)
        if one.error:
            report_failure(one)
    return done, broken


def write_parquet(results: "Iterable[Prediction]", file: BinaryIO, layout: Layout) -> tuple[int, int]:
    """Write a parquet file with one row per image: name, label, score, top (a list of labels with their scores),
    unknown, reduction, partial, filled, error; and labels, for multilabel models.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    ranked = pa.list_(pa.struct([("label", pa.string()), ("score", pa.float64())]))
    kinds = {"name": pa.string(), "label": pa.string(), "score": pa.float64(), "top": ranked}
    kinds |= {"labels": pa.list_(pa.string())} if layout.multilabel else {}
    kinds |= {
        "unknown": pa.bool_(),
        "reduction": pa.int8(),
        "partial": pa.bool_(),
        "filled": pa.bool_(),
        "error": pa.string(),
    }
    schema, source = pa.schema(list(kinds.items())), iter(results)
    done = broken = 0
    with pq.ParquetWriter(file, schema) as writer:
        while rows := list(islice(source, ROWS)):
            for one in filter(lambda row: row.error, rows):
                report_failure(one)
            broken += sum(bool(one.error) for one in rows)
            done += sum(not one.error for one in rows)
            columns = {name: [_parquet_value(one, name) for one in rows] for name in kinds}
            writer.write_table(pa.table(columns, schema=schema))
    return done, broken


def _parquet_value(one: "Prediction", name: str) -> Any:
    value = getattr(one, name)
    if name == "top":
        return [{"label": replace_bytes(label), "score": score} for label, score in value]
    if name == "labels" and value is not None:
        return [replace_bytes(label) for label in value]
    return replace_bytes(value) if isinstance(value, str) else value


WRITERS = {"table": write_table, "jsonl": write_jsonl, "csv": write_csv, "parquet": write_parquet}
FORMATS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".txt": "table", "": "table"}
"""The format for each extension."""


def choose_format(named: str | None, out: str | None) -> str:
    """Return the format of the results: the named one, that of the file's extension, or a table.

    Raises:
        ConfigError: an extension that means another format, or no known one; parquet without a file, or without
            pyarrow.
    """
    extension = Path(out or "").suffix.lower()
    meant = FORMATS.get(extension)
    if meant is None and named is None:
        raise ConfigError(
            f"{out} ends in {extension}; name a file that ends in .csv, .jsonl, .parquet or .txt (a table), or choose with --format"
        )
    if extension and meant not in (None, named or meant):
        raise ConfigError(
            f"{out} ends in {extension}, but --format is {named}; leave out --format, or name another file"
        )
    chosen = named or meant
    assert chosen is not None
    if chosen == "parquet":
        if out is None:
            raise ConfigError(
                "parquet has to be written to a file; name it with --out, such as --out predictions.parquet"
            )
        check_parquet("--format csv or jsonl")
    return chosen


READING = {
    "csv": 'import csv, collections; print(collections.Counter(row["{}"] for row in csv.DictReader(open({}))))',
    "jsonl": 'import json, collections; print(collections.Counter(str(json.loads(line)["{}"]) for line in open({})))',
    "parquet": 'import pyarrow.parquet as p; print(p.read_table({1})["{0}"].value_counts())',
}


def suggest_reading(format: str, out: str, column: str) -> str | None:
    """Return a command that counts a file's labels; None for a table."""
    return f"python -c {shlex.quote(READING[format].format(column, json.dumps(out)))}" if format in READING else None
