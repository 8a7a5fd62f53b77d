"""Initial weights, as the authors' code draws them."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vitreous.model.positions import sincos_places

if TYPE_CHECKING:
    from vitreous.model.vit import ViT


@torch.no_grad()
def initialise(model: "ViT", seed: int) -> None:
    """Initialise every parameter of a ViT in place, from a generator of its own.

    Matrices: Xavier uniform (q, k and v each for itself). Patch embedding: LeCun normal. Positions: normal, 0.02, or sines and cosines. MLP
    biases: normal, 1e-6. Norms: one and zero. [class], the head and other biases: zero.

    Every parameter is first filled with NaN, so that one which is forgotten shows at once.
    """
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.fill_(math.nan)
    for name, module in model.named_modules():
        if isinstance(module, nn.LayerNorm):
            module.weight.fill_(1.0)
            module.bias.zero_()
        elif isinstance(module, nn.Linear):
            linear(name, module, generator)
    for name, parameter in model.named_parameters():
        if name == "class_token":
            parameter.zero_()
        elif name == "positions.embedding" and model.config.position_init == "sincos2d":
            parameter.copy_(sincos_places(model.config))
        elif name == "positions.embedding":
            draw_normal(parameter, 0.02, generator)
    forgotten = [name for name, parameter in model.named_parameters() if not bool(torch.isfinite(parameter).all())]
    assert not forgotten, f"not initialised: {forgotten}"


def linear(name: str, module: nn.Linear, generator: torch.Generator) -> None:
    """Initialise one dense layer by its role, which its name tells."""
    module.bias.zero_()
    if name == "head":
        module.weight.zero_()
    elif name.startswith(("patches.", "pre_logits.")):
        draw_normal(module.weight, module.in_features**-0.5, generator)
    elif name.endswith(".qkv"):
        for matrix in module.weight.chunk(3):
            draw_xavier(matrix, generator)
    else:
        draw_xavier(module.weight, generator)
    if ".mlp." in name:
        draw_normal(module.bias, 1e-6, generator)


def draw_xavier(matrix: Tensor, generator: torch.Generator) -> None:
    """Fill with uniform draws of variance 2 / (rows + cols) (Glorot and Bengio, 2010)."""
    bound = math.sqrt(6 / sum(matrix.shape))
    matrix.copy_((torch.rand(matrix.shape, generator=generator) * 2 - 1) * bound)


def draw_normal(tensor: Tensor, deviation: float, generator: torch.Generator) -> None:
    """Fill with normal draws of mean 0."""
    tensor.copy_(torch.randn(tensor.shape, generator=generator) * deviation)
