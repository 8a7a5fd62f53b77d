"""DeiT: ViTs on ImageNet alone, by a teacher (2012.12877), or by augmentation and regularisation (DeiT-III, 2204.07118)."""

from dataclasses import replace
from typing import Any

from vitreous.errors import ConfigError
from vitreous.images.config import IMAGENET_MEAN, IMAGENET_STD, AugmentConfig, PreprocessConfig
from vitreous.model.config import BlockConfig, RegularisationConfig, ViTConfig
from vitreous.model.kinds import find_kind, name_kind
from vitreous.model.names import build_vit_config, parse_name
from vitreous.objectives.config import ClassifyConfig
from vitreous.recipes.options import RecipeOptions
from vitreous.recipes.small import small_vit
from vitreous.recipes.unlabelled import MANY
from vitreous.shapes import Size
from vitreous.training.config import OptimizerConfig, RunConfig, ScheduleConfig

VIEWS = 3
"""Views of each image in a batch."""
LAYER_SCALE = 1e-4
"""Initial factor on each branch's output in DeiT-III."""
DEPTHS = {"Ti": 0.0, "S": 0.05, "B": 0.2, "L": 0.45, "H": 0.6}
"""Stochastic depth of DeiT-III by size (README_revenge.md of the authors' code); Ti, which they don't train, has none."""


def deit(options: RecipeOptions) -> RunConfig:
    """Train a ViT as DeiT does (2012.12877, table 9): strong augmentation, and with a teacher a distillation token.

    On hundreds of thousands of images as the authors on ImageNet: ViT-B/16 at 224 px, AdamW from 5e-4 for each 512 images
    of a batch of 1024, weight decay 0.05, 5 epochs of warm-up, cosine to 1e-5, 300 epochs; RandAugment (2, 9), mixup 0.8 or
    cutmix 1.0, random erasing 0.25, three views of each image in a batch, stochastic depth 0.1, label smoothing 0.1. The
    teacher's label counts as much as the data's (hard distillation). On less data the model, the optimizer and the length
    of recipe `small-vit`, with [class] and, with a teacher, the distillation token.

    Reached: by the authors DeiT-B 81.8% on ImageNet, and 83.4% by a RegNetY-16GF as teacher (their README). Not run here;
        `benchmarks/distillation.py` holds it against the same ViT without a teacher, on CIFAR-10 at equal time.
    """
    token = options.teacher is not None
    if options.facts.train < MANY:
        return configure_little_data(options, "deit", token=token)
    model = build_model(options, distillation_token=token)
    batch = options.batch(1024)
    return RunConfig(
        recipe="deit",
        data=options.data,
        preprocess=build_preprocess(options, model, crop=0.875),
        augment=AugmentConfig(
            crop="inception",
            crop_area=(0.08, 1.0),
            flip=True,
            randaugment=(2, 9) if has_colours(options) else (0, 10.0),
            erase=0.25,
            mixup=0.8,
            cutmix=1.0,
            views=VIEWS,
        ),
        model=model,
        regularisation=RegularisationConfig(drop_path=0.1),
        objective=ClassifyConfig(smoothing=0.1),
        optimizer=OptimizerConfig(
            name="adamw", lr=5e-4, batch_rule="linear", base_batch=512, weight_decay=0.05, decoupled=False, clip=0.0
        ),
        schedule=ScheduleConfig(kind="cosine", warmup="5ep,11%", final=0.01),
        duration=f"{options.minutes:g}min" if options.minutes else "300ep",
        batch=batch,
        export="last",
    )


def deit_iii(options: RecipeOptions) -> RunConfig:
    """Train a ViT as DeiT-III does on ImageNet-1k (2204.07118, table 1): 3-Augment, a sigmoid for each class, layer scale.

    ViT-B/16 at 224 px, positions for patches alone, layer scale from 1e-4, batch 2048, weight decay 0.05, 5 epochs of warm-up, cosine,
    800 epochs; random area crops, 3-Augment, colour jitter 0.3, mixup 0.8 or cutmix 1.0, three views of each image in a batch,
    stochastic depth by size, no smoothing; evaluated on the whole image. The authors' optimizer is LAMB at 0.003, and they train B at 192 px
    before 20 epochs at 224; here it is AdamW at DeiT's rate, unless another is named (--optimizer module:Class). In their code both
    classes of a mixed image have the target 1, here each its share. On less data the model, the optimizer and the length of recipe `small-vit`, with [class], layer scale and the sigmoids.

    Reached: by the authors ViT-S 81.4%, B 83.8%, L 84.9% and H 85.2% on ImageNet (their README). Not run here.
    """
    objective = ClassifyConfig(loss="sigmoid", head_bias_init=0.0)
    if options.facts.train < MANY:
        config = configure_little_data(options, "deit-iii", token=False)
        assert isinstance(config.model, ViTConfig)
        block = replace(config.model.block, layer_scale=LAYER_SCALE)
        return replace(config, model=replace(config.model, block=block), objective=objective)
    block = BlockConfig(layer_scale=LAYER_SCALE)
    model = build_model(options, block=block, positioned_tokens="patches")
    size = (options.model or "B/16").partition("/")[0]
    colours = has_colours(options)
    return RunConfig(
        recipe="deit-iii",
        data=options.data,
        preprocess=build_preprocess(options, model, crop=1.0),
        augment=AugmentConfig(
            crop="inception",
            crop_area=(0.08, 1.0),
            flip=True,
            three_augment=colours,
            colour_jitter=0.3 if colours else 0.0,
            mixup=0.8,
            cutmix=1.0,
            views=VIEWS,
        ),
        model=model,
        regularisation=RegularisationConfig(drop_path=DEPTHS.get(size, 0.0), drop_path_schedule="constant"),
        objective=objective,
        optimizer=OptimizerConfig(
            name="adamw", lr=5e-4, batch_rule="linear", base_batch=512, weight_decay=0.05, decoupled=False, clip=1.0
        ),
        schedule=ScheduleConfig(kind="cosine", warmup="5ep,11%"),
        duration=f"{options.minutes:g}min" if options.minutes else "800ep",
        batch=options.batch(2048),
        export="last",
    )


def configure_little_data(options: RecipeOptions, recipe: str, *, token: bool) -> RunConfig:
    """Return recipe `small-vit` for a ViT that reads [class] and, if `token`, has a distillation token."""
    refuse_others(options)
    config = small_vit(options)
    assert isinstance(config.model, ViTConfig)
    model = replace(config.model, class_token=True, pool="class", distillation_token=token)
    return replace(config, recipe=recipe, model=model)


def build_model(options: RecipeOptions, **settings: Any) -> ViTConfig:
    """Return the papers' model: ViT-B/16, unless another ViT is named."""
    refuse_others(options)
    name = options.model or "B/16"
    size = options.choose_size(Size(224, 224), parse_name(name)[1])
    classes = len(options.facts.classes)
    return build_vit_config(name, image=size, channels=options.planes, classes=classes, **settings)


def build_preprocess(options: RecipeOptions, model: ViTConfig, crop: float) -> PreprocessConfig:
    """Return the evaluation transform, with ImageNet's constants for colours."""
    config = PreprocessConfig(size=model.image, mode=options.mode, crop=crop)
    return replace(config, mean=IMAGENET_MEAN, std=IMAGENET_STD) if has_colours(options) else config


def has_colours(options: RecipeOptions) -> bool:
    """Return whether images are in colours of 8 bits."""
    return options.mode == "RGB"


def refuse_others(options: RecipeOptions) -> None:
    """Refuse a model that can't read a [class] token; raises ConfigError."""
    name = options.model
    if name is not None and (find_kind(name) != "vit" or name.startswith("Axial")):
        what = "an Axial-ViT" if name.startswith("Axial") else name_kind(find_kind(name))
        raise ConfigError(
            f"{name} is {what}, which has no [class] token; name a ViT such as S/16, or give --teacher with another recipe"
        )
