"""Accuracy against training compute: ViT, ResNet and hybrid (2010.11929, section 4.4, figure 5).

For models pre-trained on JFT-300M for 7 or 14 epochs the paper found: ViT needs about 2 to 4 times less compute than
ResNets for the same accuracy; hybrids lead slightly at small budgets, but not for larger models; ViT does not saturate.

Here every model is trained from scratch, with Adam, once for each budget and rate: for as many images as the budget
pays for, with a schedule that ends there. Compute is three forward passes for each image seen. A family's upper
envelope is the best accuracy that it reaches within a given compute. Model, length and rate are chosen for a seed on
the other seeds, so that more alternatives gain nothing by a seed's chance. Families are compared at the budgets of both ends.

On a laptop, images are shown at about 16 pixels a side, so that the largest budget pays for 2.5 to 5 epochs of 20,000
images with every model; below one epoch, larger models are worse merely for lack of steps.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

from vitreous.drawing.charts import Series, draw_intervals
from vitreous.drawing.svg import Axis
from vitreous.metrics import seeds
from vitreous.metrics.seeds import Interval, Verdict, find_interval
from vitreous.model import count
from vitreous.model.config import ViTConfig
from vitreous.model.resnet_config import ResNetConfig, StemConfig
from vitreous.reports.blocks import Table
from vitreous.shapes import Size
from vitreous.studies.engine import base_runs
from vitreous.studies.engine.study import Cell, CellResults, Conclusion, Figure, Setting, Study
from vitreous.training.config import ModelConfig, RunConfig
from vitreous.training.duration import Duration, Scale

VIT, RESNET, HYBRID = FAMILIES = ("ViT", "ResNet", "hybrid")
PAPER = {
    VIT: ("B/32", "B/16", "L/32", "L/16"),
    RESNET: ("R50x1", "R101x1", "R50x2", "R152x2"),
    HYBRID: ("R50+B/32", "R50+B/16", "R50+L/32", "R50+L/16"),
}
"""The models at paper scale: those of figure 5 and table 6."""
FORWARDS = 3
"""Forward passes per image in training: one, and a backward pass that counts as two."""
SIDE = 16
"""Approximate pixels of the shorter side on a laptop."""
BEATS = "at equal training compute ViT is more accurate than ResNet"
LEADS = "at small budgets hybrids are more accurate than ViT"
VANISHES = "the hybrids' lead shrinks as compute grows"

T = TypeVar("T", bound=Hashable)


class Condition(NamedTuple):
    """A run without its seed."""

    family: str
    model: str
    budget: float = 0.0
    """Operations for training; 0: as many as the paper's."""
    rate: float = 0.0
    """Peak learning rate; 0: the paper's."""

    @property
    def name(self) -> str:
        """Family and model: "ViT: 32"."""
        return f"{self.family}: {self.model}"

    @property
    def group(self) -> str:
        """The condition in words: "ViT: 32, 4e10 operations, rate 0.003"."""
        return f"{self.name}, {format_ops(self.budget)} operations, rate {self.rate:g}" if self.budget else self.name


By = Mapping[tuple[str, float], Mapping[int, float]]
"""The accuracy of each seed on a family's envelope at a budget."""


def cells(setting: Setting) -> list[Cell]:
    """Return every model of every family at each budget and rate for each seed."""
    groups = {condition.group: config for condition, config in plan_runs(setting).items()}
    return base_runs.repeat_over_seeds(groups, setting.seeds(laptop=3, gpu=3, paper=1))


def list_budgets(setting: Setting) -> tuple[float, ...]:
    """Return the operations of each budget, ascending; empty: each model as long as in the paper."""
    return setting.choose(smoke=(1e9, 2e9), laptop=(4e10, 1.3e11, 4e11), gpu=(1.2e13, 4e13, 1.2e14), paper=())


def list_rates(setting: Setting, family: str) -> tuple[float, ...]:
    """Return the rates to choose from for a family's models and budgets; ResNets may prefer larger ones."""
    laptop = (1e-3, 3e-3, 1e-2, 3e-2)[: 4 if family == RESNET else 3]
    return setting.choose(smoke=(3e-3,), laptop=laptop, gpu=(5e-4, 1.5e-3, 5e-3), paper=(0.0,))


def plan_runs(setting: Setting) -> dict[Condition, RunConfig]:
    """Return all runs without their seeds."""
    if setting.scale == "paper":
        named = ((family, name) for family in FAMILIES for name in PAPER[family])
        return {Condition(*one): base_runs.configure_paper(setting, one[1]) for one in named}
    base = base_runs.configure_small(setting, 4, 64, 4)
    if setting.scale == "laptop":
        base = shrink_run(base)
    found = {}
    for (family, name), model in list_models(setting, base).items():
        for budget in list_budgets(setting):
            steps = max(1, int(budget // (FORWARDS * count.count_flops(model) * base.batch)))
            for rate in list_rates(setting, family):
                config = replace(base, model=model, duration=f"{steps}st", optimizer=base_runs.configure_adam(rate))
                found[Condition(family, name, budget, rate)] = config
    return found


def shrink_run(base: RunConfig) -> RunConfig:
    """Return the run with images of SIDE to 2 SIDE - 1 pixels on the shorter side, in patches of one; smaller ones
    stay."""
    model = base.model
    assert isinstance(model, ViTConfig)
    rows, cols = model.image
    by = max(1, min(rows, cols) // SIDE)
    return base_runs.set_size(replace(base, model=replace(model, patch=(1, 1))), Size(rows // by, cols // by))


def list_models(setting: Setting, base: RunConfig) -> dict[tuple[str, str], ModelConfig]:
    """Return two models of each family, the smaller first, for a scale other than the paper's; for smoke, one."""
    vit = base.model
    assert isinstance(vit, ViTConfig)
    given = {"image": vit.image, "channels": vit.channels, "classes": vit.classes}

    def transformer(width: int, depth: int, patches: int, stem: StemConfig | None = None) -> ViTConfig:
        stem = stem or StemConfig()
        sides = tuple(max(1, side // patches // stem.stride) * stem.stride for side in vit.image)
        patch = fit_patch(vit.image, sides)
        shape = {"width": width, "depth": depth, "heads": width // 16, "mlp_width": 2 * width}
        return replace(vit, patch=patch, stem=stem, **shape)

    def resnet(units: tuple[int, ...], root: str) -> ResNetConfig:
        return ResNetConfig(units=units, root=root, root_channels=32, **given)

    return SCALES[setting.scale](transformer, resnet, min(vit.image) < SIDE)


def fit_patch(image: tuple[int, int], sides: tuple[int, ...]) -> tuple[int, int]:
    """Return the nearest smaller patch that divides the image in both directions."""
    rows, cols = (
        next(side for side in range(want, 0, -1) if size % side == 0) for size, want in zip(image, sides, strict=True)
    )
    return rows, cols


def plan_smoke(transformer: Callable, resnet: Callable, tiny: bool) -> dict[tuple[str, str], ModelConfig]:
    """Return one of each, as small as possible."""
    return {
        (VIT, "16"): transformer(16, 4, 2),
        (RESNET, "1 unit"): resnet((1,), "3x3"),
        (HYBRID, "root + 16"): transformer(16, 4, 2, StemConfig("resnet")),
    }


def plan_laptop(transformer: Callable, resnet: Callable, tiny: bool) -> dict[tuple[str, str], ModelConfig]:
    """Return models of 1 to 3 million operations on 16 x 16 pixels; on tiny images, ResNets that keep rows and columns."""
    root = "3x3" if tiny else "7x7"
    return {
        (VIT, "32"): transformer(32, 4, 4),
        (VIT, "48"): transformer(48, 4, 4),
        (RESNET, "1 unit"): resnet((1,), root),
        (RESNET, "3 units"): resnet((1, 2), root),
        (HYBRID, "root + 32, 2 blocks"): transformer(32, 2, 4, StemConfig("resnet")),
        (HYBRID, "root + 32"): transformer(32, 4, 4, StemConfig("resnet")),
    }


def plan_gpu(transformer: Callable, resnet: Callable, tiny: bool) -> dict[tuple[str, str], ModelConfig]:
    """Return models of 100 to 300 million operations on 32 x 32 pixels."""
    return {
        (VIT, "128"): transformer(128, 6, 8),
        (VIT, "192"): transformer(192, 6, 8),
        (RESNET, "3 units"): resnet((1, 1, 1), "3x3"),
        (RESNET, "6 units"): resnet((2, 2, 2), "3x3"),
        (HYBRID, "root + 128"): transformer(128, 6, 8, StemConfig("resnet")),
        (HYBRID, "root + 192"): transformer(192, 6, 8, StemConfig("resnet")),
    }


SCALES = {"smoke": plan_smoke, "laptop": plan_laptop, "gpu": plan_gpu}


def count_images(config: RunConfig, setting: Setting) -> int:
    """Return the number of images that a run sees."""
    return Duration.parse(config.duration).steps(Scale(setting.facts.train, config.batch)) * config.batch


def count_work(config: RunConfig, setting: Setting) -> float:
    """Return the operations of a run's training."""
    return float(FORWARDS * count_images(config, setting) * count.count_flops(config.model))


def find_envelope(
    spent: Mapping[T, float], found: Mapping[T, Mapping[int, float]], budget: float = math.inf
) -> dict[int, T]:
    """Return, for each seed, the best on the other seeds of all runs within a budget.

    If they have only one seed in common, return the best on that one, from which nothing is concluded.

    Args:
        spent: the operations of each run.
        found: the accuracy of each seed, by run.
        budget: operations.

    >>> spent, found = {"a": 1e9, "b": 4e9}, {"a": {0: 0.3, 1: 0.4}, "b": {0: 0.5, 1: 0.2}}
    >>> find_envelope(spent, found, 2e9), find_envelope(spent, found, 4e9)
    ({0: 'a', 1: 'a'}, {0: 'a', 1: 'b'})
    """
    within = {run: values for run, values in found.items() if spent[run] <= budget}
    shared = set.intersection(*map(set, within.values())) if within else set()
    if len(shared) == 1:
        [seed] = shared
        return {seed: max(within, key=lambda run: within[run][seed])}
    return seeds.choose_on_others(within)


def list_steps(setting: Setting, spent: Mapping[Condition, float]) -> list[float]:
    """Return the budgets at which envelopes are computed, ascending: the study's, or the operations of the paper's models where
    each family has a model on both sides."""
    if list_budgets(setting):
        return list(list_budgets(setting))
    ends = [[value for run, value in spent.items() if run.family == family] for family in FAMILIES]
    low, high = max(map(min, ends)), min(map(max, ends))
    return [value for value in sorted(set(spent.values())) if low <= value <= high]


def conclude(setting: Setting, results: CellResults) -> Conclusion:
    """Compare the families' envelopes at the smallest and at the largest budget."""
    planned = plan_runs(setting)
    spent = {run: count_work(config, setting) for run, config in planned.items()}
    found = results.candidates({run: run.group for run in planned}, "top1")
    best = {
        (family, budget): find_envelope(spent, {run: one for run, one in found.items() if run.family == family}, budget)
        for family in FAMILIES
        for budget in list_steps(setting, spent)
    }
    reached = {
        key: {seed: found[run][seed] for seed, run in sorted(chosen.items())} for key, chosen in best.items() if chosen
    }
    chosen = {name_point(*key): {seed: run.rate for seed, run in best[key].items()} for key in reached}
    tuned = choose_rates(planned, spent, found)
    notes = (*NOTES, *(SHRUNK if setting.scale == "laptop" else ()))
    return Conclusion(
        judge(reached, list_steps(setting, spent)),
        [draw_all(best, reached), build_table(setting, planned, tuned)],
        [Figure("figure", f"{LABEL}: {CAPTION}", draw_envelopes(spent, tuned, reached))],
        notes + seeds.note_grid_edges(chosen, {name_point(*key): list_rates(setting, key[0]) for key in reached}),
    )


def name_point(family: str, budget: float) -> str:
    """Describe a point of an envelope."""
    return f"{family} at {format_ops(budget)} operations"


def judge(reached: By, budgets: Sequence[float]) -> list[Verdict]:
    """Judge the paper's findings by the envelopes at the first and the last budget, if these are known."""
    small, large = budgets[0], budgets[-1]

    def weigh(claim: str, one: str, other: str, budget: float) -> list[Verdict]:
        words = f"{one[0].upper()}{one[1:]} minus {other} at {format_ops(budget)} operations"
        return seeds.weigh_difference(claim, words, reached.get((one, budget), {}), reached.get((other, budget), {}))

    def lead(budget: float) -> dict[int, float]:
        return seeds.subtract_paired(reached.get((HYBRID, budget), {}), reached.get((VIT, budget), {}))

    told = weigh(f"{BEATS} (small budget)", VIT, RESNET, small) + weigh(f"{BEATS} (large budget)", VIT, RESNET, large)
    told += weigh(LEADS, HYBRID, VIT, small)
    early, late = lead(small), lead(large)
    shrinks = seeds.pair_differences(early, late)
    if shrinks:
        words = (
            f"Hybrid minus ViT at {format_ops(large)} operations: {find_interval(late.values()).points()} points. Less than at the "
            f"small budget by {find_interval(shrinks).points()}."
        )
        both = [seeds.weigh_claim(list(early.values()), "more"), seeds.weigh_claim(shrinks, "more")]
        told.append(Verdict(VANISHES, seeds.combine_evidence(both), words))
    return told


LABEL = "Validation accuracy by training compute"
CAPTION = "each family's upper envelope, joined, and each model at each length beside it, at the best rate; mean and 95% interval."
NOTES = (
    "The paper's models are pre-trained on 300 million images and transferred; here they are trained on the task's own images, far fewer, which favours convolutions.",
    "The figures of compute are counted, not measured: convolutions and products may run at different speeds.",
    "Model, length and rate are chosen together, for a seed by the mean of the other seeds, so an envelope need not rise everywhere.",
)
SHRUNK = (f"Images are shown at {SIDE} pixels a side or a little more, which loses detail.",)


def format_ops(value: float, digits: int = 2) -> str:
    """Format a number of operations, such as 1.3e11.

    >>> format_ops(4e10), format_ops(1.3e11), format_ops(2e9)
    ('4e10', '1.3e11', '2e9')
    """
    front, power = f"{value:.{digits - 1}e}".split("e")
    return f"{float(front):g}e{int(power)}"


Tuned = Mapping[Condition, tuple[Mapping[int, float], Sequence[float]]]
"""Accuracy by seed, and the rates that seeds chose, of each model at each length; the conditions' own rate is 0."""


def choose_rates(
    planned: Mapping[Condition, RunConfig],
    spent: Mapping[Condition, float],
    found: Mapping[Condition, Mapping[int, float]],
) -> Tuned:
    """Return each model at each length, each seed at the rate that is best on the others."""
    tuned = {}
    for key in dict.fromkeys(run._replace(rate=0.0) for run in planned):
        tried = {run: values for run, values in found.items() if run._replace(rate=0.0) == key}
        chosen = find_envelope(spent, tried)
        accuracy = {seed: found[run][seed] for seed, run in chosen.items()}
        tuned[key] = accuracy, sorted({run.rate for run in chosen.values()})
    return tuned


def draw_envelopes(spent: Mapping[Condition, float], tuned: Tuned, reached: By) -> str:
    """Draw each family's envelope over compute, and each model at each length."""
    lines = []
    for colour, family in enumerate(FAMILIES, start=1):
        best = [(budget, find_interval(values.values())) for (one, budget), values in reached.items() if one == family]
        each = [
            (run.budget or spent[run], find_interval(values.values()))
            for run, (values, _) in tuned.items()
            if run.family == family and values
        ]
        lines.append(Series(family, sorted(best, key=get_compute), colour))
        lines.append(Series(f"{family}: each model", sorted(each, key=get_compute), colour, joined=False))
    return draw_intervals(lines, LABEL, Axis("operations in training", format_ops, log=True))


def get_compute(point: tuple[float, Interval]) -> float:
    """Return a point's horizontal position."""
    return point[0]


def draw_all(best: Mapping[tuple[str, float], Mapping[int, Condition]], reached: By) -> Table:
    """Return what each family reaches at each budget, and with which model."""
    rows = [
        [
            name_point(*key),
            find_interval(values.values()).percent(),
            "; ".join(dict.fromkeys(run.group for run in best[key].values())),
        ]
        for key, values in reached.items()
    ]
    heads = ["upper envelope", "accuracy", "chosen"]
    return Table("Validation accuracy in percent, mean ± 95% interval over seeds and images", heads, rows)


def build_table(setting: Setting, planned: Mapping[Condition, RunConfig], tuned: Tuned) -> Table:
    """Return each model at each length with its size, compute and accuracy."""
    configs = {run._replace(rate=0.0): config for run, config in planned.items()}
    rows = [
        [
            run.name,
            f"{count.count_parameters(configs[run].model):,}",
            f"{count.count_flops(configs[run].model) / 1e6:,.1f}",
            f"{count_images(configs[run], setting):,}",
            f"{count_work(configs[run], setting):.2e}",
            find_interval(values.values()).percent(),
            ", ".join(f"{rate:g}" for rate in used if rate) or "–",
        ]
        for run, (values, used) in tuned.items()
    ]
    heads = ["model", "parameters", "million operations an image", "images seen", "operations in training", "accuracy"]
    caption = "Each model at each length: validation accuracy in percent, mean ± 95% interval over seeds and images"
    return Table(caption, [*heads, "rates"], rows)


STUDY = Study(
    name="compute",
    title="Accuracy and compute (figure 5)",
    question="At equal training compute, which is more accurate: ViT, ResNet or a hybrid of both?",
    paper=(
        "Pre-trained on JFT-300M, ViT reaches the same accuracy with 2 to 4 times less compute than ResNet; hybrids lead slightly at small "
        "budgets, which vanishes for larger models (section 4.4, figure 5)."
    ),
    here=(
        "Models of each family are trained from scratch by Adam, once for each of several budgets of compute and each of several "
        "learning rates: for as many images as the budget pays for, on a schedule that ends there. Compute is counted: three "
        "forward passes for each image seen. A family's upper envelope is the best accuracy that it reaches with at most so much "
        "compute; for a seed, model, length and rate are chosen together on the other seeds. ViT and ResNet are compared on "
        "their envelopes at the smallest and at the largest budget, hybrids and ViT likewise. That the hybrids' lead shrinks is "
        "called seen only if they lead at the smallest."
    ),
    cells=cells,
    conclude=conclude,
)
