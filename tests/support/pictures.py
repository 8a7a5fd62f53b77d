"""Small images of every kind, good and bad, and trees of them."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def picture(seed: int = 0, rows: int = 8, cols: int = 10, channels: int = 3) -> np.ndarray:
    """Return random pixels: uint8 (row, col, channel)."""
    return np.random.default_rng(seed).integers(0, 256, (rows, cols, channels), dtype=np.uint8)


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options) -> bytes:
    """Return an image's file."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def header_only(cols: int, rows: int) -> bytes:
    """Return a PNG that claims a size and holds no pixels."""
    body = struct.pack(">IIBBBBB", cols, rows, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", body), (b"IDAT", b"")]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def animation() -> bytes:
    """Return a GIF of three frames."""
    frames = [Image.fromarray(picture(seed)) for seed in range(3)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


ODD = {
    "one.png": encoded(picture(rows=1, cols=1)),
    "cmyk.jpg": encoded(Image.fromarray(picture()).convert("CMYK"), "JPEG"),
    "deep.png": encoded(Image.fromarray(np.arange(80, dtype=np.uint16).reshape(8, 10) * 800)),
    "moving.gif": animation(),
    "really-a-png.jpg": encoded(picture(5)),
    "long.png": encoded(picture(rows=1, cols=300)),
}
"""Unusual images that can be read."""
BROKEN = {
    "text.jpg": (b"dear grandmother,\n", "not an image"),
    "empty.png": (b"", "empty"),
    "truncated.jpg": (encoded(picture(rows=90, cols=90), "JPEG")[:900], "damaged JPEG"),
    "truncated.png": (encoded(picture(rows=90, cols=90))[:900], "damaged PNG"),
    "huge.png": (header_only(50_000, 50_000), "more than the limit of"),
}
"""Files that can't be read, each with a part of the reason."""


def write(path: Path, data: bytes | None = None, seed: int = 0) -> Path:
    """Write a file, or a random picture, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(picture(seed)) if data is None else data)
    return path


def tree(root: Path, **counts: int) -> Path:
    """Write class folders with so many different pictures each; train__cat=3 makes train/cat."""
    seed = 0
    for name, count in counts.items():
        for number in range(count):
            seed += 1
            write(root / name.replace("__", "/") / f"{number}.png", seed=seed)
    return root
