"""Augmentation in two halves, second half: carry out what `canvas.py` has drawn, for many images at once, on any device.

Each image's result depends on its own canvas and draws alone, so it is the same whatever shares the batch. Pixels are float32 on the
scale of 0 to 255.
"""

import torch
from torch import Tensor

from vitreous.errors import ConfigError
from vitreous.images.batched_operations import apply_operations
from vitreous.images.canvas import MIXING, VIEW
from vitreous.images.config import AugmentConfig, PreprocessConfig
from vitreous.shapes import Float, Float32, Pixels

KERNELS = {"bilinear": 1.0, "bicubic": 2.0}
"""Interpolations that crops are resized by, and half the width of their kernels, in pixels."""
BICUBIC = -0.5
"""Keys's parameter, as Pillow and torch with antialias have it."""
FIRST, SECOND, STRIDE = 0x7FEB352D, -0x7B935975, -0x61C88647
"""Factors of a 32-bit hash (Wellons, "lowbias32") and the golden ratio's, as in `model/draws.py`."""


def check_rendering(config: AugmentConfig, preprocess: PreprocessConfig) -> None:
    """Refuse settings that can't be carried out on a device; raises ConfigError."""
    for name in ("three_augment", "colour_jitter"):
        if getattr(config, name):
            raise ConfigError(f"augment.{name} is carried out on the CPU alone; set --augment.on cpu, or leave it out")
    if config.crop == "inception" and not preprocess.antialias:
        raise ConfigError(
            "preprocess.antialias is off, but crops on the device are resized with it; set --augment.on cpu, or --preprocess.antialias"
        )
    if config.crop == "inception" and preprocess.interpolation not in KERNELS:
        raise ConfigError(
            f"preprocess.interpolation is {preprocess.interpolation}, but crops on the device are resized by {' or '.join(KERNELS)}; choose one, or "
            "--augment.on cpu"
        )


def render(
    canvases: Pixels[Tensor, "batch channel row col"],
    draws: Float32[Tensor, "batch draw"],
    config: AugmentConfig,
    preprocess: PreprocessConfig,
) -> Float32[Tensor, "batch channel2 row2 col2"]:
    """Return the augmented images; where examples are mixed, a canvas holds the example's channels and then its partner's."""
    layers = config.randaugment[0]
    width = VIEW + 2 * layers
    if not (config.mixup or config.cutmix):
        return render_views(canvases, draws[:, :width], config, preprocess)
    own, other = canvases.chunk(2, dim=1)
    first = render_views(own, draws[:, :width], config, preprocess)
    second = render_views(other, draws[:, width : 2 * width], config, preprocess)
    return mix_images(first, second, draws[:, 2 * width : 2 * width + MIXING])


def render_views(
    canvases: Pixels[Tensor, "batch channel row col"],
    draws: Float32[Tensor, "batch draw"],
    config: AugmentConfig,
    preprocess: PreprocessConfig,
) -> Float32[Tensor, "batch channel row2 col2"]:
    """Crop, flip, RandAugment and erase."""
    whole, (rows, cols) = canvases.float(), preprocess.size
    (top, left, tall, wide), flip = draws[:, :4].unbind(1), draws[:, 4]
    if config.crop == "inception":
        half = KERNELS[preprocess.interpolation]
        down = build_resampling(top, tall, canvases.shape[2], rows, half)
        across = build_resampling(left, wide, canvases.shape[3], cols, half)
    else:
        black = config.crop == "pad" and config.crop_fill == "black"
        down = build_selection(top, canvases.shape[2], rows, black)
        across = build_selection(left, canvases.shape[3], cols, black)
    across = torch.where(flip[:, None, None] > 0, across.flip(1), across)
    rounds = config.crop == "inception" and not preprocess.keeps_channels
    images = whole @ across[:, None].mT
    images = down[:, None] @ (images.clamp_(0, 255).round_() if rounds else images)
    images = images.clamp_(0, 255).round_() if rounds else images  # after either, as Pillow and torch round bytes
    if config.randaugment[0]:
        layers, magnitude = config.randaugment
        images = apply_operations(images, draws[:, VIEW : VIEW + 2 * layers].view(len(draws), layers, 2), magnitude)
    return erase(images, draws[:, 5:VIEW]) if config.erase else images


def build_resampling(
    start: Float32[Tensor, " batch"], length: Float32[Tensor, " batch"], inputs: int, outputs: int, half: float
) -> Float32[Tensor, "batch out in"]:
    """Return the weights of inputs for each output, where `length` inputs from `start` on become all outputs; shrinking widens the
    kernel, as Pillow does.
    """
    scale = length / outputs
    centre = start[:, None] + (torch.arange(outputs, device=start.device) + 0.5) * scale[:, None]
    stretch = scale.clamp(min=1.0)[:, None, None]
    places = torch.arange(inputs, device=start.device) + 0.5
    apart = ((places - centre[:, :, None]) / stretch).abs()
    if half == KERNELS["bilinear"]:
        weights = (1 - apart).clamp(min=0)
    else:
        near = ((BICUBIC + 2) * apart - (BICUBIC + 3)) * apart.square() + 1
        far = BICUBIC * (((apart - 5) * apart + 8) * apart - 4)
        weights = torch.where(apart < 1, near, torch.where(apart < 2, far, 0.0))
    # A crop sees nothing beyond its edges: those pixels of the canvas don't count, as if it had been cut out first.
    low = (start + 1e-6).floor()[:, None, None]
    high = (start + length - 1e-6).ceil()[:, None, None]
    weights = weights * ((places > low) & (places < high))
    return weights / weights.sum(2, keepdim=True)


def build_selection(
    start: Float32[Tensor, " batch"], inputs: int, outputs: int, black: bool
) -> Float32[Tensor, "batch out in"]:
    """Return weights of 0 and 1 that take outputs from `start` on, mirrored at the edges or, if `black`, nothing beyond them."""
    index = start[:, None] + torch.arange(outputs, device=start.device)
    mirrored = index.abs()
    mirrored = torch.where(mirrored >= inputs, 2 * (inputs - 1) - mirrored, mirrored)
    inside = (index >= 0) & (index < inputs)
    taken = (mirrored[:, :, None] == torch.arange(inputs, device=start.device)).to(start.dtype)
    return taken * inside[:, :, None] if black else taken


def erase(
    images: Float32[Tensor, "batch channel row col"], boxes: Float32[Tensor, "batch five"]
) -> Float32[Tensor, "batch channel row col"]:
    """Overwrite each image's box (top, left, rows, cols, key) with uniform noise, a function of its key and the place."""
    count, channels, rows, cols = images.shape
    top, left, tall, wide = (one[:, None] for one in boxes[:, :4].unbind(1))
    row, col = (torch.arange(side, device=images.device) for side in (rows, cols))
    down, across = (row >= top) & (row < top + tall), (col >= left) & (col < left + wide)
    keys = boxes[:, 4].to(torch.int32)
    places = torch.arange(channels * rows * cols, device=images.device, dtype=torch.int32)
    values = scramble(scramble(keys)[:, None] ^ scramble(places * STRIDE))
    noise = (values & 0xFF).to(images.dtype).view(count, channels, rows, cols)
    return torch.where((down[:, :, None] & across[:, None, :])[:, None], noise, images)


def scramble(values: Tensor) -> Tensor:
    """Mix the bits of 32-bit integers, one to one."""
    values = (values ^ ((values >> 16) & 0xFFFF)) * FIRST
    values = (values ^ ((values >> 15) & 0x1FFFF)) * SECOND
    return values ^ ((values >> 16) & 0xFFFF)


def mix_images(
    first: Float[Tensor, "batch channel row col"],
    second: Float[Tensor, "batch channel row col"],
    draws: Float32[Tensor, "batch six"],
) -> Float[Tensor, "batch channel row col"]:
    """Mix each image with its partner by mixup or cutmix, or leave it as it is."""
    kind, share, top, bottom, left, right = (one[:, None] for one in draws.unbind(1))
    row, col = (torch.arange(side, device=first.device) for side in first.shape[2:])
    pasted = ((row >= top) & (row < bottom))[:, :, None] & ((col >= left) & (col < right))[:, None, :]
    part = share.float()[:, :, None, None]
    blended = first * part + second * (1 - part)
    mixed = torch.where(pasted[:, None], second, first)
    kind = kind[:, :, None, None]
    return torch.where(kind == 1, blended, torch.where(kind == 2, mixed, first))
