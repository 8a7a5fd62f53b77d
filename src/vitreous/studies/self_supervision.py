"""Pre-training without labels: masked patches and a masked autoencoder (2010.11929, section 4.6 and appendix B.1.2).

The paper pre-trained ViT-B/16 on JFT-300M by masked patch prediction and fine-tuned it on ImageNet: 79.9%, about 2 points above
training from scratch, and 4 below supervised pre-training. The masked autoencoder (2111.06377) came later; it is held
against scratch likewise.

Here a model is pre-trained on half of the classes, with labels, by masked patches or as a masked autoencoder, for equally
many images, and fine-tuned on few labelled images of the other half; "scratch" is the same fine-tuning from nothing, with
the same optimiser. Called seen when the 95% interval of the paired differences of the fine-tuned models says so.
"""

from dataclasses import replace
from functools import partial
from typing import Any

from vitreous.model.config import ViTConfig
from vitreous.objectives.config import MaskedAutoencoderConfig, MaskedPatchesConfig, ObjectiveConfig
from vitreous.recipes.catalog import configure
from vitreous.recipes.unlabelled import MANY
from vitreous.studies import runs
from vitreous.studies.charts import Row, dots
from vitreous.studies.halves import halves, write_halves
from vitreous.studies.statistics import differences, interval, judged
from vitreous.studies.study import Cell, Figure, Findings, Outcomes, Setting, Study, Table, Trained, Verdict, accuracy
from vitreous.training.config import RunConfig

SCRATCH, SUPERVISED, PATCHES, AUTOENCODER = "scratch", "supervised", "masked patches", "masked autoencoder"
WAYS = (SUPERVISED, PATCHES, AUTOENCODER)
RECIPES = {PATCHES: "masked-patches", AUTOENCODER: "mae"}
RATE = 1e-3
"""Of Adam in fine-tuning, the same for all."""
CLAIMS = (
    ("masked patch prediction is better than training from scratch", PATCHES, SCRATCH, "+2"),
    ("supervised pre-training is better than masked patch prediction", SUPERVISED, PATCHES, "+4"),
    ("a masked autoencoder is better than training from scratch (2111.06377's claim)", AUTOENCODER, SCRATCH, ""),
)
"""Claim, the condition that should be above the other, and the paper's difference in points."""


def cells(setting: Setting) -> list[Cell]:
    """Return, for each seed, each pre-training on the source and the fine-tuning on the target, and that from scratch."""
    labelled = setting.choose(smoke=10, laptop=200, gpu=500, paper=None)
    source, target = halves(setting, labelled)
    prepare = partial(write_halves, labelled=labelled)
    found = []
    for seed in setting.seeds(laptop=3, gpu=4, paper=1):
        scratch = replace(last(target, None), seed=seed)
        found.append(Cell(f"{SCRATCH}-{seed}", SCRATCH, scratch, prepare=prepare))
        for way in WAYS:
            start = f"pre-trained-{runs.slug(way)}-{seed}"
            measure = accuracy if way == SUPERVISED else loss
            config = replace(first(source, way), seed=seed)
            found.append(Cell(start, f"pre-trained, {way}", config, measure, prepare=prepare))
            config = replace(last(target, str(setting.run(start))), seed=seed)
            found.append(Cell(f"{runs.slug(way)}-{seed}", way, config, needs=(start,)))
    return found


def loss(trained: Trained) -> dict[str, Any]:
    """Return the objective's loss on the validation images: a run without labels has no accuracy."""
    return {"loss": trained.metrics["loss"]}


def base(setting: Setting) -> RunConfig:
    """Return the run that all share: 8 x 8 patches, so that hiding most of them leaves something to see."""
    if setting.scale == "paper":
        return runs.paper(setting)
    patches = 4 if min(setting.facts.size) < 16 else 8
    width, depth = setting.choose(smoke=(32, 1), laptop=(64, 4), gpu=(192, 8), paper=(0, 0))
    return runs.small(setting, patches, width, depth)


def first(setting: Setting, way: str) -> RunConfig:
    """Return a pre-training on the source."""
    if setting.scale == "paper":
        plain = runs.paper(setting)
        if way == SUPERVISED:
            return plain
        many = replace(setting, facts=replace(setting.facts, train=max(MANY, setting.facts.train)))
        config = configure(RECIPES[way], many.request())  # the paper's settings, however few images there are
        assert isinstance(plain.model, ViTConfig)
        return replace(config, model=replace(plain.model, classes=0, pre_logits=False, dropout=0.0))
    config = replace(base(setting), duration=setting.choose(smoke="64ex", laptop="32kex", gpu="800kex", paper=""))
    if way == SUPERVISED:
        return config
    assert isinstance(config.model, ViTConfig)
    return replace(
        config,
        recipe=RECIPES[way],
        model=replace(config.model, classes=0),
        objective=objective(way, config.model.width),
        augment=replace(config.augment, mixup=0.0),
    )


def objective(way: str, width: int) -> ObjectiveConfig:
    """Return what is optimised without labels; the autoencoder's decoder is half as wide as the model, of 2 blocks."""
    if way == PATCHES:
        return MaskedPatchesConfig()
    half = max(32, width // 2)
    return MaskedAutoencoderConfig(width=half, depth=2, heads=half // 16)


def last(setting: Setting, weights: str | None) -> RunConfig:
    """Return the fine-tuning on the target, or the same from scratch; the paper's scratch is its training on ImageNet."""
    if setting.scale == "paper":
        plain = base(setting)
        assert isinstance(plain.model, ViTConfig)
        if weights is None:
            return plain
        plain = replace(plain, model=replace(plain.model, pre_logits=False, dropout=0.0), batch=512)
        return runs.fine_tuned(plain, weights, 0.03, "20000st")
    duration = setting.choose(smoke="64ex", laptop="6kex", gpu="60kex", paper="")
    config = runs.fine_tuned(base(setting), weights or "", RATE, duration)
    return replace(config, weights=weights, optimizer=runs.adam(RATE))


def conclude(setting: Setting, outcomes: Outcomes) -> Findings:
    """Hold the ways to start against each other."""
    found = {way: outcomes.by_seed(way, "top1") for way in (SCRATCH, PATCHES, AUTOENCODER, SUPERVISED)}
    verdicts = []
    for claim, one, other, paper in CLAIMS:
        gain = differences(found[one], found[other])
        if gain:
            words = f"{one} minus {other}: {interval(gain).points()} points" + (f" (paper: {paper})." if paper else ".")
            verdicts.append(Verdict(claim, judged(gain, "more"), words.capitalize()))
    rows = [
        Row(way, list(values.values()), interval(values.values()), 2 if way == SCRATCH else 1)
        for way, values in found.items()
    ]
    label = "Validation accuracy after fine-tuning, by what came before"
    drawn = dots(rows, label, "validation accuracy; mean, 95% interval, each seed")
    shown = [[way, interval(values.values()).percent()] for way, values in found.items()]
    table = Table(
        "Validation accuracy in percent on the target, mean ± 95% interval over seeds",
        ["pre-training", "accuracy"],
        shown,
    )
    return Findings(verdicts, [table], [Figure("figure", f"{label}.", drawn)], NOTES)


NOTES = (
    "What is learned without labels grows slowly: the paper pre-trains for 1,000,000 steps of 4,096 images, with diminishing returns after "
    "100,000.",
    "Source and target are halves of one data set, so that labels of the source tell much about the target too.",
)

STUDY = Study(
    name="self-supervision",
    title="Pre-training without labels (section 4.6)",
    question="Is pre-training without labels better than none, and how far from pre-training with labels?",
    paper=(
        "Masked patch prediction on JFT-300M, fine-tuned on ImageNet: ViT-B/16 79.9%, 2 points above training from scratch and 4 "
        "below supervised pre-training (section 4.6, appendix B.1.2)."
    ),
    here=(
        "A model is pre-trained on half of the classes, with labels, by masked patches or as a masked autoencoder, "
        "for equally many images, and fine-tuned on few labelled images of the other half; scratch is the same "
        "fine-tuning from nothing."
    ),
    cells=cells,
    conclude=conclude,
)
