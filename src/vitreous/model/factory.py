"""Create models from a name or a configuration, whatever their kind."""

from dataclasses import fields
from typing import Any, overload

import torch

from vitreous.errors import ConfigError, UnknownName
from vitreous.model.config import TRAINING_SETTINGS, ViTConfig
from vitreous.model.init import initialise
from vitreous.model.meta_device import build_empty
from vitreous.model.names import build_vit_config, parse_name
from vitreous.model.resnet import ResNet
from vitreous.model.resnet_config import ResNetConfig, build_resnet_config, is_resnet_name
from vitreous.model.vit import ViT

Config = ViTConfig | ResNetConfig
Model = ViT | ResNet
CONFIGS: dict[str, type[ViTConfig] | type[ResNetConfig]] = {kind.KIND: kind for kind in (ViTConfig, ResNetConfig)}
"""The word for each kind in files, and its configuration."""


def get_kind(config: Config) -> str:
    """Return the word for a configuration's kind."""
    return config.KIND


def build_config(name: str, **overrides: Any) -> Config:
    """Return the configuration called e.g. "B/16", "R50+B/16" or "R50x1", with any field overridden.

    Raises:
        UnknownName: no such model, or no such field; for a former name of a field, says the current one.
        ConfigError: incompatible settings.
    """
    kind = "resnet" if is_resnet_name(name) else "vit"
    known = [field.name for field in fields(CONFIGS[kind])]
    for key in overrides:
        if key in TRAINING_SETTINGS:
            raise ConfigError(
                f"{key} is a setting of training, not of a model; in a run give regularisation.{key} (or "
                "recompute), in a loop of your own call model.regularise, or set model.recompute"
            )
        if key not in known:
            what = "setting of a ResNet" if kind == "resnet" else "setting of a ViT"
            raise UnknownName(what, key, known, getattr(CONFIGS[kind], "RENAMED", {}).get(key))
    return build_resnet_config(name, **overrides) if kind == "resnet" else build_vit_config(name, **overrides)


def check_name(name: str) -> None:
    """Raise UnknownName unless there is such a model, for any image size."""
    if is_resnet_name(name):
        build_resnet_config(name)
    else:
        parse_name(name)


@overload
def create(config: ViTConfig, seed: int = 0) -> ViT: ...
@overload
def create(config: ResNetConfig, seed: int = 0) -> ResNet: ...
def create(config: Config, seed: int = 0) -> Model:
    """Return a freshly initialised model: the same seed gives the same weights; the global generator isn't touched."""
    with torch.random.fork_rng(devices=[]):  # torch's layers draw their own weights, which are overwritten
        model = ResNet(config) if isinstance(config, ResNetConfig) else ViT(config)
    initialise(model, seed)
    return model


def create_empty(config: Config) -> Model:
    """Build a model whose weights take no memory and no time yet (torch's meta device)."""
    return build_empty(ResNet, config) if isinstance(config, ResNetConfig) else build_empty(ViT, config)
