"""Digits as image files, some of them without labels."""

from pathlib import Path

from PIL import Image

from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_digits


def write_digits(place: Path, labelled: int = 60, unlabelled: int = 40, classes: int = 3) -> list[int]:
    """Write PLACE/labelled/CLASS/N.png and PLACE/more/N.png; return the true classes of the latter."""
    found = open_digits(DataConfig()).train
    true = (found.labels % classes).tolist()
    for index in range(labelled + unlabelled):
        folder = place / "labelled" / str(true[index]) if index < labelled else place / "more"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(found.pixels[index][..., 0]).save(folder / f"{index:03}.png")
    return true[labelled : labelled + unlabelled]
