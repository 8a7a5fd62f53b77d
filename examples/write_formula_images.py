"""Write images from formulas as PNG files in class folders, or as one sheet.

    python examples/write_formula_images.py 'formula:atoms?classes=10&images=5&size=96' FOLDER
    python examples/write_formula_images.py --sheet SHEET.png

A folder has train/ and val/, so any program for class folders can take it. The sheet shows nine classes of each kind, a
column each, with three instances.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from vitreous.data.config import DataConfig
from vitreous.data.dataset import Source, open_dataset
from vitreous.data.synthetic.formula import Formula, FormulaSource
from vitreous.errors import UserError

SHEET = ("fractals", "contours", "atoms")
CLASSES, INSTANCES, SIZE, GAP = 9, 3, 96, 3


def write_part(source: Source, folder: Path) -> None:
    """Write every image as FOLDER/CLASS/INSTANCE.png."""
    for index in range(len(source)):
        place = folder / f"{source.names[index]}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(source.read(index).squeeze()).save(place)


def sheet() -> Image.Image:
    """Draw classes side by side, their instances below each other, kind by kind."""
    rows = []
    for kind in SHEET:
        source = FormulaSource(Formula(kind, CLASSES, INSTANCES, SIZE), INSTANCES)
        drawn = [np.pad(source.read(index), ((0, GAP), (0, GAP), (0, 0)), constant_values=128) for index in range(27)]
        for instance in range(INSTANCES):
            rows.append(np.concatenate(drawn[instance::INSTANCES], axis=1))
        rows.append(np.full((GAP, *rows[0].shape[1:]), 128, dtype=np.uint8))
    whole = np.concatenate(rows)[: -2 * GAP, :-GAP]
    return Image.fromarray(whole).quantize(128, dither=Image.Dither.NONE)


def main(first: str, second: str) -> None:
    """Write what was asked for, and say so."""
    if first == "--sheet":
        sheet().save(second, optimize=True)
        print(f"wrote {second}")
        return
    data = open_dataset(DataConfig(first))
    write_part(data.train, Path(second) / "train")
    write_part(data.validation, Path(second) / "val")
    print(
        f"wrote {data.facts.train:,} and {data.facts.validation:,} images to {second}; next: vitreous inspect {second}"
    )


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except UserError as error:
        sys.exit(str(error))
