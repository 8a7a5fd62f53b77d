"""The filters, positions and attention of a trained Vision Transformer (2010.11929, section 4.5, figures 7, 10, 11).

The paper looked into ViT-L/32 and others: the principal components of the patch filters "resemble plausible basis functions
for a low-dimensional representation of the fine structure within each patch"; closer patches have more similar position
embeddings, and patches of the same row or column too; some heads attend to most of the image already in the lowest layer, others
stay near there; the attention distance grows with depth.

Here models are trained from scratch and measured by the same means. Called seen when the 95% interval over seeds says so:
distance of the upper half of the layers minus the lower half; the widest head of the first layer minus 0.9 times what even
attention to all patches would have; the narrowest head of the lower half minus half of it; the rank correlation of similarity and
distance of two places; similarity of places in one row or column minus that of others equally far apart; likeness of neighbouring
pixels in the leading components minus that in an untrained model's.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from vitreous.data.dataset import open_dataset
from vitreous.data.stream.loader import Examples, load_evaluation_batches
from vitreous.drawing.charts import Series, draw_intervals
from vitreous.drawing.svg import Axis
from vitreous.images.tensors import normalize
from vitreous.insight.attention_distance import compute_distances, measure_attention_distance
from vitreous.insight.filters import find_components
from vitreous.insight.positions import compute_similarity
from vitreous.metrics.seeds import ERROR, Interval, Verdict, find_interval, weigh_claim
from vitreous.model.config import ViTConfig
from vitreous.model.factory import create
from vitreous.model.vit import ViT
from vitreous.predictor import Predictor
from vitreous.studies.engine import base_runs
from vitreous.studies.engine.mosaics import draw_filters, draw_places
from vitreous.studies.engine.study import (
    Cell,
    CellResult,
    CellResults,
    Conclusion,
    Figure,
    Setting,
    Study,
    Table,
    Trained,
    measure_accuracy,
)

GROUP, IMAGES, LEADING, SHOWN = "trained", 128, 8, 14
CLAIMS = {
    "deeper": (
        "attention distance grows with depth",
        "more",
        "Upper minus lower half of the layers, in shares of the distance of even attention",
    ),
    "global": (
        "some heads look at the whole image in the lowest layer",
        "more",
        "Widest head of the first layer minus 0.9, in shares of the distance of even attention",
    ),
    "local": (
        "other heads of the lower layers stay near",
        "less",
        "Narrowest head of the lower half minus 0.5, in the same shares",
    ),
    "near": (
        "nearer patches have more similar position embeddings",
        "less",
        "Rank correlation of similarity and distance",
    ),
    "cross": (
        "patches of one row or column have more similar ones",
        "more",
        "Similarity in one row or column minus that of others equally far apart",
    ),
    "smooth": (
        "the leading filters are smooth, as a basis of fine structure",
        "more",
        "Correlation of neighbouring pixels in the 8 leading components minus an untrained model's",
    ),
}
"""The measured number: the claim, the side of zero that it expects, and a description."""


def cells(setting: Setting) -> list[Cell]:
    """Return one model for each seed, with a [class] token and positions initialised from noise, as in the paper."""
    if setting.scale == "paper":
        return base_runs.repeat_over_seeds(
            {GROUP: base_runs.configure_paper(setting, "L/32")}, setting.seeds(laptop=4, paper=1), measure_inside
        )
    patches = 4 if min(setting.facts.size) < 16 else 8
    width, depth, duration = setting.choose(
        smoke=(16, 2, "256ex"), laptop=(64, 6, "40kex"), gpu=(192, 12, "2Mex"), paper=(0, 0, "")
    )
    base = base_runs.configure_small(setting, patches, width, depth)
    assert isinstance(base.model, ViTConfig)
    model = replace(base.model, class_token=True, pool="class", position_init="normal")
    return base_runs.repeat_over_seeds(
        {GROUP: replace(base, model=model, duration=duration)}, setting.seeds(laptop=4), measure_inside
    )


def measure_inside(trained: Trained) -> dict[str, Any]:
    """Return all measurements inside one model; lists hold four decimals."""
    predictor = Predictor.load(trained.folder, device=trained.config.device)
    model = predictor.model
    assert isinstance(model, ViT)
    found = measure_attention_distance(model, load_images(trained, predictor))
    even = float(compute_distances(model).mean())
    share = (found.distance / even).numpy()
    half = max(1, len(share) // 2)
    places = compute_similarity(model).numpy()
    filters = find_components(model, SHOWN)
    untrained = find_components(create(model.config, trained.config.seed), LEADING)
    return {
        **measure_accuracy(trained),
        "deeper": float(share[half:].mean() - share[:half].mean()),
        "global": float(share[0].max() - 0.9),
        "local": float(share[:half].min() - 0.5),
        "smooth": measure_smoothness(filters.components[:LEADING].numpy())
        - measure_smoothness(untrained.components.numpy()),
        "explained": float(filters.explained[:LEADING].sum()),
        "distance": found.distance.numpy().round(4).tolist(),
        "even": even,
        "similarity": places.round(4).tolist(),
        "filters": filters.components.numpy().round(4).tolist(),
        "shares": filters.explained.numpy().round(4).tolist(),
    }


def load_images(trained: Trained, predictor: Predictor):
    """Yield normalised batches of the first validation images, 128 in all."""
    folder, source = predictor.folder, open_dataset(trained.config.data, trained.config.decode).validation
    left = IMAGES
    for part in load_evaluation_batches(Examples(source, folder.preprocess, folder.decode), 32, 0):
        yield normalize(part.pixels[:left].to(predictor.device), folder.preprocess)
        left -= len(part.pixels)
        if left <= 0:
            return


def measure_similarity(places: np.ndarray) -> dict[str, float]:
    """Return how similarity (row, col, row2, col2) depends on distance, and the effect of a common row or column.

    The latter: over all whole distances of 2 cells and more, the mean similarity of pairs in one row or column minus that
    of other pairs equally far apart, interpolated between the distances that these have.
    """
    rows, cols = places.shape[:2]
    r, c = (axis.reshape(-1) for axis in np.mgrid[:rows, :cols])
    down, across = np.abs(r[:, None] - r), np.abs(c[:, None] - c)
    far, values = np.hypot(down, across), places.reshape(rows * cols, -1)
    other = far > 0
    straight = (down == 0) | (across == 0)
    squares = down**2 + across**2
    others = np.unique(squares[~straight])
    means = [values[~straight & (squares == one)].mean() for one in others]
    gains = [
        values[straight & (squares == away**2)].mean() - np.interp(away, np.sqrt(others), means)
        for away in range(2, max(rows, cols))
        if len(others) and others[0] <= away**2 <= others[-1]
    ]
    return {
        "near": float(spearmanr(far[other], values[other]).statistic),
        "cross": float(np.mean(gains)) if gains else 0.0,
    }


def measure_smoothness(components: np.ndarray) -> float:
    """Return the mean correlation of neighbouring pixels in filters (component, channel, row, col), about -1 to 1."""
    pairs = [(components[..., 1:, :], components[..., :-1, :]), (components[..., 1:], components[..., :-1])]
    one, other = (np.concatenate([pair[side].reshape(-1) for pair in pairs]) for side in (0, 1))
    size = np.sqrt((one**2).mean() * (other**2).mean()) if one.size else 0.0
    return float((one * other).mean() / size) if size else 0.0


def conclude(setting: Setting, results: CellResults) -> Conclusion:
    """Compare the measurements with the claims, and draw the first seed's model."""
    verdicts, rows = [], []
    told = collect_numbers(results)
    near = weigh_claim(told["local"], CLAIMS["local"][1])
    for number, (claim, expected, what) in CLAIMS.items():
        values = told[number]
        if values:
            evidence, words = weigh_claim(values, expected), f"{what}: {format_interval(find_interval(values))}."
            if number == "global" and evidence.seen <= ERROR and near.unseen <= ERROR:
                evidence, words = None, f"{words} {NOTHING_LEARNED}"
            verdicts.append(Verdict(claim, evidence, words))
            rows.append([what, *(f"{value:+.3f}" for value in values)])
    seeds = list(results.by_seed(GROUP, "top1").values())
    if seeds:
        rows.insert(0, ["Validation accuracy", *(f"{100 * value:.1f}%" for value in seeds)])
    table = Table(
        "What was measured, by seed", ["number", *(f"seed {seed}" for seed in results.by_seed(GROUP, "top1"))], rows
    )
    first = next((one for one in results.all if one.numbers), None)
    return Conclusion(verdicts, [table], draw_figures(first), NOTES)


def collect_numbers(results: CellResults) -> dict[str, list[float]]:
    """Return every number that a claim is tested on, by seed."""
    places = [
        measure_similarity(np.array(one.numbers["similarity"]))
        for one in results.all
        if one.group == GROUP and one.numbers
    ]
    return {
        number: [one[number] for one in places]
        if number in ("near", "cross")
        else list(results.by_seed(GROUP, number).values())
        for number in CLAIMS
    }


NOTHING_LEARNED = "But no head of the lower half stays near: all look about as far as untrained heads do, so none has learned to look far."
NOTES = (
    "Untrained heads look at all patches alike, so a head that looks far in the first layer may be one that has learned nothing yet; one that stays near has learned to.",
)


def format_interval(around: Interval) -> str:
    """Format an interval with three decimals."""
    return f"{around.mean:+.3f}" + (
        f" ({around.low:+.3f} to {around.high:+.3f})" if around.count > 1 else " (one seed)"
    )


def draw_figures(first: CellResult | None) -> list[Figure]:
    """Draw distance by head and depth, similarity of places and filters of one model."""
    x, y = Axis("layer", whole=True), Axis("mean attention distance, pixels")
    label = "Mean attention distance by layer and head"
    if first is None:
        return [Figure("figure", label, draw_intervals([], label, x, y))]
    numbers = first.numbers
    layers = list(enumerate(numbers["distance"], start=1))
    heads = [(layer, point_interval(value)) for layer, values in layers for value in values]
    even = [(layer, point_interval(numbers["even"])) for layer in (1, len(layers))]
    lines = [Series("a head", heads, joined=False), Series("even attention to all patches", even, 2)]
    distance = draw_intervals(lines, label, x, y)
    places = draw_places(
        np.array(numbers["similarity"]),
        "Similarity of position embeddings",
        "cosine similarity of the position embeddings of each place and all others",
    )
    filters = draw_filters(
        np.array(numbers["filters"]),
        numbers["shares"],
        "Principal components of the patch filters",
        "principal components of the patch filters, and their share of the variance",
    )
    return [
        Figure(
            "figure",
            f"Mean attention distance by layer and head ({first.cell}).",
            distance,
        ),
        Figure("figure-positions", f"Similarity of position embeddings ({first.cell}).", places),
        Figure("figure-filters", f"Principal components of the patch filters ({first.cell}).", filters),
    ]


def point_interval(value: float) -> Interval:
    """Return a single value as an interval without bounds."""
    return Interval(value, -torch.inf, torch.inf, 1)


STUDY = Study(
    name="inside",
    title="Inside a Vision Transformer (figures 7, 10 and 11)",
    question="What do the filters, the position embeddings and the heads of a trained model look like?",
    paper=(
        "Leading filters look like a basis of fine structure; near patches, and those of one row or column, have similar position "
        "embeddings; some heads look globally from the lowest layer, others stay local; attention distance grows with depth "
        "(section 4.5)."
    ),
    here=(
        "Models are trained from scratch, each from another seed, and measured as the paper measures. Distances are "
        "shares of the one that even attention to all patches would have; a head that looks far in the first layer "
        "counts only if others stay near, since untrained heads look at all patches alike."
    ),
    cells=cells,
    conclude=conclude,
    words={"explained": "variance that the 8 leading filters explain", "even": "distance of even attention, pixels"},
)
