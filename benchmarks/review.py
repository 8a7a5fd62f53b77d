"""Mistakes planted in labels and duplicates planted across splits: how many are among the first twenty that a review lists.

    python benchmarks/review.py FOLDER_OF_CLASS_FOLDERS [--weights starter] [--images 500] [--classes 10] [--planted 10] [--seeds 0 1 2 3 4]

From the folder as many images of as many classes are drawn, four fifths for training and the rest for validation. Of the training
images some get the label of another class. Others are copied over validation images of their class: by turns as they are, encoded
anew (JPEG, quality 50), at two thirds of their rows and columns, and without a tenth of them. Then `vitreous.review` looks. Listed are
the images of each kind of finding, the likeliest first; an image is found if it is among the first twenty of its kind.
`--weights efficientnet` is the measuring rod of benchmarks/photos.py, for the labels alone.
"""

import argparse
import random
import shutil
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from photos import load_rod, read_rod
from PIL import Image

import vitreous
from vitreous.api.review import LISTED, ReviewResult, join, open_files
from vitreous.evaluation.review.checks import DUPLICATE, WRONG
from vitreous.evaluation.review.labels import find_wrong_labels, out_of_fold

ROD = "efficientnet"


@dataclass(frozen=True)
class Planted:
    """What was planted, by the names that the review has for it."""

    wrong: set[str]
    """Training images with a wrong label, as CLASS/NAME."""
    duplicates: set[frozenset[str]]
    """Pairs of a training and a validation image, as CLASS/NAME each."""


def main() -> None:
    """Plant, review and count, seed by seed, and print a row of the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", default="starter")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--planted", type=int, default=10, help="of each kind")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    given = parser.parse_args()
    rod = load_rod() if given.weights == ROD else None
    model, found = None if rod else vitreous.load(given.weights), []
    for seed in given.seeds:
        with tempfile.TemporaryDirectory() as folder:
            planted, count = plant(given, Path(folder), random.Random(seed))
            if rod:
                found.append((count_by_rod(folder, rod, planted), 0))
            else:
                found.append(count_found(planted, vitreous.review(folder, model, cache=False)))
    columns = [f"{statistics.mean(one):.1f} ({', '.join(map(str, one))})" for one in zip(*found, strict=True)]
    print("| images of | weights | images | classes | wrong labels | duplicates |\n|---|---|---|---|---|---|")
    print(f"| {given.data.name} | {given.weights} | {count} | {given.classes} | {' | '.join(columns)} |")


def plant(given: argparse.Namespace, folder: Path, chance: random.Random) -> tuple[Planted, int]:
    """Write a data set with mistakes into a folder; return them, and how many images there are."""
    classes = chance.sample(sorted(path.name for path in given.data.iterdir() if path.is_dir()), given.classes)
    train: list[tuple[str, Path]] = []
    held: list[tuple[str, Path]] = []
    for label in classes:
        files = sorted(path for path in (given.data / label).iterdir() if path.is_file())
        files = chance.sample(files, min(len(files), given.images // given.classes))
        border = len(files) * 4 // 5
        train += [(label, file) for file in files[:border]]
        held += [(label, file) for file in files[border:]]
    chance.shuffle(train)
    mistaken, copied, rest = (
        train[: given.planted],
        train[given.planted : 2 * given.planted],
        train[2 * given.planted :],
    )
    wrong, duplicates = set(), set()
    for label, file in mistaken:
        other = chance.choice([one for one in classes if one != label])
        wrong.add(write(folder / "train", other, file))
    for label, file in rest:
        write(folder / "train", label, file)
    for number, (label, file) in enumerate(copied):
        first = write(folder / "train", label, file)
        held.remove(chance.choice([one for one in held if one[0] == label]))
        duplicates.add(frozenset((first, copy(folder / "val", label, file, number))))
    for label, file in held:
        write(folder / "val", label, file)
    return Planted(wrong, duplicates), len(train) + len(held) + len(duplicates)


def write(split: Path, label: str, file: Path, before: str = "") -> str:
    """Copy a file into a class folder; return what it is called there."""
    target = split / label / f"{before}{file.parent.name}-{file.name}"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, target)
    return f"{label}/{target.name}"


def copy(split: Path, label: str, file: Path, number: int) -> str:
    """Write a duplicate, changed by turns; return what it is called."""
    if number % 4 == 0:
        return write(split, label, file, "copy-")
    with Image.open(file) as opened:
        image = opened.convert("RGB")
    cols, rows = image.size
    if number % 4 == 2:
        image = image.resize((max(1, cols * 2 // 3), max(1, rows * 2 // 3)))
    if number % 4 == 3:
        left, top = cols // 20, rows // 20
        image = image.crop((left, top, left + cols * 9 // 10, top + rows * 9 // 10))
    target = split / label / f"copy-{file.parent.name}-{file.stem}.jpg"
    target.parent.mkdir(parents=True, exist_ok=True)
    image.save(target, quality=50 if number % 4 == 1 else 90)
    return f"{label}/{target.name}"


def count_found(planted: Planted, found: ReviewResult) -> tuple[int, int]:
    """Return how many wrong labels and duplicates are among the first twenty of their kind."""
    names = found.review.names
    labels = {names[one.index] for one in found.review.of(WRONG)[:LISTED]}
    pairs = {frozenset((names[one.index], names[one.other])) for one in found.review.of(DUPLICATE)[:LISTED]}
    return len(planted.wrong & labels), len(planted.duplicates & pairs)


def count_by_rod(data: str, rod: Callable[[np.ndarray], np.ndarray], planted: Planted) -> int:
    """Return how many wrong labels are among the first twenty by the features of the measuring rod."""
    every = join([read_rod(rod, source) for source in open_files(data).values()])
    listed = find_wrong_labels(out_of_fold(every), every.labels)[:LISTED]
    return len(planted.wrong & {every.names[one.index] for one in listed})


if __name__ == "__main__":
    main()
