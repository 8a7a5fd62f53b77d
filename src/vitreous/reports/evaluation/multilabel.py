"""A model on images with several labels each, as sections of a report and as lines for a terminal."""

from vitreous.metrics.multilabel import MultiLabelMetrics
from vitreous.reports.blocks import Numbers, Section, Table, Words
from vitreous.reports.evaluation.accuracy import MOST_CLASSES, TABLE_CLASSES

HEADS = ("label", "images", "precision", "recall", "F1", "AUROC", "average precision")


def build_sections(metrics: MultiLabelMetrics) -> list[Section]:
    """Return the headline and a table of the labels."""
    said = Words(
        "A label is predicted where its sigmoid is at least one half; AUROC and average precision need no such "
        "threshold."
    )
    results = Section("results", "Results", [Numbers(list_figures(metrics)), said])
    return [results, Section("labels", "Labels", [tabulate_labels(metrics)])]


def tabulate_labels(metrics: MultiLabelMetrics) -> Table:
    """Return each label's figures, the worst first."""
    return Table(
        "Each label, by average precision, the worst first", HEADS, list_rows(metrics), fold_after=TABLE_CLASSES
    )


def list_figures(metrics: MultiLabelMetrics) -> list[tuple[str, str, str]]:
    """Return the figures that matter most: (name, value, small print)."""
    present = sum(one.support > 0 for one in metrics.per_label)
    return [
        ("mean average precision", format_value(metrics.mean_average_precision), "mean of the labels"),
        ("average precision", format_value(metrics.micro_average_precision), "over all pairs of image and label"),
        ("AUROC", format_value(metrics.auroc), "mean of the labels"),
        ("macro F1", f"{metrics.macro_f1:.1%}", "mean of the labels"),
        ("micro F1", f"{metrics.micro_f1:.1%}", "over all pairs of image and label"),
        ("exactly right", f"{metrics.exact:.1%}", "images with every label right"),
        ("Hamming loss", f"{metrics.hamming:.4f}", "share of pairs that are wrong"),
        ("loss", f"{metrics.nll:.4f}", "nats a pair, binary cross-entropy"),
        ("images", f"{metrics.examples:,}", f"with {present:,} labels"),
    ]


def list_rows(metrics: MultiLabelMetrics) -> list[tuple[str, ...]]:
    """Return each label's figures under HEADS, by average precision, the worst first and those without images last."""
    pairs = zip(metrics.per_label, metrics.ranking.per_class, strict=True)
    ordered = sorted(pairs, key=lambda pair: (not pair[0].support, pair[1].average_precision or 0))
    found = []
    for one, ranked in ordered[:MOST_CLASSES]:
        shares = (f"{one.precision:.1%}", f"{one.recall:.1%}", f"{one.f1:.1%}") if one.support else ("–",) * 3
        found.append(
            (one.name, f"{one.support:,}", *shares, format_value(ranked.auroc), format_value(ranked.average_precision))
        )
    return found


def format_lines(metrics: MultiLabelMetrics) -> list[str]:
    """Return the figures for a terminal."""
    return [
        f"{name:23} {value:>8}   {f'({small})' if small else ''}".rstrip()
        for name, value, small in list_figures(metrics)
    ]


def format_value(value: float | None) -> str:
    """Format a figure, or a dash if there is none."""
    return "–" if value is None else f"{value:.4f}"
