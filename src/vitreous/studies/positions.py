"""Which position embedding, and where it enters (2010.11929, appendix D.4, table 8).

The paper trained ViT-B/16 with eight kinds and places and measured ImageNet 5-shot linear accuracy: none 61.38%; learned
1-D at the input 64.21, in every layer 63.96, in every layer shared 64.29; learned 2-D 64.00, 64.05, 64.02; relative
64.03. Having one gains 2.6 points and more, which one hardly matters: the seven are within 0.33 points.

Here the same eight are trained from scratch with the same seeds. Called seen: "having one" when the 95% interval of the mean
of the seven minus none, paired by seed, lies above 0; "which one" when each kind is shown to be within 1 point of the mean
of the seven (two one-sided tests at 5%).
"""

from dataclasses import replace

from vitreous.model.config import ViTConfig
from vitreous.studies import runs
from vitreous.studies.charts import Row, dots
from vitreous.studies.statistics import average, differences, interval, judged, judged_same, within
from vitreous.studies.study import Cell, Figure, Findings, Outcomes, Setting, Study, Table, Verdict
from vitreous.training.config import RunConfig

MARGIN = 0.01
"""Accuracy within which two kinds count as the same; the paper's seven are within 0.0033."""
NONE = "none"
KINDS = {
    NONE: {"positions": "none"},
    "1-D, input": {"positions": "learned", "positions_at": "input"},
    "1-D, every layer": {"positions": "learned", "positions_at": "layers"},
    "1-D, shared": {"positions": "learned", "positions_at": "shared"},
    "2-D, input": {"positions": "learned2d", "positions_at": "input"},
    "2-D, every layer": {"positions": "learned2d", "positions_at": "layers"},
    "2-D, shared": {"positions": "learned2d", "positions_at": "shared"},
    "relative": {"positions": "relative", "positions_at": "layers"},
}
"""Table 8's cells: settings of a ViTConfig."""
PAPER = dict(zip(KINDS, (0.61382, 0.64206, 0.63964, 0.64292, 0.64001, 0.64046, 0.64022, 0.64032), strict=True))
HELPS = "having a position embedding helps"
ALIKE = f"which one hardly matters (each within {100 * MARGIN:g} point of their mean)"


def cells(setting: Setting) -> list[Cell]:
    """Return the eight kinds for each seed."""
    base = started(setting)
    assert isinstance(base.model, ViTConfig)
    groups = {kind: replace(base, model=replace(base.model, **fields)) for kind, fields in KINDS.items()}
    return runs.over_seeds(groups, setting.seeds(laptop=5))


def started(setting: Setting) -> RunConfig:
    """Return the run that all kinds share: with a [class] token, as the paper's."""
    if setting.scale == "paper":
        return runs.paper(setting)
    patches, width, depth = setting.choose(smoke=(2, 16, 2), laptop=(4, 64, 4), gpu=(8, 192, 6), paper=(0, 0, 0))
    base = runs.small(setting, patches, width, depth)
    assert isinstance(base.model, ViTConfig)
    model = replace(base.model, class_token=True, pool="class", position_init="normal")
    return replace(base, model=model, duration=setting.choose(smoke="256ex", laptop="24kex", gpu="400kex", paper=""))


def conclude(setting: Setting, outcomes: Outcomes) -> Findings:
    """Hold the kinds against none and against each other."""
    found = {kind: outcomes.by_seed(kind, "top1") for kind in KINDS}
    some = {kind: values for kind, values in found.items() if kind != NONE and values}
    mean = average(list(some.values()))
    gain = differences(mean, found[NONE])
    apart = {kind: differences(values, mean) for kind, values in some.items()}
    widest = max(apart, key=lambda kind: abs(interval(apart[kind]).mean), default=None)
    verdicts = []
    if gain:
        verdicts.append(
            Verdict(
                HELPS,
                judged(gain, "more"),
                f"The seven kinds' mean minus none: {interval(gain).points()} points (paper: +2.7).",
            )
        )
    if len(some) == len(KINDS) - 1 and widest is not None:
        shown = [kind for kind in apart if within(apart[kind], MARGIN) == "same"]
        sentence = (
            f"Furthest from the mean of the seven is {widest}, {interval(apart[widest]).points()} points; "
            f"{len(shown)} of 7 are shown to be within the margin."
        )
        verdicts.append(Verdict(ALIKE, judged_same(list(apart.values()), MARGIN), sentence))
    rows = [
        Row(kind, list(values.values()), interval(values.values()), 2 if kind == NONE else 1)
        for kind, values in found.items()
    ]
    drawn = dots(
        rows, "Validation accuracy by position embedding", "validation accuracy; mean, 95% interval, each seed"
    )
    return Findings(
        verdicts,
        [table(found)],
        [
            Figure(
                "figure",
                "Validation accuracy by kind and place of the position embedding: each seed, their mean and its 95% interval.",
                drawn,
            )
        ],
        NOTES,
    )


NOTES = ("The paper's numbers are 5-shot accuracy on ImageNet of ViT-B/16; compare the differences, not the values.",)


def table(found: dict[str, dict[int, float]]) -> Table:
    """Return table 8: rows by kind, columns by place, and the paper's number in brackets."""
    places = ("input", "every layer", "shared")
    rows = []
    for kind in ("none", "1-D", "2-D", "relative"):
        names = [kind if place == "input" and kind not in ("1-D", "2-D") else f"{kind}, {place}" for place in places]
        shown = [
            f"{interval(found[name].values()).percent()} ({100 * PAPER[name]:.1f})" if name in found else ""
            for name in names
        ]
        rows.append([kind, *shown])
    return Table(
        "Validation accuracy in percent, mean ± 95% interval over seeds (the paper's 5-shot accuracy)",
        ["positions", "at the input", "in every layer", "in every layer, shared"],
        rows,
    )


STUDY = Study(
    name="positions",
    title="Position embeddings (table 8)",
    question="Does it matter whether, which, and where a position embedding is added?",
    paper="ViT-B/16, ImageNet 5-shot: none 61.4%, the seven others 64.0 to 64.3%. Having one matters, which one hardly (appendix D.4, table 8).",
    cells=cells,
    conclude=conclude,
)
