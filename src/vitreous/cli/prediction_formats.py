"""How `vitreous predict` writes predictions: a table, JSON lines, CSV or parquet, as they come."""

import csv
import json
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from vitreous.data.listing.scan_report import escape
from vitreous.errors import ConfigError
from vitreous.storage.parquet import check_parquet, replace_bytes

if TYPE_CHECKING:
    from vitreous.prediction import Prediction


ROWS = 4096
"""Images in each group of a parquet file."""


def complain(one: "Prediction") -> None:
    """Name an image that could not be read."""
    print(f"vitreous: {escape(one.error or '')}", file=sys.stderr)


@dataclass(frozen=True)
class Layout:
    """What is written of each prediction."""

    top: int
    """Most probable classes that are listed."""
    multilabel: bool = False
    """An image may have several classes: those that are said to be there stand first."""
    guess: bool = False
    """Images may be unknown: a column of a CSV has the most probable class all the same."""
    reduction: bool = False
    """Images may be decoded at reduced scale: a column of a CSV says what each one's size was divided by."""


def write_table(results: "Iterable[Prediction]", stream: TextIO, layout: Layout) -> tuple[int, int]:
    """Write aligned lines as results come; return how many worked and how many didn't."""
    done = broken = 0
    for one in results:
        if one.error:
            broken += 1
            complain(one)
            print(f"{escape(one.name)}  -  {'read in part' if one.partial else 'unreadable'}", file=stream)
            continue
        done += 1
        print(escape(f"{one.name}  {listed(one, layout.top)}"), file=stream, flush=stream is sys.stdout)
    return done, broken


def listed(one: "Prediction", top: int) -> str:
    """List the most probable classes; of several labels an image first those that are there, then others in brackets."""
    each = [f"{label} {score:.1%}" for label, score in one.top]
    if one.unknown:
        return f"{one.label}   ({'   '.join(each[:top])})"
    if one.labels is None:
        return "   ".join(each[:top])
    there, others = each[: len(one.labels)], each[len(one.labels) : top]
    return "   ".join(["   ".join(there) or "none", *([f"({'   '.join(others)})"] if others else [])])


def write_jsonl(results: "Iterable[Prediction]", stream: TextIO, layout: Layout) -> tuple[int, int]:
    """Write one JSON object a line; broken images have `error` set."""
    done = broken = 0
    for one in results:
        print(json_line(one.to_dict()), file=stream, flush=stream is sys.stdout)
        done, broken = done + (not one.error), broken + bool(one.error)
        if one.error:
            complain(one)
    return done, broken


def json_line(values: dict[str, Any]) -> str:
    """Return JSON as people read it, or all in ASCII where a name is no UTF-8 or would upset a terminal."""
    text = json.dumps(values, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(values)


def write_csv(results: "Iterable[Prediction]", stream: TextIO, layout: Layout) -> tuple[int, int]:
    """Write a CSV with a header: name, label, score, then label2, score2, ... up to `top`, and error.

    Where an image may have several classes, a column labels follows the name: those that are there, with ; between. Where
    one may be unknown, a column guess has the most probable class; where JPEGs may be decoded at reduced scale, reduction says
    what the image's size was divided by.
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
            complain(one)
    return done, broken


def write_parquet(results: "Iterable[Prediction]", file: BinaryIO, layout: Layout) -> tuple[int, int]:
    """Write a parquet file, a row for each image: name, label, score, top (a list of labels with their scores), unknown,
    reduction, partial, filled, error; where an image may have several classes, labels too.
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
                complain(one)
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
FORMATS = {".csv": "csv", ".jsonl": "jsonl", ".parquet": "parquet"}
"""What a file's extension says of its format."""


def choose_format(named: str | None, out: str | None) -> str:
    """Return how results are written: as named, as the file's extension says, or as a table.

    Raises:
        ConfigError: parquet without a file, or without pyarrow.
    """
    chosen = named or FORMATS.get(Path(out or "").suffix.lower(), "table")
    if chosen == "parquet":
        if out is None:
            raise ConfigError("parquet is written to a file; name it with --out, such as --out predictions.parquet")
        check_parquet("--format csv or jsonl")
    return chosen


READING = {
    "csv": "import csv, collections; print(collections.Counter(row['{}'] for row in csv.DictReader(open({!r}))))",
    "jsonl": "import json, collections; print(collections.Counter(str(json.loads(line)['{}']) for line in open({!r})))",
    "parquet": "import pyarrow.parquet as p; print(p.read_table({1!r})['{0}'].value_counts())",
}


def suggest_reading(format: str, out: str, column: str) -> str | None:
    """Return a command that counts a file's labels; None for a table."""
    return f"python -c {shlex.quote(READING[format].format(column, out))}" if format in READING else None
