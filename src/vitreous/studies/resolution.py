"""Fine-tuning at a higher resolution than pre-training, and resizing the positions for it (2010.11929, section 3.2).

The paper keeps the patch size, so the sequence grows; "the pre-trained position embeddings may no longer be meaningful", so
it interpolates them in 2-D by their place. That it is "often beneficial" to fine-tune higher it takes from 1906.06423
and 1912.11370.

Here a model is pre-trained at half of the rows and columns and fine-tuned, with SGD for a tenth as long or so, at that size
or at the full one; there its positions are interpolated by several rules, interpolated along the sequence as if it had
no rows, or drawn anew. Accuracy is measured before fine-tuning too: what the resized model does as it is. Called seen when
the 95% interval of the paired differences says so.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from vitreous.data.dataset import open_dataset
from vitreous.drawing.charts import Row, draw_dots
from vitreous.evaluation.accuracy import evaluate
from vitreous.metrics.seeds import Verdict, find_interval, pair_differences, weigh_claim, weigh_equivalence
from vitreous.model.config import ViTConfig
from vitreous.model.positions.added import Learned
from vitreous.model.vit import ViT
from vitreous.predictor import Predictor
from vitreous.reports.blocks import Table
from vitreous.shapes import Size
from vitreous.studies.engine import base_runs
from vitreous.studies.engine.study import (
    Cell,
    CellResults,
    Conclusion,
    Figure,
    Setting,
    Study,
    Trained,
    measure_accuracy,
)
from vitreous.training.config import RunConfig
from vitreous.weights.model_folder import load_model, save_model

START, LOW = "pre-trained", "same resolution"
RULES = ("bicubic-antialias", "bilinear", "linear-corners")
"""Rules of model/positions/resize.py; docs/checkpoints.md says who uses each."""
ALONG, ANEW = "along the sequence", "drawn anew"
MARGIN = 0.01
HIGHER = "fine-tuning at a higher resolution is better than at that of pre-training"
KEPT = "interpolated in 2-D, the positions still mean something before fine-tuning"
MATTERS = "after fine-tuning, 2-D interpolation is better than positions drawn anew"
RULE = (
    f"which 2-D rule hardly matters after fine-tuning (each within {100 * MARGIN:g} point; not a claim of the paper's)"
)


def cells(setting: Setting) -> list[Cell]:
    """Return, for each seed, the pre-training, the fine-tuning as it was, and each way to go higher."""
    low, high = configure_runs(setting)
    rate, duration = setting.choose(
        smoke=(0.01, "128ex"), laptop=(0.03, "8kex"), gpu=(0.03, "60kex"), paper=(0.03, "20000st")
    )
    found = []
    for seed in setting.seeds(laptop=4):
        start = f"{base_runs.build_slug(START)}-{seed}"
        found.append(Cell(start, START, replace(low, seed=seed)))
        same = base_runs.configure_fine_tuning(low, str(setting.run(start)), rate, duration)
        found.append(Cell(f"{base_runs.build_slug(LOW)}-{seed}", LOW, replace(same, seed=seed), needs=(start,)))
        for how in (*RULES, ALONG, ANEW):
            weights = setting.folder / "weights" / f"{base_runs.build_slug(how)}-{seed}"
            config = replace(base_runs.configure_fine_tuning(high, str(weights), rate, duration), seed=seed)
            prepare = partial(write_resized, start=start, how=how, to=weights, seed=seed)
            found.append(
                Cell(f"{base_runs.build_slug(how)}-{seed}", how, config, measure_before_and_after, (start,), prepare)
            )
    return found


def configure_runs(setting: Setting) -> tuple[RunConfig, RunConfig]:
    """Return the same run at the low and at the high resolution: half and full, or the paper's 224 and 384 pixels."""
    if setting.scale == "paper":
        low = base_runs.configure_paper(setting)
        assert isinstance(low.model, ViTConfig)
        low = replace(low, model=replace(low.model, pre_logits=False))
        return low, replace(base_runs.set_size(low, Size(384, 384)), batch=512)
    width, depth, duration = setting.choose(
        smoke=(16, 1, "256ex"), laptop=(64, 4, "60kex"), gpu=(192, 6, "600kex"), paper=(0, 0, "")
    )
    high = replace(base_runs.configure_small(setting, 8, width, depth), duration=duration)
    assert isinstance(high.model, ViTConfig)
    high = replace(high, model=replace(high.model, position_init="normal"))
    rows, cols = (
        max(1, side // patch // 2) * patch for side, patch in zip(high.model.image, high.model.patch, strict=True)
    )
    return base_runs.set_size(high, Size(rows, cols)), high


def write_resized(setting: Setting, start: str, how: str, to: Path, seed: int) -> None:
    """Write the pre-trained model for images of the high resolution, its positions resized in one of the ways."""
    folder = load_model(setting.run(start))
    assert isinstance(folder.model, ViT)
    image = tuple(configure_runs(setting)[1].model.image)
    torch_seed = torch.Generator().manual_seed(seed)
    model = folder.model.resize(image, how if how in RULES else RULES[0])
    if how not in RULES:
        replace_positions(folder.model, model, WAYS[how], torch_seed)
    save_model(to, replace(folder, model=model, preprocess=replace(folder.preprocess, size=image)))


Way = Callable[[torch.Tensor, int, torch.Generator], torch.Tensor]


def interpolate_sequence(vectors: torch.Tensor, count: int, _: torch.Generator) -> torch.Tensor:
    """Interpolate vectors (place, width) linearly to `count` places, as one sequence without rows."""
    return F.interpolate(vectors.T[None], size=count, mode="linear", align_corners=False)[0].T


def draw_positions(vectors: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """Draw vectors for `count` places as in a new model."""
    return 0.02 * torch.randn(count, vectors.shape[1], generator=generator)


WAYS: dict[str, Way] = {ALONG: interpolate_sequence, ANEW: draw_positions}


def replace_positions(old: ViT, new: ViT, way: Way, generator: torch.Generator) -> None:
    """Set the new model's patch positions from the old ones; [class] keeps its own."""
    assert isinstance(old.positions, Learned)
    assert isinstance(new.positions, Learned)
    before, places = old.positions, new.positions.embedding.data
    vectors = before.embedding.detach()[before.prefix :]
    places[before.prefix :] = way(vectors, len(places) - before.prefix, generator).to(places)


def measure_before_and_after(trained: Trained) -> dict[str, Any]:
    """Return accuracy after fine-tuning, and of the resized weights before it."""
    assert trained.config.weights is not None
    source = open_dataset(trained.config.data, trained.config.decode).validation
    metrics, *_ = evaluate(Predictor.load(trained.config.weights, device=trained.config.device), source)
    return {**measure_accuracy(trained), "before": metrics.top1}


def conclude(setting: Setting, results: CellResults) -> Conclusion:
    """Compare the higher with the same resolution, and the ways of resizing with each other."""
    after = {group: results.by_seed(group, "top1") for group in (START, LOW, *RULES, ALONG, ANEW)}
    before = {group: results.by_seed(group, "before") for group in after}
    first = RULES[0]
    verdicts = []
    for claim, one, other, words in (
        (HIGHER, after[first], after[LOW], "Full size minus half size"),
        (KEPT, before[first], before[ANEW], f"Before fine-tuning, {first} minus {ANEW}"),
        (MATTERS, after[first], after[ANEW], f"{first} minus {ANEW}"),
    ):
        gain = pair_differences(one, other)
        if gain:
            verdicts.append(
                Verdict(claim, weigh_claim(gain, "more", MARGIN), f"{words}: {find_interval(gain).points()} points.")
            )
    apart = {rule: pair_differences(after[rule], after[first]) for rule in RULES[1:]}
    if all(apart.values()):
        shown = ", ".join(f"{rule} {find_interval(found).points()}" for rule, found in apart.items())
        verdicts.append(
            Verdict(RULE, weigh_equivalence(list(apart.values()), MARGIN), f"Minus {first}, in points: {shown}.")
        )
    rows = [
        Row(group, list(values.values()), find_interval(values.values()), 2 if group in (START, LOW) else 1)
        for group, values in after.items()
    ]
    drawn = draw_dots(
        rows,
        "Validation accuracy after fine-tuning",
        "validation accuracy after fine-tuning; mean, 95% interval, each seed",
    )
    early = [
        Row(group, list(values.values()), find_interval(values.values())) for group, values in before.items() if values
    ]
    resized = draw_dots(
        early,
        "Validation accuracy before fine-tuning",
        "accuracy of the resized model before fine-tuning; mean, 95% interval, each seed",
    )
    figures = [
        Figure(
            "figure",
            "Validation accuracy after fine-tuning: at the resolution of pre-training (second line), and at twice the rows and columns with positions resized in different ways.",
            drawn,
        ),
        Figure(
            "figure-before",
            "The same models before fine-tuning: the value of the resized positions as they are.",
            resized,
        ),
    ]
    return Conclusion(verdicts, [build_table(before, after)], figures, NOTES)


NOTES = (
    "Pre-training and fine-tuning use the same labelled images here, so that the head can be kept and the resized model measured as it is.",
)


def build_table(before: dict[str, dict[int, float]], after: dict[str, dict[int, float]]) -> Table:
    """Return accuracy before and after fine-tuning."""
    rows = [
        [group, find_interval(before[group].values()).percent(), find_interval(values.values()).percent()]
        for group, values in after.items()
    ]
    return Table(
        "Validation accuracy in percent, mean ± 95% interval over seeds and images",
        ["positions", "before fine-tuning", "after"],
        rows,
    )


STUDY = Study(
    name="resolution",
    title="Fine-tuning at a higher resolution (section 3.2)",
    question="What is gained by fine-tuning at a higher resolution, and what must become of the positions?",
    paper=(
        "Fine-tuning at a higher resolution than pre-training is often beneficial; the position embeddings are then interpolated "
        "in 2-D by their location, since they may no longer be meaningful otherwise (section 3.2)."
    ),
    here=(
        "A model is pre-trained at half of the rows and columns and fine-tuned at that size, or at the full one with "
        "its positions resized in different ways: interpolated in 2-D by three rules, interpolated along the "
        "sequence as if it had no rows, or drawn anew. Rules are called alike if the difference is shown to be "
        "within 1 point."
    ),
    cells=cells,
    conclude=conclude,
    words={"before": "top-1 accuracy before fine-tuning"},
)
