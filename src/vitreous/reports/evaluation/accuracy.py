"""The protocol `accuracy`: the model's own head on labelled images, as sections of a report."""

from vitreous.drawing.charts import draw_reliability
from vitreous.drawing.matrices import draw_confusions
from vitreous.evaluation.details import Details
from vitreous.evaluation.throughput import Cost
from vitreous.metrics.bootstrap import Interval
from vitreous.metrics.calibration import Scaled
from vitreous.metrics.classification import Bin, Metrics
from vitreous.metrics.headline import format_interval
from vitreous.reports.blocks import Beside, Block, Drawing, Numbers, Section, Table, Words
from vitreous.runtime.display import strip_hidden

MAP_CLASSES = 30
"""Most classes whose confusion matrix is drawn whole."""
TABLE_CLASSES = 30
"""Most classes that are always visible; the others fold away."""
MOST_CLASSES = 1000
"""Most classes listed at all."""
CLASS_HEADS = ("class", "images", "precision", "recall", "F1")


def build_sections(metrics: Metrics, details: Details | None = None) -> list[Section]:
    """Return the report's sections: headline, confusions, classes, calibration; with details, also the cost."""
    scaled = details.scaled if details else None
    found = [
        Section("results", "Results", [list_figures(metrics, details)]),
        Section("confusion", "Confusions", build_confusions(metrics)),
        Section("classes", "Classes", [tabulate_classes(metrics, details)]),
        Section("calibration", "Calibration", build_calibration(metrics, scaled)),
    ]
    if details and details.cost:
        found.append(Section("cost", "Cost", [list_costs(details.cost)]))
    return found


def list_figures(metrics: Metrics, details: Details | None = None) -> Numbers:
    """Return the most important figures."""
    intervals = details.intervals if details else {}
    figures = [
        ("top-1 accuracy", f"{metrics.top1:.1%}", format_interval(metrics.interval)),
        (
            "balanced accuracy",
            f"{metrics.balanced:.1%}",
            _format_range(intervals.get("balanced")) or "mean recall of the classes",
        ),
        ("macro F1", f"{metrics.macro_f1:.1%}", _format_range(intervals.get("macro_f1"))),
        ("loss", f"{metrics.nll:.4f}", "nats, cross-entropy"),
        ("calibration error", f"{metrics.ece:.3f}", ""),
        ("images", f"{metrics.examples:,}", f"of {sum(one.support > 0 for one in metrics.per_class):,} classes"),
    ]
    if metrics.top5 is not None:
        figures.insert(1, ("top-5 accuracy", f"{metrics.top5:.1%}", ""))
    if details and details.ranking.auroc is not None:
        figures.append(("AUROC", f"{details.ranking.auroc:.4f}", "each class against the rest, mean"))
    if details and details.ranking.mean_average_precision is not None:
        figures.append(("average precision", f"{details.ranking.mean_average_precision:.4f}", "mean of the classes"))
    if details and details.cost:
        figures.append(("throughput", f"{details.cost.images_per_second:,.0f}", "images per second, forward"))
    return Numbers(figures)


def _format_range(interval: Interval | None) -> str:
    return format_interval((interval.low, interval.high)) if interval else ""


def build_confusions(metrics: Metrics) -> list[Block]:
    """Return which classes are mistaken for which."""
    names = [strip_hidden(one.name) for one in metrics.per_class]
    few = len(names) <= MAP_CLASSES
    found = list_pairs(metrics, 10 if few else 30)
    listed: Block = Words("No image was taken for another class.")
    if found:
        listed = Table("Most frequent confusions", ("true", "taken for", "images", "of the class"), found, words=2)
    if not few:
        return [Words(f"Of {len(names):,} classes, the pairs that are mistaken most often."), listed]
    label = f"Confusion matrix of {len(names)} classes, {metrics.top1:.1%} on the diagonal"
    drawing, least = draw_confusions(metrics.confusion, names, label)
    caption = "Rows are the true classes, columns the predicted ones. Strength of colour: share of the row."
    return [Beside([Drawing(drawing, caption, least=least), listed], wide=True)]


def list_pairs(metrics: Metrics, most: int) -> list[tuple[str, str, str, str]]:
    """Return (true, predicted, images, share of the class) of the most frequent confusions."""
    found = [(count, row, col) for row, col, count in metrics.confusions if row != col]
    found.sort(key=lambda one: (-one[0], one[1:]))
    names = [one.name for one in metrics.per_class]
    return [
        (names[row], names[col], f"{count:,}", f"{count / metrics.per_class[row].support:.1%}")
        for count, row, col in found[:most]
    ]


def tabulate_classes(metrics: Metrics, details: Details | None = None) -> Table:
    """Return each class's figures, the worst first."""
    rows = list_class_rows(metrics)[:MOST_CLASSES]
    heads = CLASS_HEADS
    if details:
        ranked = {one.name: (one.auroc, one.average_precision) for one in details.ranking.per_class}
        heads = (*CLASS_HEADS, "AUROC", "average precision")
        rows = [(*row, *("–" if one is None else f"{one:.3f}" for one in ranked[row[0]])) for row in rows]
    caption = "Each class, by F1, the worst first"
    if len(metrics.per_class) > MOST_CLASSES:
        caption += f" ({MOST_CLASSES:,} of {len(metrics.per_class):,}; `vitreous evaluate --json` has all)"
    return Table(caption, heads, rows, fold_after=TABLE_CLASSES)


def list_class_rows(metrics: Metrics) -> list[tuple[str, ...]]:
    """Return each class's figures under CLASS_HEADS, by F1, the worst first and those without images last."""
    return [
        (one.name, f"{one.support:,}", f"{one.precision:.1%}", f"{one.recall:.1%}", f"{one.f1:.1%}")
        if one.support
        else (one.name, "0", "–", "–", "–")
        for one in sorted(metrics.per_class, key=lambda one: (not one.support, one.f1))
    ]


def build_calibration(metrics: Metrics, scaled: Scaled | None = None) -> list[Block]:
    """Return how reliable confidence is, and the effect of temperature scaling."""
    caption = (
        "Bars that end on the dashed line are perfectly calibrated; orange shows overconfidence, pale blue "
        "underconfidence. Below: the number of predictions with that confidence."
    )
    before = _draw_reliability(metrics.reliability, metrics.ece, caption, "As it is" if scaled else "")
    said = Words(f"ECE {metrics.ece:.3f}. {describe_calibration(metrics)}")
    if scaled is None:
        return [Beside([before, said], wide=True)]
    after = _draw_reliability(
        scaled.reliability, scaled.ece[1], "The same predictions, with other confidences.", "After temperature scaling"
    )
    return [Beside([before, after], wide=True), said, Words(describe_scaled(scaled))]


def describe_calibration(metrics: Metrics) -> str:
    """Compare mean confidence and accuracy in a sentence."""
    mean = sum(one.count * one.confidence for one in metrics.reliability) / metrics.examples
    tendency = "overconfident" if mean > metrics.top1 else "underconfident"
    said = f"On average the model is {mean:.1%} confident and {metrics.top1:.1%} right"
    return said + (f": {tendency}." if abs(mean - metrics.top1) >= 0.02 else ": well balanced.")


def _draw_reliability(bins: tuple[Bin, ...], ece: float, caption: str, title: str) -> Drawing:
    values = [(one.low, one.high, one.count, one.confidence, one.accuracy) for one in bins]
    return Drawing(
        draw_reliability(values, f"Reliability diagram: expected calibration error {ece:.3f}"), caption, title
    )


def describe_scaled(scaled: Scaled) -> str:
    """Describe the effect of temperature scaling."""
    (first, second), (before, after), (loss, less) = scaled.temperatures, scaled.ece, scaled.nll
    return (
        f"Divided by a temperature, the logits have an ECE of {after:.3f} instead of {before:.3f}, and a loss of "
        f"{less:.4f} instead of {loss:.4f} nats; no prediction changes. The temperature was fitted on one half of "
        f"the images and applied to the other, both ways: {first:.2f} and {second:.2f}. Above 1, the model is "
        "overconfident."
    )


def list_costs(*models: Cost, names: tuple[str, ...] = ("value",)) -> Table:
    """Return the cost of a forward pass, for one model or several side by side."""
    rows = [
        ("parameters", [f"{one.parameters:,}" for one in models]),
        ("operations per image, two for each multiply-add", [f"{one.flops:,}" for one in models]),
        ("images per second, forward", [f"{one.images_per_second:,.0f}" for one in models]),
        ("slowest and fastest pass", ["{:,.0f} to {:,.0f}".format(*one.range) for one in models]),
        ("measured with", [one.where for one in models]),
    ]
    caption = "Cost of a forward pass, from pixels in memory to logits"
    return Table(caption, ("what", *names), [(what, *values) for what, values in rows])
