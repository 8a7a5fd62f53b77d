"""Facts from the pixels of each image: its size, a small grey picture, whether it shows anything, how sharp it is."""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from vitreous.data.sources.files import FileSource
from vitreous.evaluation.review.duplicates import SIDE
from vitreous.images.decode import decode
from vitreous.shapes import Pixels, Size, UInt8

LONGEST = 256
"""Most pixels of the longer side when sharpness is measured, so that it doesn't depend on the image's size."""
THREADS = 2


@dataclass(frozen=True, eq=False)
class Look:
    """The facts from one image's pixels."""

    digest: bytes
    """Hash of the file."""
    size: Size
    grey: UInt8[np.ndarray, "row col"]
    """SIDE x SIDE."""
    contrast: float
    """The largest standard deviation of a channel, in grey levels; 0 for an image of one colour."""
    sharpness: float
    """Variance of the Laplacian of the grey picture, whose longer side has at most LONGEST pixels."""


def look_at_all(source: FileSource, progress: Callable[[int], None]) -> list[Look]:
    """Look at every image of a source, in order; raises ImageError for one that can no longer be read."""
    found = []
    with ThreadPoolExecutor(THREADS) as pool:
        for look in pool.map(lambda index: _look_at(source, index), range(len(source))):
            found.append(look)
            progress(len(found))
    return found


def _look_at(source: FileSource, index: int) -> Look:
    data = source.read(index)
    pixels = decode(data, source.decode, "RGB", name=source.names[index])
    rows, cols = pixels.shape[:2]
    contrast = float(pixels.reshape(-1, 3).std(0).max())
    return Look(
        hashlib.blake2b(data, digest_size=16).digest(), Size(rows, cols), _grey(pixels), contrast, _sharpness(pixels)
    )


def _grey(pixels: Pixels[np.ndarray, "row col 3"]) -> UInt8[np.ndarray, "row2 col2"]:
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX))


def _sharpness(pixels: Pixels[np.ndarray, "row col 3"]) -> float:
    from PIL import Image
    from scipy.ndimage import laplace

    image = Image.fromarray(pixels).convert("L")
    image.thumbnail((LONGEST, LONGEST), Image.Resampling.BOX)
    return float(laplace(np.asarray(image, np.float32)).var())
