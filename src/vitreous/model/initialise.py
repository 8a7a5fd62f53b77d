"""Initial weights, as the authors' code draws them."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vitreous.model.encoder import LayerScale
from vitreous.model.positions import sincos_places

if TYPE_CHECKING:
    from vitreous.model.resnet import ResNet
    from vitreous.model.vit import ViT

DRAWN = ("embedding", "prefix_embedding", "row_embedding", "col_embedding", "table", "registers", "probe")
"""Names of the parameters that are drawn from a normal distribution of deviation 0.02."""


@torch.no_grad()
def initialise(model: "ViT", seed: int) -> None:
    """Initialise every parameter of a ViT in place, from a generator of its own.

    Matrices: Xavier uniform (q, k and v, gate and value, each for itself). Patch embedding: LeCun normal. Positions,
    relative ones too: normal, 0.02, or sines and cosines. Registers and the pooling query: normal, 0.02. MLP biases: normal,
    1e-6. Norms: one and zero. Layer scale: as configured. A stem's kernels: LeCun normal. [class], distillation, heads
    and other biases: zero.

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
            linear(name, module, generator, model.config.block.mlp == "swiglu")
        elif isinstance(module, LayerScale):
            module.scale.fill_(module.initial)
    convolutions(model, generator)
    free_parameters(model, generator)
    check_all(model)


@torch.no_grad()
def initialise_resnet(model: "ResNet", seed: int) -> None:
    """Initialise every parameter of a ResNet in place: kernels LeCun normal, norms one and zero, the head zero."""
    for parameter in model.parameters():
        parameter.fill_(math.nan)
    convolutions(model, torch.Generator().manual_seed(seed))
    for parameter in model.head.parameters():
        parameter.zero_()
    check_all(model)


def check_all(model: nn.Module) -> None:
    """Find parameters that were filled with NaN and then forgotten."""
    forgotten = [name for name, parameter in model.named_parameters() if not bool(torch.isfinite(parameter).all())]
    assert not forgotten, f"not initialised: {forgotten}"


def convolutions(model: nn.Module, generator: torch.Generator) -> None:
    """Initialise the convolutions and group norms of a ResNet or a stem: kernels LeCun normal, norms one and zero.

    The norm that ends a hybrid's unit starts at zero, as the authors' does: the unit passes its input on.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            draw_normal(module.weight, module.weight[0].numel() ** -0.5, generator)
        elif isinstance(module, nn.GroupNorm):
            module.weight.fill_(0.0 if name.endswith("last_norm") else 1.0)
            module.bias.zero_()


def free_parameters(model: "ViT", generator: torch.Generator) -> None:
    """Initialise what belongs to no layer: tokens, positions, free biases."""
    for name, parameter in model.named_parameters():
        own = name.rpartition(".")[2]
        if own in ("class_token", "distillation_token", "q_bias", "v_bias"):
            parameter.zero_()
        elif name == "positions.embedding" and model.config.position_init == "sincos2d":
            parameter.copy_(sincos_places(model.config))
        elif own in DRAWN:
            draw_normal(parameter, 0.02, generator)


def linear(name: str, module: nn.Linear, generator: torch.Generator, gated: bool) -> None:
    """Initialise one dense layer by its role, which its name tells."""
    if module.bias is not None:
        module.bias.zero_()
    if name in ("head", "distillation_head"):
        module.weight.zero_()
    elif name.startswith(("patches.", "pre_logits.")):
        draw_normal(module.weight, module.in_features**-0.5, generator)
    else:
        for matrix in module.weight.chunk(stacked(name, gated)):
            draw_xavier(matrix, generator)
    if ".mlp." in name and module.bias is not None:
        draw_normal(module.bias, 1e-6, generator)


def stacked(name: str, gated: bool) -> int:
    """Return how many matrices of one role each stand in a dense layer's rows: q, k, v; k, v; gate, value; or one."""
    return {"qkv": 3, "kv": 2, "expand": 2 if gated else 1}.get(name.rpartition(".")[2], 1)


def draw_xavier(matrix: Tensor, generator: torch.Generator) -> None:
    """Fill with uniform draws of variance 2 / (rows + cols) (Glorot and Bengio, 2010)."""
    bound = math.sqrt(6 / sum(matrix.shape))
    matrix.copy_((torch.rand(matrix.shape, generator=generator) * 2 - 1) * bound)


def draw_normal(tensor: Tensor, deviation: float, generator: torch.Generator) -> None:
    """Fill with normal draws of mean 0."""
    tensor.copy_(torch.randn(tensor.shape, generator=generator) * deviation)
