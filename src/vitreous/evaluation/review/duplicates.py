"""Near-duplicates: images that show the same, re-encoded, resized or slightly cropped.

Candidates come from a 64-bit hash (the signs of the lowest 8x8 cosine coefficients of a small grey picture about their
median, after Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010) and, if there are
features, from each image's nearest neighbour. Each candidate pair is then measured: the largest correlation of one
whole picture with windows of the other, which detects cropped ones.
"""

from collections.abc import Iterable
from functools import lru_cache
from itertools import product

import numpy as np

from vitreous.shapes import Float32, UInt8, UInt64

SIDE = 64
"""Rows and columns of the grey pictures that are compared."""
SMALL = 24
"""Rows and columns at which two pictures are correlated."""
CANDIDATE_BITS = 22
"""Most bits in which the hashes of a candidate pair differ; in unrelated pictures half of the 64 do."""
ALIKE = 0.96
"""Correlation from which a pair counts as near-duplicates."""
MARGINS = (0.03, 0.06, 0.1, 0.15)
"""Shares of rows and columns cut off by the windows."""
MOST_PAIRS = 20
"""Most candidate pairs that are measured, per image: those with the nearest hashes."""
CHUNK = 256
TILE = 4096
"""Images that are compared with as many others at a time: the windows of both, 85 kB an image, are held in memory."""
Grey = UInt8[np.ndarray, "row col"]


def perceptual_hash(picture: Grey) -> np.uint64:
    """Return 64 bits that hardly change when a picture is re-encoded or resized."""
    from scipy.fft import dctn

    low = dctn(_resize(picture, None, 32), norm="ortho")[:8, :8].ravel()
    bits = low > np.median(low[1:])
    return np.packbits(bits).view(np.uint64)[0]


def find_near_duplicates(
    pictures: list[Grey], candidates: Iterable[tuple[int, int]] = (), flat: float = 2.0
) -> list[tuple[float, int, int]]:
    """Return (correlation, first, second) of the pairs that show the same, the most similar first.

    Args:
        pictures: grey, SIDE x SIDE each.
        candidates: further pairs to measure.
        flat: standard deviation of grey below which a picture shows nothing, and resembles no other.
    """
    shows = [index for index, picture in enumerate(pictures) if picture.std() >= flat]
    hashes = np.array([perceptual_hash(pictures[index]) for index in shows], np.uint64)
    near = [(shows[row], shows[col]) for row, col in pair_hashes(hashes, MOST_PAIRS * len(pictures))]
    shown = set(shows)
    further = {(min(pair), max(pair)) for pair in candidates if shown.issuperset(pair)}
    get_windows = lru_cache(2 * TILE)(lambda index: _windows(pictures[index]))
    found = []
    for first, second in sorted({*near, *further}, key=lambda pair: (pair[0] // TILE, pair[1] // TILE, pair)):
        one, other = get_windows(first), get_windows(second)
        score = max((one @ other[0]).max(), (other @ one[0]).max())
        if score >= ALIKE:
            found.append((float(score), first, second))
    return sorted(found, key=lambda one: (-one[0], one[1:]))


def pair_hashes(hashes: UInt64[np.ndarray, " image"], most: int) -> list[tuple[int, int]]:
    """Return the pairs whose hashes differ in few bits, the nearest first, and at most so many."""
    count, kept = len(hashes), np.empty(0, np.int64)
    for start in range(0, count, CHUNK):
        bits = np.bitwise_count(hashes[start : start + CHUNK, None] ^ hashes[None, start:])
        rows, cols = np.nonzero(np.triu(bits <= CANDIDATE_BITS, 1))
        # Numbers that are in order of bits, then row, then column.
        ranks = (bits[rows, cols].astype(np.int64) * count + start + rows) * count + start + cols
        kept = np.concatenate([kept, ranks])
        if len(kept) > most:
            kept = np.partition(kept, most - 1)[:most]
    kept.sort()
    return list(zip((kept // count % count).tolist(), (kept % count).tolist(), strict=True))


def _windows(picture: Grey) -> Float32[np.ndarray, "window pixel"]:
    """Return the whole picture and windows of it, each at SMALL x SMALL with mean 0 and length 1."""
    boxes: list[tuple[float, float, float, float] | None] = [None]
    for margin, down, right in product(MARGINS, (0.0, 0.5, 1.0), (0.0, 0.5, 1.0)):
        size, free = SIDE * (1 - margin), SIDE * margin
        boxes.append((free * right, free * down, free * right + size, free * down + size))
    flat = np.stack([_resize(picture, box, SMALL).ravel() for box in boxes])
    flat -= flat.mean(1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def _resize(
    picture: Grey, box: tuple[float, float, float, float] | None, side: int
) -> Float32[np.ndarray, "row2 col2"]:
    from PIL import Image

    image = Image.fromarray(picture.astype(np.float32))
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, box), np.float32)
