"""The results of probes of frozen features, as sections of a report."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vitreous.drawing.charts import Series, draw_lines
from vitreous.drawing.svg import Axis, format_percent
from vitreous.evaluation.probes.features import Features
from vitreous.evaluation.probes.few_shot import FewShot, Shot
from vitreous.evaluation.probes.knn import KNN, KNNOptions
from vitreous.evaluation.probes.linear import Linear
from vitreous.evaluation.probes.measurement import Found, decisions
from vitreous.evaluation.probes.options import ProbeOptions
from vitreous.metrics.classification import evaluate_logits, find_indices
from vitreous.metrics.headline import format_interval
from vitreous.reports.blocks import Beside, Drawing, Note, Numbers, Section, Table, Words
from vitreous.reports.evaluation.accuracy import build_calibration, build_confusions, tabulate_classes
from vitreous.shapes import Int64

FEW_SHOT_WORDS = (
    "Regularised least squares from whitened features to 1 for the own class and -1 for the others, with a constant "
    "feature of 100 for the bias, as the paper's authors measure it (big_vision, evaluators/fewshot_lsr.py), in float64."
)
LINEAR_WORDS = {
    "lbfgs": "Multinomial logistic regression on whitened features, by L-BFGS to its optimum",
    "sgd": "Multinomial logistic regression on whitened features, by stochastic gradient descent",
}
HELD_OUT = "was chosen on a held-out fifth of the training images, and the probe then trained on all of them"
LIMITED = "the limit of iterations ended L-BFGS before its optimum"
KNN_WORDS = (
    "k is the one that is best on the training images, each classified by the others; the test images were not "
    "involved."
)


def build_probe_sections(found: Found, options: ProbeOptions, train: Features, test: Features) -> list[Section]:
    """Return the report's sections of a probe of any kind."""
    if isinstance(found, FewShot):
        return build_few_shot_sections(found, train, test)
    if isinstance(found, Linear):
        return build_linear_sections(found, train, test)
    return build_knn_sections(found, options.knn(), train, test)


def tabulate_probe(found: Found) -> Table:
    """Return the table of a probe of any kind: every number of shots, value that was tried, or number of neighbours."""
    if isinstance(found, FewShot):
        return tabulate_few_shot(found)
    return tabulate_tried(found) if isinstance(found, Linear) else tabulate_knn(found)


def encode_probe(found: Found) -> dict[str, Any]:
    """Return the numbers of a probe of any kind as JSON values."""
    if isinstance(found, FewShot):
        return encode_few_shot(found)
    return encode_linear(found) if isinstance(found, Linear) else encode_knn(found)


def format_probe(found: Found) -> str:
    """Return the result of a probe of any kind for a terminal: its headline, unless the table states it, and its
    table."""
    lead = "" if isinstance(found, FewShot) else write_headline(found)
    return "\n\n".join(filter(None, (lead, str(tabulate_probe(found)))))


def build_few_shot_sections(found: FewShot, train: Features, test: Features) -> list[Section]:
    """Return the report's sections: the headline, every seed, and the confusions at the most shots."""
    figures = [(name_shots(one), f"{one.mean:.1%}", format_interval(one.interval)) for one in found.shots[::-1]]
    method = Words(f"{FEW_SHOT_WORDS} {describe_intervals(found)}")
    results = Section("results", "Results", [Numbers(figures), Beside([*draw_curve(found), method], wide=True)])
    most = found.shots[-1]
    true = find_labels(train, test)
    metrics = list_decisions(most.predicted[0], true, train.classes)
    words = Words(describe_compared(found))
    return [
        results,
        Section("seeds", "Every seed", [tabulate_few_shot(found)]),
        Section("confusion", "Confusions", [words, *build_confusions(metrics)]),
        Section("classes", "Classes", [words, tabulate_classes(metrics)]),
    ]


def describe_compared(found: FewShot) -> str:
    """Say with which images the decisions were made that confusions and comparisons show: the last number of shots, drawn once."""
    most = found.shots[-1]
    return f"With {name_shots(most)}{', as seed 0 draws them' if most.shots != 'all' else ''}."


def name_shots(one: Shot) -> str:
    """Name a number of shots."""
    return "all images" if one.shots == "all" else f"{one.shots} shot" + ("s" if one.shots != 1 else "")


def tabulate_few_shot(found: FewShot) -> Table:
    """Return every number of shots with its seeds."""
    seeds = max(len(one.accuracies) for one in found.shots)
    rows = []
    for one in found.shots:
        each = [f"{value:.2%}" for value in one.accuracies] + ["–"] * (seeds - len(one.accuracies))
        strengths = ", ".join(f"{value:g}" for value in (one.l2 if len(set(one.l2)) > 1 else one.l2[:1]))
        rows.append((str(one.shots), f"{one.mean:.2%}", format_span(one.interval), *each, strengths))
    heads = ("shots", "accuracy", "95% interval", *(f"seed {seed}" for seed in range(seeds)), "l2")
    return Table("Top-1 accuracy by images of each class", heads, rows)


def draw_curve(found: FewShot) -> list[Drawing]:
    """Return accuracy over shots, if there are at least two numbers of them."""
    numbers = [one for one in found.shots if not isinstance(one.shots, str)]
    if len(numbers) < 2:
        return []
    lines = [
        Series(f"seed {seed}", [(float(one.shots), one.accuracies[seed]) for one in numbers], 1, faint=True)
        for seed in range(len(numbers[0].accuracies))
    ]
    lines.append(Series("mean of the seeds", [(float(one.shots), one.mean) for one in numbers], 1, dots=True))
    drawing = draw_lines(
        lines, "Few-shot accuracy over images of each class", Axis("images of each class"), Axis("", format_percent)
    )
    return [Drawing(drawing, "Faint: each seed's draw of the images.", "Accuracy over shots")]


def describe_intervals(found: FewShot) -> str:
    """Describe the intervals."""
    if max(len(one.accuracies) for one in found.shots) == 1:
        return "Intervals are Wilson's, over the test images."
    words = "Intervals are of the mean over other seeds and other test images"
    return words + ("; Wilson's over the test images for all images." if found.shots[-1].shots == "all" else ".")


def encode_few_shot(found: FewShot) -> dict[str, Any]:
    """Return the numbers as JSON values."""
    keys = ("shots", "mean", "interval", "accuracies", "l2")
    return {"test_images": found.examples, "shots": [{key: getattr(one, key) for key in keys} for one in found.shots]}


def build_linear_sections(found: Linear, train: Features, test: Features) -> list[Section]:
    """Return the report's sections: the headline, the values tried, confusions, calibration."""
    metrics = evaluate_logits(found.logits, find_labels(train, test), train.classes)
    name = "l2" if found.solver == "lbfgs" else "rate"
    figures = [
        ("linear probe, top-1", f"{found.accuracy:.1%}", format_interval(found.interval)),
        ("balanced accuracy", f"{metrics.balanced:.1%}", "mean recall of the classes"),
        (name, f"{found.chosen:g}", "chosen on held-out training images" if found.tried else "given"),
    ]
    chosen = f"; {'l2' if found.solver == 'lbfgs' else 'the rate'} {HELD_OUT}" if found.tried else ""
    blocks: list[Any] = [Numbers(figures), *([Note("Not at the optimum:", f"{LIMITED}.")] if found.limited else [])]
    if found.tried:
        points = [(float(np.log10(value)), share) for value, share in found.tried]
        chart = draw_lines(
            [Series("held-out", points, 1, dots=True)],
            f"Accuracy over {name}",
            Axis(f"log10 of {name}"),
            Axis("", format_percent),
        )
        blocks.append(
            Beside([Drawing(chart, "On held-out training images.", "Values tried"), tabulate_tried(found)], wide=True)
        )
    return [
        Section("results", "Results", blocks),
        Section("confusion", "Confusions", build_confusions(metrics)),
        Section("classes", "Classes", [tabulate_classes(metrics)]),
        Section("calibration", "Calibration", build_calibration(metrics)),
        Section("method", "Method", [Words(f"{LINEAR_WORDS[found.solver]}{chosen}.")]),
    ]


def tabulate_tried(found: Linear) -> Table:
    """Return the accuracy of each value tried."""
    name = "l2" if found.solver == "lbfgs" else "rate"
    rows = [
        (f"{value:g}", f"{share:.2%}", "chosen" if value == found.chosen else "") for value, share in found.tried
    ] or [(f"{found.chosen:g}", "–", "given")]
    return Table(f"Accuracy on held-out training images by {name}", (name, "held-out accuracy", ""), rows)


def encode_linear(found: Linear) -> dict[str, Any]:
    """Return the numbers as JSON values."""
    keys = ("accuracy", "interval", "solver", "chosen", "tried", "limited")
    return {"test_images": len(found.logits), **{key: getattr(found, key) for key in keys}}


def write_headline(found: Linear | KNN) -> str:
    """Describe a probe's result in a line."""
    name = "k" if isinstance(found, KNN) else "l2" if found.solver == "lbfgs" else "rate"
    limited = f"; {LIMITED}" if isinstance(found, Linear) and found.limited else ""
    return f"top-1  {found.accuracy:.2%}   ({format_interval(found.interval)}), {name} {found.chosen:g}{limited}"


def build_knn_sections(found: KNN, options: KNNOptions, train: Features, test: Features) -> list[Section]:
    """Return the report's sections: the headline, each k, confusions."""
    metrics = list_decisions(found.predicted, find_labels(train, test), train.classes)
    figures = [
        ("k-NN, top-1", f"{found.accuracy:.1%}", format_interval(found.interval)),
        ("balanced accuracy", f"{metrics.balanced:.1%}", "mean recall of the classes"),
        ("k", str(found.chosen), "chosen on the training images" if len(found.accuracies) > 1 else "given"),
    ]
    chosen = f" {KNN_WORDS}" if len(found.accuracies) > 1 else ""
    near = "cosine similarity" if options.metric == "cosine" else "Euclidean distance"
    voting = f"exp(similarity / {options.temperature:g})" if options.votes == "temperature" else "1"
    return [
        Section(
            "results", "Results", [Numbers(figures), Beside([*draw_knn_curve(found), tabulate_knn(found)], wide=True)]
        ),
        Section("confusion", "Confusions", build_confusions(metrics)),
        Section("classes", "Classes", [tabulate_classes(metrics)]),
        Section("method", "Method", [Words(f"Neighbours by {near}, each voting with weight {voting}.{chosen}")]),
    ]


def draw_knn_curve(found: KNN) -> list[Drawing]:
    """Return accuracy over k, where there are at least two."""
    if len(found.accuracies) < 2:
        return []
    lines = [
        Series("test images", [(float(k), accuracy) for k, accuracy, _ in found.accuracies], 1, dots=True),
        Series("training images", [(float(k), own) for k, _, own in found.accuracies], 2, dots=True),
    ]
    drawing = draw_lines(lines, "Accuracy over the number of neighbours", Axis("k"), Axis("", format_percent))
    return [Drawing(drawing, "Training images are each classified by the others.", "Accuracy over k")]


def tabulate_knn(found: KNN) -> Table:
    """Return the accuracy of each number of neighbours."""
    rows = [
        (str(k), f"{accuracy:.2%}", f"{own:.2%}", "chosen" if k == found.chosen else "")
        for k, accuracy, own in found.accuracies
    ]
    heads = ("k", "test accuracy", "training images, left out in turn", "")
    return Table("Top-1 accuracy by number of neighbours", heads, rows)


def encode_knn(found: KNN) -> dict[str, Any]:
    """Return the numbers as JSON values."""
    each = [{"k": k, "accuracy": accuracy, "left_out": own} for k, accuracy, own in found.accuracies]
    chosen = {"accuracy": found.accuracy, "interval": found.interval, "chosen": found.chosen}
    return {"test_images": len(found.predicted), **chosen, "by_k": each}


def list_decisions(
    predicted: Int64[np.ndarray, " example"], labels: Int64[np.ndarray, " example"], names: Sequence[str]
):
    """Return the metrics of decisions without confidence, of which only accuracies and confusions are meaningful."""
    return evaluate_logits(decisions(predicted, names), labels, tuple(names))


def find_labels(train: Features, test: Features) -> Int64[np.ndarray, " example"]:
    """Return the test images' labels as indices into the training split's classes."""
    return find_indices(test.classes, train.classes)[test.labels]


def format_span(interval: tuple[float, float]) -> str:
    """Format an interval of shares."""
    return f"{interval[0]:.1%} to {interval[1]:.1%}"
