"""Adam or SGD for pre-training a ResNet (2010.11929, appendix D.1, table 7).

The paper pre-trained ResNets on JFT for 7 epochs with Adam and with SGD (by BiT's settings), fine-tuned both with SGD, and
took Adam for its baselines: on average over five data sets it was better by 0.54 points for ResNet-50 (89.33% and 88.79%)
and by 0.29 for ResNet-152x2 (94.01% and 93.72%), and better on four and three of them. On ImageNet itself it was 0.70
worse for ResNet-50 and 0.60 better for ResNet-152x2.

Here a small ResNet is pre-trained on half of the classes with either, at four rates over a factor of 30, and fine-tuned
with SGD on the other half. A seed's rate is chosen on the other seeds, among rates that failed with none. Up to 0.003
and 0.3 higher rates were better, so the laptop's grids extend beyond them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from vitreous.drawing.charts import Row, draw_dots
from vitreous.metrics.seeds import (
    Verdict,
    choose_on_others,
    find_interval,
    note_grid_edges,
    pair_differences,
    weigh_claim,
)
from vitreous.model.resnet_config import ResNetConfig
from vitreous.reports.blocks import Table
from vitreous.studies.engine import base_runs
from vitreous.studies.engine.class_split import split_classes, write_split
from vitreous.studies.engine.study import Cell, CellResults, Conclusion, Figure, Setting, Study
from vitreous.training.config import OptimizerConfig, RunConfig

ADAM, SGD = ("Adam", "SGD")
BETTER = "a ResNet pre-trained with Adam transfers better than one pre-trained with SGD"
MARGIN = 0.005
"""Difference in accuracy within which both count as equal."""


def cells(setting: Setting) -> list[Cell]:
    """Return, for each seed, optimiser and rate, the pre-training and the fine-tuning from it."""
    source, target = split_classes(setting)
    found = []
    for seed in setting.seeds(laptop=4, gpu=4, paper=1):
        for optimiser, grid in list_rates(setting).items():
            for rate in grid:
                before, after = f"pre-trained {name_condition(optimiser, rate)}", name_condition(optimiser, rate)
                start = f"{base_runs.build_slug(before)}-{seed}"
                config = replace(
                    configure_pretraining(source), optimizer=configure_optimizer(optimiser, rate), seed=seed
                )
                found.append(Cell(start, before, config, prepare=write_split))
                config = replace(configure_transfer(target, str(setting.run(start))), seed=seed)
                found.append(Cell(f"{base_runs.build_slug(after)}-{seed}", after, config, needs=(start,)))
    return found


def list_rates(setting: Setting) -> dict[str, tuple[float, ...]]:
    """Return each optimiser's rates of pre-training to choose from; longer training prefers smaller ones."""
    return setting.choose(
        smoke={ADAM: (3e-3,), SGD: (0.3,)},
        laptop={ADAM: (1e-3, 3e-3, 1e-2, 3e-2), SGD: (0.1, 0.3, 1.0, 3.0)},
        gpu={ADAM: (3e-4, 1e-3, 3e-3, 1e-2), SGD: (0.03, 0.1, 0.3, 1.0)},
        paper={ADAM: (3e-4, 1e-3, 3e-3), SGD: (0.03, 0.1, 0.3)},
    )


def name_condition(optimiser: str, rate: float) -> str:
    """Return a condition's name: "SGD, 0.3"."""
    return f"{optimiser}, {rate:g}"


def configure_pretraining(setting: Setting) -> RunConfig:
    """Return the pre-training: a ResNet of three units or, at paper scale, R50x1."""
    if setting.scale == "paper":
        return base_runs.configure_paper(setting, "R50x1")
    units, channels, duration = setting.choose(
        smoke=((1,), 32, "64ex"), laptop=((1, 1, 1), 32, "12kex"), gpu=((2, 2, 2), 64, "150kex"), paper=((), 0, "")
    )
    base = base_runs.configure_small(setting)
    root = "3x3" if min(base.preprocess.size) < 16 or setting.scale == "gpu" else "7x7"
    facts = setting.facts
    model = ResNetConfig(
        image=base.preprocess.size,
        channels=facts.channels,
        units=units,
        classes=len(facts.classes),
        root=root,
        root_channels=channels,
    )
    return replace(base, model=model, duration=duration)


def configure_transfer(setting: Setting, weights: str) -> RunConfig:
    """Return the fine-tuning, with SGD."""
    duration = setting.choose(smoke="64ex", laptop="4kex", gpu="50kex", paper="20000st")
    return base_runs.configure_fine_tuning(configure_pretraining(setting), weights, 0.03, duration)


def configure_optimizer(name: str, rate: float) -> OptimizerConfig:
    """Return an optimiser for pre-training; both decay weights equally little."""
    return (
        base_runs.configure_adam(rate)
        if name == ADAM
        else replace(base_runs.configure_sgd(rate), weight_decay=1e-4, decoupled=False)
    )


def conclude(setting: Setting, results: CellResults) -> Conclusion:
    """Compare both, each at its best rate."""
    grids = list_rates(setting)
    tried = {
        name: results.candidates({rate: name_condition(name, rate) for rate in grid}, "top1")
        for name, grid in grids.items()
    }
    best = {name: choose_on_others(by_rate) for name, by_rate in tried.items()}
    own = {name: {seed: tried[name][rate][seed] for seed, rate in chosen.items()} for name, chosen in best.items()}
    gain = pair_differences(own[ADAM], own[SGD])
    verdicts = []
    if gain:
        shown = {name: ", ".join(f"{rate:g}" for rate in sorted(set(chosen.values()))) for name, chosen in best.items()}
        words = f"Adam (rate {shown[ADAM]}) minus SGD (rate {shown[SGD]}) after fine-tuning: {find_interval(gain).points()} points."
        verdicts.append(Verdict(BETTER, weigh_claim(gain, "more", MARGIN), words))
    rows = [
        Row(name_condition(name, rate), list(values.values()), find_interval(values.values()), colour)
        for colour, (name, by_rate) in enumerate(tried.items(), start=1)
        for rate, values in by_rate.items()
    ]
    label = "Validation accuracy after fine-tuning, by optimiser and rate of pre-training"
    drawn = draw_dots(rows, label, "validation accuracy after fine-tuning; mean, 95% interval, each seed")
    return Conclusion(
        verdicts, [build_table(grids, results)], [Figure("figure", f"{label}.", drawn)], note_grid_edges(best, grids)
    )


def build_table(grids: Mapping[str, Sequence[float]], results: CellResults) -> Table:
    """Return accuracy on the source after pre-training, and on the target after fine-tuning."""
    rows = []
    for name, grid in grids.items():
        for group in (name_condition(name, rate) for rate in grid):
            found = (results.by_seed(one, "top1").values() for one in (f"pre-trained {group}", group))
            rows.append([group, *(find_interval(values).percent() for values in found)])
    heads = ["pre-trained with", "on the classes of pre-training", "fine-tuned on the others"]
    return Table("Validation accuracy in percent, mean ± 95% interval over seeds and images", heads, rows)


STUDY = Study(
    name="optimiser",
    title="Adam or SGD for pre-training ResNets (table 7)",
    question="Is a ResNet that is pre-trained with Adam a fair, or a better, baseline than one pre-trained with SGD?",
    paper=(
        "ResNet-50 and 152x2, pre-trained on JFT and fine-tuned on five data sets: Adam was better than SGD on most of them and on "
        "average, by 0.5 and 0.3 points (appendix D.1, table 7)."
    ),
    here=(
        "A small ResNet is pre-trained on half of the classes by either optimiser, at each of four rates, and "
        "fine-tuned by SGD on the other half. Both are compared at the best rate of each, which is "
        "chosen for a seed on the other seeds. A best rate at the end of its grid is said."
    ),
    cells=cells,
    conclude=conclude,
)
