"""How much training data a Vision Transformer needs, compared with a ResNet (2010.11929, section 4.3, figures 3 and 4).

The paper pre-trained on growing data sets (ImageNet, ImageNet-21k, JFT-300M: figure 3, fine-tuned) and on random parts of
JFT, 9 million to 300 million images (figure 4, few-shot on frozen features, the same settings for all, early stopping).
With the least data BiT's ResNets are better, with the most the ViTs: "the convolutional inductive bias is useful for
smaller datasets, but for larger ones, learning the relevant patterns directly from data is sufficient".

No laptop holds such sets, but formulas draw any number of images. Here both models learn to distinguish 1,000 classes
of contours from 2 to 128 instances of each. They see equally many images in all, with the same optimiser, each at its
best rate in the middle of that range on another seed (`benchmarks/data_scale.py`), and keep the weights that are best
on instances held out for that. The results are measured on others: unseen instances, and few-shot, from frozen
features, unseen classes. Since accuracies near 1 are always close together, errors are compared as ratios too.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from vitreous.data.config import DataConfig
from vitreous.data.sources.subset import Subset
from vitreous.data.synthetic.formula import Formula, FormulaSource
from vitreous.drawing.charts import Series, draw_intervals
from vitreous.drawing.svg import Axis
from vitreous.evaluation.accuracy import evaluate
from vitreous.evaluation.probes.features import FeatureOptions, features
from vitreous.evaluation.probes.few_shot import few_shot
from vitreous.images.config import AugmentConfig, PreprocessConfig
from vitreous.metrics.seeds import (
    Interval,
    Verdict,
    combine_evidence,
    find_interval,
    pair_differences,
    subtract_paired,
    weigh_claim,
    weigh_difference,
)
from vitreous.metrics.seeds_and_images import Scores
from vitreous.model import count
from vitreous.model.config import ViTConfig
from vitreous.model.resnet_config import ResNetConfig, build_resnet_config
from vitreous.objectives.config import ClassifyConfig
from vitreous.predictor import Predictor
from vitreous.reports.blocks import Table
from vitreous.studies.engine import base_runs
from vitreous.studies.engine.few_shot_measure import SHOTS, add_scores
from vitreous.studies.engine.study import Cell, CellResults, Conclusion, Figure, Setting, Study, Trained
from vitreous.training.config import RunConfig, ScheduleConfig

VIT, RESNET = ARMS = ("ViT", "ResNet")
KIND = "contours"
SIZE = 32
"""Rows and columns of every image."""
HELD, TESTED = 2, 4
"""Instances of each class for choosing the weights, and for measuring accuracy."""
UNSEEN_CLASSES, DRAWN_FROM = 100, 15
"""Classes for few-shot that are never trained on; instances of each from which shots are drawn, and as many for
measuring."""
DRAWS = 10
"""Number of draws."""
RATES = {VIT: 2e-3, RESNET: 4e-3}
"""AdamW's rate for each arm: see `benchmarks/data_scale.py`."""
TESTED_ON, FEW = "unseen instances", f"{SHOTS}-shot on unseen classes"
MEASURES = {"tested": TESTED_ON, "few_shot": FEW}
LEAST = "with the fewest images the ResNet is better"
MOST = "with the most, the ViT is"
GAINS = "the ViT gains more from more images"
RATIO = "the ViT's error falls to a smaller part of itself than the ResNet's"

By = dict[tuple[str, int], dict[int, float]]
"""A number for each seed, by arm and training images."""


def list_sizes(setting: Setting) -> tuple[int, tuple[int, ...]]:
    """Return the number of classes, and the images of each in the training sets."""
    return setting.choose(
        smoke=(4, (2, 8)),
        laptop=(1000, (2, 8, 32, 128)),
        gpu=(1000, (2, 8, 32, 128, 512)),
        paper=(10_000, (100, 1000, 9000)),
    )


def cells(setting: Setting) -> list[Cell]:
    """Return each training for each seed, with the arms of a size together."""
    classes, images = list_sizes(setting)
    return [
        Cell(f"{arm}-{classes * each}-{seed}", name_group(arm, classes * each), replace(config, seed=seed), measure_run)
        for seed in setting.seeds(laptop=3, gpu=3)
        for each in images
        for arm in ARMS
        for config in [configure_run(setting, arm, classes, each, RATES[arm])]
    ]


def name_group(arm: str, images: int) -> str:
    """Name a condition."""
    return f"{arm}, {images:,} images"


def configure_run(setting: Setting, arm: str, classes: int, each: int, rate: float) -> RunConfig:
    """Return the training on `each` images of each class, for a fixed number of images seen at any size of the set."""
    formula = Formula(KIND, classes, each + HELD, size=224 if setting.scale == "paper" else SIZE)
    duration = setting.choose(smoke="64ex", laptop="200kex", gpu="4Mex", paper="630Mex")
    return RunConfig(
        recipe="small",
        data=DataConfig(str(formula), holdout=HELD / (each + HELD)),
        preprocess=PreprocessConfig(size=(formula.size, formula.size), crop=1.0),
        augment=AugmentConfig(crop="pad", crop_pad=formula.size // 8, flip=True),
        model=build_model(setting, arm, formula),
        objective=ClassifyConfig(),
        optimizer=base_runs.configure_adam(8e-4, 0.1) if setting.scale == "paper" else base_runs.configure_adam(rate),
        schedule=ScheduleConfig(kind="linear", warmup="10000st" if setting.scale == "paper" else "5%"),
        batch=setting.choose(smoke=16, laptop=128, gpu=512, paper=4096),
        duration=duration,
        evaluate_every="20%" if setting.scale == "smoke" else "10%",
        checkpoint_every="2min",
        export="best",
        workers=base_runs.choose_workers(setting),
    )


def build_model(setting: Setting, arm: str, formula: Formula) -> ViTConfig | ResNetConfig:
    """Return an arm's model; both arms of a scale take about as many operations per image."""
    given: dict[str, Any] = {
        "image": (formula.size, formula.size),
        "classes": formula.classes,
        "channels": formula.channels,
    }
    if setting.scale == "paper":
        return (
            replace(base_runs.configure_paper(setting, "B/32").model, **given)
            if arm == VIT
            else build_resnet_config("R50x1", **given)
        )
    if arm == RESNET:
        units, channels = setting.choose(smoke=((1,), 32), laptop=((1, 1, 1), 32), gpu=((2, 2, 2), 64), paper=((), 0))
        return ResNetConfig(units=units, root="7x7", root_channels=channels, **given)
    width, depth, patch = setting.choose(smoke=(16, 1, 8), laptop=(96, 4, 8), gpu=(192, 8, 4), paper=(0, 0, 0))
    shape = {"patch": (patch, patch), "width": width, "depth": depth, "heads": width // 16, "mlp_width": 2 * width}
    start = {"position_init": "sincos2d", "position_temperature": 10.0}
    return ViTConfig(**given, **shape, **start, pool="mean", class_token=False)


def measure_run(trained: Trained) -> dict[str, Any]:
    """Return accuracy on unseen instances, few-shot accuracy on unseen classes, and the run's own numbers."""
    predictor = Predictor.load(trained.folder, device=trained.config.device)
    own = {"top1": trained.metrics["top1"], "loss": trained.metrics["loss"]}
    classes, images = list_sizes(trained.setting)
    formula = Formula(KIND, classes, max(images) + HELD + TESTED, size=max(trained.config.preprocess.size))
    _, logits, labels = evaluate(predictor, FormulaSource(formula, TESTED, first=max(images) + HELD), batch=256)
    return add_scores(
        add_scores(own, "tested", Scores((logits.argmax(1) == labels).astype(float))),
        "few_shot",
        measure_unseen_classes(predictor, trained, formula),
        DRAWS,
    )


def measure_unseen_classes(predictor: Predictor, trained: Trained, formula: Formula) -> Scores:
    """Return few-shot accuracy on classes beyond the trained ones; each image's contribution is the share of the
    draws."""
    more = trained.setting.choose(smoke=4, laptop=UNSEEN_CLASSES, gpu=UNSEEN_CLASSES, paper=1000)
    beyond = replace(formula, classes=formula.classes + more, images=2 * DRAWN_FROM)
    options = FeatureOptions(batch=256, device=trained.config.device, cache=False)
    parts = []
    for first in (0, DRAWN_FROM):
        source = FormulaSource(beyond, DRAWN_FROM, first=first)
        parts.append(features(predictor, Subset(source, np.flatnonzero(source.labels >= formula.classes)), options))
    learned, tested = parts
    found = few_shot(learned, tested, classes=beyond.names[formula.classes :], shots=[SHOTS], seeds=DRAWS).at(SHOTS)
    truth = tested.labels - formula.classes
    return Scores(np.mean([labels == truth for labels in found.predicted], axis=0))


def conclude(setting: Setting, results: CellResults) -> Conclusion:
    """Compare the arms at both ends, and by their gain between the ends."""
    classes, images = list_sizes(setting)
    steps = [classes * each for each in images]
    found = {
        number: {(arm, size): results.by_seed(name_group(arm, size), number) for arm in ARMS for size in steps}
        for number in MEASURES
    }
    verdicts = [one for number, how in MEASURES.items() for one in judge(found[number], steps, how)]
    figures = [
        Figure(
            "figure" if number == "tested" else "figure-few-shot",
            f"Accuracy on {how} by the number of distinct training images, equally many seen: mean over seeds and 95% interval.",
            draw_curves(found[number], steps, how),
        )
        for number, how in MEASURES.items()
    ]
    return Conclusion(verdicts, [build_table(steps, found)], figures, list_notes(setting))


def judge(found: By, steps: list[int], how: str) -> list[Verdict]:
    """Judge the paper's findings by one measure, if it was measured."""
    least, most = steps[0], steps[-1]
    grown = {arm: subtract_paired(found[arm, most], found[arm, least]) for arm in ARMS}
    own, more = list(grown[VIT].values()), pair_differences(grown[VIT], grown[RESNET])
    fallen = pair_differences(*(measure_error_change(found, arm, least, most) for arm in ARMS))
    words = f"ResNet minus ViT at {least:,} images"
    told = weigh_difference(f"{LEAST} ({how})", words, found[RESNET, least], found[VIT, least])
    if more:
        words = (
            f"The ViT's change from {least:,} to {most:,} images: {find_interval(own).points()} points; that minus the ResNet's: "
            f"{find_interval(more).points()}."
        )
        told.append(
            Verdict(f"{GAINS} ({how})", combine_evidence([weigh_claim(own, "more"), weigh_claim(more, "more")]), words)
        )
    if fallen:
        factor = find_interval(fallen)
        words = (
            f"The ViT's error at {most:,} images over that at {least:,}, divided by the same of the ResNet: "
            f"{math.exp(factor.mean):.2f} ({math.exp(factor.low):.2f} to {math.exp(factor.high):.2f}; over seeds)."
        )
        told.append(Verdict(f"{RATIO} ({how})", weigh_claim(fallen, "less"), words))
    words = f"ViT minus ResNet at {most:,} images"
    return told + weigh_difference(f"{MOST} ({how})", words, found[VIT, most], found[RESNET, most])


def measure_error_change(found: By, arm: str, least: int, most: int) -> dict[int, float]:
    """Return the logarithm of an arm's error with the most images over that with the fewest, by seed; over seeds
    only."""
    before, after = found[arm, least], found[arm, most]
    return {
        seed: math.log((1 - float(after[seed])) / (1 - float(before[seed])))
        for seed in before.keys() & after.keys()
        if float(after[seed]) < 1 and float(before[seed]) < 1
    }


def draw_curves(found: By, steps: list[int], how: str) -> str:
    """Draw accuracy over the size of the training set, one curve for each arm."""
    lines = [
        Series(arm, [(size, find_interval(found[arm, size].values())) for size in steps if found[arm, size]], colour)
        for colour, arm in enumerate(ARMS, start=1)
    ]
    return draw_intervals(
        lines, f"Accuracy on {how} by the size of the training set", Axis("distinct training images", log=True)
    )


def build_table(steps: list[int], found: Mapping[str, By]) -> Table:
    """Return, for each size and measure, both arms' accuracy and the ratio of their errors."""
    rows = []
    for size in steps:
        row = [f"{size:,}"]
        for by in found.values():
            arms = [find_interval(by[arm, size].values()) for arm in ARMS]
            row += [*(one.percent() for one in arms), format_ratio(*arms)]
        rows.append(row)
    heads = [f"{what}, {how}" for how in MEASURES.values() for what in (*ARMS, "error ratio")]
    caption = (
        "Accuracy in percent, mean ± 95% interval over seeds and images; error ratio: the ViT's error over the ResNet's"
    )
    return Table(caption, ["images", *heads], rows)


def format_ratio(vit: Interval, resnet: Interval) -> str:
    """Format the ratio of two mean errors."""
    return f"{(1 - vit.mean) / (1 - resnet.mean):.2f}" if vit.count and resnet.count and resnet.mean < 1 else "–"


def list_notes(setting: Setting) -> tuple[str, ...]:
    """Describe what differs from the paper, and the cost of the arms."""
    classes, images = list_sizes(setting)
    configs = [configure_run(setting, arm, classes, images[0], RATES[arm]) for arm in ARMS]
    costs = " and ".join(
        f"{count.count_parameters(one.model):,} parameters and {count.count_flops(one.model) / 1e6:,.1f} million operations an image for the {arm}"
        for one, arm in zip(configs, ARMS, strict=True)
    )
    return (
        f"The models: {costs}.",
        "The images are contours, not photographs, and the task is to distinguish them rather than to transfer "
        "to another one; the paper's sets begin where this study's largest ends. The seeds are those of weights "
        "and order: all learn from the same images.",
        f"Both see {configs[0].duration.removesuffix('ex')} images at every size of the set, by AdamW at "
        f"{RATES[VIT]:g} (ViT) and {RATES[RESNET]:g} (ResNet), and keep the weights that are best on {HELD} "
        "held-out instances of each class.",
        f"Few-shot is the mean of {DRAWS} draws of {SHOTS} images of each class, for classes that were not trained on.",
        "The data that is named is not used: formulas draw all images.",
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
        "Both learn to tell apart classes of contours, drawn from formulas, from growing sets of images: more "
        "instances of the same classes, and equally many images seen, whatever the size of the set. Both are trained by "
        "AdamW, each at the rate that was best for it on another seed, and keep the weights that are best on held-out "
        "instances. They are measured on instances that nobody has seen, and by 5-shot accuracy on unseen classes."
    ),
    cells=cells,
    conclude=conclude,
    words={"tested": f"accuracy on {TESTED_ON}", "few_shot": FEW, "top1": "top-1 accuracy on the held-out instances"},
)
