"""Pixels for a page: small pictures as data URIs, heat maps, and heat laid over a picture."""

import base64
import io

import numpy as np
from jaxtyping import Float, UInt8

TINY = 64
"""Pictures of at most so many rows and columns are stored as they are, and enlarged by the page without blur."""
STEPS = (
    (68, 1, 84), (72, 36, 117), (65, 68, 135), (53, 95, 141), (42, 120, 142), (33, 145, 140),
    (34, 168, 132), (68, 191, 112), (122, 209, 81), (189, 223, 38), (253, 231, 37),
)  # fmt: skip
"""Viridis (Smith and van der Walt, CC0) at 0, 0.1, ... 1."""


def colours(values: Float[np.ndarray, "row col"]) -> UInt8[np.ndarray, "row col 3"]:
    """Paint values of 0..1 from dark blue to yellow, even in lightness and for colour-blind eyes."""
    places = np.linspace(0, 1, len(STEPS))
    channels = [np.interp(values, places, [step[channel] for step in STEPS]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def scaled(values: Float[np.ndarray, "row col"]) -> Float[np.ndarray, "row col"]:
    """Map the smallest value to 0 and the largest to 1; all equal: 0."""
    low, high = float(values.min()), float(values.max())
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def overlay(
    pixels: UInt8[np.ndarray, "row col channel"], heat: Float[np.ndarray, "grid_row grid_col"], strength: float = 0.6
) -> UInt8[np.ndarray, "row2 col2 3"]:
    """Lay a coarse heat map over a picture, in grey so that the heat keeps its colours; small ones are enlarged."""
    times = max(1, -(-2 * TINY // max(pixels.shape[:2])))
    grey = pixels.mean(axis=2).repeat(times, axis=0).repeat(times, axis=1)
    smooth = _enlarged(scaled(heat), grey.shape[0], grey.shape[1])
    return ((1 - strength) * grey[..., None] + strength * colours(smooth)).round().astype(np.uint8)


def _enlarged(values: Float[np.ndarray, "row col"], rows: int, cols: int) -> Float[np.ndarray, "row2 col2"]:
    """Interpolate linearly between the cells' middles."""

    def along(count: int, wanted: int) -> np.ndarray:
        matrix = np.zeros((wanted, count))
        place = np.clip((np.arange(wanted) + 0.5) * count / wanted - 0.5, 0, count - 1)
        low = np.minimum(place.astype(int), max(0, count - 2))
        matrix[np.arange(wanted), low] += 1 - (place - low)
        if count > 1:
            matrix[np.arange(wanted), low + 1] += place - low
        return matrix

    return along(values.shape[0], rows) @ values @ along(values.shape[1], cols).T


def mosaic(tiles: Float[np.ndarray, "row col row2 col2"], most: int = 16) -> UInt8[np.ndarray, "height width 4"]:
    """Arrange small heat maps of values -1 to 1 in a grid, a clear pixel between; of larger grids every n-th is shown."""
    rows, cols = tiles.shape[:2]
    chosen = tiles[_spread(rows, most)][:, _spread(cols, most)]
    times = max(1, 12 // max(chosen.shape[2:]))
    chosen = chosen.repeat(times, axis=2).repeat(times, axis=3)
    rows, cols, high, wide = chosen.shape
    canvas = np.zeros((rows * (high + 1) - 1, cols * (wide + 1) - 1, 4), np.uint8)
    for row in range(rows):
        for col in range(cols):
            top, left = row * (high + 1), col * (wide + 1)
            part = canvas[top : top + high, left : left + wide]
            part[..., :3] = colours((chosen[row, col] + 1) / 2)
            part[..., 3] = 255
    return canvas


def sheet(tiles: Float[np.ndarray, "tile row col channel"], columns: int = 7) -> UInt8[np.ndarray, "height width 4"]:
    """Arrange patterns, row by row, clear space between: 0 is grey, the largest magnitude of each black or white.

    Three channels are red, green and blue; of any other number the mean is shown in grey.
    """
    if tiles.shape[3] != 3:
        tiles = tiles.mean(axis=3, keepdims=True).repeat(3, axis=3)
    count, high, wide, _ = tiles.shape
    columns = min(columns, count)
    gap = max(1, max(high, wide) // 10)
    size = (-(-count // columns) * (high + gap) - gap, columns * (wide + gap) - gap, 4)
    canvas = np.zeros(size, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // columns * (high + gap), index % columns * (wide + gap)
        part = canvas[top : top + high, left : left + wide]
        part[..., :3] = (127.5 * (1 + tile / max(float(np.abs(tile).max()), 1e-12))).round()
        part[..., 3] = 255
    return canvas


def png(pixels: UInt8[np.ndarray, "row col channel"]) -> bytes:
    """Return a picture as a PNG file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG", optimize=True)
    return file.getvalue()


def _spread(count: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def thumbnail(pixels: UInt8[np.ndarray, "row col channel"], most: int = 160) -> str:
    """Return a picture as a data URI, its longer side at most `most` pixels: PNG if tiny or with alpha, else JPEG."""
    from PIL import Image

    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    keep = max(pixels.shape[:2]) <= TINY or pixels.shape[2] == 4
    if not keep:
        image.thumbnail((most, most), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True) if keep else image.save(file, "JPEG", quality=82)
    kind = "png" if keep else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
