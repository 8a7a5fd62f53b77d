"""Axial-ViT against ViT (2010.11929, appendix D.6, figure 13).

In an Axial-ViT each block of global attention is replaced by two: one whose attention goes along rows, one whose attention
goes along columns, each with an MLP. Pre-trained on JFT, Axial-ViT-B/32 and B/16 did better than their ViT-B counterparts on
ImageNet 5-shot, at the cost of more compute, for the second MLP.

Here both are trained, and as a control that the paper doesn't have, a ViT of twice the depth, whose blocks are as many
and as large as the Axial-ViT's. There are two patch sizes; all are trained from scratch and for equally many images. A
claim is called seen when the 95% interval of the paired differences says so.
"""

from dataclasses import replace

from vitreous.drawing.charts import Series, draw_intervals
from vitreous.drawing.svg import Axis
from vitreous.metrics.seeds import (
    Verdict,
    average_groups,
    find_interval,
    pair_differences,
    weigh_claim,
    weigh_difference,
)
from vitreous.model import count
from vitreous.model.config import ViTConfig
from vitreous.reports.blocks import Table
from vitreous.studies.engine import base_runs
from vitreous.studies.engine.study import Cell, CellResults, Conclusion, Figure, Setting, Study
from vitreous.training.config import RunConfig

PLAIN, AXIAL, DEEP = KINDS = ("ViT", "Axial-ViT", "ViT of twice the depth")
PATCHES = ("large patches", "small patches")
OWN = "an Axial-ViT is more accurate than a ViT of as many blocks (a control that the paper doesn't have)"
NOTES = (
    "An AxialResNet, the other axial model of figure 13, is not part of the study: it is no Vision Transformer, and the "
    "authors too found theirs too slow for experiments on a large scale.",
    "The paper measures 5-shot accuracy on ImageNet after pre-training on 300 million images; here it is the accuracy of models "
    "trained on the task's own images. All pool by mean, since a [class] token lies in no row or column.",
)


def cells(setting: Setting) -> list[Cell]:
    """Return the three models at both patch sizes, for each seed."""
    groups = {
        name_group(kind, size): replace(base, model=vary_model(base.model, kind))
        for size, base in zip(PATCHES, configure_base(setting), strict=True)
        for kind in KINDS
    }
    return base_runs.repeat_over_seeds(groups, setting.seeds(laptop=4, gpu=4, paper=1))


def name_group(kind: str, size: str) -> str:
    """Return the name of a condition."""
    return f"{kind}, {size}"


def configure_base(setting: Setting) -> tuple[RunConfig, RunConfig]:
    """Return the runs of the plain ViT, with large patches and with small ones: B/32 and B/16 at paper scale."""
    if setting.scale == "paper":
        large, small = (base_runs.configure_paper(setting, name) for name in ("B/32", "B/16"))
        return large, small
    width, depth = setting.choose(smoke=(16, 2), laptop=(64, 4), gpu=(192, 6), paper=(0, 0))
    grids = setting.choose(smoke=(2, 4), laptop=(4, 8), gpu=(8, 16), paper=(0, 0))
    duration = setting.choose(smoke="128ex", laptop="16kex", gpu="300kex", paper="")
    large, small = (
        replace(base_runs.configure_small(setting, patches, width, depth), duration=duration) for patches in grids
    )
    return large, small


def vary_model(model: object, kind: str) -> ViTConfig:
    """Return the plain ViT, its axial counterpart, or a ViT with as many blocks as the counterpart; all pool by
    mean."""
    assert isinstance(model, ViTConfig)
    plain = replace(model, class_token=False, pool="mean")
    if kind == PLAIN:
        return plain
    attention = "axial" if kind == AXIAL else "full"
    return replace(plain, depth=2 * plain.depth, block=replace(plain.block, attention=attention))


def conclude(setting: Setting, results: CellResults) -> Conclusion:
    """Compare the Axial-ViT with the ViT that it replaces, and with one of as many blocks."""
    models = {cell.group: cell.config.model for cell in cells(setting)}
    found = {name: results.by_seed(name, "top1") for name in models}
    verdicts = []
    for size in PATCHES:
        axial, plain = name_group(AXIAL, size), name_group(PLAIN, size)
        gain = pair_differences(found[axial], found[plain])
        if gain:
            more = count.count_flops(models[axial]) / count.count_flops(models[plain])
            words = f"Axial-ViT minus ViT: {find_interval(gain).points()} points, for {more:.2f} times the operations."
            claim = f"an Axial-ViT is more accurate than the ViT that it is made from, {size}"
            verdicts.append(Verdict(claim, weigh_claim(gain, "more"), words))
    over_sizes = {kind: average_groups([found[name_group(kind, size)] for size in PATCHES]) for kind in (AXIAL, DEEP)}
    words = "Axial-ViT minus ViT of twice the depth, mean of both patch sizes"
    verdicts += weigh_difference(OWN, words, over_sizes[AXIAL], over_sizes[DEEP])
    label = "Validation accuracy by operations: ViT, Axial-ViT, ViT of twice the depth"
    caption = (
        "Validation accuracy against the operations of one image, each model with large patches (left) and small ones "
        "(right): mean over seeds and 95% interval."
    )
    axis = Axis("million operations an image (forward)", log=True)
    figure = Figure("figure", caption, draw_intervals(build_curves(models, found), label, axis))
    return Conclusion(verdicts, [build_table(models, found)], [figure], NOTES)


def build_curves(models: dict[str, ViTConfig], found: dict[str, dict[int, float]]) -> list[Series]:
    """Return each kind's accuracy over operations, from large patches to small ones."""
    drawn = []
    for colour, kind in enumerate(KINDS, start=1):
        known = [name for size in PATCHES if found[name := name_group(kind, size)]]
        points = [(count.count_flops(models[name]) / 1e6, find_interval(found[name].values())) for name in known]
        drawn.append(Series(kind, points, colour))
    return drawn


def build_table(models: dict[str, ViTConfig], found: dict[str, dict[int, float]]) -> Table:
    """Return each condition with its size, operations and accuracy."""
    rows = [
        [
            name,
            f"{model.depth} / {model.width} / {model.mlp_width}",
            f"{model.patch[0]} / {model.grid}",
            f"{count.count_parameters(model):,}",
            f"{count.count_flops(model) / 1e6:,.1f}",
            find_interval(found[name].values()).percent(),
        ]
        for name, model in models.items()
    ]
    heads = ["model", "blocks / width / MLP", "patch / grid", "parameters", "million operations", "accuracy"]
    return Table("Validation accuracy in percent, mean ± 95% interval over seeds and images", heads, rows)


STUDY = Study(
    name="axial",
    title="Axial attention (figure 13)",
    question="Is a Vision Transformer better whose blocks attend along rows and columns in turn, each with an MLP of its own?",
    paper=(
        "Axial-ViT-B/32 and Axial-ViT-B/16, pre-trained on JFT, do better than their ViT-B counterparts on ImageNet 5-shot, at "
        "the cost of more compute: two blocks, and so two MLPs, stand for each block of global attention (appendix D.6, figure "
        "13, which gives no numbers)."
    ),
    here=(
        "Both, and as a control that the paper doesn't have a ViT of twice the depth, whose blocks are as many and as large as "
        "the Axial-ViT's, are trained from scratch on equally many images, with large patches and with small ones."
    ),
    cells=cells,
    conclude=conclude,
)
