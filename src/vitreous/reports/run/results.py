"""The report's numbers: headline, learning curves, confusions, classes, calibration."""

from collections.abc import Sequence
from typing import Any

from vitreous.drawing.charts import Series, line_chart, running_mean
from vitreous.drawing.svg import Axis, Format, percent, short
from vitreous.metrics.classification import TOP, wilson_interval
from vitreous.reports.blocks import Beside, Block, Drawing, Note, Numbers, Words
from vitreous.reports.evaluation import accuracy
from vitreous.reports.evaluation.multilabel import figures as figures_multilabel
from vitreous.reports.evaluation.multilabel import labels_table
from vitreous.reports.run.contents import RunContents, is_multilabel, mapping, without_labels


def headline(found: RunContents) -> list[Block]:
    """Return the figures that matter most."""
    train, best = found.records("train"), exported_evaluation(found)
    if is_multilabel(found):
        reached = reached_multilabel(found, best)
    else:
        reached = _loss(found, best) if without_labels(found) else _accuracy(found, best)
    figures = [*reached, *_baselines(found), *_size(found)]
    if train:
        last = train[-1]
        figures.append(("images seen", short(last["samples"]), f"{last['epoch']:.1f} epochs"))
        figures.append(("training time", duration(last["seconds"]), _progress(found)))
        figures.append(("throughput", f"{last['images_per_second']:,.0f}", "images a second, training"))
    return [Numbers(figures), *_shortcomings(found), *_caveat(found)]


def _baselines(found: Findings) -> list[tuple[str, str, str]]:
    records = found.records("baselines")
    if not records:
        return []
    said = f"accuracy of colours alone; the commonest class: {records[-1]['majority']:.1%}"
    return [("colour histogram", f"{records[-1]['histogram']:.1%}", said)]


def exported_evaluation(found: Findings) -> dict[str, Any] | None:
    """Return the recorded evaluation of the weights that were exported."""
    evaluations = found.records("evaluation")
    if found.predictor is not None:
        step = found.predictor.folder.origin.get("step")
        for one in reversed(evaluations):
            if one.get("step") == step:
                return one
    return evaluations[-1] if evaluations else None


def _accuracy(found: RunContents, record: dict[str, Any] | None) -> list[tuple[str, str, str]]:
    if found.measured is not None:
        metrics = found.measured.metrics
        top1, top5, interval, count = metrics.top1, metrics.top5, metrics.interval, metrics.examples
    elif record is not None and record.get("top1") is not None:
        top1, top5 = record["top1"], record.get("top5")
        count = int(mapping(found.record.config.get("data")).get("validation") or 0)
        interval = wilson_interval(round(top1 * count), count) if count else (top1, top1)
    else:
        return [("top-1 accuracy", "–", "no evaluation yet")]
    low, high = interval
    small = f"95% interval {low:.1%} to {high:.1%}, on {count:,} images" if count else ""
    figures = [("top-1 accuracy", f"{top1:.1%}", small)]
    # Runs of before recorded it for few classes, too.
    told = top5 is not None and len(found.classes) > TOP
    return [*figures, ("top-5 accuracy", f"{top5:.1%}", "")] if told else figures


def reached_multilabel(found: RunContents, record: dict[str, Any] | None) -> list[tuple[str, str, str]]:
    """Return the figures of a model that gives several labels, as measured, or as the run recorded them."""
    if found.measured_multilabel is not None:
        every = figures_multilabel(found.measured_multilabel.metrics)
        return [one for one in every if one[0] not in ("loss", "Hamming loss")]
    if record is None or record.get("map") is None:
        return [("mean average precision", "–", "no evaluation yet")]
    shares = [(name, f"{record[key]:.1%}", "") for name, key in (("macro F1", "macro_f1"), ("micro F1", "micro_f1"))]
    return [("mean average precision", f"{record['map']:.4f}", "mean of the labels"), *shares]


def _loss(found: RunContents, record: dict[str, Any] | None) -> list[tuple[str, str, str]]:
    if record is None or record.get("loss") is None:
        return [("validation loss", "–", "no evaluation yet")]
    count = int(mapping(found.record.config.get("data")).get("validation") or 0)
    kind = mapping(found.settings.get("objective")).get("kind")
    return [("validation loss", f"{record['loss']:.4f}", f"of {kind}, on {count:,} images, without labels")]


def _size(found: RunContents) -> list[tuple[str, str, str]]:
    named = found.classes and not without_labels(found)
    figures = [("classes", f"{len(found.classes):,}", "")] if named else []
    parameters = found.record.config.get("parameters")
    model = mapping(found.settings.get("model"))
    if parameters:
        small = f"{model['depth']} blocks of width {model['width']}" if {"depth", "width"} <= model.keys() else ""
        if "units" in model:
            small = f"{sum(model['units'])} units, width {model.get('width')}"
        figures.append(("parameters", short(parameters), small))
    return figures


def duration(seconds: float) -> str:
    """Write a span of time: 41 s, 12 min, 3 h 20 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def _progress(found: RunContents) -> str:
    if not found.steps or found.step >= found.steps:
        return f"{found.step:,} steps"
    return f"{found.step:,} of {found.steps:,} steps"


def _shortcomings(found: RunContents) -> list[Block]:
    """List what the reader must know first."""
    notes: list[Block] = []
    if found.steps and found.step < found.steps:
        where = f"The run is at step {found.step:,} of {found.steps:,}: going on, interrupted, or stopped early."
        notes.append(Note("Not at its planned end.", where))
    for part, words in (("predictor", "No model."), ("dataset", "No data."), ("measured", "Not measured.")):
        known = part == "measured" and (found.predictor is None or found.dataset is None)
        if part in found.missing and not known:
            notes.append(Note(words, found.missing[part]))
    if "same data" in found.missing:
        notes.append(Note("Other data.", found.missing["same data"]))
    return notes


def _caveat(found: RunContents) -> list[Block]:
    measured = found.measured or found.measured_multilabel
    if measured is None or found.settings.get("export") != "best" or len(found.records("evaluation")) < 2:
        return []
    by = "mean average precision" if found.measured_multilabel else "accuracy"
    said = f"These weights were chosen, among all evaluations, by their {by} on these same images; on new images expect a little less."
    return [Words(said)]


LOSS = "Training loss is that of the objective, with its augmentation, mixing and smoothing; validation loss is plain cross-entropy."
LOSS_MULTILABEL = "Nats an image, summed over the labels; training loss with its augmentation, mixing and smoothing."
LOSS_WITHOUT_LABELS = (
    "Training and validation loss are the objective's; the validation's masks are the same at every evaluation."
)
ACCURACY = "Training accuracy is on augmented images, while the weights still moved."
PRECISION = "Mean of the labels' average precisions: how well each label's images are ranked before all others."
F1 = (
    "Over all pairs of image and label, a label being claimed from a probability of one half. Training's is on "
    "augmented images, while the weights still moved."
)
RATE = "What the schedule made of the peak learning rate."


def curves(found: Findings) -> list[Block] | None:
    """Return the learning curves over epochs."""
    train, evaluations = found.records("train"), found.records("evaluation")
    if found.steps == 0:
        return None
    if not train and not evaluations:
        return [Note("No records.", "metrics.jsonl is empty: the run hasn't come to its first record yet.")]
    multilabel, unlabelled = is_multilabel(found), without_labels(found)
    charts = [
        _curve(
            found,
            "Loss",
            ("loss", "loss"),
            LOSS_MULTILABEL if multilabel else LOSS_WITHOUT_LABELS if unlabelled else LOSS,
        )
    ]
    if multilabel:
        charts += [
            _curve(found, "Mean average precision", (None, "map"), PRECISION),
            _curve(found, "Micro F1", ("micro_f1", "micro_f1"), F1, percent),
        ]
    elif not unlabelled:
        charts.append(_curve(found, "Accuracy", ("accuracy", "top1"), ACCURACY, percent))
    rate = line_chart([Series("learning rate", points(train, "lr"), 3)], "Learning rate over epochs", Axis("epoch"))
    return [Beside([*charts, Drawing(rate, RATE, "Learning rate")])]


def _curve(found: RunContents, title: str, keys: tuple[str | None, str], said: str, form: Format = short) -> Drawing:
    """Draw a number over epochs: of training, faintly and its running mean boldly, and of validation."""
    training, validation = keys
    lines = [Series("validation", points(found.records("evaluation"), validation), 2, dots=True)]
    if training:
        noisy = points(found.records("train"), training)
        lines[:0] = [Series("training", noisy, faint=True), Series("training", running_mean(noisy))]
    over = f"{title} over epochs, " + ("training and validation" if training else "validation")
    return Drawing(line_chart(lines, over, Axis("epoch"), Axis("", form)), said, title)


def points(records: Sequence[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    """Return (epoch, value) of the records that have both."""
    return [(one["epoch"], one[key]) for one in records if one.get(key) is not None and one.get("epoch") is not None]


def unmeasured(found: RunContents) -> list[Block]:
    """Say why there are no predictions."""
    return [Note("Not measured:", found.missing.get("measured", "there is no model to measure"))]


def confusions(found: RunContents) -> Sequence[Block]:
    """Return which classes are taken for which."""
    return accuracy.confusions(found.measured.metrics) if found.measured else unmeasured(found)


def classes(found: RunContents) -> Sequence[Block]:
    """Return each class's figures, the worst first."""
    if found.measured_multilabel is not None:
        return [labels_table(found.measured_multilabel.metrics)]
    return [accuracy.classes(found.measured.metrics)] if found.measured else unmeasured(found)


def calibration(found: RunContents) -> Sequence[Block]:
    """Return how far confidence can be believed, and what one temperature would mend."""
    if found.measured is None:
        return unmeasured(found)
    return accuracy.calibration(found.measured.metrics, found.measured.scaled)
