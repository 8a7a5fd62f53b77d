"""Create models from a configuration, whatever their kind."""

from typing import overload

import torch

from vitreous.model.config import ViTConfig
from vitreous.model.efficientnet import EfficientNet
from vitreous.model.efficientnet_config import EfficientNetConfig
from vitreous.model.init import initialise
from vitreous.model.kinds import Config
from vitreous.model.meta_device import build_empty
from vitreous.model.resnet import ResNet
from vitreous.model.resnet_config import ResNetConfig
from vitreous.model.swin import Swin
from vitreous.model.swin_config import SwinConfig
from vitreous.model.vit import ViT

Model = ViT | ResNet | EfficientNet | Swin
MODELS: dict[str, type[Model]] = {
    ViTConfig.KIND: ViT,
    ResNetConfig.KIND: ResNet,
    EfficientNetConfig.KIND: EfficientNet,
    SwinConfig.KIND: Swin,
}


@overload
def create(config: ViTConfig, seed: int = 0) -> ViT: ...
@overload
def create(config: ResNetConfig, seed: int = 0) -> ResNet: ...
@overload
def create(config: EfficientNetConfig, seed: int = 0) -> EfficientNet: ...
@overload
def create(config: SwinConfig, seed: int = 0) -> Swin: ...
def create(config: Config, seed: int = 0) -> Model:
    """Return a freshly initialised model: the same seed gives the same weights; the global generator isn't touched."""
    with torch.random.fork_rng(devices=[]):  # torch's layers draw their own weights, which are overwritten
        model = MODELS[config.KIND](config)  # type: ignore[arg-type]
    initialise(model, seed)
    return model


def create_empty(config: Config) -> Model:
    """Build a model whose weights take no memory and no time yet (torch's meta device)."""
    return build_empty(MODELS[config.KIND], config)
