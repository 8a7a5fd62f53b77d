"""What probes of frozen features found, as sections of a report."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

from vitreous.drawing.charts import Series, line_chart
from vitreous.drawing.svg import Axis, percent
from vitreous.evaluation.probes.features import Features
from vitreous.evaluation.probes.few_shot import FewShot, Shot
from vitreous.evaluation.probes.knn import KNN, KNNOptions
from vitreous.evaluation.probes.linear import Linear
from vitreous.evaluation.probes.measurement import Found, decisions
from vitreous.evaluation.probes.options import ProbeOptions
from vitreous.metrics.classification import evaluate_logits
from vitreous.reports.blocks import Beside, Drawing, Numbers, Section, Table, Words
from vitreous.reports.evaluation.accuracy import calibration, classes, confusions

FEW_SHOT_WORDS = (
    "Regularised least squares from whitened features to 1 for the own class and -1 for the others, with a constant "
    "feature of 100 for the bias, as the paper's authors measure it (big_vision, evaluators/fewshot_lsr.py), in float64."
)
LINEAR_WORDS = {
    "lbfgs": "Multinomial logistic regression on whitened features, by L-BFGS to its optimum; l2 was chosen on a fifth of the "
    "training images that was held out, and the probe then trained on all of them.",
    "sgd": "Multinomial logistic regression on whitened features, by stochastic gradient descent; the rate was chosen on a "
    "fifth of the training images that was held out, and the probe then trained on all of them.",
}
KNN_WORDS = (
    "k is the one that is best on the training images, each classified by the others; the test images had no say."
)


def probe_sections(found: Found, options: ProbeOptions, train: Features, test: Features) -> list[Section]:
    """Return the report's sections of whichever probe it was."""
    if isinstance(found, FewShot):
        return few_shot_sections(found, train, test)
    if isinstance(found, Linear):
        return linear_sections(found, train, test)
    return knn_sections(found, options.knn(), train, test)


def probe_table(found: Found) -> Table:
    """Return whichever probe's table it was: every number of shots, value of the sweep, or number of neighbours."""
    if isinstance(found, FewShot):
        return few_shot_table(found)
    return sweep_table(found) if isinstance(found, Linear) else knn_table(found)


def probe_data(found: Found) -> dict[str, Any]:
    """Return whichever probe's numbers as JSON values."""
    if isinstance(found, FewShot):
        return few_shot_data(found)
    return linear_data(found) if isinstance(found, Linear) else knn_data(found)


def probe_lines(found: Found) -> str:
    """Return whichever probe's result for a terminal: its headline, unless the table says it, and its table."""
    lead = "" if isinstance(found, FewShot) else headline(found)
    return "\n\n".join(filter(None, (lead, str(probe_table(found)))))


def few_shot_sections(found: FewShot, train: Features, test: Features) -> list[Section]:
    """Return the report's sections: the headline, every seed, what is mistaken at the most shots."""
    figures = [(shot_name(one), f"{one.mean:.1%}", f"95% interval {span(one.interval)}") for one in found.shots[::-1]]
    method = Words(f"{FEW_SHOT_WORDS} {interval_words(found)}")
    results = Section("results", "Results", [Numbers(figures), Beside([*curve(found), method], wide=True)])
    most = found.shots[-1]
    asked = labels_of(train, test)
    metrics = decided(most.predicted[0], asked, train.classes)
    words = Words(f"With {shot_name(most)}" + (", as seed 0 draws them." if len(most.accuracies) > 1 else "."))
    return [
        results,
        Section("seeds", "Every seed", [few_shot_table(found)]),
        Section("confusion", "Confusions", [words, *confusions(metrics)]),
        Section("classes", "Classes", [words, classes(metrics)]),
    ]


def shot_name(one: Shot) -> str:
    """Name a number of shots."""
    return "all images" if one.shots == "all" else f"{one.shots} shot" + ("s" if one.shots != 1 else "")


def few_shot_table(found: FewShot) -> Table:
    """Return every number of shots with its seeds."""
    seeds = max(len(one.accuracies) for one in found.shots)
    rows = []
    for one in found.shots:
        each = [f"{value:.2%}" for value in one.accuracies] + ["–"] * (seeds - len(one.accuracies))
        strengths = ", ".join(f"{value:g}" for value in (one.l2 if len(set(one.l2)) > 1 else one.l2[:1]))
        rows.append((str(one.shots), f"{one.mean:.2%}", span(one.interval), *each, strengths))
    heads = ("shots", "accuracy", "95% interval", *(f"seed {seed}" for seed in range(seeds)), "l2")
    return Table("Top-1 accuracy by images of each class", heads, rows)


def curve(found: FewShot) -> list[Drawing]:
    """Return accuracy over shots, where there are at least two numbers of them."""
    numbers = [one for one in found.shots if not isinstance(one.shots, str)]
    if len(numbers) < 2:
        return []
    lines = [
        Series(f"seed {seed}", [(float(one.shots), one.accuracies[seed]) for one in numbers], 1, faint=True)
        for seed in range(len(numbers[0].accuracies))
    ]
    lines.append(Series("mean of the seeds", [(float(one.shots), one.mean) for one in numbers], 1, dots=True))
    drawing = line_chart(
        lines, "Few-shot accuracy over images of each class", Axis("images of each class"), Axis("", percent)
    )
    return [Drawing(drawing, "Faint: each seed's draw of the images.", "Accuracy over shots")]


def interval_words(found: FewShot) -> str:
    """Say what the intervals are."""
    if max(len(one.accuracies) for one in found.shots) == 1:
        return "Intervals are Wilson's, over the test images."
    words = "Intervals are of the mean over other seeds and other test images"
    return words + ("; Wilson's over the test images for all images." if found.shots[-1].shots == "all" else ".")


def few_shot_data(found: FewShot) -> dict[str, Any]:
    """Return the numbers as JSON values."""
    keys = ("shots", "mean", "interval", "accuracies", "l2")
    return {"test_images": found.examples, "shots": [{key: getattr(one, key) for key in keys} for one in found.shots]}


def linear_sections(found: Linear, train: Features, test: Features) -> list[Section]:
    """Return the report's sections: the headline, the sweep, what is mistaken, calibration."""
    metrics = evaluate_logits(found.logits, labels_of(train, test), train.classes)
    name = "l2" if found.solver == "lbfgs" else "rate"
    figures = [
        ("linear probe, top-1", f"{found.accuracy:.1%}", f"95% interval {span(found.interval)}"),
        ("balanced accuracy", f"{metrics.balanced:.1%}", "mean recall of the classes"),
        (name, f"{found.chosen:g}", "chosen on held-out training images" if found.sweep else "given"),
    ]
    blocks: list[Any] = [Numbers(figures)]
    if found.sweep:
        points = [(float(np.log10(value)), share) for value, share in found.sweep]
        chart = line_chart(
            [Series("held-out", points, 1, dots=True)],
            f"Accuracy over {name}",
            Axis(f"log10 of {name}"),
            Axis("", percent),
        )
        blocks.append(
            Beside([Drawing(chart, "On held-out training images.", "The sweep"), sweep_table(found)], wide=True)
        )
    return [
        Section("results", "Results", blocks),
        Section("confusion", "Confusions", confusions(metrics)),
        Section("classes", "Classes", [classes(metrics)]),
        Section("calibration", "Calibration", calibration(metrics)),
        Section("method", "Method", [Words(LINEAR_WORDS[found.solver])]),
    ]


def sweep_table(found: Linear) -> Table:
    """Return the accuracy of each value tried."""
    name = "l2" if found.solver == "lbfgs" else "rate"
    rows = [
        (f"{value:g}", f"{share:.2%}", "chosen" if value == found.chosen else "") for value, share in found.sweep
    ] or [(f"{found.chosen:g}", "–", "given")]
    return Table(f"Accuracy on held-out training images by {name}", (name, "held-out accuracy", ""), rows)


def linear_data(found: Linear) -> dict[str, Any]:
    """Return the numbers as JSON values."""
    keys = ("accuracy", "interval", "solver", "chosen", "sweep")
    return {"test_images": len(found.logits), **{key: getattr(found, key) for key in keys}}


def headline(found: Linear | KNN) -> str:
    """Say a probe's result in a line."""
    name = "k" if isinstance(found, KNN) else "l2" if found.solver == "lbfgs" else "rate"
    return f"top-1  {found.accuracy:.2%}   (95% interval {span(found.interval)}), {name} {found.chosen:g}"


def knn_sections(found: KNN, options: KNNOptions, train: Features, test: Features) -> list[Section]:
    """Return the report's sections: the headline, each k, what is mistaken."""
    metrics = decided(found.predicted, labels_of(train, test), train.classes)
    figures = [
        ("k-NN, top-1", f"{found.accuracy:.1%}", f"95% interval {span(found.interval)}"),
        ("balanced accuracy", f"{metrics.balanced:.1%}", "mean recall of the classes"),
        ("k", str(found.chosen), "chosen on the training images" if len(found.accuracies) > 1 else "given"),
    ]
    near = "cosine similarity" if options.metric == "cosine" else "Euclidean distance"
    voting = f"exp(similarity / {options.temperature:g})" if options.votes == "temperature" else "1"
    return [
        Section("results", "Results", [Numbers(figures), Beside([*knn_curve(found), knn_table(found)], wide=True)]),
        Section("confusion", "Confusions", confusions(metrics)),
        Section("classes", "Classes", [classes(metrics)]),
        Section("method", "Method", [Words(f"Neighbours by {near}, each voting with weight {voting}. {KNN_WORDS}")]),
    ]


def knn_curve(found: KNN) -> list[Drawing]:
    """Return accuracy over k, where there are at least two."""
    if len(found.accuracies) < 2:
        return []
    lines = [
        Series("test images", [(float(k), accuracy) for k, accuracy, _ in found.accuracies], 1, dots=True),
        Series("training images", [(float(k), own) for k, _, own in found.accuracies], 2, dots=True),
    ]
    drawing = line_chart(lines, "Accuracy over the number of neighbours", Axis("k"), Axis("", percent))
    return [Drawing(drawing, "Training images are each classified by the others.", "Accuracy over k")]


def knn_table(found: KNN) -> Table:
    """Return the accuracy of each number of neighbours."""
    rows = [
        (str(k), f"{accuracy:.2%}", f"{own:.2%}", "chosen" if k == found.chosen else "")
        for k, accuracy, own in found.accuracies
    ]
    heads = ("k", "test accuracy", "training images, left out in turn", "")
    return Table("Top-1 accuracy by number of neighbours", heads, rows)


def knn_data(found: KNN) -> dict[str, Any]:
    """Return the numbers as JSON values."""
    each = [{"k": k, "accuracy": accuracy, "left_out": own} for k, accuracy, own in found.accuracies]
    chosen = {"accuracy": found.accuracy, "interval": found.interval, "chosen": found.chosen}
    return {"test_images": len(found.predicted), **chosen, "by_k": each}


def decided(predicted: Int64[np.ndarray, " example"], labels: Int64[np.ndarray, " example"], names: Sequence[str]):
    """Return the metrics of decisions without confidence: of these, only accuracies and confusions mean something."""
    return evaluate_logits(decisions(predicted, names), labels, tuple(names))


def labels_of(train: Features, test: Features) -> Int64[np.ndarray, " example"]:
    """Return the test images' labels as indices into the training split's classes."""
    index = {name: number for number, name in enumerate(train.classes)}
    return np.array([index.get(name, -1) for name in test.classes], dtype=np.int64)[test.labels]


def span(interval: tuple[float, float]) -> str:
    """Write an interval of shares."""
    return f"{interval[0]:.1%} to {interval[1]:.1%}"
