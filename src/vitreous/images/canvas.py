"""Augmentation in two halves, first half: what a worker sends, the whole image at one size (a canvas), and what it draws for it.

The draws are those of `augment.py`, in the same order from the same generators; `images/rendering.py` carries them out, many images
at a time.
"""

import math
from dataclasses import replace

import numpy as np

from vitreous.images.augment import check_pad, draw_erased_box, draw_inception_box, find_span, find_window_whole
from vitreous.images.config import AugmentConfig, DecodeConfig, PreprocessConfig
from vitreous.images.decode import decode, probe
from vitreous.images.preprocess import convert_mode, preprocess_image
from vitreous.images.randaugment import OPERATIONS
from vitreous.images.tensors import resize
from vitreous.shapes import Pixels, Size

VIEW = 10
"""Numbers of a view besides those of RandAugment's layers: top, left, rows, cols of the crop in pixels of the canvas; 1 for a flip; top,
left, rows, cols of what is erased (no rows: nothing), and the key of its noise."""
MIXING = 6
"""Numbers of mixing: 1 for mixup, 2 for cutmix, 0 for neither; the first image's share; top, bottom, left, right of what is pasted."""


KEYS = 1 << 24
"""Keys of noise: whole numbers that float32 holds."""


def choose_canvas(config: AugmentConfig, preprocess: PreprocessConfig) -> Size:
    """Return the size at which images travel: as large as the crop needs, and for an inception crop `config.canvas` times the
    model's."""
    if config.crop == "window":
        return find_window_whole(config, preprocess)
    rows, cols = preprocess.size
    factor = config.canvas if config.crop == "inception" else 1.0
    return Size(round(rows * factor), round(cols * factor))


def draw_view(
    image: bytes | Pixels[np.ndarray, "row col channel"],
    config: AugmentConfig,
    preprocess: PreprocessConfig,
    decoding: DecodeConfig,
    rng: np.random.Generator,
    name: str = "image",
) -> tuple[Pixels[np.ndarray, "row2 col2 channel2"], list[float]]:
    """Return an image's canvas, and what is drawn for one view of it; raises ImageError."""
    size, canvas = Size(*preprocess.size), choose_canvas(config, preprocess)
    if config.crop == "inception":
        pixels, full = read_squashed(image, canvas, preprocess, decoding, name)
        drawn = draw_inception_box(full, config, rng)
        down, across = canvas.rows / full.rows, canvas.cols / full.cols
        box = [drawn.top * down, drawn.left * across, drawn.rows * down, drawn.cols * across]
    else:
        exact = replace(preprocess, size=tuple(canvas), crop=1.0 if config.crop == "window" else preprocess.crop)
        pixels = preprocess_image(image, decoding, exact, name)
        top = left = 0
        if config.crop == "window":
            top, left = int(rng.integers(canvas.rows - size.rows + 1)), int(rng.integers(canvas.cols - size.cols + 1))
        elif config.crop == "pad":
            check_pad(config.crop_pad, size)
            top, left = (int(shift) - config.crop_pad for shift in rng.integers(2 * config.crop_pad + 1, size=2))
        box = [top, left, *size]
    flipped = bool(config.flip and rng.random() < 0.5)
    layers = [
        number
        for _ in range(config.randaugment[0])
        for number in (int(rng.integers(len(OPERATIONS))), 1.0 if rng.random() < 0.5 else -1.0)
    ]
    erased = [0.0] * 4
    if config.erase and rng.random() < config.erase and (found := draw_erased_box(size, rng)) is not None:
        erased = [*found]
    key = int(rng.integers(KEYS)) if erased[2] else 0
    return pixels, [*box, flipped, *erased, key, *layers]


def read_squashed(
    image: bytes | Pixels[np.ndarray, "row col channel"],
    canvas: Size,
    preprocess: PreprocessConfig,
    decoding: DecodeConfig,
    name: str,
) -> tuple[Pixels[np.ndarray, "row2 col2 channel2"], Size]:
    """Return a whole image at the canvas's size, and its own size; raises ImageError."""
    if isinstance(image, bytes):
        full = probe(image, decoding, name).size
        pixels = decode(image, decoding, preprocess.mode, at_least=canvas, name=name)
    else:
        full, pixels = Size(*image.shape[:2]), convert_mode(image, preprocess)
    return resize(pixels, canvas, preprocess.interpolation, antialias=preprocess.antialias), full


def draw_mixing(size: Size, config: AugmentConfig, rng: np.random.Generator) -> tuple[list[float], float]:
    """Return what is drawn for mixing an example with its partner, and the first one's share of the label."""
    if config.mixup > 0 and (config.cutmix == 0 or rng.random() < 0.5):
        share = float(rng.beta(config.mixup, config.mixup))
        return [1.0, share, 0.0, 0.0, 0.0, 0.0], share
    side = math.sqrt(1 - float(rng.beta(config.cutmix, config.cutmix)))
    middle_row, middle_col = int(rng.integers(size.rows)), int(rng.integers(size.cols))
    top, bottom = find_span(middle_row, size.rows, side)
    left, right = find_span(middle_col, size.cols, side)
    share = 1 - (bottom - top) * (right - left) / (size.rows * size.cols)
    return [2.0, share, top, bottom, left, right], share
