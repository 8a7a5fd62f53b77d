"""Cut the sample photographs of scikit-learn and scikit-image into images to learn from: python examples/write_photographs.py FOLDER.

FOLDER/photos gets a folder for each photograph with crops of its left part, FOLDER/unsorted crops of the rest, so that no pixel
is in both. All of a class are of one photograph: they are alike, and a model that sorts them well has not yet shown that it knows
another cat. The photographs ship in the two packages. China and flower are by danielbuechele and vultilion (CC BY 2.0), Chelsea the
cat by Stefan van der Walt and the coffee by Rachel Michetti (CC0); SpaceX's rocket and Hubble's deep field are in the public domain,
and the stained tissue (CMMI) has no known copyright restrictions.
"""

import random
import sys
from importlib.resources import files
from pathlib import Path

from PIL import Image

PHOTOGRAPHS = {
    "cat": ("skimage", "data/chelsea.png"),
    "coffee": ("skimage", "data/coffee.png"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "stars": ("skimage", "data/hubble_deep_field.jpg"),
    "temple": ("sklearn", "datasets/images/china.jpg"),
    "tissue": ("skimage", "data/ihc.png"),
}
LEFT = 0.7
"""Of the width: what is learned from."""
LEARNED, UNSORTED = 30, 5
"""Crops of each photograph."""
SIDES = (90, 130)
"""Pixels of a crop's side, from and to."""


def read_photograph(package: str, path: str) -> Image.Image:
    """Return a photograph that ships in a package."""
    with (files(package) / path).open("rb") as stream:
        return Image.open(stream).convert("RGB")


def write_crops(part: Image.Image, count: int, rng: random.Random, pattern: str) -> None:
    """Write square crops at random places; the pattern takes their number."""
    for number in range(1, count + 1):
        side = rng.randint(*SIDES)
        left, top = rng.randint(0, part.width - side), rng.randint(0, part.height - side)
        part.crop((left, top, left + side, top + side)).save(pattern.format(number), quality=90)


def main(folder: Path) -> None:
    """Write the crops, and say so."""
    photographs, rng = {name: read_photograph(*place) for name, place in PHOTOGRAPHS.items()}, random.Random(0)
    (folder / "unsorted").mkdir(parents=True)
    for name, photograph in photographs.items():
        edge = round(photograph.width * LEFT)
        left, right = photograph.crop((0, 0, edge, photograph.height)), photograph.crop((edge, 0, *photograph.size))
        (folder / "photos" / name).mkdir(parents=True)
        write_crops(left, LEARNED, rng, f"{folder}/photos/{name}/{{:02}}.jpg")
        write_crops(right, UNSORTED, rng, f"{folder}/unsorted/{name}-{{}}.jpg")
    print(
        f"wrote {LEARNED} crops of each of {len(PHOTOGRAPHS)} photographs to {folder / 'photos'}, "
        f"and {UNSORTED} of the rest of each to {folder / 'unsorted'}"
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        main(Path(sys.argv[1]))
    except FileExistsError as error:
        sys.exit(f"{error.filename} is there already; name another folder")
    except ModuleNotFoundError as error:
        sys.exit(
            f"{error.name} is not installed; its photographs come with: pip install -c constraints.txt scikit-image"
        )
