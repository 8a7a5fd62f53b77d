"""How to enlarge a Vision Transformer: depth, width, MLP or smaller patches (2010.11929, appendix D.2, figure 8).

The paper scaled one dimension at a time from 8 layers, width 1024, MLP 2048, patch 32 (5-shot, ImageNet), and found: depth
gains most, clearly up to 64 layers, though less and less after 16; width gains least; smaller patches, a longer sequence
without new parameters, gain robustly; compute might predict accuracy better than parameters.

Here the same from a small base, for equally many images. Called seen when the 95% interval of the paired differences says
so; for "depth more than width", of a model of twice the depth against a wider one of 1.12 to 1.13 times its operations.
"""

from dataclasses import replace

from vitreous.drawing.charts import Series, draw_intervals
from vitreous.drawing.svg import Axis
from vitreous.metrics.seeds import find_interval, weigh_difference
from vitreous.model import count
from vitreous.model.config import ViTConfig
from vitreous.reports.blocks import Table
from vitreous.studies.engine import base_runs
from vitreous.studies.engine.study import Cell, CellResults, Conclusion, Figure, Setting, Study
from vitreous.training.config import RunConfig

BASE = "base"
WAYS = {
    "depth": ("depth x1/4", "depth x1/2", BASE, "depth x2"),
    "width": ("width x1/2", BASE, "width x3/2"),
    "MLP": ("MLP x1/2", BASE, "MLP x4"),
    "patch": ("patch x2", BASE, "patch x1/2"),
}
"""The scaled dimensions: conditions from the smallest to the largest."""
CLAIMS = {
    "depth": ("more depth helps", "depth x2", BASE),
    "patch": ("smaller patches help, without new parameters", "patch x1/2", BASE),
    "width": ("depth gains more than width, at 11% fewer operations", "depth x2", "width x3/2"),
}
"""The claim, and the condition that should be better than the other."""


def cells(setting: Setting) -> list[Cell]:
    """Return the base and each way to scale it, for each seed."""
    base = configure_base(setting)
    assert isinstance(base.model, ViTConfig)
    groups = {
        group: scale_model(base, group) for group in dict.fromkeys(group for way in WAYS.values() for group in way)
    }
    return base_runs.repeat_over_seeds(
        {group: config for group, config in groups.items() if config is not None}, setting.seeds(laptop=3, paper=1)
    )


def configure_base(setting: Setting) -> RunConfig:
    """Return the base: the paper's own at paper scale (8 layers, width 1024, MLP 2048, patch 32)."""
    if setting.scale == "paper":
        base = base_runs.configure_paper(setting, "B/32")
        assert isinstance(base.model, ViTConfig)
        return replace(base, model=replace(base.model, depth=8, width=1024, heads=16, mlp_width=2048))
    width, depth = setting.choose(smoke=(16, 4), laptop=(64, 4), gpu=(192, 6), paper=(0, 0))
    base = base_runs.configure_small(setting, 4, width, depth)
    return replace(base, duration=setting.choose(smoke="128ex", laptop="24kex", gpu="300kex", paper=""))


def scale_model(base: RunConfig, group: str) -> RunConfig | None:
    """Return the base with one dimension scaled; None if the image can't be cut into such patches."""
    model = base.model
    assert isinstance(model, ViTConfig)
    if group == BASE:
        return base
    what, factor = group.split(" x")
    number, _, over = factor.partition("/")
    times = lambda value: max(1, value * int(number) // int(over or 1))  # noqa: E731
    if what == "depth":
        return replace(base, model=replace(model, depth=times(model.depth)))
    if what == "width":
        return replace(
            base,
            model=replace(model, width=times(model.width), mlp_width=times(model.mlp_width), heads=times(model.heads)),
        )
    if what == "MLP":
        return replace(base, model=replace(model, mlp_width=times(model.mlp_width)))
    patch = (times(model.patch[0]), times(model.patch[1]))
    if any(before * int(number) % int(over or 1) for before in model.patch):
        return None
    if model.image[0] % patch[0] or model.image[1] % patch[1]:
        return None
    return replace(base, model=replace(model, patch=patch))


def conclude(setting: Setting, results: CellResults) -> Conclusion:
    """Compare the ways to grow with the base and with each other."""
    models = {cell.group: cell.config.model for cell in cells(setting)}
    found = {group: results.by_seed(group, "top1") for group in models}
    verdicts = []
    for claim, more, less in CLAIMS.values():
        verdicts += weigh_difference(claim, f"{more} minus {less}", found.get(more, {}), found.get(less, {}))
    lines = []
    for colour, (way, groups) in enumerate(WAYS.items(), start=1):
        known = [group for group in groups if found.get(group)]
        points = [(count.count_flops(models[group]) / 1e6, find_interval(found[group].values())) for group in known]
        lines.append(Series(way, sorted(points, key=lambda point: point[0]), colour))
    axis = Axis("million operations an image (forward)", log=True)
    drawn = draw_intervals(lines, "Validation accuracy by operations, one dimension scaled", axis)
    caption = "Validation accuracy against the operations of one image, one dimension scaled at a time from a common base: mean over seeds and 95% interval."
    return Conclusion(verdicts, [build_table(models, found)], [Figure("figure", caption, drawn)])


def build_table(models: dict, found: dict[str, dict[int, float]]) -> Table:
    """Return each condition with its size, operations and accuracy."""
    rows = []
    for group, model in models.items():
        shape = f"{model.depth} / {model.width} / {model.mlp_width} / {model.patch[0]}"
        numbers = [
            f"{count.count_parameters(model):,}",
            f"{count.count_flops(model) / 1e6:,.1f}",
            find_interval(found[group].values()).percent(),
        ]
        rows.append([group, shape, *numbers])
    heads = ["condition", "depth / width / MLP / patch", "parameters", "million operations", "accuracy"]
    return Table("Validation accuracy in percent, mean ± 95% interval over seeds and images", heads, rows)


STUDY = Study(
    name="shape",
    title="Depth, width and patches (figure 8)",
    question="A Vision Transformer is to grow: deeper, wider, or with smaller patches?",
    paper=(
        "From 8 layers, width 1024, MLP 2048, patch 32: depth gains most, clearly up to 64 layers, though less and less after "
        "16; width least; smaller patches gain robustly without new parameters (appendix D.2, figure 8)."
    ),
    here=(
        "One dimension at a time is scaled from a common base, and every model is trained from scratch on equally "
        "many images. Depth is held against width between a model of twice the depth and a wider one of about as "
        "many operations."
    ),
    cells=cells,
    conclude=conclude,
)
