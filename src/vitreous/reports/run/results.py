"""The report's numbers: headline, learning curves, confusions, classes, calibration."""

from collections.abc import Sequence
from typing import Any

from vitreous.drawing.charts import Series, compute_running_mean, draw_lines
from vitreous.drawing.svg import Axis, Format, format_percent, shorten
from vitreous.evaluation.handover import describe_handover
from vitreous.metrics.classification import TOP, wilson_interval
from vitreous.metrics.headline import format_interval
from vitreous.reports.blocks import Beside, Block, Drawing, Note, Numbers, Table
from vitreous.reports.evaluation import accuracy
from vitreous.reports.evaluation.multilabel import list_figures as figures_multilabel
from vitreous.reports.evaluation.multilabel import tabulate_labels
from vitreous.reports.run.contents import RunContents, is_multilabel, is_unlabelled, to_mapping


def list_figures(found: RunContents) -> list[Block]:
    """Return the most important figures."""
    train, best = found.records("train"), find_exported(found)
    if is_multilabel(found):
        reached = list_multilabel(found, best)
    else:
        reached = _format_loss(found, best) if is_unlabelled(found) else _format_accuracy(found, best)
    figures = [*reached, *_baselines(found), *_format_size(found)]
    if train:
        last = train[-1]
        figures.append(("images seen", shorten(last["samples"]), f"{last['epoch']:.1f} epochs"))
        figures.append(("training time", format_duration(last["seconds"]), _describe_progress(found)))
        figures.append(("throughput", f"{last['images_per_second']:,.0f}", "images per second, training"))
    return [Numbers(figures), *_list_shortcomings(found)]


def _baselines(found: RunContents) -> list[tuple[str, str, str]]:
    records = found.records("baselines")
    if not records:
        return []
    said = f"accuracy of colours alone; the commonest class: {records[-1]['majority']:.1%}"
    return [("colour histogram", f"{records[-1]['histogram']:.1%}", said)]


def find_exported(found: RunContents) -> dict[str, Any] | None:
    """Return the recorded evaluation of the exported weights."""
    if found.predictor is not None:
        exported = found.record.evaluation_at(found.predictor.folder.origin.get("step"))
        if exported is not None:
            return exported
    evaluations = found.records("evaluation")
    return evaluations[-1] if evaluations else None


def _format_accuracy(found: RunContents, record: dict[str, Any] | None) -> list[tuple[str, str, str]]:
    if found.measured is not None:
        metrics = found.measured.metrics
        top1, top5, interval, count = metrics.top1, metrics.top5, metrics.interval, metrics.examples
    elif record is not None and record.get("top1") is not None:
        top1, top5 = record["top1"], record.get("top5")
        count = int(to_mapping(found.record.config.get("data")).get("validation") or 0)
        interval = wilson_interval(round(top1 * count), count) if count else (top1, top1)
    else:
        return [("top-1 accuracy", "–", "no evaluation yet")]
    low, high = interval
    small = f"{format_interval((low, high))}, on {count:,} images" if count else ""
    small = f"on {count:,} images that it learned from" if found.learned else small
    figures = [("top-1 accuracy", f"{top1:.1%}", small)]
    # Earlier versions recorded it for few classes, too.
    has_top5 = top5 is not None and len(found.classes) > TOP
    return [*figures, ("top-5 accuracy", f"{top5:.1%}", "")] if has_top5 else figures


def list_multilabel(found: RunContents, record: dict[str, Any] | None) -> list[tuple[str, str, str]]:
    """Return the figures of a model that predicts several labels, measured now, or else recorded by the run."""
    if found.measured_multilabel is not None:
        every = figures_multilabel(found.measured_multilabel.metrics)
        return [one for one in every if one[0] not in ("loss", "Hamming loss")]
    if record is None or record.get("map") is None:
        return [("mean average precision", "–", "no evaluation yet")]
    shares = [(name, f"{record[key]:.1%}", "") for name, key in (("macro F1", "macro_f1"), ("micro F1", "micro_f1"))]
    return [("mean average precision", f"{record['map']:.4f}", "mean of the labels"), *shares]


def _format_loss(found: RunContents, record: dict[str, Any] | None) -> list[tuple[str, str, str]]:
    if record is None or record.get("loss") is None:
        return [("validation loss", "–", "no evaluation yet")]
    count = int(to_mapping(found.record.config.get("data")).get("validation") or 0)
    kind = to_mapping(found.settings.get("objective")).get("kind")
    return [("validation loss", f"{record['loss']:.4f}", f"of {kind}, on {count:,} images, without labels")]


def _format_size(found: RunContents) -> list[tuple[str, str, str]]:
    named = found.classes and not is_unlabelled(found)
    figures = [("classes", f"{len(found.classes):,}", "")] if named else []
    parameters = found.record.config.get("parameters")
    model = to_mapping(found.settings.get("model"))
    if parameters:
        small = f"{model['depth']} blocks of width {model['width']}" if {"depth", "width"} <= model.keys() else ""
        if "units" in model:
            small = f"{sum(model['units'])} units, width {model.get('width')}"
        figures.append(("parameters", shorten(parameters), small))
    return figures


def format_duration(seconds: float) -> str:
    """Format a span of time: 41 s, 12 min, 3 h 20 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def _describe_progress(found: RunContents) -> str:
    if not found.steps or found.step >= found.steps:
        return f"{found.step:,} steps"
    return f"{found.step:,} of {found.steps:,} steps"


def _list_shortcomings(found: RunContents) -> list[Block]:
    """List the warnings that come first."""
    notes: list[Block] = []
    if found.ended.get("reason"):
        what = "Diverged." if found.ended.get("why") == "diverged" else "Broken off."
        notes.append(Note(what, f"{found.ended['reason']} (step {found.step:,} of {found.steps or 0:,})"))
    elif found.steps and found.step < found.steps:
        where = f"The run is at step {found.step:,} of {found.steps:,}: in progress, interrupted, or stopped early."
        notes.append(Note("Not at its planned end.", where))
    for part, words in (("predictor", "No model."), ("dataset", "No data."), ("measured", "Not measured.")):
        known = part == "measured" and (found.predictor is None or found.dataset is None)
        if part in found.missing and not known:
            notes.append(Note(words, found.missing[part]))
    if found.learned:
        notes.append(
            Note(
                "Not held out.",
                "The run learned from its validation images, so figures on them say nothing of new ones.",
            )
        )
    if "same data" in found.missing:
        notes.append(Note("Other data.", found.missing["same data"]))
    return notes


def describe_handed_over(found: RunContents) -> list[Block]:
    """Return best and last evaluation, which of them was exported and why, and whether the run has overfitted."""
    handover = describe_handover(found.record)
    if handover is None:
        return [Note("Nothing yet:", "no evaluation has been made and exported.")]
    return [Table("Best, last, and what was exported", ("what", "value"), handover.lines, words=2)]


LOSS = "Training loss is that of the objective, with its augmentation, mixing and smoothing; validation loss is plain cross-entropy."
LOSS_MULTILABEL = "Nats an image, summed over the labels; training loss with its augmentation, mixing and smoothing."
LOSS_WITHOUT_LABELS = (
    "Training and validation loss are the objective's; the validation's masks are the same at every evaluation."
)
ACCURACY = "Training accuracy is on augmented images, with the weights of that moment."
PRECISION = "Mean of the labels' average precisions: how well each label's images rank above all others."
F1 = (
    "Over all pairs of image and label; a label is predicted from a probability of one half. Training's is on "
    "augmented images, with the weights of that moment."
)
RATE = "The learning rate after the schedule."


def build_curves(found: RunContents) -> list[Block] | None:
    """Return the learning curves over epochs."""
    train, evaluations = found.records("train"), found.records("evaluation")
    if found.steps == 0:
        return None
    if not train and not evaluations:
        return [Note("No records.", "metrics.jsonl is empty: the run hasn't reached its first record yet.")]
    multilabel, unlabelled = is_multilabel(found), is_unlabelled(found)
    charts = [
        _draw_curve(
            found,
            "Loss",
            ("loss", "loss"),
            LOSS_MULTILABEL if multilabel else LOSS_WITHOUT_LABELS if unlabelled else LOSS,
        )
    ]
    if multilabel:
        charts += [
            _draw_curve(found, "Mean average precision", (None, "map"), PRECISION),
            _draw_curve(found, "Micro F1", ("micro_f1", "micro_f1"), F1, format_percent),
        ]
    elif not unlabelled:
        charts.append(_draw_curve(found, "Accuracy", ("accuracy", "top1"), ACCURACY, format_percent))
    rate = draw_lines(
        [Series("learning rate", list_points(train, "lr"), 3)], "Learning rate over epochs", Axis("epoch")
    )
    return [Beside([*charts, Drawing(rate, RATE, "Learning rate")])]


def _draw_curve(
    found: RunContents, title: str, keys: tuple[str | None, str], said: str, form: Format = shorten
) -> Drawing:
    """Draw a number over epochs: for training, faintly with its running mean in bold, and for validation."""
    training, validation = keys
    lines = [Series("validation", list_points(found.records("evaluation"), validation), 2, dots=True)]
    if training:
        noisy = list_points(found.records("train"), training)
        lines[:0] = [Series("training", noisy, faint=True), Series("training", compute_running_mean(noisy))]
    over = f"{title} over epochs, " + ("training and validation" if training else "validation")
    return Drawing(draw_lines(lines, over, Axis("epoch"), Axis("", form)), said, title)


def list_points(records: Sequence[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    """Return (epoch, value) of the records that have both."""
    return [(one["epoch"], one[key]) for one in records if one.get(key) is not None and one.get("epoch") is not None]


def explain_unmeasured(found: RunContents) -> list[Block]:
    """Explain why there are no predictions."""
    return [Note("Not measured:", found.missing.get("measured", "there is no model to measure"))]


def build_confusions(found: RunContents) -> Sequence[Block]:
    """Return which classes are mistaken for which."""
    return accuracy.build_confusions(found.measured.metrics) if found.measured else explain_unmeasured(found)


def tabulate_classes(found: RunContents) -> Sequence[Block]:
    """Return each class's figures, the worst first."""
    if found.measured_multilabel is not None:
        return [tabulate_labels(found.measured_multilabel.metrics)]
    return [accuracy.tabulate_classes(found.measured.metrics)] if found.measured else explain_unmeasured(found)


def build_calibration(found: RunContents) -> Sequence[Block]:
    """Return how reliable confidence is, and the effect of temperature scaling."""
    if found.measured is None:
        return explain_unmeasured(found)
    return accuracy.build_calibration(found.measured.metrics, found.measured.scaled)
