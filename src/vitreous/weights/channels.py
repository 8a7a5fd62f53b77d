"""Adapt the first layer of a loaded model to another number of channels."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vitreous.errors import ConfigError
from vitreous.images.config import Mode, PreprocessConfig
from vitreous.model.convolutions import StdConv
from vitreous.model.factory import Model
from vitreous.model.meta_device import rebuild
from vitreous.model.swin import Swin
from vitreous.model.vit import ViT
from vitreous.shapes import Float, Float64
from vitreous.weights.model_folder import ModelFolder


def change_channels(folder: ModelFolder, channels: int, rule: str | None = None) -> tuple[ModelFolder, str]:
    """Return a model for images with another number of channels, and a description of the change.

    sum: every new channel sees the sum of the old kernels, divided by the number of new channels. For one channel it is
    the same function on grey images; if mean and deviation differ by channel, kernel and bias absorb them. tile: the
    old kernels in turn, scaled by old/new, as timm does for more than one channel. zero: the old kernels, and zeros for
    further channels, which have no effect until they are trained.

    By default sum for one channel (or from one), zero for more than there are, tile for fewer.

    Raises:
        ConfigError: zero for fewer channels than before.
    """
    old = folder.model.config.channels
    rule = rule or ("sum" if 1 in (channels, old) else "zero" if channels > old else "tile")
    if rule == "zero" and channels < old:
        raise ConfigError(f"the rule zero only adds channels; for {channels} of {old} use sum or tile")
    model, images, said = folder.model, folder.preprocess, f"{old} -> {channels} by {rule}"
    name, kernel = find_first_kernel(model)
    kernel, shift, images = place_kernel(kernel.detach().double(), images, rule, channels)
    added: dict[str, Any] = {"channels": channels}
    changed = {name: kernel.float() if model.state_dict()[name].ndim == 4 else kernel.float().flatten(1)}
    if bool((shift != 0).any()):
        if name == "patches.embed.weight":
            assert isinstance(model, (ViT, Swin))
            bias = model.patches.embed.bias
            changed["patches.embed.bias"] = (shift if bias is None else bias.detach().double() + shift).float()
            added |= {"patch_bias": True} if isinstance(model, ViT) else {}
            said += "; mean and deviation absorbed into kernel and bias"
        else:
            said += "; the channels' means differ, which this first layer can't absorb: only nearly the same function"
    elif rule == "sum" and len(set(folder.preprocess.std)) > 1:
        said += "; deviation absorbed into the kernel"
    if isinstance(model.get_submodule(name.removesuffix(".weight")), StdConv):
        said += "; these kernels are standardised afterwards: only nearly the same function"
    model = rebuild(model, replace(model.config, **added), model.state_dict() | changed, share=True)
    return replace(folder, model=model, preprocess=images, ranges={}), said


def find_first_kernel(model: Model) -> tuple[str, Float[Tensor, "output channel row col"]]:
    """Return the name of the weight that is applied to the image, and that weight as a convolution's kernel."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 4:  # a ResNet's root, or a stem: its convolutions come first
            return name, parameter
    assert isinstance(model, (ViT, Swin))
    return "patches.embed.weight", model.patches.kernel


def place_kernel(
    kernel: Float64[Tensor, "output channel row col"], images: PreprocessConfig, rule: str, channels: int
) -> tuple[Float64[Tensor, "output channels row col"], Float64[Tensor, " output"], PreprocessConfig]:
    """Return the kernel for another number of channels, the term to add to its output, and the new preprocessing.

    With mean m and deviation s of each channel, the kernel sees sum_c w_c (x_c - m_c) / s_c. Where all x_c are x, that is
    sum_c (w_c s / s_c) (x - m) / s + sum_c w_c (m - m_c) / s_c, for any m and s: here the means of those of the channels.
    """
    old = kernel.shape[1]
    mean, std = (expand_channels(values, old) for values in (images.mean, images.std))
    shift = torch.zeros(len(kernel), dtype=torch.float64)
    if rule == "sum" and not (are_equal(mean) and are_equal(std)):
        m, s = (values[0] if are_equal(values) else values.mean() for values in (mean, std))  # no rounding where equal
        shift = (kernel * ((m - mean) / std).view(-1, 1, 1)).flatten(1).sum(1)
        kernel = kernel * (s / std).view(-1, 1, 1)
        mean, std = m.expand(old), s.expand(old)
    mixed = torch.einsum("nc,ochw->onhw", build_mixing_matrix(rule, old, channels), kernel)
    images = replace(
        images,
        mode=choose_mode(channels, images),
        mean=spread_values(mean, channels, rule),
        std=spread_values(std, channels, rule),
    )
    return mixed, shift, images


def choose_mode(channels: int, images: PreprocessConfig) -> Mode:
    """Return the mode for this number of channels: kept as they are if they were, or if they are not colours."""
    if images.keeps_channels or channels not in (1, 3):
        return channels
    return "L" if channels == 1 else "RGB"


def adapt_preprocess(images: PreprocessConfig, channels: int) -> PreprocessConfig:
    """Return a preprocessing for this number of channels; mean and deviation given for other channels become their
    mean."""
    stated = [
        values if len(values) in (1, channels) or channels == 1 else (sum(values) / len(values),)
        for values in (images.mean, images.std)
    ]
    return replace(images, mode=choose_mode(channels, images), mean=stated[0], std=stated[1])


def expand_channels(values: tuple[float, ...], channels: int) -> Float64[Tensor, " channels"]:
    """Return mean or deviation of each channel; grey takes the mean over the colours, as preprocessing does."""
    told = torch.tensor(values, dtype=torch.float64)
    return told if len(told) == channels else told.mean().repeat(channels)


def build_mixing_matrix(rule: str, old: int, new: int) -> Float64[Tensor, "new old"]:
    """Return the share of each old kernel in each new one."""
    mix = torch.zeros(new, old, dtype=torch.float64)
    for row in range(new):
        if rule == "sum":
            mix[row] = 1 / new
        elif rule == "tile":
            mix[row, row % old] = old / new
        elif row < old:
            mix[row, row] = 1.0
    return mix


def spread_values(values: Float64[Tensor, " old"], channels: int, rule: str) -> tuple[float, ...]:
    """Return mean or deviation of each new channel; a single number if all are equal."""
    if are_equal(values):
        return (float(values[0]),)
    further = values.mean().expand(max(0, channels - len(values))) if rule == "zero" else values.repeat(channels)
    return tuple(torch.cat([values, further]).tolist()[:channels])


def are_equal(values: Float64[Tensor, " old"]) -> bool:
    """Return whether all values are equal."""
    return bool((values == values[0]).all())
