"""What sections of a report share that draw accuracy along a curve: a chart beside its explanation, and a table."""

from collections.abc import Sequence

from vitreous.reports.blocks import Beside, Drawing, Section, Table, Words
from vitreous.runtime.display import align_columns


def build_section(anchor: str, title: str, chart: Drawing, note: str, table: Table) -> Section:
    """Return a chart beside its explanation, and the table below them."""
    return Section(anchor, title, [Beside([chart, Words(note)], wide=True), table])


def format_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the table's lines for a terminal, below a title and indented."""
    return ["", title, *(f"  {line}" for line in align_columns([heads, *rows], words=0))]
