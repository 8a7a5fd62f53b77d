"""Read the options of `vitreous.train` about self-training, check them before any work, and pin them."""

from collections.abc import Mapping
from typing import Any

from vitreous.api.config_layers import RunOptions
from vitreous.errors import ConfigError
from vitreous.recipes.catalog import SELF_TRAINING
from vitreous.self_training.options import SelfTrainingOptions
from vitreous.settings import from_dict


def read_self_training(given: Mapping[str, Any] | None) -> SelfTrainingOptions | None:
    """Return the options; None if none are given. Raises ConfigError."""
    return from_dict(SelfTrainingOptions, dict(given), "self_training") if given else None


def check_self_training(recipe: str, options: RunOptions) -> None:
    """Raise ConfigError for options of self-training with another recipe, and for the recipe without images to
    label."""
    if recipe != SELF_TRAINING and options.self_training is not None:
        raise ConfigError(
            f"--self-training is for recipe {SELF_TRAINING}; add --recipe {SELF_TRAINING}, or leave it out"
        )
    if recipe != SELF_TRAINING:
        return
    data = options.settings.get("data") or {}
    if options.folds is not None or options.rates:
        raise ConfigError(f"recipe {SELF_TRAINING} already consists of several runs; leave out --folds and --rates")
    if data.get("pseudo_labels"):
        raise ConfigError(f"recipe {SELF_TRAINING} writes pseudo labels itself; leave out --data.pseudo-labels")
    if not data.get("unlabelled"):
        raise ConfigError(
            f"recipe {SELF_TRAINING} also learns from images without labels; name them with --unlabelled FOLDER"
        )
