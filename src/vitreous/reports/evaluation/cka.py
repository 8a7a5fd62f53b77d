"""The results of CKA as sections of a report."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vitreous.drawing.matrices import draw_heat_map
from vitreous.evaluation.probes.cka import CKA
from vitreous.reports.blocks import Drawing, Numbers, Section, Table, Words

EXACT = (
    "Linear CKA (Kornblith et al., 1905.00414), in float64. With few images it is too high where features are "
    "wide; --unbiased estimates it without that bias."
)
UNBIASED = (
    "Linear CKA from the unbiased estimate of HSIC, summed over minibatches (Nguyen et al., 2010.15327); it may "
    "be slightly below 0."
)


def build_cka_sections(found: CKA, names: tuple[str, str]) -> list[Section]:
    """Return the report's sections: the map, each layer's nearest, the method."""
    label = f"CKA of {len(found.rows)} layers of {names[0]} and {len(found.cols)} layers of {names[1]}"
    drawing, least = draw_heat_map(
        found.matrix.tolist(), (shorten_name(found.rows), shorten_name(found.cols)), names, label
    )
    row, col = np.unravel_index(found.matrix.argmax(), found.matrix.shape)
    figures = [
        ("last layers", f"{found.matrix[-1, -1]:.3f}", f"{found.rows[-1]} and {found.cols[-1]}"),
        ("most alike", f"{found.matrix[row, col]:.3f}", f"{found.rows[row]} and {found.cols[col]}"),
        ("images", f"{found.examples:,}", ""),
    ]
    caption = "0: nothing in common; 1: the same up to rotation, scale and shift. The stronger the colour, the higher."
    how = Words(UNBIASED if found.unbiased else EXACT)
    what = Words("Each layer is represented by the mean of its patches (for a ResNet: over rows and columns).")
    return [
        Section("results", "Results", [Numbers(figures)]),
        Section("matrix", "Every layer against every layer", [Drawing(drawing, caption, least=least)]),
        Section("nearest", "Nearest layers", [find_nearest(found, names)]),
        Section("method", "Method", [what, how]),
    ]


def shorten_name(layers: Sequence[str]) -> list[str]:
    """Return names without the reduction of tokens to a vector, which is the same for all."""
    return [name.removesuffix(":mean") for name in layers]


def find_nearest(found: CKA, names: tuple[str, str]) -> Table:
    """Return, for each layer of the first model, the most similar layer of the second."""
    best = found.matrix.argmax(1)
    rows = [
        (name, found.cols[col], f"{found.matrix[row, col]:.3f}")
        for row, (name, col) in enumerate(zip(found.rows, best, strict=True))
    ]
    return Table(
        f"For each layer of {names[0]}, the most similar one of {names[1]}",
        (names[0], names[1], "CKA"),
        rows,
        words=2,
    )


def describe_cka(found: CKA, names: tuple[str, str]) -> str:
    """Return what the terminal shows."""
    return f"CKA on {found.examples:,} images; the most similar layers:\n\n{find_nearest(found, names)}"


def encode_cka(found: CKA) -> dict[str, Any]:
    """Return the numbers as JSON values."""
    shape = {"rows": list(found.rows), "cols": list(found.cols), "images": found.examples, "unbiased": found.unbiased}
    return {**shape, "matrix": found.matrix.tolist()}
