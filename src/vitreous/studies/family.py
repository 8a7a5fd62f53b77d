"""Families side by side at equal time: ViT, hybrid, BiT's ResNet, Swin, DeiT and EfficientNet.

The paper compares ViT with BiT's ResNets, hybrids and Noisy Student's EfficientNets by what they cost to train (2010.11929, tables 2
and 6), on 300 million images. DeiT (2012.12877) and Swin (2103.14030) followed, on ImageNet alone.

Here a small model of each family is trained from scratch on the same images for the same time, by Adam at each of three rates. The
number of steps that fit into that time is measured when a run begins, decoding and a teacher's forward passes included, so this
study's figures are this machine's. DeiT is the ViT with a distillation token, taught by the ResNet of the same seed, whose own
training is not counted. A seed's rate is chosen on the other seeds.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vitreous.drawing.charts import Row, draw_dots
from vitreous.metrics.seeds import choose_on_others, find_interval, note_grid_edges, weigh_difference
from vitreous.model import count
from vitreous.model.config import ViTConfig
from vitreous.model.efficientnet_config import EfficientNetConfig
from vitreous.model.resnet_config import ResNetConfig, StemConfig
from vitreous.model.swin_config import build_swin_config
from vitreous.recipes.catalog import configure
from vitreous.reports.blocks import Table
from vitreous.run_folder import read_run
from vitreous.studies.compute import fit_patch
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
from vitreous.training.config import ModelConfig, RunConfig

VIT, HYBRID, RESNET, SWIN, EFFICIENTNET, DEIT = FAMILIES = (
    "ViT", "hybrid", "ResNet (BiT)", "Swin", "EfficientNet", "DeiT",
)  # fmt: skip
PAPER = {
    VIT: "S/16", HYBRID: "R26+S/32", RESNET: "R50x1", SWIN: "Swin-T", EFFICIENTNET: "EfficientNet-B3", DEIT: "S/16",
}  # fmt: skip
"""The models at paper scale, each trained by recipe `pretrain` (DeiT: `deit`) as its authors do, for as long."""
TAUGHT_BY = 1
"""Which of the rates DeiT's teacher has: the middle one."""
CLAIMS = (
    ("on little data a ResNet is more accurate than a ViT", RESNET, VIT),
    ("a hybrid is more accurate than a ViT", HYBRID, VIT),
    ("windows and merged patches help: Swin is more accurate than a ViT", SWIN, VIT),
    ("a teacher helps: DeiT is more accurate than the same ViT", DEIT, VIT),
    ("an EfficientNet is more accurate than a ResNet", EFFICIENTNET, RESNET),
)
"""The claim, the family that should be better, and the other."""


def cells(setting: Setting) -> list[Cell]:
    """Return each family at each rate for each seed; DeiT's need the ResNet that teaches them."""
    planned = plan_runs(setting)
    teacher = name_condition(RESNET, list_rates(setting)[min(TAUGHT_BY, len(list_rates(setting)) - 1)])
    found = []
    for cell in base_runs.repeat_over_seeds(planned, setting.seeds(laptop=3, gpu=3, paper=1), measure_family):
        if cell.group.startswith(DEIT):
            start = f"{base_runs.build_slug(teacher)}-{cell.seed}"
            config = replace(cell.config, teacher=str(setting.run(start)))
            cell = replace(cell, config=config, needs=(start,))
        found.append(cell)
    return found


def list_rates(setting: Setting) -> tuple[float, ...]:
    """Return the peak learning rates to choose from for every family; 0: the authors' own."""
    return setting.choose(smoke=(3e-3,), laptop=(1e-3, 3e-3, 1e-2), gpu=(5e-4, 1.5e-3, 5e-3), paper=(0.0,))


def name_condition(family: str, rate: float) -> str:
    """Return a condition's name: "Swin, 0.003"."""
    return f"{family}, {rate:g}" if rate else family


def plan_runs(setting: Setting) -> dict[str, RunConfig]:
    """Return all runs without their seeds, and DeiT's without their teacher."""
    if setting.scale == "paper":
        return {family: configure_paper(setting, family) for family in FAMILIES}
    patches, width, depth = setting.choose(smoke=(2, 16, 2), laptop=(8, 64, 4), gpu=(8, 192, 6), paper=(0, 0, 0))
    duration = setting.choose(smoke="64ex", laptop="1min", gpu="4min", paper="")
    base = replace(base_runs.configure_small(setting, patches, width, depth), duration=duration)
    return {
        name_condition(family, rate): replace(base, model=model, optimizer=base_runs.configure_adam(rate))
        for family, model in list_models(setting, base).items()
        for rate in list_rates(setting)
    }


def configure_paper(setting: Setting, family: str) -> RunConfig:
    """Return a family's own recipe on the named data."""
    if family != DEIT:
        return base_runs.configure_paper(setting, PAPER[family])
    config = configure("deit", setting.make_recipe_options(model=PAPER[family]))
    assert isinstance(config.model, ViTConfig)
    return replace(config, model=replace(config.model, distillation_token=True))


def list_models(setting: Setting, base: RunConfig) -> dict[str, ModelConfig]:
    """Return a small model of each family for the base's images, of about as many operations each."""
    vit = base.model
    assert isinstance(vit, ViTConfig)
    given: dict[str, Any] = {"image": vit.image, "channels": vit.channels, "classes": vit.classes}
    large, tiny = setting.scale == "gpu", min(vit.image) < 16
    stem = StemConfig("resnet")
    sides = tuple(max(1, side // 8 // stem.stride) * stem.stride for side in vit.image)
    hybrid = replace(vit, stem=stem, patch=fit_patch(vit.image, sides), depth=max(1, vit.depth // 2))
    patch = max(1, min(vit.image) // 16)
    swin = {"depths": (1, 2), "heads": (2, 4), "width": 96 if large else 32, "patch": (patch, patch)}
    units = (2, 2, 2) if large else (1, 1)
    widths = (24, 40, 80) if large else (16, 24, 40)
    return {
        VIT: vit,
        HYBRID: hybrid,
        RESNET: ResNetConfig(units=units, root="3x3" if tiny else "2x2", root_channels=64 if large else 32, **given),
        SWIN: fit_swin(swin | given),
        EFFICIENTNET: EfficientNetConfig(
            root_channels=16,
            units=(1, 2, 2),
            widths=widths,
            kernels=(3, 3, 5),
            strides=(1, 2, 2),
            expansions=(1, 4, 4),
            last_channels=320 if large else 160,
            norm_momentum=0.1,
            **given,
        ),
        DEIT: replace(vit, class_token=True, pool="class", distillation_token=True),
    }


def fit_swin(fields: dict[str, Any]) -> ModelConfig:
    """Return a Swin Transformer of two stages with windows of at most 4x4."""
    rough = build_swin_config("Swin-T", **fields)
    windows = tuple((min(4, rows), min(4, cols)) for rows, cols in rough.maps)
    return replace(rough, windows=windows)


def measure_family(trained: Trained) -> dict[str, Any]:
    """Return accuracy and loss, the images that were seen in training, and the seconds that it took."""
    last = [record for record in read_run(trained.folder).metrics if record["kind"] == "train"][-1]
    return {**measure_accuracy(trained), "images": last["samples"], "seconds": last["seconds"]}


def conclude(setting: Setting, results: CellResults) -> Conclusion:
    """Compare the families, each seed at the rate that is best on the others."""
    rates = list_rates(setting)
    tried = {
        family: results.candidates({rate: name_condition(family, rate) for rate in rates}, "top1")
        for family in FAMILIES
    }
    best = {family: choose_on_others(by_rate) for family, by_rate in tried.items()}
    own = {
        family: {seed: tried[family][rate][seed] for seed, rate in chosen.items()} for family, chosen in best.items()
    }
    verdicts = []
    for claim, more, less in CLAIMS:
        verdicts += weigh_difference(claim, f"{more} minus {less}", own[more], own[less])
    rows = [
        Row(family, list(values.values()), find_interval(values.values()), colour)
        for colour, (family, values) in enumerate(own.items(), start=1)
        if values
    ]
    label = "Validation accuracy of each family after the same time"
    drawn = draw_dots(rows, label, "validation accuracy; mean, 95% interval, each seed")
    table = build_table(setting, results, own, best)
    notes = (*NOTES, *note_grid_edges(best, dict.fromkeys(best, rates)))
    return Conclusion(verdicts, [table], [Figure("figure", f"{label}.", drawn)], notes)


NOTES = (
    "Time is measured when each run begins, on this machine: another one, or other work beside it, gives other numbers of steps.",
    "The models are small and trained on the task's own images; the papers' are large, and ViT's and BiT's see up to 300 million.",
)


def build_table(
    setting: Setting,
    results: CellResults,
    own: Mapping[str, Mapping[int, float]],
    best: Mapping[str, Mapping[int, float]],
) -> Table:
    """Return each family with its size, what the time was enough for, and its accuracy."""
    planned = plan_runs(setting)
    rows = []
    for family in FAMILIES:
        model = next(config.model for group, config in planned.items() if group.partition(",")[0] == family)
        chosen = [
            (
                results.by_seed(name_condition(family, rate), "images")[seed],
                results.by_seed(name_condition(family, rate), "seconds")[seed],
            )
            for seed, rate in best[family].items()
        ]
        images, seconds = (sum(one[place] for one in chosen) for place in (0, 1))
        rows.append(
            [
                family,
                f"{count.count_parameters(model):,}",
                f"{count.count_flops(model) / 1e6:,.1f}",
                f"{images / len(chosen):,.0f}" if chosen else "–",
                f"{images / seconds:,.0f}" if seconds else "–",
                ", ".join(f"{rate:g}" for rate in sorted(set(best[family].values())) if rate) or "–",
                find_interval(own[family].values()).percent(),
            ]
        )
    heads = [
        "family",
        "parameters",
        "million operations an image",
        "images seen",
        "images/s in training",
        "rates",
        "accuracy",
    ]
    return Table("Validation accuracy in percent, mean ± 95% interval over seeds and images", heads, rows)


STUDY = Study(
    name="family",
    title="Families at equal time",
    question="For the same time on the same images: ViT, hybrid, ResNet, Swin, DeiT or EfficientNet?",
    paper=(
        "On ImageNet alone, ViTs stay a few points below ResNets of their size (section 1); trained by its authors, Swin-T reaches 81.3%, "
        "DeiT-S 79.9% (2103.14030, table 1; 2012.12877, table 5), EfficientNet-B0 77.1% (1905.11946, table 2)."
    ),
    here=(
        "A small model of each family is trained from scratch by Adam for the same time, at each of three rates, and measured on the "
        "validation images; a seed's rate is chosen on the other seeds. DeiT is the ViT with a distillation token, taught by the ResNet "
        "of the same seed; its teacher's forward passes count, its teacher's training does not."
    ),
    cells=cells,
    conclude=conclude,
    words={"images": "images seen in training", "seconds": "seconds of training"},
)
