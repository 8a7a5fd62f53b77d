"""Images with several labels each, made in a moment: a label is a bright quarter."""

from pathlib import Path

import numpy as np
from PIL import Image

QUARTERS = ("bottom left", "bottom right", "top left", "top right")


def quadrants(
    folder: Path, count: int = 64, split: bool = False, each: tuple[float, ...] = (0.5, 0.5, 0.3, 0.2)
) -> Path:
    """Write so many grey images of 8 x 8 pixels and the manifest of their labels; every fourth is for validation.

    `each`: how often each quarter is bright. Image 0 has no label, image 1 has all.
    """
    rng = np.random.default_rng(0)
    lines = ["path,labels,split" if split else "path,labels"]
    (folder / "images").mkdir(parents=True)
    for number in range(count):
        bright = rng.random(4) < each
        bright = {0: np.zeros(4, bool), 1: np.ones(4, bool)}.get(number, bright)
        pixels = rng.integers(0, 90, (8, 8), dtype=np.uint8)
        for quarter in np.flatnonzero(bright):
            row, col = 4 * (quarter < 2), 4 * (quarter % 2)
            pixels[row : row + 4, col : col + 4] += 120
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        labels = ";".join(QUARTERS[quarter] for quarter in np.flatnonzero(bright))
        part = f",{'val' if number % 4 == 1 else 'train'}" if split else ""
        lines.append(f"images/{number}.png,{labels}{part}")
    path = folder / "sets.csv"
    path.write_text("\n".join(lines) + "\n")
    return path
