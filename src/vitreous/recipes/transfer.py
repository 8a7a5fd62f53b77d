"""What recipes that start from weights share: the weights' model, with the data's classes."""

from dataclasses import replace

from vitreous.errors import ConfigError
from vitreous.model.config import ViTConfig
from vitreous.model.kinds import get_patch
from vitreous.recipes.options import RecipeOptions
from vitreous.shapes import Size
from vitreous.training.config import ModelConfig
from vitreous.weights.loading import open_model
from vitreous.weights.model_folder import ModelFolder
from vitreous.weights.options import LoadOptions


def open_weights(options: RecipeOptions, recipe: str) -> ModelFolder:
    """Return the requested weights, adapted to the data's channels if these are kept as they are.

    Raises:
        ConfigError: no weights are given, or a model is named too. CheckpointError: they can't be loaded.
    """
    if options.weights is None:
        raise ConfigError(f"recipe {recipe!r} starts from weights; give --weights MODEL, or use recipe 'small'")
    if options.model is not None:
        raise ConfigError(
            f"recipe {recipe!r} uses the model of its weights; leave out --model {options.model}, or use recipe 'small'"
        )
    channels = options.mode if isinstance(options.mode, int) else None
    load_options = LoadOptions(options.weights_as, options.weights_grid, options.weights_heads, channels=channels)
    folder = open_model(options.weights, load_options)[0]
    return folder if channels is None else replace(folder, preprocess=replace(folder.preprocess, mode=channels))


def retarget_model(model: ModelConfig, options: RecipeOptions, image: Size) -> ModelConfig:
    """Return a model's architecture for the data's classes and (unless another is requested) this image size, in whole
    patches.

    A ViT's tanh layer is dropped.
    """
    patch = get_patch(model)
    changed = replace(model, image=tuple(options.choose_size(image, patch)), classes=len(options.facts.classes))
    return replace(changed, pre_logits=False) if isinstance(changed, ViTConfig) else changed


def choose_batch(options: RecipeOptions) -> int:
    """Return the papers' batch of 512, or a quarter of the images if they are few."""
    return options.batch(min(512, max(16, options.facts.train // 4)))
