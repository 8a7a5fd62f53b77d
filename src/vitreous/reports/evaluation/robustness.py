"""Accuracy under corruptions as a section of a report."""

from vitreous.data.sources.base import Source
from vitreous.drawing.charts import Series, draw_lines
from vitreous.drawing.svg import Axis, format_percent
from vitreous.evaluation.robustness import Robustness, format_change
from vitreous.images.corruptions.catalog import CORRUPTIONS, corrupt
from vitreous.metrics.headline import format_interval
from vitreous.predictor import Predictor
from vitreous.reports.blocks import Beside, Block, Drawing, Numbers, Section, Table, Words
from vitreous.reports.image_grid import build_strip, render_input

NOTE = Words(
    "The corruptions are those of ImageNet-C (1903.12261), made here from the clean images as the model sees "
    "them, with its settings for large images and CIFAR-10-C's for small ones. Frost is drawn, not photographed, "
    "so numbers are comparable between models measured here, but not exactly with published ones."
)


def build_sections(found: Robustness, predictor: Predictor, source: Source) -> list[Section]:
    """Return figures, a table and a chart, and each corruption of the first image.

    Raises:
        ImageError: the first image has become unreadable.
    """
    return [
        Section(
            "corruptions",
            "Corruptions",
            [list_figures(found), Beside([draw_chart(found), NOTE], wide=True), tabulate_corruptions(found)],
        ),
        Section("corrupted", "What the corruptions look like", build_strips(found, predictor, source)),
    ]


def list_figures(found: Robustness) -> Numbers:
    """Return clean and mean accuracy, and the loss."""
    low, high = found.interval
    return Numbers(
        [
            ("mean accuracy under corruption", f"{found.mean:.1%}", format_interval((low, high))),
            ("clean accuracy", f"{found.clean:.1%}", f"{found.examples:,} images"),
            (
                "relative to clean",
                format_change(found.clean, found.mean),
                f"{len(found.names)} corruptions, {len(found.severities)} severities",
            ),
        ]
    )


def tabulate_corruptions(found: Robustness) -> Table:
    """Return accuracy by corruption and severity, the worst first."""
    rows = []
    for name in sorted(found.names, key=found.mean_of):
        mean = found.mean_of(name)
        cells = [f"{found.mean_of(name, severity):.1%}" for severity in found.severities]
        rows.append(
            (name.replace("_", " "), CORRUPTIONS[name].group, f"{mean:.1%}", format_change(found.clean, mean), *cells)
        )
    cells = [f"{found.mean_of(None, severity):.1%}" for severity in found.severities]
    rows.append(("all", "", f"{found.mean:.1%}", format_change(found.clean, found.mean), *cells))
    heads = ("corruption", "group", "mean", "relative to clean", *map(str, found.severities))
    return Table("Top-1 accuracy by corruption and severity, the hardest first", heads, rows, words=2)


def draw_chart(found: Robustness) -> Drawing:
    """Return accuracy over severity: of all corruptions, of the hardest and of the easiest."""
    order = sorted(found.names, key=found.mean_of)
    lines = [Series("all", _build_line(found, None), 1, dots=True)]
    if len(order) > 1:
        lines.append(Series(order[0].replace("_", " "), _build_line(found, order[0]), 2, dots=True))
        lines.append(Series(order[-1].replace("_", " "), _build_line(found, order[-1]), 3, dots=True))
    drawing = draw_lines(
        lines, "Top-1 accuracy over severity", Axis("severity"), Axis("", format_percent, within=(0, 1))
    )
    return Drawing(
        drawing, "The mean of all, the hardest and the easiest; at 0, the original images.", "Top-1 accuracy"
    )


def _build_line(found: Robustness, name: str | None) -> list[tuple[float, float]]:
    return [(0, found.clean), *((one, found.mean_of(name, one)) for one in found.severities)]


def build_strips(found: Robustness, predictor: Predictor, source: Source) -> list[Block]:
    """Return the first image under each corruption."""
    pixels = render_input(predictor.folder, source, 0)
    shown = [
        build_strip(
            name.replace("_", " "),
            [pixels, *(corrupt(pixels, name, severity, (0, 0)) for severity in found.severities)],
        )
        for name in found.names
    ]
    said = f"The first image ({source.names[0]}), as it is and at severity {', '.join(map(str, found.severities))}."
    return [Words(said), Beside(shown, wide=True)]


def format_lines(measured: Robustness) -> list[str]:
    """Format accuracy under each corruption, the hardest first."""
    low, high = measured.interval
    share, _, verb = format_change(measured.clean, measured.mean).partition(" ")
    change = f", {share} of clean accuracy {verb}" if verb else ""
    said = ["", f"corrupted  {measured.mean:.2%}   ({format_interval((low, high), 2)}){change}"]
    heads = "  ".join(f"{severity:7}" for severity in measured.severities)
    said.append(f"  {'severity':18} {'mean':>7}   {heads}")
    for name in sorted(measured.names, key=measured.mean_of):
        cells = "  ".join(f"{measured.mean_of(name, severity):7.2%}" for severity in measured.severities)
        said.append(f"  {name:18} {measured.mean_of(name):7.2%}   {cells}")
    return said
