"""Small videos: frame n is grey of brightness 5n, with a red field above left."""

import struct
from pathlib import Path

import av
import numpy as np


def video(path: Path, frames: int = 50, rate: int = 10, codec: str = "ffv1", size: tuple[int, int] = (48, 64)) -> Path:
    """Write a video, by default without loss; its container is that of its extension."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = size
        stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(pixels(number, size), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def pixels(number: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """Return what frame n of such a video shows."""
    found = np.full((*size, 3), 5 * number % 256, np.uint8)
    found[: size[0] // 2, : size[1] // 2] = [250, 0, 0]
    return found


def turn(path: Path, matrix: tuple[int, ...]) -> None:
    """Write a display matrix (a, b, c, d of x' = ax + cy, y' = bx + dy) into an MP4's track, as phones do."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 4 + 20 + 16  # version and flags, times and ids, layer and volume
    a, b, c, d = (value << 16 for value in matrix)
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
