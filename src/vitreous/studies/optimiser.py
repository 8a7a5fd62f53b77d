"""Adam or SGD for pre-training a ResNet (2010.11929, appendix D.1, table 7).

The paper pre-trained ResNets on JFT for 7 epochs with Adam and with SGD (by BiT's settings), fine-tuned both with SGD, and
took Adam for its baselines: on average over five data sets it was better by 0.54 points for ResNet-50 (89.33% and 88.79%)
and by 0.29 for ResNet-152x2 (94.01% and 93.72%), and better on four and three of them. On ImageNet itself it was 0.70
worse for ResNet-50 and 0.60 better for ResNet-152x2.

Here a small ResNet is pre-trained on half of the classes by either, at three rates each, and fine-tuned with SGD on the other
half. A seed's rate is chosen on the other seeds. Called seen when the 95% interval of the paired differences of the
fine-tuned models is above 0.
"""

from dataclasses import replace

from vitreous.model.resnet_config import ResNetConfig
from vitreous.studies import runs
from vitreous.studies.charts import Row, dots
from vitreous.studies.halves import halves, write_halves
from vitreous.studies.statistics import best_on_others, beyond, differences, interval, judged
from vitreous.studies.study import Cell, Figure, Findings, Outcomes, Setting, Study, Table, Verdict
from vitreous.training.config import OptimizerConfig, RunConfig

RATES = {"Adam": (3e-4, 1e-3, 3e-3), "SGD": (0.03, 0.1, 0.3)}
BETTER = "a ResNet pre-trained with Adam transfers better than one pre-trained with SGD"
MARGIN = 0.005
"""Accuracy within which both count as the same."""


def cells(setting: Setting) -> list[Cell]:
    """Return, for each seed, optimiser and rate, the pre-training and the fine-tuning from it."""
    source, target = halves(setting)
    found = []
    for seed in setting.seeds(laptop=4, gpu=4, paper=1):
        for optimiser, rates in RATES.items():
            for rate in rates[1:2] if setting.scale == "smoke" else rates:
                before, after = f"pre-trained {optimiser}, {rate:g}", f"{optimiser}, {rate:g}"
                start = f"{runs.slug(before)}-{seed}"
                config = replace(started(source), optimizer=optimizer(optimiser, rate), seed=seed)
                found.append(Cell(start, before, config, prepare=write_halves))
                config = replace(transferred(target, str(setting.run(start))), seed=seed)
                found.append(Cell(f"{runs.slug(after)}-{seed}", after, config, needs=(start,)))
    return found


def started(setting: Setting) -> RunConfig:
    """Return the pre-training: a ResNet of three units or, at paper scale, R50x1."""
    if setting.scale == "paper":
        return runs.paper(setting, "R50x1")
    units, channels, duration = setting.choose(
        smoke=((1,), 32, "64ex"), laptop=((1, 1, 1), 32, "12kex"), gpu=((2, 2, 2), 64, "150kex"), paper=((), 0, "")
    )
    base = runs.small(setting)
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


def transferred(setting: Setting, weights: str) -> RunConfig:
    """Return the fine-tuning, with SGD."""
    duration = setting.choose(smoke="64ex", laptop="4kex", gpu="50kex", paper="20000st")
    return runs.fine_tuned(started(setting), weights, 0.03, duration)


def optimizer(name: str, rate: float) -> OptimizerConfig:
    """Return an optimiser of pre-training; both decay weights as little."""
    return runs.adam(rate) if name == "Adam" else replace(runs.sgd(rate), weight_decay=1e-4, decoupled=False)


def conclude(setting: Setting, outcomes: Outcomes) -> Findings:
    """Hold both against each other, each at its best rate."""
    after = {
        name: {rate: outcomes.by_seed(f"{name}, {rate:g}", "top1") for rate in rates} for name, rates in RATES.items()
    }
    known = {name: {rate: values for rate, values in by_rate.items() if values} for name, by_rate in after.items()}
    best = {name: best_on_others(by_rate) for name, by_rate in known.items()}
    own = {name: {seed: known[name][rate][seed] for seed, rate in chosen.items()} for name, chosen in best.items()}
    gain = differences(own["Adam"], own["SGD"])
    verdicts = []
    if gain:
        rates = {name: ", ".join(f"{rate:g}" for rate in sorted(set(chosen.values()))) for name, chosen in best.items()}
        words = f"Adam (rate {rates['Adam']}) minus SGD (rate {rates['SGD']}) after fine-tuning: {interval(gain).points()} points."
        verdicts.append(Verdict(BETTER, judged(gain, "more", MARGIN), words))
    rows = [
        Row(f"{name}, {rate:g}", list(values.values()), interval(values.values()), colour)
        for colour, (name, by_rate) in enumerate(after.items(), start=1)
        for rate, values in by_rate.items()
    ]
    label = "Validation accuracy after fine-tuning, by optimiser and rate of pre-training"
    drawn = dots(rows, label, "validation accuracy after fine-tuning; mean, 95% interval, each seed")
    return Findings(verdicts, [table(outcomes)], [Figure("figure", f"{label}.", drawn)], beyond(best, RATES))


def table(outcomes: Outcomes) -> Table:
    """Return accuracy on the source after pre-training, and on the target after fine-tuning."""
    rows = []
    for name, rates in RATES.items():
        for rate in rates:
            groups = (f"pre-trained {name}, {rate:g}", f"{name}, {rate:g}")
            rows.append(
                [
                    f"{name}, {rate:g}",
                    *(interval(outcomes.by_seed(group, "top1").values()).percent() for group in groups),
                ]
            )
    heads = ["pre-trained with", "on the classes of pre-training", "fine-tuned on the others"]
    return Table("Validation accuracy in percent, mean ± 95% interval over seeds", heads, rows)


STUDY = Study(
    name="optimiser",
    title="Adam or SGD for pre-training ResNets (table 7)",
    question="Is a ResNet that is pre-trained with Adam a fair, or a better, baseline than one pre-trained with SGD?",
    paper=(
        "ResNet-50 and 152x2, pre-trained on JFT and fine-tuned on five data sets: Adam was better than SGD on most of them and on "
        "average, by 0.5 and 0.3 points (appendix D.1, table 7)."
    ),
    here=(
        "A small ResNet is pre-trained on half of the classes by either optimiser, over a grid of rates, and "
        "fine-tuned by SGD on the other half. Both are compared at the best rate of each, which is chosen for a seed on "
        "the other seeds."
    ),
    cells=cells,
    conclude=conclude,
)
