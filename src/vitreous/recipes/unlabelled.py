"""What the recipes without labels share: their models, and settings for little data."""

from dataclasses import replace
from typing import Any

from vitreous.errors import ConfigError
from vitreous.images.config import PreprocessConfig
from vitreous.model.config import ViTConfig
from vitreous.model.kinds import find_kind, name_kind
from vitreous.model.names import build_vit_config, parse_name
from vitreous.objectives.config import ObjectiveConfig
from vitreous.recipes.options import RecipeOptions
from vitreous.recipes.small import small_vit
from vitreous.shapes import Size
from vitreous.training.config import RunConfig

MANY = 200_000
"""Number of training images from which the papers' settings are used."""


def build_model(options: RecipeOptions, **settings: Any) -> ViTConfig:
    """Return the papers' model without a head: ViT-B/16, unless another is named."""
    refuse_others(options)
    name = options.model or "B/16"
    size = options.choose_size(Size(224, 224), parse_name(name)[1])
    return build_vit_config(name, image=size, channels=options.planes, classes=0, **settings)


def build_preprocess(options: RecipeOptions, model: ViTConfig) -> PreprocessConfig:
    """Return the evaluation transform for that model."""
    return PreprocessConfig(size=model.image, mode=options.mode)


def configure_little_data(options: RecipeOptions, recipe: str, objective: ObjectiveConfig) -> RunConfig:
    """Return recipe `small-vit` with another objective: no head, no mixing, the full resolution throughout."""
    refuse_others(options)
    config = small_vit(options)
    return replace(
        config,
        recipe=recipe,
        model=replace(config.model, classes=0),
        augment=replace(config.augment, mixup=0.0, cutmix=0.0),
        objective=objective,
        schedule=replace(config.schedule, kind="cosine"),
        low_resolution=1.0,
    )


def refuse_others(options: RecipeOptions) -> None:
    """Refuse a model without patches that can be hidden one by one; raises ConfigError."""
    if options.model is not None and (kind := find_kind(options.model)) != "vit":
        lacking = (
            "no patches to hide" if kind in ("resnet", "efficientnet") else "no output for each patch that is hidden"
        )
        raise ConfigError(f"{options.model} is {name_kind(kind)}, which has {lacking}; name a ViT such as S/16")
