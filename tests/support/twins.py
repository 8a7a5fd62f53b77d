"""Reference models with random weights, and how far ours lies from theirs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vitreous.model.vit import ViT

CLOSE = 2e-5
"""Largest absolute difference of logits or features that counts as the same function, in float32."""


def randomise(model: nn.Module, seed: int = 1) -> nn.Module:
    """Draw every parameter so that each matters: maps that keep the scale, attention that isn't uniform."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if any(word in name for word in ("token", "pos", "embedding", "latent", "probe")) and "patch" not in name:
                parameter.copy_(0.5 * noise)
            elif parameter.ndim >= 2:
                parameter.copy_(noise * (parameter[0].numel() ** -0.5))
            elif name.endswith(("weight", "scale", "gamma", "gamma_1", "gamma_2", "lambda1")):
                parameter.copy_(1 + 0.1 * noise)
            else:
                parameter.copy_(0.1 * noise)
    return model.eval()


def images(rows: int, cols: int, channels: int = 3) -> Tensor:
    return torch.randn(2, channels, rows, cols, generator=torch.Generator().manual_seed(2))


def difference(ours: ViT, theirs: Callable[[Tensor], Tensor]) -> float:
    """Return the largest difference of the outputs at our model's resolution, after checking that theirs say something."""
    pixels = images(*ours.config.image, ours.config.channels)
    with torch.inference_mode():
        own, other = ours(pixels), theirs(pixels)
    assert own.shape == other.shape
    assert float((other[0] - other[1]).abs().mean()) > 0.05, "the outputs hardly depend on the image: nothing is shown"
    return float((own - other).abs().max())


def saved(tensors: dict[str, Tensor], folder: Path, config: dict[str, Any] | None = None) -> Path:
    """Write tensors as safetensors into a folder, made if need be, with a config.json if there is one."""
    folder.mkdir(exist_ok=True)
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, folder / "model.safetensors")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def logits(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return the logits of a model of transformers."""
    return lambda pixels: model(pixels).logits
