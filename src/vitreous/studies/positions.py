"""Which position embedding, and where it is added (2010.11929, appendix D.4, table 8).

The paper trained ViT-B/16 with eight kinds and places and measured ImageNet 5-shot linear accuracy: none 61.38%; learned
1-D at the input 64.21, in every layer 63.96, in every layer shared 64.29; learned 2-D 64.00, 64.05, 64.02; relative
64.03. Having one gains 2.6 points and more, which one hardly matters: the seven are within 0.33 points.

Here the same eight are trained from scratch with the same seeds. Called seen: "having one" when the 95% interval of the mean
of the seven minus none, paired by seed, lies above 0; "which one" when each kind is shown to be less than half of that gain
from the mean of the seven (two one-sided tests at 5%).
"""

from dataclasses import replace

from vitreous.drawing.charts import Row, draw_dots
from vitreous.metrics.seeds import (
    ERROR,
    Evidence,
    Verdict,
    average_groups,
    combine_evidence,
    find_interval,
    subtract_paired,
    weigh_above,
    weigh_claim,
    weigh_difference,
)
from vitreous.model.config import ViTConfig
from vitreous.reports.blocks import Table
from vitreous.studies.engine import base_runs
from vitreous.studies.engine.few_shot_measure import measure_with_few_shot
from vitreous.studies.engine.study import Cell, CellResults, Conclusion, Figure, Setting, Study
from vitreous.training.config import RunConfig

SHARE = 0.5
"""The kinds count as alike if each is within this share of the gain from having one, from their mean. The paper's
seven are within 0.0033 of each other, 0.12 of the gain."""
NONE = "none"
KINDS = {
    NONE: {"positions": "none"},
    "1-D, input": {"positions": "learned", "position_placement": "input"},
    "1-D, every layer": {"positions": "learned", "position_placement": "layers"},
    "1-D, shared": {"positions": "learned", "position_placement": "shared"},
    "2-D, input": {"positions": "learned2d", "position_placement": "input"},
    "2-D, every layer": {"positions": "learned2d", "position_placement": "layers"},
    "2-D, shared": {"positions": "learned2d", "position_placement": "shared"},
    "relative": {"positions": "relative", "position_placement": "layers"},
}
"""Table 8's cells: settings of a ViTConfig."""
PAPER = dict(zip(KINDS, (0.61382, 0.64206, 0.63964, 0.64292, 0.64001, 0.64046, 0.64022, 0.64032), strict=True))
HELPS = "having a position embedding helps"
ALIKE = f"which one hardly matters (each within {SHARE:.0%} of what having one gains, of their mean)"


def cells(setting: Setting) -> list[Cell]:
    """Return the eight kinds for each seed."""
    base = configure_base(setting)
    assert isinstance(base.model, ViTConfig)
    groups = {kind: replace(base, model=replace(base.model, **fields)) for kind, fields in KINDS.items()}
    return base_runs.repeat_over_seeds(groups, setting.seeds(laptop=5), measure_with_few_shot)


def configure_base(setting: Setting) -> RunConfig:
    """Return the run that all kinds share, with a [class] token as in the paper."""
    if setting.scale == "paper":
        return base_runs.configure_paper(setting)
    patches, width, depth = setting.choose(smoke=(2, 16, 2), laptop=(4, 64, 4), gpu=(8, 192, 6), paper=(0, 0, 0))
    base = base_runs.configure_small(setting, patches, width, depth)
    assert isinstance(base.model, ViTConfig)
    model = replace(base.model, class_token=True, pool="class", position_init="normal")
    return replace(base, model=model, duration=setting.choose(smoke="256ex", laptop="24kex", gpu="400kex", paper=""))


def conclude(setting: Setting, results: CellResults) -> Conclusion:
    """Compare the kinds with none and with each other."""
    found = {kind: results.by_seed(kind, "top1") for kind in KINDS}
    shots = {kind: results.by_seed(kind, "five_shot") for kind in KINDS}
    verdicts = [
        *judge_help(found, HELPS),
        *judge_likeness(found),
        *judge_help(shots, f"{HELPS}, measured by 5-shot accuracy as the paper did"),
    ]
    rows = [
        Row(kind, list(values.values()), find_interval(values.values()), 2 if kind == NONE else 1)
        for kind, values in found.items()
    ]
    label = "Validation accuracy by kind and place of the position embedding"
    drawn = draw_dots(rows, label, "validation accuracy; mean, 95% interval, each seed")
    caption = f"{label}: each seed, their mean and its 95% interval."
    tables = [
        build_table(found, "Validation accuracy in percent, mean ± 95% interval over seeds and images"),
        build_table(shots, "5-shot accuracy in percent, likewise (the paper's, on ImageNet)", PAPER),
    ]
    return Conclusion(verdicts, tables, [Figure("figure", caption, drawn)])


def average_seven(found: dict[str, dict[int, float]]) -> dict[int, float]:
    """Return the mean over all kinds except none, by seed."""
    return average_groups([values for kind, values in found.items() if kind != NONE])


def judge_help(found: dict[str, dict[int, float]], claim: str) -> list[Verdict]:
    """Compare the mean of the seven kinds with none."""
    return weigh_difference(claim, "The seven kinds' mean minus none", average_seven(found), found[NONE], "+2.7")


def judge_likeness(found: dict[str, dict[int, float]]) -> list[Verdict]:
    """Compare each kind with the mean of the seven, in terms of the gain from having one; undecided if no gain is
    shown."""
    mean, kinds = average_seven(found), [kind for kind in found if kind != NONE]
    gain = subtract_paired(mean, found[NONE])
    if not gain:
        return []
    apart = {kind: subtract_paired(found[kind], mean) for kind in kinds}
    means = {kind: find_interval(values.values()).mean for kind, values in apart.items()}
    spread, gained = max(means.values()) - min(means.values()), find_interval(gain.values()).mean
    widest = max(means, key=lambda kind: abs(means[kind]))
    gains = weigh_claim(list(gain.values()), "more").seen <= ERROR
    shown = combine_evidence([weigh_within(apart[kind], gain, SHARE) for kind in kinds]) if gains else None
    share = f"{spread / gained:.2f}" if round(gained, 6) > 0 else "–"
    words = (
        f"From the lowest to the highest of the seven: {100 * spread:.1f} points, {share} of the gain (paper: 0.3 and "
        f"0.12). Furthest from their mean is {widest}, {find_interval(apart[widest].values()).points()} points."
    )
    return [Verdict(ALIKE, shown, words)]


def weigh_within(apart: dict[int, float], gain: dict[int, float], share: float) -> Evidence:
    """Weigh a difference against the claim that it is less than a share of another one, in either direction.

    Two one-sided tests, of share x gain + difference and share x gain - difference, which must both be above zero.
    """
    seeds = sorted(apart.keys() & gain.keys())
    sides = [[gain[seed] * share + sign * apart[seed] for seed in seeds] for sign in (1.0, -1.0)]
    return combine_evidence([weigh_above(side) for side in sides])


def build_table(found: dict[str, dict[int, float]], caption: str, paper: dict[str, float] | None = None) -> Table:
    """Return table 8: rows by kind, columns by place, and the paper's number in brackets."""
    places, rows = ("input", "every layer", "shared"), []
    for kind in ("none", "1-D", "2-D", "relative"):
        names = [kind if place == "input" and kind not in ("1-D", "2-D") else f"{kind}, {place}" for place in places]
        cells = [find_interval(found[name].values()).percent() if name in found else "" for name in names]
        known = [f" ({100 * paper[name]:.1f})" if paper and name in paper else "" for name in names]
        rows.append([kind, *map("".join, zip(cells, known, strict=True))])
    return Table(caption, ["positions", "at the input", "in every layer", "in every layer, shared"], rows)


STUDY = Study(
    name="positions",
    title="Position embeddings (table 8)",
    question="Does it matter whether, which, and where a position embedding is added?",
    paper="ViT-B/16, ImageNet 5-shot: none 61.4%, the seven others 64.0 to 64.3%. Having one matters, which one hardly (appendix D.4, table 8).",
    here=(
        "The eight models are trained from scratch, alike in all but their positions, and measured on the validation "
        "images. Having one is called better by the mean of the seven kinds minus none; the kinds are called alike "
        "if each is shown to be less than half of that gain from that mean. Relative positions act in every layer; they stand in "
        "the first column as in the paper's table."
    ),
    cells=cells,
    conclude=conclude,
    words={"five_shot": "5-shot accuracy"},
)
