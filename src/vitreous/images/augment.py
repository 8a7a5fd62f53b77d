"""The augmentation of training images: pure functions of (pixels, generator). Equal generators give equal pixels."""

import math
from dataclasses import replace

import numpy as np
import torch

from vitreous.errors import ConfigError
from vitreous.images.config import AugmentConfig, DecodeConfig, PreprocessConfig
from vitreous.images.decode import decode, probe
from vitreous.images.preprocess import convert_mode, fit_patches, preprocess_image
from vitreous.images.randaugment import randaugment
from vitreous.images.tensors import resize
from vitreous.images.three_augment import jitter_colours, three_augment
from vitreous.shapes import Box, Pixels, Size

TRIES = 10
"""Draws of an inception crop before it falls back to the centre."""
ERASE_AREA, ERASE_ASPECT = (0.02, 1 / 3), (0.3, 3.3)
"""Area and aspect of random erasing (1708.04896), as in timm and torchvision; the paper's own largest area is 0.4."""


def augment(
    image: bytes | Pixels[np.ndarray, "row col channel"],
    config: AugmentConfig,
    preprocess: PreprocessConfig,
    decoding: DecodeConfig,
    rng: np.random.Generator,
    name: str = "image",
) -> Pixels[np.ndarray, "row2 col2 channel2"]:
    """Decode if necessary, then crop, flip, RandAugment, 3-Augment, jitter colours and erase. Returns pixels of `preprocess.size`.

    The crop is drawn from the header's size, before decoding: a JPEG whose crop will be shrunk anyway is decoded at a
    reduced scale that still covers it.
    """
    return alter(crop(image, config, preprocess, decoding, rng, name), config, rng)


def augment_packed(
    image: Pixels[np.ndarray, "row col channel"],
    config: AugmentConfig,
    preprocess: PreprocessConfig,
    rng: np.random.Generator,
    extent: tuple[Size, int],
) -> Pixels[np.ndarray, "row2 col2 channel"]:
    """As `augment`, of a decoded image, at a size that is drawn, in whole patches: nothing is stretched, since the crop keeps its aspect.

    The side of a square of the same area is uniform between the smallest and that of `preprocess.size`. The crop is the
    whole image (eval), or an inception crop whose aspects are relative to the image's own. `extent`: the patch, and that smallest
    side, in pixels.
    """
    patch, smallest = extent
    full, side = Size(*image.shape[:2]), rng.uniform(smallest, math.sqrt(math.prod(preprocess.size)))
    box = Box(0, 0, *full)
    if config.crop == "inception":
        low, high = (full.cols / full.rows * aspect for aspect in config.crop_aspect)
        box = draw_inception_box(full, replace(config, crop_aspect=(low, high)), rng)
    part = image[box.top : box.top + box.rows, box.left : box.left + box.cols]
    target = fit_patches(Size(box.rows, box.cols), patch, side)
    return alter(resize(part, target, preprocess.interpolation, antialias=preprocess.antialias), config, rng)


def alter(
    pixels: Pixels[np.ndarray, "row col channel"], config: AugmentConfig, rng: np.random.Generator
) -> Pixels[np.ndarray, "row col channel"]:
    """Flip, RandAugment, 3-Augment, jitter colours and erase."""
    if config.flip and rng.random() < 0.5:
        pixels = torch.from_numpy(pixels).flip(1).numpy()  # numpy copies backwards 20 times slower
    layers, magnitude = config.randaugment
    if layers:
        pixels = randaugment(pixels, layers, magnitude, rng)
    if config.three_augment:
        pixels = three_augment(pixels, rng)
    if config.colour_jitter:
        pixels = jitter_colours(pixels, config.colour_jitter, rng)
    if config.erase and rng.random() < config.erase:
        pixels = erase(pixels, rng)
    return pixels


def crop(
    image: bytes | Pixels[np.ndarray, "row col channel"],
    config: AugmentConfig,
    preprocess: PreprocessConfig,
    decoding: DecodeConfig,
    rng: np.random.Generator,
    name: str,
) -> Pixels[np.ndarray, "row2 col2 channel2"]:
    """Take the configured crop, resized to `preprocess.size`."""
    if config.crop != "inception":
        if config.crop == "window":
            large = replace(preprocess, size=tuple(find_window_whole(config, preprocess)), crop=1.0)
            return take_window(preprocess_image(image, decoding, large, name), Size(*preprocess.size), rng)
        whole = preprocess_image(image, decoding, preprocess, name)
        return pad_crop(whole, config, rng) if config.crop == "pad" else whole
    target = Size(*preprocess.size)
    if not isinstance(image, bytes):
        decoded = convert_mode(image, preprocess)
        box = draw_inception_box(Size(*decoded.shape[:2]), config, rng)
    else:
        full = probe(image, decoding, name).size
        box = draw_inception_box(full, config, rng)
        need = Size(math.ceil(full.rows * target.rows / box.rows), math.ceil(full.cols * target.cols / box.cols))
        decoded = decode(image, decoding, preprocess.mode, at_least=need, name=name)
        box = draw_scaled_box(box, full, Size(*decoded.shape[:2]))
    part = decoded[box.top : box.top + box.rows, box.left : box.left + box.cols]
    return resize(part, target, preprocess.interpolation, antialias=preprocess.antialias)


def draw_inception_box(size: Size, config: AugmentConfig, rng: np.random.Generator) -> Box:
    """Draw a crop of random area and aspect (Szegedy et al., 1409.4842, section 6); the centre after TRIES failures.

    The area is uniform within `crop_area`, the aspect (cols / rows) uniform in its logarithm within `crop_aspect`.
    """
    low, high = (math.log(value) for value in config.crop_aspect)
    for _ in range(TRIES):
        area = size.rows * size.cols * rng.uniform(*config.crop_area)
        aspect = math.exp(rng.uniform(low, high))
        rows, cols = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < rows <= size.rows and 0 < cols <= size.cols:
            top, left = int(rng.integers(size.rows - rows + 1)), int(rng.integers(size.cols - cols + 1))
            return Box(top, left, rows, cols)
    rows = min(size.rows, max(1, round(size.cols / config.crop_aspect[0])))
    cols = min(size.cols, max(1, round(rows * config.crop_aspect[1])))
    return Box((size.rows - rows) // 2, (size.cols - cols) // 2, rows, cols)


def draw_scaled_box(box: Box, full: Size, reduced: Size) -> Box:
    """Express a box of the full image in the pixels of its reduced decoding."""
    if full == reduced:
        return box
    down, across = reduced.rows / full.rows, reduced.cols / full.cols
    top, left = min(int(box.top * down), reduced.rows - 1), min(int(box.left * across), reduced.cols - 1)
    rows = max(1, min(round(box.rows * down), reduced.rows - top))
    cols = max(1, min(round(box.cols * across), reduced.cols - left))
    return Box(top, left, rows, cols)


def take_window(
    whole: Pixels[np.ndarray, "row col channel"], size: Size, rng: np.random.Generator
) -> Pixels[np.ndarray, "row2 col2 channel"]:
    """Take a random window of an image that was resized to the size of the whole, as evaluation would."""
    rows, cols = (length - side + 1 for length, side in zip(whole.shape[:2], size, strict=True))
    top, left = int(rng.integers(rows)), int(rng.integers(cols))
    return whole[top : top + size.rows, left : left + size.cols]


def find_window_whole(config: AugmentConfig, preprocess: PreprocessConfig) -> Size:
    """Return the size of the whole image that windows are taken from: the model's, divided by `crop_window`."""
    rows, cols = preprocess.size
    return Size(round(rows / config.crop_window), round(cols / config.crop_window))


def pad_crop(
    pixels: Pixels[np.ndarray, "row col channel"], config: AugmentConfig, rng: np.random.Generator
) -> Pixels[np.ndarray, "row col channel"]:
    """Shift by up to `crop_pad` pixels each way; the gap shows the image mirrored at the edge, or black."""
    (rows, cols), pad = pixels.shape[:2], config.crop_pad
    check_pad(pad, Size(rows, cols))
    top, left = rng.integers(2 * pad + 1, size=2)
    if config.crop_fill == "black":
        padded = np.zeros((rows + 2 * pad, cols + 2 * pad, pixels.shape[2]), pixels.dtype)
        padded[pad : pad + rows, pad : pad + cols] = pixels
        return padded[top : top + rows, left : left + cols]
    return pixels[mirror_indices(int(top) - pad, rows)][:, mirror_indices(int(left) - pad, cols)]


def check_pad(pad: int, size: Size) -> None:
    """Raise ConfigError unless an image of this size can be shifted by so many pixels, mirrored at its edge."""
    if not 0 <= pad < min(size):
        raise ConfigError(f"augment.crop_pad is {pad}; it must be at least 0 and below the image's side, {min(size)}")


def mirror_indices(start: int, count: int) -> np.ndarray:
    """Return the indices start, start + 1, ... reflected into 0 .. count - 1."""
    index = np.abs(np.arange(start, start + count))
    return np.where(index >= count, 2 * (count - 1) - index, index)


def erase(
    pixels: Pixels[np.ndarray, "row col channel"], rng: np.random.Generator
) -> Pixels[np.ndarray, "row col channel"]:
    """Overwrite a random rectangle with uniform noise (random erasing, 1708.04896); returns a copy."""
    rows, cols, channels = pixels.shape
    box = draw_erased_box(Size(rows, cols), rng)
    if box is None:
        return pixels
    erased = pixels.copy()
    noise = rng.integers(256, size=(box.rows, box.cols, channels), dtype=np.uint8)
    erased[box.top : box.top + box.rows, box.left : box.left + box.cols] = noise
    return erased


def draw_erased_box(size: Size, rng: np.random.Generator) -> Box | None:
    """Draw the rectangle that random erasing overwrites; None after TRIES that didn't fit."""
    low, high = (math.log(value) for value in ERASE_ASPECT)
    for _ in range(TRIES):
        area, aspect = size.rows * size.cols * rng.uniform(*ERASE_AREA), math.exp(rng.uniform(low, high))
        tall, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < tall < size.rows and 0 < wide < size.cols:
            return Box(int(rng.integers(size.rows - tall + 1)), int(rng.integers(size.cols - wide + 1)), tall, wide)
    return None


def mix(
    pixels: Pixels[np.ndarray, "row col channel"],
    partner: Pixels[np.ndarray, "row col channel"],
    config: AugmentConfig,
    rng: np.random.Generator,
) -> tuple[Pixels[np.ndarray, "row col channel"], float]:
    """Mix an example with a partner by mixup or cutmix; return it and the first one's share of the label, 0 to 1."""
    use_mixup = config.mixup > 0 and (config.cutmix == 0 or rng.random() < 0.5)
    return mixup(pixels, partner, config.mixup, rng) if use_mixup else cutmix(pixels, partner, config.cutmix, rng)


def mixup(
    pixels: Pixels[np.ndarray, "row col channel"],
    partner: Pixels[np.ndarray, "row col channel"],
    alpha: float,
    rng: np.random.Generator,
) -> tuple[Pixels[np.ndarray, "row col channel"], float]:
    """Blend two images by a share from Beta(alpha, alpha) (1710.09412), uint8 rounded to whole grey levels."""
    share = float(rng.beta(alpha, alpha))
    blend = pixels.astype(np.float32) * share + partner.astype(np.float32) * (1 - share)
    return (blend + 0.5).astype(np.uint8) if pixels.dtype == np.uint8 else blend, share


def cutmix(
    pixels: Pixels[np.ndarray, "row col channel"],
    partner: Pixels[np.ndarray, "row col channel"],
    alpha: float,
    rng: np.random.Generator,
) -> tuple[Pixels[np.ndarray, "row col channel"], float]:
    """Paste a rectangle of the partner (1905.04899); the share returned is exactly that of the remaining pixels."""
    rows, cols = pixels.shape[:2]
    side = math.sqrt(1 - float(rng.beta(alpha, alpha)))
    middle_row, middle_col = int(rng.integers(rows)), int(rng.integers(cols))
    top, bottom = find_span(middle_row, rows, side)
    left, right = find_span(middle_col, cols, side)
    pasted = pixels.copy()
    pasted[top:bottom, left:right] = partner[top:bottom, left:right]
    return pasted, 1 - (bottom - top) * (right - left) / (rows * cols)


def find_span(middle: int, count: int, share: float) -> tuple[int, int]:
    """Return the part of 0 .. count that lies within half of share x count around the middle."""
    half = round(count * share) / 2
    return max(0, math.floor(middle - half)), min(count, math.floor(middle + half))
