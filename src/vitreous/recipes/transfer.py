"""What the recipes share that start from weights: the model they take, on the data's classes."""

from dataclasses import replace

from vitreous.errors import ConfigError
from vitreous.model.config import ViTConfig
from vitreous.recipes.request import Request
from vitreous.shapes import Size
from vitreous.training.config import ModelConfig
from vitreous.weights.loading import open_model
from vitreous.weights.model_folder import ModelFolder
from vitreous.weights.options import LoadOptions


def open_weights(request: Request, recipe: str) -> ModelFolder:
    """Return the weights that are asked for, made to see the channels of the data where these are kept as they are.

    Raises:
        ConfigError: there are none, or a model is named beside them. CheckpointError: they can't be loaded.
    """
    if request.weights is None:
        raise ConfigError(f"recipe {recipe!r} starts from weights; give --weights MODEL_FOLDER, or use recipe 'small'")
    if request.model is not None:
        raise ConfigError(
            f"recipe {recipe!r} takes the model of its weights; leave out --model {request.model}, or use recipe 'small'"
        )
    channels = request.mode if isinstance(request.mode, int) else None
    wish = LoadOptions(request.weights_as, request.weights_grid, request.weights_heads, channels=channels)
    folder = open_model(request.weights, wish)[0]
    return folder if channels is None else replace(folder, preprocess=replace(folder.preprocess, mode=channels))


def retarget_model(model: ModelConfig, request: Request, image: Size) -> ModelConfig:
    """Return a model's shape for the data's classes and (unless another is asked for) this image, in whole patches.

    A ViT's tanh layer is dropped.
    """
    patch = Size(*model.patch) if isinstance(model, ViTConfig) else Size(1, 1)
    changed = replace(model, image=tuple(request.seen(image, patch)), classes=len(request.facts.classes))
    return replace(changed, pre_logits=False) if isinstance(changed, ViTConfig) else changed


def choose_batch(request: Request) -> int:
    """Return the papers' batch of 512, or a quarter of the images where they are few."""
    return request.batch(min(512, max(16, request.facts.train // 4)))
