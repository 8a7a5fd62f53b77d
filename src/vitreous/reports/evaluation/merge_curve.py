"""Accuracy against speed under token merging, as a section of a report."""

from vitreous.drawing.charts import Series, draw_lines
from vitreous.drawing.svg import Axis, format_percent
from vitreous.evaluation.merge_curve import MergeCurve
from vitreous.reports.blocks import Drawing, Section, Table
from vitreous.reports.evaluation.curves import build_section, format_table

HEADS = ("merge", "patches left", "GFLOPs", "top-1", "same class", "images/s", "speed")
NOTE = (
    "Each block merges so many pairs of similar patches (ToMe, 2210.09461), without training. `merge` is what --merge and "
    "vitreous.load(..., merge=...) take. The speed is that of the forward pass, on this machine at this time."
)


def build_sections(found: MergeCurve) -> list[Section]:
    """Return a chart and a table."""
    line = sorted((one.images_per_second, one.top1) for one in found.points)
    label = f"Top-1 accuracy over images per second, merging {found.points[0].merge} to {found.points[-1].merge} pairs"
    drawing = draw_lines(
        [Series("merging", line, 1, dots=True)], label, Axis("images per second"), Axis("", format_percent)
    )
    table = Table(f"{found.examples:,} images, batch {found.batch}", HEADS, list_rows(found))
    chart = Drawing(drawing, "Each dot is a number of pairs.", "Top-1 accuracy over speed")
    return [build_section("merging", "Token merging", chart, NOTE, table)]


def list_rows(found: MergeCurve) -> list[tuple[str, ...]]:
    """Return each number of pairs with its figures under HEADS."""
    first = found.points[0].images_per_second
    return [
        (
            str(one.merge),
            f"{one.patches:,}",
            f"{one.flops / 1e9:,.3g}",
            f"{one.top1:.2%}",
            f"{one.agreement:.1%}",
            f"{one.images_per_second:,.0f}",
            f"{one.images_per_second / first:.2f}",
        )
        for one in found.points
    ]


def format_lines(found: MergeCurve) -> list[str]:
    """Format the table for a terminal."""
    return format_table("merging", HEADS, list_rows(found))
