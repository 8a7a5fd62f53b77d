"""Pixels for a page: small pictures as data URIs, heat maps, and heat maps over pictures."""

import base64
import io
from typing import Any

import numpy as np

from vitreous.shapes import Float, UInt8

TINY = 64
"""Largest rows and columns of pictures that are stored as they are, and enlarged by the page without blur."""
STEPS = (
    (68, 1, 84), (72, 36, 117), (65, 68, 135), (53, 95, 141), (42, 120, 142), (33, 145, 140),
    (34, 168, 132), (68, 191, 112), (122, 209, 81), (189, 223, 38), (253, 231, 37),
)  # fmt: skip
"""Viridis (Smith and van der Walt, CC0) at 0, 0.1, ... 1."""


def map_colours(values: Float[np.ndarray, "row col"]) -> UInt8[np.ndarray, "row col 3"]:
    """Map values of 0..1 to colours from dark blue to yellow, even in lightness and suited to colour-blind eyes."""
    places = np.linspace(0, 1, len(STEPS))
    channels = [np.interp(values, places, [step[channel] for step in STEPS]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def scale_range(values: Float[np.ndarray, "row col"]) -> Float[np.ndarray, "row col"]:
    """Map the smallest value to 0 and the largest to 1; if all are equal, to 0."""
    low, high = float(values.min()), float(values.max())
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def draw_overlay(
    pixels: UInt8[np.ndarray, "row col channel"], heat: Float[np.ndarray, "grid_row grid_col"], strength: float = 0.6
) -> UInt8[np.ndarray, "row2 col2 3"]:
    """Overlay a coarse heat map on a picture, in grey so that the heat keeps its colours; small ones are enlarged."""
    times = max(1, -(-2 * TINY // max(pixels.shape[:2])))
    grey = pixels.mean(axis=2).repeat(times, axis=0).repeat(times, axis=1)
    smooth = _enlarge(scale_range(heat), grey.shape[0], grey.shape[1])
    return ((1 - strength) * grey[..., None] + strength * map_colours(smooth)).round().astype(np.uint8)


def _enlarge(values: Float[np.ndarray, "row col"], rows: int, cols: int) -> Float[np.ndarray, "row2 col2"]:
    """Interpolate linearly between the cells' centres."""
    import torch
    from torch.nn.functional import interpolate

    cells = torch.from_numpy(values.astype(np.float64))[None, None]
    return interpolate(cells, (rows, cols), mode="bilinear", align_corners=False)[0, 0].numpy()


def draw_mosaic(tiles: Float[np.ndarray, "row col row2 col2"], most: int = 16) -> UInt8[np.ndarray, "height width 4"]:
    """Arrange small heat maps of values -1 to 1 in a grid, one clear pixel apart; of larger grids every n-th is
    shown."""
    chosen = tiles[_spread_evenly(tiles.shape[0], most)][:, _spread_evenly(tiles.shape[1], most)]
    times = max(1, 12 // max(chosen.shape[2:]))
    rows, cols, high, wide = chosen.shape
    painted = map_colours((chosen.reshape(-1, wide) + 1) / 2).reshape(rows, cols, high, wide, 3)
    return _arrange(painted.repeat(times, axis=2).repeat(times, axis=3), 1)


def draw_sheet(
    tiles: Float[np.ndarray, "tile row col channel"], columns: int = 7
) -> UInt8[np.ndarray, "height width 4"]:
    """Arrange patterns row by row with clear space between: 0 is grey, the largest magnitude of each is black or white.

    Three channels are red, green and blue; for any other number the mean is shown in grey.
    """
    if tiles.shape[3] != 3:
        tiles = tiles.mean(axis=3, keepdims=True).repeat(3, axis=3)
    count, high, wide, _ = tiles.shape
    columns = min(columns, count)
    largest = np.maximum(np.abs(tiles).max(axis=(1, 2, 3), keepdims=True), 1e-12)
    painted = np.zeros((-(-count // columns) * columns, high, wide, 4), np.uint8)
    painted[:count, ..., :3] = (127.5 * (1 + tiles / largest)).round()
    painted[:count, ..., 3] = 255
    return _arrange(painted.reshape(-1, columns, high, wide, 4), max(1, max(high, wide) // 10))


def _arrange(tiles: UInt8[np.ndarray, "row col row2 col2 channel"], gap: int) -> UInt8[np.ndarray, "height width 4"]:
    """Return tiles in a grid, `gap` clear pixels apart; three channels are opaque."""
    rows, cols, high, wide, channels = tiles.shape
    canvas = np.zeros((rows, high + gap, cols, wide + gap, 4), np.uint8)
    canvas[:, :high, :, :wide, 3] = 255
    canvas[:, :high, :, :wide, :channels] = tiles.transpose(0, 2, 1, 3, 4)
    return canvas.reshape(rows * (high + gap), cols * (wide + gap), 4)[:-gap, :-gap]


def _to_image(pixels: UInt8[np.ndarray, "row col channel"]) -> Any:
    from PIL import Image

    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))


def encode_png(pixels: UInt8[np.ndarray, "row col channel"]) -> bytes:
    """Return a picture as a PNG file."""
    file = io.BytesIO()
    _to_image(pixels).save(file, "PNG", optimize=True)
    return file.getvalue()


def _spread_evenly(count: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def draw_thumbnail(pixels: UInt8[np.ndarray, "row col channel"], most: int = 160) -> str:
    """Return a picture as a data URI, its longer side at most `most` pixels: PNG if tiny or with alpha, else JPEG."""
    from PIL.Image import Resampling

    if max(pixels.shape[:2]) <= TINY or pixels.shape[2] == 4:
        return encode_data_uri("png", encode_png(pixels))
    image, file = _to_image(pixels), io.BytesIO()
    image.thumbnail((most, most), Resampling.LANCZOS)
    image.save(file, "JPEG", quality=82)
    return encode_data_uri("jpeg", file.getvalue())


def encode_data_uri(kind: str, file: bytes) -> str:
    """Return an image file as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(file).decode('ascii')}"
