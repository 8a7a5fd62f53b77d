"""The kinds of models by name and configuration: no torch. `model/factory.py` builds them."""

from dataclasses import fields
from typing import Any

from vitreous.errors import ConfigError, UnknownName
from vitreous.model.config import TRAINING_SETTINGS, ViTConfig
from vitreous.model.efficientnet_config import EfficientNetConfig, build_efficientnet_config, is_efficientnet_name
from vitreous.model.names import build_vit_config, parse_name
from vitreous.model.resnet_config import ResNetConfig, build_resnet_config, is_resnet_name
from vitreous.model.swin_config import SwinConfig, build_swin_config, is_swin_name
from vitreous.shapes import Size

Config = ViTConfig | ResNetConfig | EfficientNetConfig | SwinConfig
CONFIGS: dict[str, type[Config]] = {
    kind.KIND: kind for kind in (ViTConfig, ResNetConfig, EfficientNetConfig, SwinConfig)
}
"""The word for each kind in files, and its configuration."""
TITLES = {"vit": "ViT", "resnet": "ResNet", "efficientnet": "EfficientNet", "swin": "Swin Transformer"}
"""Each kind in messages."""


def name_kind(kind: str) -> str:
    """Return a kind in messages with its article.

    >>> name_kind("resnet"), name_kind("efficientnet")
    ('a ResNet', 'an EfficientNet')
    """
    return f"{'an' if TITLES[kind][0] in 'AEIOU' else 'a'} {TITLES[kind]}"


def get_kind(config: Config) -> str:
    """Return the word for a configuration's kind."""
    return config.KIND


def get_patch(config: Config) -> Size:
    """Return the rows and columns of a model's patches, in pixels; of a convolutional network, one pixel."""
    return Size(*config.patch) if isinstance(config, (ViTConfig, SwinConfig)) else Size(1, 1)


def find_kind(name: str) -> str:
    """Return the word for the kind that a name has the form of."""
    if is_resnet_name(name):
        return "resnet"
    if is_efficientnet_name(name):
        return "efficientnet"
    return "swin" if is_swin_name(name) else "vit"


def build_config(name: str, **overrides: Any) -> Config:
    """Return the configuration called e.g. "B/16", "R50+B/16", "R50x1", "EfficientNet-B0" or "Swin-T", with any field overridden.

    Raises:
        UnknownName: no such model, or no such field; for a former name of a field, says the current one.
        ConfigError: incompatible settings.
    """
    kind = find_kind(name)
    known = [field.name for field in fields(CONFIGS[kind])]
    for key in overrides:
        if key in TRAINING_SETTINGS:
            raise ConfigError(
                f"{key} is a setting of training, not of a model; in a run give regularisation.{key} (or "
                "recompute), in a loop of your own call model.regularise, or set model.recompute"
            )
        if key not in known:
            former = getattr(CONFIGS[kind], "RENAMED", {}).get(key)
            raise UnknownName(f"setting of {name_kind(kind)}", key, known, former)
    build = {
        "vit": build_vit_config,
        "resnet": build_resnet_config,
        "efficientnet": build_efficientnet_config,
        "swin": build_swin_config,
    }[kind]
    return build(name, **overrides)


def check_name(name: str) -> None:
    """Raise UnknownName unless there is such a model, for any image size."""
    if find_kind(name) == "vit":
        parse_name(name)
    else:
        build_config(name)
