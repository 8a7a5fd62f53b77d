"""Accuracy by resolution with packed images, as a section of a report."""

from vitreous.drawing.charts import Series, draw_lines
from vitreous.drawing.svg import Axis, format_percent
from vitreous.evaluation.packed_curve import PackedCurve
from vitreous.reports.blocks import Drawing, Section, Table
from vitreous.reports.evaluation.curves import build_section, format_table

HEADS = ("resolution", "tokens an image", "top-1", "loss", "saved of images", "saved of sequences")
NOTE = (
    "Images keep their aspect, uncropped, at about the area of a square of so many pixels, and share sequences in which each attends to "
    "itself alone (NaViT, 2307.06304). Saved is the share of the tokens that padding would add: of all images of a batch to the "
    "largest, in rows and columns, or of their sequences to the longest."
)


def build_sections(found: PackedCurve) -> list[Section]:
    """Return a chart and a table."""
    line = [(float(one.side), one.top1) for one in found.points]
    label = f"Top-1 accuracy at resolutions of {found.points[0].side} to {found.points[-1].side} pixels"
    drawing = draw_lines([Series("packed", line, 1, dots=True)], label, Axis("resolution"), Axis("", format_percent))
    table = Table(
        f"{found.examples:,} images, {found.batch} packed together, positions {found.rule}", HEADS, list_rows(found)
    )
    chart = Drawing(drawing, "Each dot is a resolution.", "Top-1 accuracy over resolution")
    return [build_section("packing", "Packed images", chart, NOTE, table)]


def list_rows(found: PackedCurve) -> list[tuple[str, ...]]:
    """Return each resolution with its figures under HEADS."""
    return [
        (
            str(one.side),
            f"{one.tokens:,.1f}",
            f"{one.top1:.2%}",
            f"{one.nll:.3f}",
            f"{one.saved:.1%}",
            f"{one.saved_sequences:.1%}",
        )
        for one in found.points
    ]


def format_lines(found: PackedCurve) -> list[str]:
    """Format the table for a terminal."""
    return format_table("packed", HEADS, list_rows(found))
