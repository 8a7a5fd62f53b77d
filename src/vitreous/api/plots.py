"""`vitreous.plot_curves` and similar functions: draw the pages' charts on matplotlib's axes. Matplotlib is imported on
demand."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.api.evaluation import EvaluationResult
from vitreous.api.features import EmbeddingResult
from vitreous.api.models import ModelLike, as_predictor
from vitreous.api.similarity import CKAResult
from vitreous.cross_validation import is_folds, read_plan
from vitreous.drawing.charts import compute_running_mean
from vitreous.drawing.html import read_resource
from vitreous.drawing.images import draw_mosaic, map_colours
from vitreous.drawing.matrices import COUNTED, find_strength
from vitreous.errors import ConfigError, DataError, RunError, UnknownName
from vitreous.images.inputs import Image, prepare_all
from vitreous.insight.explanation import Explanation, open_inside
from vitreous.insight.positions import compute_position_maps
from vitreous.insight.windows import measure_distances
from vitreous.metrics.classification import Metrics
from vitreous.reports.run.results import list_points
from vitreous.run_folder import read_run
from vitreous.shapes import Float64, UInt8
from vitreous.storage.run_config import find_own_run
from vitreous.training.results import TrainResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVES: Mapping[str, tuple[str | None, str | None, str]] = {
    "loss": ("loss", "loss", "loss"),
    "accuracy": ("accuracy", "top1", "accuracy"),
    "map": (None, "map", "mean average precision"),
    "micro_f1": ("micro_f1", "micro_f1", "micro F1"),
    "lr": ("lr", None, "learning rate"),
}
"""Metrics of a run: the name in training records, the name in evaluations, and a description."""
REMEDY = "plots need matplotlib: pip install 'vitreous[notebook]'"
SMALL = 16
"""Number of patches drawn along each side of a position embedding's grid, at most."""
LISTED = 12
"""Number of classes in a legend, at most."""


def read_palette(axes: "Axes") -> list[str]:
    """Return the six colours of the pages' charts, for axes with a light or a dark background."""
    from matplotlib.colors import to_rgb

    light, _, dark = read_resource("drawing/palette.css").partition("@media")
    chosen = dark if sum(to_rgb(axes.get_facecolor())) < 1.5 else light
    return [re.findall(rf"--c{number}:(#\w+)", chosen)[0] for number in range(1, 7)]


def find_axes(axes: "Axes | None") -> "Axes":
    """Return axes to draw into, new ones if none are given; raises ConfigError if matplotlib is not installed."""
    try:
        from matplotlib import pyplot
    except ImportError:
        raise ConfigError(REMEDY) from None
    return pyplot.subplots(layout="constrained")[1] if axes is None else axes


def plot_curves(run: TrainResult | str | Path, metric: str = "loss", *, ax: "Axes | None" = None) -> "Axes":
    """Draw a metric of a run over its epochs, for training (the running mean in bold) and for validation.

    >>> vitreous.plot_curves("runs/photos-1", "accuracy")                                # doctest: +SKIP

    Args:
        run: what `vitreous.train` returns, or a run folder, finished or not; for a rate search or a cross-validation,
            the last run is drawn.
        metric: loss, accuracy, map, micro_f1 or lr.
        ax: matplotlib's axes to draw into; None: new ones.

    Raises:
        UnknownName: another metric. ConfigError: the run has no such records, or matplotlib is not installed. RunError:
            no run there.
    """
    if metric not in CURVES:
        raise UnknownName("metric", metric, CURVES)
    given = run.run if isinstance(run, TrainResult) else Path(run)
    path = find_own_run(given) or given
    training, validation, words = CURVES[metric]
    records = {
        kind: [one for one in read_run(path).metrics if one.get("kind") == kind] for kind in ("train", "evaluation")
    }
    noisy = list_points(records["train"], training) if training else []
    held = list_points(records["evaluation"], validation) if validation else []
    if not noisy and not held:
        raise ConfigError(f"{path} has no records of {metric}; it has records of {', '.join(find_metrics(records))}")
    axes = find_axes(ax)
    colours = read_palette(axes)
    if noisy and metric == "lr":
        axes.plot(*zip(*noisy, strict=True), color=colours[2])
    elif noisy:
        axes.plot(*zip(*noisy, strict=True), color=colours[0], alpha=0.3)
        axes.plot(*zip(*compute_running_mean(noisy), strict=True), color=colours[0], label="training")
    if held:
        axes.plot(*zip(*held, strict=True), "o-", color=colours[1], markersize=4, label="validation")
    axes.set(xlabel="epoch", ylabel=words)
    if metric != "lr":
        axes.legend()
    return axes


def find_metrics(records: Mapping[str, list[dict[str, Any]]]) -> list[str]:
    """Return the metrics that a run has records of."""
    train, held = records["train"], records["evaluation"]
    return [
        name
        for name, (one, other, _) in CURVES.items()
        if (one and list_points(train, one)) or (other and list_points(held, other))
    ]


def plot_confusions(evaluation: EvaluationResult, *, ax: "Axes | None" = None) -> "Axes":
    """Draw which classes are mistaken for which: rows are true classes, columns predicted ones; the colour is the share
    of the row.

    >>> vitreous.plot_confusions(vitreous.evaluate("runs/photos-1"))                     # doctest: +SKIP

    Args:
        evaluation: what `vitreous.evaluate` returns.
        ax: matplotlib's axes to draw into; None: new ones.

    Raises:
        ConfigError: an image may have several labels, or matplotlib is not installed.
    """
    from_metrics = require_single(evaluation)
    axes = find_axes(ax)
    from matplotlib.colors import to_rgba

    counts = np.asarray(from_metrics.confusion)
    names = [one.name for one in from_metrics.per_class]
    colours, cells = read_palette(axes), np.zeros((*counts.shape, 4))
    for row, col in zip(*np.nonzero(counts), strict=True):
        strength = find_strength(counts[row, col] / counts[row].sum())
        cells[row, col] = to_rgba(colours[0 if row == col else 1], strength)
        if len(names) <= COUNTED:
            dark = strength > 0.55
            axes.text(col, row, f"{counts[row, col]:,}", ha="center", va="center", color="white" if dark else None)
    axes.imshow(cells)
    places = range(len(names))
    axes.set_xticks(places, names, rotation=90 if max(map(len, names)) > 4 else 0, parse_math=False)
    axes.set_yticks(places, names, parse_math=False)
    axes.set(xlabel="predicted", ylabel="true")
    return axes


def require_single(evaluation: EvaluationResult) -> Metrics:
    """Return the figures of an evaluation with one label per image; raises ConfigError for several labels."""
    if not isinstance(evaluation.metrics, Metrics):
        raise ConfigError("these images have several labels, but this plot needs one label per image")
    return evaluation.metrics


def plot_reliability(evaluation: EvaluationResult, *, ax: "Axes | None" = None) -> "Axes":
    """Draw accuracy against confidence, bin by bin; the gap to the diagonal is over- or underconfidence.

    >>> vitreous.plot_reliability(vitreous.evaluate("runs/photos-1"))                    # doctest: +SKIP

    Args:
        evaluation: what `vitreous.evaluate` returns.
        ax: matplotlib's axes to draw into; None: new ones.

    Raises:
        ConfigError: an image may have several labels, or matplotlib is not installed.
    """
    metrics = require_single(evaluation)
    axes = find_axes(ax)
    colours = read_palette(axes)
    for one in (one for one in metrics.reliability if one.count):
        middle, wide = (one.low + one.high) / 2, 0.94 * (one.high - one.low)
        low, high = sorted((one.accuracy, one.confidence))
        axes.bar(middle, one.accuracy, wide, color=colours[0])
        axes.bar(middle, high - low, wide, low, color=colours[1 if one.confidence > one.accuracy else 2], alpha=0.45)
    axes.plot((0, 1), (0, 1), "--", color="gray", linewidth=1)
    axes.set(
        xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1), title=f"calibration error {metrics.ece:.3f}"
    )
    return axes


def plot_explanation(
    explanation: Explanation, index: int = 0, head: int | None = None, *, ax: "Axes | None" = None
) -> "Axes":
    """Draw where a model looks, over the image in grey.

    >>> vitreous.plot_explanation(vitreous.explain("runs/photos-1", "a.jpg"))            # doctest: +SKIP

    Args:
        explanation: what `vitreous.explain` returns without `out`.
        index: of the image, 0 the first.
        head: the map of one head, 0 the first; None: the whole map.
        ax: matplotlib's axes to draw into; None: new ones.

    Raises:
        ConfigError: no such image or head, or matplotlib is not installed.
    """
    count, heads = len(explanation.names), 0 if explanation.by_head is None else explanation.by_head.shape[1]
    if not -count <= index < count:
        raise ConfigError(f"index is {index}, but there are {count} images")
    if head is not None and (explanation.by_head is None or not 0 <= head < heads):
        raise ConfigError(
            f"head is {head}, but {explanation.method} has {f'heads 0 to {heads - 1}' if heads else 'no heads'} here"
        )
    return draw_picture(explanation.overlay(index, head), explanation.caption(index), ax)


def draw_picture(picture: UInt8[np.ndarray, "row col channel"], title: str, ax: "Axes | None") -> "Axes":
    """Draw a picture without ticks; dollar signs in names aren't read as mathematics."""
    axes = find_axes(ax)
    axes.imshow(picture)
    axes.set_axis_off()
    axes.set_title(title, parse_math=False)
    return axes


def plot_attention_distance(model: ModelLike, images: Image | Iterable[Image], *, ax: "Axes | None" = None) -> "Axes":
    """Draw how far each head of a Transformer looks, in pixels, by depth: a dot per head, and the heads' mean
    (2010.11929, figure 7, right).

    >>> vitreous.plot_attention_distance("runs/photos-1", ["a.jpg", "b.jpg"])            # doctest: +SKIP

    Args:
        model: what `vitreous.load` accepts or returns.
        images: one image or many, as `vitreous.explain` takes them; the distances are means over all.
        ax: matplotlib's axes to draw into; None: new ones.

    Raises:
        ConfigError: a ResNet or EfficientNet, or matplotlib is not installed. DataError: no images. ImageError: an
            image can't be read.
    """
    ready = open_inside(as_predictor(model))
    every = [pixels for _, pixels in prepare_all(images, ready.folder)]
    if not every:
        raise DataError("there are no images")
    parts = measure_distances(ready.model, (ready.images(one[None]) for one in every))
    rows = [row for part in parts for row in part.distance.tolist()]
    if not rows:
        raise ConfigError(f"a {type(ready.model).__name__} has no attention; choose a Transformer")
    axes = find_axes(ax)
    colours = read_palette(axes)
    layers = len(rows)
    axes.plot(
        [layer for layer, row in enumerate(rows) for _ in row],
        [one for row in rows for one in row],
        "o",
        color=colours[0],
        alpha=0.6,
        label="heads",
    )
    axes.plot(range(layers), [sum(row) / len(row) for row in rows], "o-", color=colours[1], label="mean")
    axes.set(xlabel="layer", ylabel="attention distance in pixels", xticks=range(0, layers, max(1, layers // 12)))
    axes.legend()
    return axes


def plot_positions(model: ModelLike, index: int = 0, *, ax: "Axes | None" = None) -> "Axes":
    """Draw what a ViT has learned about positions: for each patch, a small map of the similarity of its position to all
    others.

    >>> vitreous.plot_positions("runs/photos-1")                                         # doctest: +SKIP

    Args:
        model: what `vitreous.load` accepts or returns.
        index: which of the model's maps; 0 is the input's or the first layer's.
        ax: matplotlib's axes to draw into; None: new ones.

    Raises:
        ConfigError: a ResNet or EfficientNet, a model without positions, no such map, or matplotlib is not installed.
    """
    every = compute_position_maps(as_predictor(model).folder.model)
    if not -len(every) <= index < len(every):
        raise ConfigError(f"index is {index}, but the model has {len(every)} maps of positions")
    one = every[index]
    values = one.values.numpy()
    most = 1.0 if one.kind == "cosine" else max(float(np.abs(values).max()), 1e-12)
    return draw_picture(draw_mosaic(values / most, SMALL), f"{one.name}: {one.of}", ax)


def plot_folds(run: TrainResult | str | Path, *, ax: "Axes | None" = None) -> "Axes":
    """Draw a cross-validation's result on each fold, the mean, and the interval over all images.

    >>> vitreous.plot_folds(vitreous.train("photos/", folds=5))                          # doctest: +SKIP

    Args:
        run: what `vitreous.train` returns with `folds`, or its folder, even while it is not done.
        ax: matplotlib's axes to draw into; None: new ones.

    Raises:
        RunError: no cross-validation there. ConfigError: no fold is done yet, or matplotlib is not installed.
    """
    path = run.run if isinstance(run, TrainResult) else Path(run)
    if not is_folds(path):
        raise RunError(f"{path} is not a cross-validation; train with folds (--folds) for one")
    found = read_plan(path)
    if not found.results:
        raise ConfigError(f"{path}: no fold is done yet")
    axes = find_axes(ax)
    colours = read_palette(axes)
    if found.pooled:
        axes.axhspan(
            found.pooled["low"], found.pooled["high"], color=colours[1], alpha=0.15, label="95% interval, all images"
        )
    axes.axhline(found.accuracy, color=colours[1], label=f"mean {found.accuracy:.1%}")
    axes.plot(
        list(found.results), [one["top1"] for one in found.results.values()], "o", color=colours[0], label="folds"
    )
    axes.set(xlabel="fold", ylabel="accuracy")
    axes.legend()
    return axes


def plot_embedding(embedding: EmbeddingResult, *, ax: "Axes | None" = None) -> "Axes":
    """Draw images as points: the first two principal components of their vectors, coloured by class where there are
    classes.

    >>> vitreous.plot_embedding(vitreous.embed("runs/photos-1", data="photos/"))         # doctest: +SKIP

    Args:
        embedding: what `vitreous.embed` returns.
        ax: matplotlib's axes to draw into; None: new ones.

    Raises:
        ConfigError: fewer than two images, or matplotlib is not installed.
    """
    if len(embedding) < 2:
        raise ConfigError(f"there are {len(embedding)} vectors; at least two are needed")
    points, explained = find_plane(embedding.vectors.astype(np.float64))
    axes, markers = find_axes(ax), "os^Dv*"
    colours = read_palette(axes)
    labels = np.asarray(embedding.labels if any(embedding.labels) else [""] * len(embedding))
    classes = list(dict.fromkeys(sorted(labels.tolist())))
    drawn = []
    for number, name in enumerate(classes):
        chosen, marker = points[labels == name], markers[number // len(colours) % len(markers)]
        drawn.append(axes.scatter(*chosen.T, s=14, color=colours[number % len(colours)], marker=marker, alpha=0.7))
    shares = [f"component {number}: {share:.0%} of the variance" for number, share in enumerate(explained, start=1)]
    axes.set(xlabel=shares[0], ylabel=shares[1])
    if 1 < len(classes) <= LISTED:
        for text in axes.legend(drawn, classes).get_texts():
            text.set_parse_math(False)
    return axes


def find_plane(
    vectors: Float64[np.ndarray, "image features"],
) -> tuple[Float64[np.ndarray, "image 2"], Float64[np.ndarray, "2"]]:
    """Return each vector's first two principal components, signs fixed so that their largest is positive, and the
    variance they explain."""
    centred = vectors - vectors.mean(0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    padded = np.zeros((len(vectors), 2)), np.zeros(2)
    count = min(2, len(sizes))
    padded[0][:, :count], padded[1][:count] = left[:, :count] * sizes[:count], sizes[:count] ** 2
    signs = np.sign(padded[0][np.abs(padded[0]).argmax(0), [0, 1]])
    return padded[0] * np.where(signs == 0, 1, signs), padded[1] / max(float((sizes**2).sum()), 1e-300)


def plot_cka(found: CKAResult, *, ax: "Axes | None" = None) -> "Axes":
    """Draw the similarity of two models' layers: linear CKA, 0 (dark) to 1 (bright), with its values where they fit.

    >>> vitreous.plot_cka(vitreous.cka("runs/photos-1", "runs/photos-2", "photos/"))     # doctest: +SKIP

    Args:
        found: what `vitreous.cka` returns.
        ax: matplotlib's axes to draw into; None: new ones.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    axes, matrix = find_axes(ax), np.clip(found.cka.matrix, 0, 1)
    axes.imshow(map_colours(matrix))
    if max(matrix.shape) <= COUNTED:
        for (row, col), value in np.ndenumerate(matrix):
            axes.text(col, row, f"{value:.2f}", ha="center", va="center", color="black" if value > 0.5 else "white")
    axes.set_yticks(range(len(found.cka.rows)), found.cka.rows)
    axes.set_xticks(range(len(found.cka.cols)), found.cka.cols, rotation=90)
    axes.set(xlabel=found.names[1], ylabel=found.names[0])
    for text in (axes.xaxis.label, axes.yaxis.label):
        text.set_parse_math(False)
    return axes
