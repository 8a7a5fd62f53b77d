"""How much pre-training data a Vision Transformer needs, beside a ResNet (2010.11929, section 4.3, figures 3 and 4).

The paper pre-trained on growing data sets (ImageNet, ImageNet-21k, JFT-300M: figure 3, fine-tuned) and on random parts of
JFT, 9 million to 300 million images (figure 4, few-shot on frozen features, the same settings for all, early stopping).
With the least data BiT's ResNets transfer better, with the most the ViTs: "the convolutional inductive bias is useful for
smaller datasets, but for larger ones, learning the relevant patterns directly from data is sufficient".

Here both are pre-trained on growing sets of images from formulas (fractals; the larger a set, the more instances of the
same classes), for equally many images seen, each as recipe `small` trains it (a ViT with mean pooling by Muon, a ResNet by
AdamW), whatever the size of the set, keeping the weights that are best on held-out instances; then transferred to the real
images that were named. Called seen when the 95% interval of the differences, paired by seed, says so. That the ViT leads with the
most data tells of data only if it leads by more than without any, and that it gains by more only if it gains at all.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vitreous.checkpoints.folder import ModelFolder
from vitreous.data.config import DataConfig
from vitreous.data.formula import Formula
from vitreous.model import count
from vitreous.model.config import ViTConfig
from vitreous.model.kinds import create
from vitreous.model.resnet_config import ResNetConfig, named_resnet
from vitreous.objectives.config import ClassifyConfig
from vitreous.predict import Predictor
from vitreous.recipes.small import ADAMW
from vitreous.studies import runs
from vitreous.studies.charts import Axis, Curve, curves
from vitreous.studies.measures import SHOTS, five_shot, with_each
from vitreous.studies.statistics import all_of, differences, interval, judged, paired
from vitreous.studies.study import (
    Cell,
    Evidence,
    Figure,
    Findings,
    Outcomes,
    Setting,
    Study,
    Table,
    Trained,
    Verdict,
    accuracy,
)
from vitreous.training.config import RunConfig, ScheduleConfig

VIT, RESNET = ARMS = ("ViT", "ResNet")
HELD = 5
"""Instances of each class that pre-training is measured on, beside those it learns from."""
DRAWS = 10
"""How often the real images that few-shot learns from are drawn."""
FEW, TUNED = "few-shot", "fine-tuned"
LEAST = "with the least pre-training data the ResNet transfers better"
MOST = "with the most, the ViT does"
GAINS = "the ViT gains more from more data"

By = dict[tuple[str, int], dict[int, float]]
"""A number of each seed, by arm and pre-training images."""


def sizes(setting: Setting) -> tuple[int, tuple[int, ...]]:
    """Return the classes of the pre-training sets, and how many images of each they have."""
    return setting.choose(
        smoke=(4, (2, 8)), laptop=(100, (5, 40, 320)), gpu=(500, (5, 20, 80, 320)), paper=(10_000, (100, 1000, 9000))
    )


def cells(setting: Setting) -> list[Cell]:
    """Return, for each seed and arm, training without pre-training, and each pre-training with its fine-tuning."""
    classes, images = sizes(setting)
    rate, duration = setting.choose(
        smoke=(0.01, "64ex"), laptop=(0.03, "16kex"), gpu=(0.03, "100kex"), paper=(0.03, "10Mex")
    )
    found = []
    for seed in setting.seeds(laptop=3, gpu=3):
        for arm in ARMS:
            target = replace(started(setting, arm), seed=seed)
            scratch = replace(runs.fine_tuned(target, "", rate, duration), weights=None)
            found.append(Cell(f"{arm}-0-{seed}", group(arm, 0, TUNED), scratch, untrained))
            for each in images:
                start = f"{arm}-{classes * each}-{seed}"
                before = pretraining(setting, target, classes, each)
                found.append(Cell(start, group(arm, classes * each, FEW), before, transferred))
                tuned = runs.fine_tuned(target, str(setting.run(start)), rate, duration)
                found.append(
                    Cell(
                        f"{arm}-{classes * each}-tuned-{seed}", group(arm, classes * each, TUNED), tuned, needs=(start,)
                    )
                )
    return found


def group(arm: str, images: int, how: str) -> str:
    """Name a condition."""
    return f"{arm}, {images:,} images, {how}" if images else f"{arm}, not pre-trained"


def started(setting: Setting, arm: str) -> RunConfig:
    """Return the run on the real data that an arm's pre-training and fine-tuning are made from."""
    width, depth, units = setting.choose(
        smoke=(16, 1, (1,)), laptop=(96, 4, (1, 1, 1)), gpu=(192, 6, (2, 2, 2)), paper=(0, 0, ())
    )
    base = runs.paper(setting, "B/32") if setting.scale == "paper" else runs.small(setting, 4, width, depth)
    old = base.model
    assert isinstance(old, ViTConfig)
    batch = setting.choose(smoke=64, laptop=64, gpu=256, paper=512)
    base = replace(base, augment=replace(base.augment, mixup=0.0), objective=ClassifyConfig(), batch=batch)
    if arm == VIT:
        return replace(base, model=replace(old, pre_logits=False, dropout=0.0))
    shared = {"image": old.image, "channels": old.channels, "classes": old.classes}
    if setting.scale == "paper":
        return replace(base, model=named_resnet("R50x1", **shared))
    root = "7x7" if min(old.image) >= 32 else "3x3"
    model = ResNetConfig(units=units, root=root, root_channels=32, **shared)
    return replace(base, model=model, optimizer=ADAMW)


def pretraining(setting: Setting, target: RunConfig, classes: int, each: int) -> RunConfig:
    """Return the pre-training on `each` images of each class: so many images seen, whatever the size of the set."""
    model = target.model
    colours = "rgb" if model.channels == 3 else "grey"
    formula = Formula("fractals", classes, each + HELD, size=max(model.image), colours=colours)
    warmup, duration = setting.choose(
        smoke=("10%", "64ex"), laptop=("10%", "40kex"), gpu=("10%", "600kex"), paper=("10000st", "630Mex")
    )
    return replace(
        target,
        data=DataConfig(str(formula), holdout=HELD / (each + HELD)),
        model=replace(model, classes=classes),
        optimizer=runs.adam(8e-4, 0.1) if setting.scale == "paper" else target.optimizer,
        schedule=ScheduleConfig(kind="linear", warmup=warmup),
        augment=replace(target.augment, flip=True),
        batch=4096 if setting.scale == "paper" else min(target.batch, classes * each),
        duration=duration,
        evaluate_every="20%",
        export="best",
    )


def transferred(trained: Trained) -> dict[str, Any]:
    """Return accuracy on formula images, and few-shot accuracy on the real ones."""
    predictor = Predictor.load(trained.folder, device=trained.config.device)
    return {**accuracy(trained), FEW: five_shot(predictor, trained, trained.setting.data, DRAWS)}


def untrained(trained: Trained) -> dict[str, Any]:
    """Return accuracy, and few-shot accuracy of the weights that this run, which had no others, began with."""
    config, classes = trained.config, trained.setting.facts.classes
    model = ModelFolder(create(config.model, config.seed), config.preprocess, config.decode, classes)
    return with_each(accuracy(trained), FEW, five_shot(model, trained, trained.setting.data, DRAWS), DRAWS)


def conclude(setting: Setting, outcomes: Outcomes) -> Findings:
    """Hold the arms against each other at both ends, and by what they gain between them."""
    classes, images = sizes(setting)
    steps = [classes * each for each in images]
    few, tuned, before = (
        {(arm, size): outcomes.by_seed(group(arm, size, how), number) for arm in ARMS for size in steps}
        for how, number in ((FEW, FEW), (TUNED, "top1"), (FEW, "top1"))
    )
    bare = {number: {arm: outcomes.by_seed(group(arm, 0, TUNED), number) for arm in ARMS} for number in (FEW, "top1")}
    captions = (
        f"Figure 4: {SHOTS}-shot accuracy on the real images, from frozen features, by the size of the pre-training set; "
        "level lines: features of weights that were never trained.",
        "Figure 3: accuracy on the real images after fine-tuning, by the size of the pre-training set; level lines: without any.",
    )
    parts = (("figure", few, bare[FEW]), ("figure-fine-tuned", tuned, bare["top1"]))
    figures = [
        Figure(name, f"{caption} Mean over seeds and 95% interval.", drawn(found, steps, level))
        for (name, found, level), caption in zip(parts, captions, strict=True)
    ]
    verdicts = [*judge(few, steps, bare[FEW], f"{SHOTS}-shot"), *judge(tuned, steps, bare["top1"], TUNED)]
    return Findings(verdicts, [table(steps, bare, before, few, tuned)], figures, notes(setting))


def judge(found: By, steps: list[int], bare: Mapping[str, Mapping[int, float]], how: str) -> list[Verdict]:
    """Return what one way of transfer says of the paper's three findings, as far as it was measured.

    Args:
        found: accuracy on the real images.
        steps: sizes of the pre-training sets, smallest first.
        bare: accuracy of each arm without pre-training.
        how: the way of transfer, in words.
    """
    least, most = steps[0], steps[-1]
    ahead = {size: paired(found[VIT, size], found[RESNET, size]) for size in (least, most)}
    unaided = paired(bare[VIT], bare[RESNET])
    behind = [-gap for gap in ahead[least].values()]
    grown = {arm: paired(found[arm, most], found[arm, least]) for arm in ARMS}
    own, more = list(grown[VIT].values()), differences(grown[VIT], grown[RESNET])
    without = f" (without pre-training: {interval(unaided.values()).points()})" if unaided else ""
    told = []
    if behind:
        words = f"ResNet minus ViT at {least:,} images: {interval(behind).points()} points."
        told.append(Verdict(f"{LEAST} ({how})", judged(behind, "more"), words))
    if ahead[most]:
        words = f"ViT minus ResNet at {most:,} images: {interval(ahead[most].values()).points()} points{without}."
        told.append(Verdict(f"{MOST} ({how})", overtaken(ahead[most], unaided), words))
    if more:
        words = (
            f"The ViT's change from {least:,} to {most:,} images: {interval(own).points()} points; that minus the ResNet's: "
            f"{interval(more).points()}."
        )
        told.append(Verdict(f"{GAINS} ({how})", all_of([judged(own, "more"), judged(more, "more")]), words))
    return told


def overtaken(ahead: Mapping[int, float], unaided: Mapping[int, float]) -> Evidence:
    """Judge whether the ViT leads, and by more than it does without pre-training, as far as that was measured."""
    leads = judged(list(ahead.values()), "more")
    brought = differences(ahead, unaided)
    return replace(leads, seen=max(leads.seen, judged(brought, "more").seen)) if brought else leads


def drawn(found: By, steps: list[int], bare: Mapping[str, Mapping[int, float]]) -> str:
    """Draw accuracy over the size of the pre-training set, an arm a curve, and a level line for it without any."""
    lines = []
    for colour, arm in enumerate(ARMS, start=1):
        points = [(size, interval(found[arm, size].values())) for size in steps if found[arm, size]]
        lines.append(Curve(arm, points, colour))
        if bare[arm]:
            level = interval(bare[arm].values())
            lines.append(Curve(f"{arm}, not pre-trained", [(steps[0], level), (steps[-1], level)], colour + 2))
    return curves(
        lines, "Accuracy on real images by the size of the pre-training set", Axis("pre-training images", log=True)
    )


def table(steps: list[int], bare: Mapping[str, Mapping[str, Mapping[int, float]]], *parts: By) -> Table:
    """Return every condition with what it came to: on held-out formula images, few-shot, fine-tuned."""
    rows = []
    for arm in ARMS:
        rows.append([arm, "0", "–", *(interval(bare[number][arm].values()).percent() for number in (FEW, "top1"))])
        for size in steps:
            rows.append([arm, f"{size:,}", *(interval(part[arm, size].values()).percent() for part in parts)])
    heads = ["model", "pre-training images", "held-out formula images", f"real, {SHOTS}-shot", "real, fine-tuned"]
    return Table("Accuracy in percent, mean ± 95% interval over seeds", heads, rows)


def notes(setting: Setting) -> tuple[str, ...]:
    """Say what differs from the paper, and what the arms cost."""
    models = [started(setting, arm).model for arm in ARMS]
    costs = " and ".join(
        f"{count.parameters(model):,} parameters and {count.flops(model) / 1e6:,.1f} million operations an image for the {arm}"
        for arm, model in zip(ARMS, models, strict=True)
    )
    return (
        f"The models: {costs}.",
        "Pre-training images are fractals, not photographs, so little of what is learned need carry over; the paper's sets begin "
        "where this study's largest ends. The seeds are those of weights and order: all pre-train on the same images.",
        "Pre-training sees equally many images whatever the size of the set, and keeps the weights that are best on held-out "
        "formula images; the real images choose nothing.",
        f"Few-shot is the mean of {DRAWS} draws of {SHOTS} images a class. Fine-tuning is short, by SGD at one rate for both.",
    )


STUDY = Study(
    name="data-scale",
    title="How much pre-training data (figures 3 and 4)",
    question="Does a Vision Transformer need more pre-training data than a ResNet, and overtake it when there is enough?",
    paper=(
        "Pre-trained on 9 million images of JFT, ViT-B/32 is much worse than a ResNet50 of about its cost (5-shot, ImageNet); on 90 "
        "million and more it is better; the same goes for ViT-L/16 and ResNet152x2 (section 4.3, figure 4). Figure 3 shows it fine-tuned."
    ),
    here=(
        "Both are pre-trained on growing sets of fractals, drawn from formulas: the larger a set, the more instances "
        "of the same classes, and equally many images seen, whatever its size. The ViT is trained by Muon, the "
        "ResNet by AdamW. Then they are transferred to the real images: few-shot on frozen features, and fine-tuned. "
        "That the ViT leads with the most data is called seen only if it leads by more than without pre-training; "
        "that it gains by more, only if it gains at all."
    ),
    cells=cells,
    conclude=conclude,
    words={
        FEW: f"{SHOTS}-shot accuracy on the real images",
        "top1": "top-1 accuracy; of pre-training, on held-out formula images",
    },
)
