"""How `vitreous predict` writes predictions: a table, JSON lines or CSV, as they come."""

import csv
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from vitreous.data.listing.scan_report import escape

if TYPE_CHECKING:
    from vitreous.prediction import Prediction


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


WRITERS = {"table": write_table, "jsonl": write_jsonl, "csv": write_csv}
