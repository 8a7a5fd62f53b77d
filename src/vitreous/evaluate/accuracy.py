"""The protocol `accuracy`: the model's own head on labelled images, as parts of a report."""

from vitreous.evaluate.metrics import Metrics
from vitreous.evaluate.outcome import Beside, Block, Drawing, Numbers, Part, Table, Words
from vitreous.evaluate.page import plain
from vitreous.evaluate.results import (
    CLASS_HEADS,
    MAP_CLASSES,
    MOST_CLASSES,
    TABLE_CLASSES,
    calibration_said,
    class_rows,
    pairs,
)
from vitreous.insight.plots import confusion_map, reliability


def parts(metrics: Metrics) -> list[Part]:
    """Return the report's parts: headline, confusions, classes, calibration."""
    return [
        Part("results", "Results", [headline(metrics)]),
        Part("confusion", "Confusions", confusions(metrics)),
        Part("classes", "Classes", [classes(metrics)]),
        Part("calibration", "Calibration", [calibration(metrics)]),
    ]


def headline(metrics: Metrics) -> Numbers:
    """Return the figures that matter most."""
    low, high = metrics.interval
    figures = [
        ("top-1 accuracy", f"{metrics.top1:.1%}", f"95% interval {low:.1%} to {high:.1%}"),
        ("balanced accuracy", f"{metrics.balanced:.1%}", "mean recall of the classes"),
        ("loss", f"{metrics.nll:.4f}", "nats, cross-entropy"),
        ("calibration error", f"{metrics.ece:.3f}", ""),
        ("images", f"{metrics.examples:,}", f"of {sum(one.support > 0 for one in metrics.per_class):,} classes"),
    ]
    if len(metrics.per_class) > 5:
        figures.insert(1, ("top-5 accuracy", f"{metrics.top5:.1%}", ""))
    return Numbers(figures)


def confusions(metrics: Metrics) -> list[Block]:
    """Return which classes are taken for which."""
    names = [plain(one.name) for one in metrics.per_class]
    few = len(names) <= MAP_CLASSES
    found = pairs(metrics, 10 if few else 30)
    listed: Block = Words("Not one image was taken for another class.")
    if found:
        listed = Table("Most frequent confusions", ("true", "taken for", "images", "of the class"), found, words=2)
    if not few:
        return [Words(f"Of {len(names):,} classes, the pairs that are mistaken most often."), listed]
    label = f"Confusion matrix of {len(names)} classes, {metrics.top1:.1%} on the diagonal"
    drawing, least = confusion_map(metrics.confusion, names, label)
    caption = "Rows are what an image shows, columns what it was taken for. Strength of colour: share of the row."
    return [Beside([Drawing(drawing, caption, least=least), listed], wide=True)]


def classes(metrics: Metrics) -> Table:
    """Return each class's figures, the worst first."""
    rows = class_rows(metrics)[:MOST_CLASSES]
    return Table("Each class, by F1, the worst first", CLASS_HEADS, rows, fold_after=TABLE_CLASSES)


def calibration(metrics: Metrics) -> Block:
    """Return how far confidence can be believed."""
    bins = [(one.low, one.high, one.count, one.confidence, one.accuracy) for one in metrics.reliability]
    drawing = reliability(bins, f"Reliability diagram: expected calibration error {metrics.ece:.3f}")
    caption = (
        "Bars that end on the dashed line are perfectly calibrated; orange is what predictions were sure more often than "
        "right, pale blue what they were right more often than sure. Below: how many have that confidence."
    )
    said = f"ECE {metrics.ece:.3f}. {calibration_said(metrics)}"
    return Beside([Drawing(drawing, caption), Words(said)], wide=True)
