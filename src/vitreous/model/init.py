"""Initial weights, as the authors' code draws them."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vitreous.model.encoder import LayerScale
from vitreous.model.parameters import Dense, roles
from vitreous.model.positions.added import Learned, encode_places
from vitreous.model.positions.rotary import MixedRotary

if TYPE_CHECKING:
    from vitreous.model.resnet import ResNet
    from vitreous.model.vit import ViT


@torch.no_grad()
def initialise(model: "ViT", seed: int) -> None:
    """Initialise every parameter of a ViT in place, from a generator of its own.

    Matrices: Xavier uniform (q, k and v, gate and value, each for itself). Patch embedding and tanh layer: LeCun normal, without
    flax's cut at two deviations. Positions,
    relative ones too: normal, 0.02, or sines and cosines. Registers and the pooling query: normal, 0.02. MLP biases: normal,
    1e-6. Norms: one and zero. Layer scale: as configured. A stem's kernels: LeCun normal. [class], distillation, heads
    and other biases: zero. `init` "mae" differs in what its help says.

    Every parameter is first filled with NaN, so that one which is forgotten shows at once.
    """
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.fill_(math.nan)
    for name, module in model.named_modules():
        if isinstance(module, nn.LayerNorm):
            module.weight.fill_(1.0)
            module.bias.zero_()
        elif isinstance(module, nn.RMSNorm):
            module.weight.fill_(1.0)
        elif isinstance(module, nn.Linear):
            initialise_linear(name, module, generator, model.config.init == "mae")
        elif isinstance(module, LayerScale):
            module.scale.fill_(module.initial)
        elif isinstance(module, Learned) and model.config.position_init == "sincos2d":
            module.embedding.copy_(encode_places(model.config))
        elif isinstance(module, MixedRotary):
            module.frequencies.copy_(module.start(generator))
    initialise_convolutions(model, generator)
    initialise_free(model, generator)
    check_initialised(model)


@torch.no_grad()
def initialise_resnet(model: "ResNet", seed: int) -> None:
    """Initialise every parameter of a ResNet in place: kernels LeCun normal, norms one and zero, the head zero."""
    for parameter in model.parameters():
        parameter.fill_(math.nan)
    initialise_convolutions(model, torch.Generator().manual_seed(seed))
    for parameter in model.head.parameters():
        parameter.zero_()
    check_initialised(model)


def check_initialised(model: nn.Module) -> None:
    """Find parameters that were filled with NaN and then forgotten."""
    forgotten = [name for name, parameter in model.named_parameters() if not bool(torch.isfinite(parameter).all())]
    assert not forgotten, f"not initialised: {forgotten}"


def initialise_convolutions(model: nn.Module, generator: torch.Generator) -> None:
    """Initialise the convolutions and group norms of a ResNet or a stem: kernels LeCun normal, norms one and zero.

    The norm that ends a hybrid's unit starts at zero, as the authors' does: the unit passes its input on.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            draw_normal(module.weight, module.weight[0].numel() ** -0.5, generator)
        elif isinstance(module, nn.GroupNorm):
            module.weight.fill_(0.0 if name.endswith("last_norm") else 1.0)
            module.bias.zero_()


def initialise_free(model: nn.Module, generator: torch.Generator) -> None:
    """Initialise what belongs to no layer: tokens, positions, free biases. Their roles say from what they start."""
    known = roles(model)
    for name, parameter in model.named_parameters():
        deviation = known[name].deviation
        if deviation == 0:
            parameter.zero_()
        elif deviation is not None:
            draw_normal(parameter, deviation, generator)


def initialise_linear(name: str, module: nn.Linear, generator: torch.Generator, mae: bool = False) -> None:
    """Initialise one dense layer by its role, which its name tells; `mae`: as the masked autoencoder's authors do."""
    if module.bias is not None:
        module.bias.zero_()
    if name in ("head", "distillation_head"):
        module.weight.zero_()
    elif name.startswith("pre_logits.") or (name.startswith("patches.") and not mae):
        draw_normal(module.weight, module.in_features**-0.5, generator)
    else:
        for matrix in module.weight.chunk(module.stacked if isinstance(module, Dense) else 1):
            draw_xavier(matrix, generator)
    if ".mlp." in name and module.bias is not None and not mae:
        draw_normal(module.bias, 1e-6, generator)


def draw_xavier(matrix: Tensor, generator: torch.Generator) -> None:
    """Fill with uniform draws of variance 2 / (rows + cols) (Glorot and Bengio, 2010)."""
    bound = math.sqrt(6 / sum(matrix.shape))
    matrix.copy_((torch.rand(matrix.shape, generator=generator) * 2 - 1) * bound)


def draw_normal(tensor: Tensor, deviation: float, generator: torch.Generator) -> None:
    """Fill with normal draws of mean 0."""
    tensor.copy_(torch.randn(tensor.shape, generator=generator) * deviation)
