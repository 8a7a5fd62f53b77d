"""Short help for commands with more options than fit on two screens; --help-all shows all of them."""

import ast
import dataclasses
import functools
import inspect
import shutil
import textwrap
import types
import typing
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from vitreous.cli.option_names import describe_fields, iterate_positional

WIDTH, COLUMN = 100, 24
"""Widths in characters: of the whole page, at most, and of the column of options' names."""
FIRST: dict[str, dict[str, tuple[str, ...]]] = {
    "train": {
        "what to train": ("data", "recipe", "weights", "model", "image", "config"),
        "how": (
            "minutes", "duration", "batch", "optimizer.lr", "augment.mixup", "freeze", "early-stop.patience", "seed",
            "device", "processes",
        ),
        "how well it does": ("data.validation", "data.holdout", "folds", "rates"),
        "what is written": ("out", "dry-run", "json"),
    },
    "sweep": {
        "what is tried": ("data", "set", "grid", "seeds"),
        "what all runs share": ("recipe", "model", "weights", "minutes", "duration", "config"),
        "how": ("jobs", "processes", "device", "seed"),
        "what is written": ("out", "json"),
    },
    "evaluate": {
        "what is measured": ("model", "data", "split", "compare", "corruptions"),
        "how": ("protocol", "train", "shots", "benchmark", "broken", "batch", "device"),
        "what is written": ("out", "json", "overwrite"),
        "other people's weights": ("as", "image", "labels"),
    },
}  # fmt: skip
"""Each command's options by heading, without dashes."""
EXAMPLES = {
    "train": (
        "vitreous train digits",
        "vitreous train photos --minutes 15",
        "vitreous train photos --dry-run",
        "vitreous train photos --weights dinov2-s --recipe finetune",
        "vitreous train photos --folds 5",
        "vitreous train --config runs/photos-small-1 --optimizer.lr 5e-4",
        "vitreous resume runs/photos-small-1      (continues a run that was interrupted)",
    ),
    "sweep": (
        "vitreous sweep photos --set optimizer.lr=1e-3,3e-3 --seeds 3",
        "vitreous sweep photos --set model=S/16,B/16 --set augment.mixup=0,0.2",
        "vitreous sweep photos --grid grid.toml --seeds 5",
    ),
    "evaluate": (
        "vitreous evaluate runs/photos-small-1",
        "vitreous evaluate runs/photos-small-1 more-photos --compare runs/photos-probe-1",
        "vitreous evaluate dinov2-s photos --protocol linear",
    ),
}


CLOSING = {
    "sweep": "Any other setting of vitreous train can be given here too, by its own name.",
    "train": "Any other setting can be given by its name too; --dry-run shows the recipe's values. Other trainers' names, "
    "such as --epochs, --lr, --batch-size and --imgsz, are understood (docs/recipes.md).",
}


def write_help(kind: type, command: str) -> str:
    """Return the help of a command of `FIRST`, at most as wide as the terminal."""
    width = min(WIDTH, shutil.get_terminal_size((WIDTH, 50)).columns)
    known = {name: (hint, said) for name, hint, said in describe(kind)}
    without = [name.replace("_", "-") for name in iterate_positional(kind)]
    usage = " ".join(name.upper() if known[name][0] is str else f"[{name.upper()}]" for name in without)
    lines = [f"usage: vitreous {command} {usage} [OPTIONS]", ""]
    lines += textwrap.wrap(inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].replace("\n", " "), width)
    for heading, names in FIRST[command].items():
        lines += ["", f"{heading}:"]
        for name in names:
            hint, said = known[name]
            shown = name.upper() if name in without else f"--{name} {name_type(hint)}".rstrip()
            lines += lay_out(shown, said, width)
    lines += ["", "examples:", *(f"  {one}" for one in EXAMPLES[command]), ""]
    closing = f"{CLOSING.get(command, '')} vitreous {command} --help-all shows all {len(known)} options."
    lines += textwrap.wrap(closing.strip(), width, break_on_hyphens=False)
    return "\n".join(lines)


def lay_out(shown: str, said: str, width: int) -> list[str]:
    """Return an option and its description in two columns; a name that is too long gets a line of its own."""
    lines = textwrap.wrap(said, max(20, width - COLUMN - 4), break_on_hyphens=False)
    if len(shown) > COLUMN:
        return [f"  {shown}", *(f"  {'':{COLUMN}}  {line}" for line in lines)]
    return [f"  {name:{COLUMN}}  {line}" for name, line in zip([shown, *[""] * len(lines)], lines, strict=False)]


def describe(kind: type, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Yield each option's name without dashes, its type, and its docstring."""
    said = read_docstrings(kind)
    for field, (name, hint, alias) in describe_fields(kind).items():
        members = [member for member in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(member)]
        for member in members:
            yield from describe(member, prefix if alias == "" else f"{prefix}{name}.")  # type: ignore[arg-type]
        if not members:
            yield f"{prefix}{name}", hint, said.get(field, "")


@functools.cache
def read_docstrings(kind: type) -> dict[str, str]:
    """Return the docstring below each field of a dataclass, from its source."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    found = {}
    for one, below in pairwise(typing.cast(ast.ClassDef, tree).body):
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and isinstance(below, ast.Expr):
            found[one.target.id] = " ".join(str(typing.cast(ast.Constant, below.value).value).split())
    return found


def name_type(hint: Any) -> str:
    """Describe the values that an option accepts.

    >>> name_type(tuple[int, int] | None), name_type(typing.Literal["a", "b"]), name_type(bool)
    ('INT INT', 'a|b', '')
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return "|".join(map(str, inner))
    if origin in (typing.Union, types.UnionType):
        return "|".join(name_type(one) for one in inner if one is not type(None))
    if origin is tuple:
        return f"{name_type(inner[0])} ..." if inner[-1] is Ellipsis else " ".join(map(name_type, inner))
    return {bool: "", int: "INT", float: "FLOAT", str: "TEXT"}[hint]
