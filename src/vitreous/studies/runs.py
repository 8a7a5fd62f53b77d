"""The small runs that studies are made of: recipe `small`, narrower where a study has minutes only."""

from dataclasses import replace

from vitreous.model.config import ViTConfig
from vitreous.recipes.catalog import configure
from vitreous.shapes import Size
from vitreous.studies.study import Setting
from vitreous.training.config import RunConfig

THUMBNAIL = 64
"""Longest side, in pixels, up to which images are seen as they are."""


def small(setting: Setting, patches: int = 4, width: int = 64, depth: int = 4) -> RunConfig:
    """Return recipe `small` for this data with a model of this shape, at one resolution throughout, seed 0.

    Args:
        setting: its data and scale.
        patches: along the shorter side of the image.
        width: of the residual stream; heads of 16 each, MLP twice as wide.
        depth: blocks.
    """
    base = configure("small", setting.request())
    rows, cols = setting.facts.size if max(setting.facts.size) <= THUMBNAIL else (64, 64)
    patch = max(1, min(rows, cols) // patches)
    image = (max(patch, rows // patch * patch), max(patch, cols // patch * patch))
    model = replace(
        base.model,
        image=image,
        patch=(patch, patch),
        width=width,
        depth=depth,
        heads=max(1, width // 16),
        mlp=2 * width,
        position_temperature=10.0 if max(image) // patch <= 8 else 10_000.0,
    )
    return seen_at(
        replace(
            base,
            model=model,
            low_resolution=1.0,
            evaluate_every="100%",
            checkpoint_every="1min",
            workers=workers(setting),
        ),
        Size(*image),
    )


def seen_at(config: RunConfig, size: Size) -> RunConfig:
    """Return the configuration with images of this size, for model and preprocessing alike."""
    augment = config.augment
    pad = min(max(1, size.rows // 8), min(size) - 1) if augment.crop == "pad" else augment.crop_pad
    assert isinstance(config.model, ViTConfig)
    return replace(
        config,
        model=replace(config.model, image=tuple(size)),
        preprocess=replace(config.preprocess, size=tuple(size)),
        augment=replace(augment, crop_pad=pad),
    )


def workers(setting: Setting) -> int | str:
    """Return how many processes load data: none for short runs on data in memory."""
    return 0 if setting.scale in ("smoke", "laptop") else "auto"


def paper(setting: Setting, name: str = "B/16") -> RunConfig:
    """Return recipe `pretrain` with a model of the paper's, on the data that was named."""
    return configure("pretrain", setting.request(model=name))
