"""The small runs of studies: recipe `small`, narrower where a study has only minutes."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from vitreous.model.config import ViTConfig
from vitreous.recipes.catalog import configure
from vitreous.shapes import Size
from vitreous.studies.engine.study import Cell, Measure, Setting, measure_accuracy
from vitreous.training.config import OptimizerConfig, RunConfig, ScheduleConfig

THUMBNAIL = 64
"""Longest side, in pixels, up to which images are used at their own size."""


def configure_small(setting: Setting, patches: int = 4, width: int = 64, depth: int = 4) -> RunConfig:
    """Return recipe `configure_small` for this data with a model of this shape, at one resolution throughout, seed 0.

    Args:
        setting: its data and scale.
        patches: along the shorter side of the image.
        width: of the residual stream; heads of 16 each, MLP twice as wide.
        depth: blocks.
    """
    base = configure("small-vit", setting.make_recipe_options())
    assert isinstance(base.model, ViTConfig)
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
        mlp_width=2 * width,
        position_temperature=10.0 if max(image) // patch <= 8 else 10_000.0,
    )
    return set_size(
        replace(
            base,
            model=model,
            low_resolution=1.0,
            evaluate_every="100%",
            checkpoint_every="1min",
            batch=min(base.batch, 64) if setting.scale in ("smoke", "laptop") else base.batch,
            workers=choose_workers(setting),
        ),
        Size(*image),
    )


def set_size(config: RunConfig, size: Size) -> RunConfig:
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


def choose_workers(setting: Setting) -> int | str:
    """Return the number of processes that load data: none for short runs on data in memory."""
    return 0 if setting.scale in ("smoke", "laptop") else "auto"


def configure_paper(setting: Setting, name: str = "B/16") -> RunConfig:
    """Return recipe `pretrain` with a model of the paper's, on the named data."""
    return configure("pretrain", setting.make_recipe_options(model=name))


def repeat_over_seeds(
    groups: Mapping[str, RunConfig], seeds: Iterable[int], measure: Measure = measure_accuracy
) -> list[Cell]:
    """Return a cell for each seed and condition, all conditions of a seed together."""
    return [
        Cell(f"{build_slug(group)}-{seed}", group, replace(config, seed=seed), measure)
        for seed in seeds
        for group, config in groups.items()
    ]


def build_slug(group: str) -> str:
    """Return a condition as part of a folder's name.

    >>> build_slug("1-D, every layer"), build_slug("mean, 0.001")
    ('1-D-every-layer', 'mean-0.001')
    """
    return re.sub(r"[^\w.]+", "-", group).strip("-").replace("_", "-")


def configure_adam(lr: float, weight_decay: float = 0.05) -> OptimizerConfig:
    """Return Adam with the paper's betas, decay by the learning rate, and clip at norm 1."""
    return OptimizerConfig(name="adamw", lr=lr, weight_decay=weight_decay, decoupled=False, clip=1.0)


def configure_sgd(lr: float) -> OptimizerConfig:
    """Return SGD as the paper fine-tunes with: momentum 0.9, no decay, clip at norm 1."""
    return OptimizerConfig(name="sgd", lr=lr, momentum=0.9, weight_decay=0.0, clip=1.0)


def configure_fine_tuning(base: RunConfig, weights: str, lr: float, duration: str) -> RunConfig:
    """Return a run that fine-tunes weights as the paper does: SGD, cosine, a tenth of warm-up, plain labels."""
    return replace(
        base,
        weights=weights,
        optimizer=configure_sgd(lr),
        schedule=ScheduleConfig(kind="cosine", warmup="10%"),
        augment=replace(base.augment, mixup=0.0),
        duration=duration,
    )
