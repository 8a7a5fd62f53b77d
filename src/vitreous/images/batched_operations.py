"""RandAugment's operations on batches of images (float32, 0 to 255), each a counterpart of the one in `randaugment.py`."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from vitreous.images.randaugment import FULL, GREY, LEAST_FACTOR, OPERATIONS
from vitreous.shapes import Float32

Images = Float32[Tensor, "batch channel row col"]
Signs = Float32[Tensor, "batch 1 1 1"]
Operation = Callable[[Tensor, float, Tensor], Tensor]
"""(images, strength, signs) -> images"""
LUMA = (19595 / 65536, 38470 / 65536, 7471 / 65536)
"""Weights of red, green and blue in Pillow's grey."""


def apply_operations(images: Images, layers: Float32[Tensor, "batch layer two"], magnitude: float) -> Images:
    """Apply to each image its operations (their numbers in OPERATIONS) with their signs, one layer after the other."""
    for layer in layers.unbind(1):
        numbers, signs = layer[:, 0], layer[:, 1].float().view(-1, 1, 1, 1)
        results = images.clone()
        for number in numbers.unique().long().tolist():
            chosen = (numbers == number).nonzero().squeeze(1)
            done = BATCHED[number](images[chosen], magnitude / FULL, signs[chosen])
            results[chosen] = done.clamp(0, 255).round()
        images = results
    return images


def transform(images: Images, matrix: Tensor) -> Images:
    """Apply affine maps (batch, 2, 3) from output to input pixels, bilinear, grey beyond the edges."""
    rows, cols = images.shape[2:]
    y, x = torch.meshgrid(
        torch.arange(rows, device=images.device) + 0.5, torch.arange(cols, device=images.device) + 0.5, indexing="ij"
    )
    by_x, by_y, shift = (one[:, :, None, None] for one in matrix.unbind(2))
    found = by_x * x + by_y * y + shift  # no matrix product, whose rounding depends on the batch
    size = torch.tensor([cols, rows], device=images.device).view(1, 2, 1, 1)
    inside = ((found >= 0) & (found < size)).all(1, keepdim=True)
    grid = (2 * found / size - 1).permute(0, 2, 3, 1)
    sampled = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return torch.where(inside, sampled, float(GREY))


def build_matrix(images: Images, x_by_y: Tensor, x_shift: Tensor, y_by_x: Tensor, y_shift: Tensor) -> Tensor:
    """Return maps that shear and move."""
    count = len(images)
    one = torch.ones(count, device=images.device)
    given = [one, x_by_y, x_shift, y_by_x, one, y_shift]
    return torch.stack([value.reshape(-1).expand(count) for value in given], 1).view(count, 2, 3)


def rotate(images: Images, strength: float, signs: Signs) -> Images:
    """Rotate by 30 degrees at full strength, about the middle."""
    angles = -math.radians(30) * strength * signs.flatten()
    rows, cols = images.shape[2:]
    cos, sin = angles.cos(), angles.sin()
    x, y = cols / 2, rows / 2
    maps = [cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y]
    return transform(images, torch.stack(maps, 1).view(-1, 2, 3))


def shear_x(images: Images, strength: float, signs: Signs) -> Images:
    """Shear along the columns."""
    none = torch.zeros_like(signs)
    return transform(images, build_matrix(images, 0.3 * strength * signs, none, none, none))


def shear_y(images: Images, strength: float, signs: Signs) -> Images:
    """Shear along the rows."""
    none = torch.zeros_like(signs)
    return transform(images, build_matrix(images, none, none, 0.3 * strength * signs, none))


def translate_x(images: Images, strength: float, signs: Signs) -> Images:
    """Move along the columns."""
    none = torch.zeros_like(signs)
    return transform(images, build_matrix(images, none, 0.45 * images.shape[3] * strength * signs, none, none))


def translate_y(images: Images, strength: float, signs: Signs) -> Images:
    """Move along the rows."""
    none = torch.zeros_like(signs)
    return transform(images, build_matrix(images, none, none, none, 0.45 * images.shape[2] * strength * signs))


def posterize(images: Images, strength: float, signs: Signs) -> Images:
    """Keep the higher bits."""
    step = 2.0 ** (8 - max(1, 8 - round(4 * strength)))
    return (images / step).floor() * step


def solarize(images: Images, strength: float, signs: Signs) -> Images:
    """Invert values from a threshold on."""
    return torch.where(images >= max(0, 256 - int(256 * strength)), 255 - images, images)


def solarize_add(images: Images, strength: float, signs: Signs) -> Images:
    """Brighten values below the middle."""
    return torch.where(images < 128, images + min(128, round(110 * strength)), images)


def autocontrast(images: Images, strength: float, signs: Signs) -> Images:
    """Stretch the histogram of each channel."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    return torch.where(high > low, (images - low) * 255 / (high - low).clamp(min=1), images).floor()


def equalize(images: Images, strength: float, signs: Signs) -> Images:
    """Flatten the histogram of each channel, as Pillow does."""
    values = images.round().long().flatten(2)
    counts = torch.zeros(*values.shape[:2], 256, dtype=torch.long, device=images.device)
    counts.scatter_add_(2, values, torch.ones_like(values))
    last = 255 - counts.flip(2).ne(0).to(torch.uint8).argmax(2, keepdim=True)
    step = (counts.sum(2, keepdim=True) - counts.gather(2, last)) // 255
    table = (step // 2 + counts.cumsum(2) - counts) // step.clamp(min=1)
    table = torch.where(step > 0, table.clamp(0, 255), torch.arange(256, device=images.device))
    return table.gather(2, values).view_as(images).to(images.dtype)


def invert(images: Images, strength: float, signs: Signs) -> Images:
    """Take the negative."""
    return 255 - images


def to_grey(images: Images) -> Float32[Tensor, "batch 1 row col"]:
    """Return the images in grey."""
    if images.shape[1] != 3:
        return images
    luma = torch.tensor(LUMA, device=images.device, dtype=images.dtype).view(1, 3, 1, 1)
    return (images * luma).sum(1, keepdim=True).round()


def enhance(plain: Tensor, images: Images, strength: float, signs: Signs) -> Images:
    """Move images away from a plain version of them, or towards it."""
    factor = (1 + 0.9 * strength * signs).clamp(min=LEAST_FACTOR)
    return (plain + factor * (images - plain)).clamp(0, 255).floor()


def colour(images: Images, strength: float, signs: Signs) -> Images:
    """Change the saturation."""
    return enhance(to_grey(images), images, strength, signs)


def contrast(images: Images, strength: float, signs: Signs) -> Images:
    """Change the contrast about the mean grey."""
    return enhance((to_grey(images).mean((1, 2, 3), keepdim=True) + 0.5).floor(), images, strength, signs)


def brightness(images: Images, strength: float, signs: Signs) -> Images:
    """Change the brightness."""
    return enhance(torch.zeros_like(images), images, strength, signs)


def sharpness(images: Images, strength: float, signs: Signs) -> Images:
    """Blur or sharpen, but for the outermost pixels."""
    channels = images.shape[1]
    kernel = torch.ones(3, 3, device=images.device, dtype=images.dtype)
    kernel[1, 1] = 5
    smooth = images.clone()
    if min(images.shape[2:]) > 2:
        weights = (kernel / 13).expand(channels, 1, 3, 3)
        smooth[:, :, 1:-1, 1:-1] = F.conv2d(images, weights, groups=channels).round()
    return enhance(smooth, images, strength, signs)


BATCHED: tuple[Operation, ...] = (
    autocontrast, equalize, invert, rotate, posterize, solarize, solarize_add, colour, contrast, brightness, sharpness, shear_x,
    shear_y, translate_x, translate_y,
)  # fmt: skip
"""In the order of OPERATIONS."""
assert len(BATCHED) == len(OPERATIONS)
