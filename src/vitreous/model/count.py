"""Parameters, operations and memory of a model of any kind in closed form: no torch, no model."""

from vitreous.model.count_efficientnet import (
    count_efficientnet_flops,
    count_efficientnet_parameters,
    count_kept_efficientnet_values,
)
from vitreous.model.count_resnet import count_convolved_values, count_resnet_flops, count_resnet_parameters
from vitreous.model.count_swin import count_kept_swin_values, count_swin_flops, count_swin_parameters
from vitreous.model.count_vit import count_kept_values, count_vit_flops, count_vit_parameters
from vitreous.model.efficientnet_config import EfficientNetConfig
from vitreous.model.kinds import Config
from vitreous.model.resnet_config import ResNetConfig
from vitreous.model.swin_config import SwinConfig
from vitreous.shapes import Size

VALUE_BYTES = 4


def count_parameters(config: Config) -> int:
    """Return the exact number of learned values."""
    if isinstance(config, ResNetConfig):
        return count_resnet_parameters(config)
    if isinstance(config, EfficientNetConfig):
        return count_efficientnet_parameters(config)
    return count_swin_parameters(config) if isinstance(config, SwinConfig) else count_vit_parameters(config)


def count_flops(config: Config, merge: int = 0) -> int:
    """Return the operations of one image's forward pass: two for each multiply-add of a matrix product or convolution.

    Args:
        config: of the model.
        merge: pairs of patches that each block of a ViT merges between attention and MLP (model/token_merging.py).
    """
    if isinstance(config, ResNetConfig):
        return count_resnet_flops(config)
    if isinstance(config, EfficientNetConfig):
        return count_efficientnet_flops(config)
    return count_swin_flops(config) if isinstance(config, SwinConfig) else count_vit_flops(config, merge)


def estimate_activation_bytes(config: Config, batch: int, *, training: bool, recompute: bool = False) -> int:
    """Estimate the peak of the activations, in bytes; fused attention keeps no token x token matrix.

    Kept for the backward pass of a block: two norms' inputs and outputs, qkv, attention's output, the two branches and
    the MLP's hidden layer before and after the GELU. For a stem, a ResNet or an EfficientNet: each convolution's output,
    before and after its norm. For a Swin Transformer also the weights of attention within windows. Values take 4 bytes.
    `recompute`: only the input of each block is kept.
    """
    image = 2 * config.channels * config.image[0] * config.image[1]
    if isinstance(config, ResNetConfig):
        whole, largest = count_convolved_values(config, Size(*config.image))
        kept = 2 * (whole if training else 2 * largest)
    elif isinstance(config, EfficientNetConfig):
        kept = count_kept_efficientnet_values(config, training=training)
    elif isinstance(config, SwinConfig):
        kept = count_kept_swin_values(config, training=training, recompute=recompute)
    else:
        kept = count_kept_values(config, training=training, recompute=recompute)
    return batch * VALUE_BYTES * (kept + image)
