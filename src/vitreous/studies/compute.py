"""Accuracy against training compute: ViT, ResNet and hybrid (2010.11929, section 4.4, figure 5).

Of models pre-trained on JFT-300M for 7 or 14 epochs the paper found: ViT needs about 2 to 4 times less compute than ResNets for
the same accuracy; hybrids lead slightly at small budgets, and the lead vanishes for larger models; ViT does not saturate.

Here all see equally many images, from scratch, with Adam at one rate, on far less data. Compute is three forward passes for
each image seen. For each seed a line is fitted to accuracy over log compute for each family; families are compared on the
lines, at the middle of the budgets that they share, and hybrids against ViTs at both ends. Called seen when the 95% interval
over seeds says so.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from vitreous.model import count
from vitreous.model.config import ViTConfig
from vitreous.model.resnet_config import ResNetConfig, StemConfig
from vitreous.studies import runs
from vitreous.studies.charts import Axis, Curve, curves
from vitreous.studies.statistics import differences, interval, judged
from vitreous.studies.study import Cell, Figure, Findings, Outcomes, Setting, Study, Table, Verdict
from vitreous.training.config import ModelConfig, RunConfig

FAMILIES = ("ViT", "ResNet", "hybrid")
PAPER = {
    "ViT": ("B/32", "B/16", "L/32", "L/16"),
    "ResNet": ("R50x1", "R101x1", "R50x2", "R152x2"),
    "hybrid": ("R50+B/32", "R50+B/16", "R50+L/32", "R50+L/16"),
}
"""The models at paper scale: of those in figure 5 and table 6."""
RATE = 1e-3
BEATS = "at equal training compute ViT is more accurate than ResNet"
LEADS = "at small budgets hybrids are more accurate than ViT"
VANISHES = "the hybrids' lead shrinks as compute grows"


def cells(setting: Setting) -> list[Cell]:
    """Return every model of every family for each seed."""
    return runs.over_seeds(configured(setting), setting.seeds(laptop=3, gpu=3, paper=1))


def configured(setting: Setting) -> dict[str, RunConfig]:
    """Return the runs by "family: model"."""
    if setting.scale == "paper":
        return {f"{family}: {name}": runs.paper(setting, name) for family in FAMILIES for name in PAPER[family]}
    base = runs.small(setting, 4, 64, 4)
    base = replace(
        base,
        duration=setting.choose(smoke="128ex", laptop="14kex", gpu="400kex", paper=""),
        optimizer=runs.adam(RATE),
    )
    return {name: replace(base, model=model) for name, model in models(setting, base).items()}


def models(setting: Setting, base: RunConfig) -> dict[str, ModelConfig]:
    """Return the models of a scale that is not the paper's."""
    vit = base.model
    assert isinstance(vit, ViTConfig)
    given = {"image": vit.image, "channels": vit.channels, "classes": vit.classes}

    def transformer(width: int, patch: int, units: tuple[int, ...] | None = None) -> ViTConfig:
        stem = StemConfig() if units is None else StemConfig("resnet", units)
        sides = tuple(max(1, side // patch // stem.stride) * stem.stride for side in vit.image)
        return replace(vit, width=width, mlp=2 * width, heads=width // 16, patch=whole(vit.image, sides), stem=stem)

    def resnet(units: tuple[int, ...], channels: int, root: str = "7x7") -> ResNetConfig:
        return ResNetConfig(units=units, root=root, root_channels=channels, **given)

    return SCALES[setting.scale](transformer, resnet, min(vit.image) < 16)


def whole(image: tuple[int, int], sides: tuple[int, ...]) -> tuple[int, int]:
    """Return the nearest smaller patch that divides the image in both directions."""
    rows, cols = (
        next(side for side in range(want, 0, -1) if size % side == 0) for size, want in zip(image, sides, strict=True)
    )
    return rows, cols


def laptop(transformer: Callable, resnet: Callable, tiny: bool) -> dict[str, ModelConfig]:
    """Return three of each; on tiny images, of a few pixels a side, roots that keep rows and columns."""
    root = "3x3" if tiny else "7x7"
    stems = ((), (), ()) if tiny else ((), (1,), (1,))
    return {
        "ViT: 64/8": transformer(64, 4),
        "ViT: 96/8": transformer(96, 4),
        "ViT: 64/4": transformer(64, 8),
        "ResNet: 3 units": resnet((1, 1, 1), 32, root),
        "ResNet: 6 units": resnet((2, 2, 2), 32, root),
        "ResNet: 9 units": resnet((3, 3, 3), 32, root),
        "hybrid: root + 64": transformer(64, 4, stems[0]),
        "hybrid: 1 unit + 64": transformer(64, 4, stems[1]),
        "hybrid: 1 unit + 96": transformer(96, 4, stems[2]),
    }


def smoke(transformer: Callable, resnet: Callable, tiny: bool) -> dict[str, ModelConfig]:
    """Return one of each, as small as can be."""
    return {
        "ViT: 16": transformer(16, 2),
        "ResNet: 1 unit": resnet((1,), 32, "3x3"),
        "hybrid: 16": transformer(16, 2, ()),
    }


def gpu(transformer: Callable, resnet: Callable, tiny: bool) -> dict[str, ModelConfig]:
    """Return three of each over a decade of compute."""
    return {
        "ViT: 128/4": transformer(128, 8),
        "ViT: 256/4": transformer(256, 8),
        "ViT: 512/4": transformer(512, 8),
        "ResNet: 3 units": resnet((1, 1, 1), 32, "3x3"),
        "ResNet: 6 units": resnet((2, 2, 2), 32, "3x3"),
        "ResNet: 3 units, twice as wide": resnet((1, 1, 1), 64, "3x3"),
        "hybrid: 1 unit + 128": transformer(128, 8, (1,)),
        "hybrid: 1 unit + 256": transformer(256, 8, (1,)),
        "hybrid: 1 unit + 512": transformer(512, 8, (1,)),
    }


SCALES = {"smoke": smoke, "laptop": laptop, "gpu": gpu}


def conclude(setting: Setting, outcomes: Outcomes) -> Findings:
    """Fit a line to each family and seed, and compare the lines."""
    spent = {cell.group: 3.0 * images(cell.config, setting) * count.flops(cell.config.model) for cell in cells(setting)}
    found = {group: outcomes.by_seed(group, "top1") for group in spent}
    lines = {family: fitted(family, spent, found) for family in FAMILIES}
    verdicts = []
    if lines["ViT"] and lines["ResNet"]:
        middle = math.sqrt(math.prod(shared(spent, ("ViT", "ResNet"))))
        gain = differences(at(lines["ViT"], middle), at(lines["ResNet"], middle))
        words = f"ViT minus ResNet at {middle:.2g} operations: {interval(gain).points()} points."
        verdicts.append(Verdict(BEATS, judged(gain, "more"), words))
    if lines["ViT"] and lines["hybrid"]:
        low, high = shared(spent, ("ViT", "hybrid"))
        leads = [differences(at(lines["hybrid"], x), at(lines["ViT"], x)) for x in (low, high)]
        words = [
            f"Hybrid minus ViT at {x:.2g} operations: {interval(lead).points()} points."
            for x, lead in zip((low, high), leads, strict=True)
        ]
        shrinks = [early - late for early, late in zip(*leads, strict=True)]
        verdicts.append(Verdict(LEADS, judged(leads[0], "more"), words[0]))
        verdicts.append(
            Verdict(
                VANISHES,
                judged(shrinks, "more"),
                f"{words[1]} Less than at the small budget by {interval(shrinks).points()}.",
            )
        )
    drawn = [
        Curve(
            family,
            sorted(
                (
                    (spent[group], interval(values.values()))
                    for group, values in found.items()
                    if values and group.startswith(f"{family}:")
                ),
                key=lambda point: point[0],
            ),
            colour,
        )
        for colour, family in enumerate(FAMILIES, start=1)
    ]
    label = "Validation accuracy by training compute"
    figure = Figure(
        "figure",
        f"{label}, all models trained on equally many images: mean over seeds and 95% interval.",
        curves(drawn, label, Axis("operations in training", exponent, log=True)),
    )
    return Findings(verdicts, [table(setting, spent, found)], [figure], NOTES)


NOTES = (
    "The paper's models are pre-trained on 300 million images and transferred; here they are trained on the task's own images, far fewer, which favours convolutions.",
    "The figures of compute are counted, not measured: on a given machine convolutions and products may run at different speeds.",
)


def exponent(value: float) -> str:
    """Write a large number of operations, such as 5e12."""
    return f"{value:.0e}".replace("e+", "e")


def images(config: RunConfig, setting: Setting) -> float:
    """Return the images that a run sees."""
    from vitreous.training.duration import Duration, Scale

    return Duration.parse(config.duration).steps(Scale(setting.facts.train, config.batch)) * config.batch


def fitted(family: str, spent: dict[str, float], found: dict[str, dict[int, float]]) -> dict[int, tuple[float, float]]:
    """Return (slope, intercept) of accuracy over log10 of compute for each seed that all models of a family have."""
    own = [group for group in spent if group.startswith(f"{family}:")]
    seeds = set.intersection(*(set(found[group]) for group in own)) if own else set()
    x = [math.log10(spent[group]) for group in own]
    lines = {}
    for seed in sorted(seeds):
        y = [found[group][seed] for group in own]
        slope, start = np.polyfit(x, y, 1) if len(own) > 1 else (0.0, y[0])
        lines[seed] = (float(slope), float(start))
    return lines


def at(lines: dict[int, tuple[float, float]], compute: float) -> dict[int, float]:
    """Return what the lines say at this compute, by seed."""
    return {seed: slope * math.log10(compute) + start for seed, (slope, start) in lines.items()}


def shared(spent: dict[str, float], families: tuple[str, str]) -> tuple[float, float]:
    """Return the smallest and the largest compute that both families reach; if they share none, the gap between them."""
    ends = [[value for group, value in spent.items() if group.startswith(f"{family}:")] for family in families]
    low, high = max(min(end) for end in ends), min(max(end) for end in ends)
    return min(low, high), max(low, high)


def table(setting: Setting, spent: dict[str, float], found: dict[str, dict[int, float]]) -> Table:
    """Return each model with its size, compute and accuracy."""
    models = {cell.group: cell.config.model for cell in cells(setting)}
    rows = [
        [
            group,
            f"{count.parameters(models[group]):,}",
            f"{count.flops(models[group]) / 1e6:,.1f}",
            f"{spent[group]:.2e}",
            interval(values.values()).percent(),
        ]
        for group, values in found.items()
    ]
    heads = ["model", "parameters", "million operations an image", "operations in training", "accuracy"]
    return Table("Validation accuracy in percent, mean ± 95% interval over seeds", heads, rows)


STUDY = Study(
    name="compute",
    title="Accuracy and compute (figure 5)",
    question="At equal training compute, which is more accurate: ViT, ResNet or a hybrid of both?",
    paper=(
        "Pre-trained on JFT-300M, ViT reaches the same accuracy with 2 to 4 times less compute than ResNet; hybrids lead slightly at small "
        "budgets, which vanishes for larger models (section 4.4, figure 5)."
    ),
    here=(
        "All models see equally many images, from scratch, by Adam at one rate. Compute is counted: three forward "
        "passes for each image seen. For each seed a line is fitted to accuracy over the logarithm of compute for "
        "each family; ViT and ResNet are compared on these lines at the middle of the compute that they share, "
        "hybrids and ViT at both ends."
    ),
    cells=cells,
    conclude=conclude,
)
