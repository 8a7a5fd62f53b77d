"""Noisy Student: from scratch on labelled images, and on images that a teacher labels (1911.04252)."""

from dataclasses import replace

from vitreous.images.config import AugmentConfig
from vitreous.model.config import RegularisationConfig
from vitreous.model.efficientnet_config import EfficientNetConfig
from vitreous.model.resnet_config import ResNetConfig
from vitreous.recipes.options import RecipeOptions
from vitreous.recipes.pretrain import pretrain
from vitreous.recipes.small import TINY, small
from vitreous.recipes.unlabelled import MANY
from vitreous.training.config import OptimizerConfig, RunConfig

RATIO, PAPER_RATIO = 3.0, 14.0
"""Pseudo-labelled images for each labelled one in a batch."""
MODEL, BATCH = "EfficientNet-B7", 2048
"""The paper's first model, and its labelled images in a batch."""
LARGER = ("EfficientNet-B5", "EfficientNet-B6", "EfficientNet-B7", "EfficientNet-L2")
"""Models that the paper trains for 350 epochs; the others for 700."""

HEAD_ALONE = (EfficientNetConfig, ResNetConfig)
"""Models whose dropout is before the head alone, as in the paper; others have it in every block, where a half would be too much."""


def noisy_student(options: RecipeOptions) -> RunConfig:
    """Configure a student, and likewise its first teacher, which learns from the labelled images alone (`self_training/rounds.py`).

    On hundreds of thousands of labelled images as the paper on ImageNet (section 3.1): EfficientNet-B7, trained as by recipe
    `pretrain`, noised by RandAugment (2, 27), dropout 0.5 before the head and stochastic depth 0.2; 2,048 labelled images in a
    batch with 14 times as many pseudo-labelled ones; 350 epochs of the labelled images, 700 for models up to B4. Where
    `pretrain` differs from the paper (SGD for RMSProp, cosine for steps of 0.97), so does this. On fewer, recipe `small` with
    milder noise, and 3 times as many pseudo-labelled images.

    Reached: by the paper EfficientNet-L2 88.4% on ImageNet with 300 million unlabelled images. Not run here at that
        size; study `self-training` has the laptop's.
    """
    if options.facts.train >= MANY:
        return configure_paper(options)
    config = small(options)
    period = int(1 + RATIO)
    tiny = max(config.model.image) <= TINY or config.preprocess.keeps_channels
    return replace(
        config,
        recipe="noisy-student",
        teacher=options.teacher,
        data=replace(config.data, pseudo_ratio=RATIO),
        augment=config.augment if tiny else replace(config.augment, randaugment=(1, 5.0)),
        regularisation=RegularisationConfig(dropout=0.1, drop_path=0.05),
        batch=max(period, config.batch // period * period),
    )


def count_labelled_alone(config: RunConfig, period: int) -> OptimizerConfig:
    """Return the optimizer of a configuration whose rate follows the labelled images of a batch, one in each `period`."""
    optimizer = config.optimizer
    if optimizer.batch_rule == "linear":
        return replace(optimizer, base_batch=optimizer.base_batch * period)
    return replace(optimizer, lr=optimizer.lr * BATCH / config.batch)


def configure_paper(options: RecipeOptions) -> RunConfig:
    """Configure the paper's model, noise and lengths."""
    name = options.model or MODEL
    config = pretrain(replace(options, model=name))
    period = int(1 + PAPER_RATIO)
    colours = options.planes == 3 and not isinstance(options.mode, int)
    epochs = 350 if name in LARGER or not name.startswith("EfficientNet") else 700
    return replace(
        config,
        recipe="noisy-student",
        teacher=options.teacher,
        data=replace(config.data, pseudo_ratio=PAPER_RATIO),
        augment=replace(config.augment, randaugment=(2, 27.0) if colours else AugmentConfig().randaugment),
        regularisation=RegularisationConfig(
            dropout=0.5 if isinstance(config.model, HEAD_ALONE) else 0.1, drop_path=0.2
        ),
        optimizer=count_labelled_alone(config, period),
        duration=f"{options.minutes:g}min" if options.minutes else f"{epochs}ep",
        batch=BATCH * period,
    )
