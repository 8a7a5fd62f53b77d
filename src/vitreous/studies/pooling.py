"""[class] token or mean over the patches (2010.11929, appendix D.3, figure 9).

The paper's first trials with global average pooling were poor. The cause was neither the missing token nor the pooling: both
"work similarly well, but require different learning-rates" (figure 9: [class] at 8e-4, mean at 8e-4 and at 3e-4).

Here both are trained with Adam over a grid of rates. Called seen: "both alike" when the paired difference, each at its
best rate, is shown to be within 1 point; "another rate" when the mean loses by taking the rate that is best for [class].
A seed's rate is chosen on the other seeds, so that choosing favours neither.
"""

from dataclasses import replace

from vitreous.drawing.charts import Series, draw_intervals
from vitreous.drawing.svg import Axis
from vitreous.metrics.seeds import (
    Verdict,
    choose_on_others,
    find_interval,
    note_grid_edges,
    pair_differences,
    weigh_claim,
    weigh_equivalence,
)
from vitreous.model.config import ViTConfig
from vitreous.reports.blocks import Table
from vitreous.studies.engine import base_runs
from vitreous.studies.engine.study import Cell, CellResults, Conclusion, Figure, Setting, Study

MARGIN = 0.01
"""Difference in accuracy within which both count as equal."""
POOLS = {"[class]": {"class_token": True, "pool": "class"}, "mean": {"class_token": False, "pool": "mean"}}
RATES = (2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3)
PAPER_RATES = (1e-3, 3e-3, 1e-2)
ALIKE = f"[class] and mean do equally well, each at its rate (within {100 * MARGIN:g} point)"
OTHER = "the mean wants another learning rate than [class]"


def cells(setting: Setting) -> list[Cell]:
    """Return both poolings at every rate for each seed."""
    patches, width, depth = setting.choose(smoke=(2, 16, 1), laptop=(4, 64, 4), gpu=(8, 192, 6), paper=(0, 0, 0))
    base = (
        base_runs.configure_paper(setting)
        if setting.scale == "paper"
        else base_runs.configure_small(setting, patches, width, depth)
    )
    if setting.scale != "paper":
        base = replace(base, duration=setting.choose(smoke="256ex", laptop="20kex", gpu="300kex", paper=""))
    assert isinstance(base.model, ViTConfig)
    groups = {
        name_condition(pool, rate): replace(
            base,
            model=replace(base.model, position_init="normal", **fields),
            optimizer=replace(base.optimizer, lr=rate) if setting.scale == "paper" else base_runs.configure_adam(rate),
        )
        for rate in list_rates(setting)
        for pool, fields in POOLS.items()
    }
    return base_runs.repeat_over_seeds(groups, setting.seeds(laptop=4))


def list_rates(setting: Setting) -> tuple[float, ...]:
    """Return the learning rates of this scale."""
    return setting.choose(smoke=RATES[1:3], laptop=RATES, gpu=RATES, paper=PAPER_RATES)


def name_condition(pool: str, rate: float) -> str:
    """Return a condition's name."""
    return f"{pool}, {rate:g}"


def conclude(setting: Setting, results: CellResults) -> Conclusion:
    """Compare both poolings at their own and at each other's rate."""
    found = {
        pool: results.candidates({rate: name_condition(pool, rate) for rate in list_rates(setting)}, "top1")
        for pool in POOLS
    }
    best = {pool: choose_on_others(by_rate) for pool, by_rate in found.items()}
    own = {pool: {seed: found[pool][rate][seed] for seed, rate in best[pool].items()} for pool in POOLS}
    borrowed = {
        seed: found["mean"][rate][seed] for seed, rate in best["[class]"].items() if seed in found["mean"].get(rate, {})
    }
    apart, loss = pair_differences(own["mean"], own["[class]"]), pair_differences(own["mean"], borrowed)
    verdicts = []
    if apart:
        shown = {pool: ", ".join(f"{rate:g}" for rate in sorted(set(best[pool].values()))) for pool in POOLS}
        verdicts = [
            Verdict(
                ALIKE,
                weigh_equivalence([apart], MARGIN),
                f"Mean minus [class]: {find_interval(apart).points()} points.",
            ),
            Verdict(
                OTHER,
                weigh_claim(loss, "more", MARGIN),
                f"Best for [class]: {shown['[class]']}; for the mean: {shown['mean']}. At the rate of [class] the mean "
                f"loses {find_interval(loss).points()} points.",
            ),
        ]
    lines = [
        Series(pool, [(rate, find_interval(values.values())) for rate, values in found[pool].items()], colour)
        for colour, pool in enumerate(POOLS, start=1)
    ]
    drawn = draw_intervals(
        lines, "Validation accuracy by learning rate and pooling", Axis("peak learning rate", log=True)
    )
    caption = (
        "Validation accuracy by peak learning rate for [class] and mean pooling: mean over seeds and 95% interval."
    )
    notes = note_grid_edges(best, dict.fromkeys(POOLS, list_rates(setting)))
    return Conclusion(verdicts, [build_table(setting, found)], [Figure("figure", caption, drawn)], notes)


def build_table(setting: Setting, found: dict[str, dict[float, dict[int, float]]]) -> Table:
    """Return accuracy by pooling and rate."""
    rows = [
        [pool, *(find_interval(found[pool].get(rate, {}).values()).percent() for rate in list_rates(setting))]
        for pool in POOLS
    ]
    heads = ["pooling", *(f"{rate:g}" for rate in list_rates(setting))]
    return Table(
        "Validation accuracy in percent by peak learning rate, mean ± 95% interval over seeds and images", heads, rows
    )


STUDY = Study(
    name="pooling",
    title="[class] token or mean pooling (figure 9)",
    question="Is the [class] token needed, or does the mean over the patches' outputs do as well?",
    paper=(
        "[class] and global average pooling perform alike, but the mean needs another learning rate than [class] (appendix D.3, "
        "figure 9)."
    ),
    here=(
        "Both are trained from scratch with Adam over a grid of learning rates and compared at the best rate of "
        "each, which is chosen for a seed on the other seeds. They are called alike if the difference is shown to be "
        "within 1 point. The mean is said to want another rate if it loses by taking the one that is best for "
        "[class]."
    ),
    cells=cells,
    conclude=conclude,
)
