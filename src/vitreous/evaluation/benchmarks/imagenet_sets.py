"""ImageNet's other test sets, and how each is opened from the user's copy."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from vitreous.data.labelled_images import open_source
from vitreous.data.listing.class_folders import Walk, list_subfolders
from vitreous.data.listing.listing import Listing, Row, format_names
from vitreous.data.listing.scan import scan
from vitreous.data.sources.base import FileSource, Source
from vitreous.data.sources.files import ScannedListing, build_source, keep_readable
from vitreous.errors import DataError, UnknownName
from vitreous.evaluation.benchmarks.imagenet_classes import CLASSES, find_class, find_classes
from vitreous.images.config import DecodeConfig
from vitreous.shapes import Int64
from vitreous.storage.presence import is_folder


@dataclass(frozen=True)
class ImageSet:
    """One of ImageNet's other test sets."""

    title: str
    paper: str
    asks: str
    """What it tests, in a sentence."""
    mark: str = ""
    """Its subset of the classes: "A", "R" or all."""
    images: int = 0
    """Number of images; 0 where the parts are counted instead (ImageNet-C)."""


SETS = {
    "imagenet-real": ImageSet(
        "ImageNet ReaL",
        "2006.07159",
        "The validation images with every label that fits; a prediction in that set is correct, and images "
        "without labels are left out.",
        images=50_000,
    ),
    "imagenet-v2": ImageSet(
        "ImageNet-V2", "1902.10811", "New images, gathered as the validation images were.", images=10_000
    ),
    "imagenet-a": ImageSet(
        "ImageNet-A",
        "1907.07174",
        "Natural images that ResNet-50 gets wrong; the prediction is among its 200 classes.",
        "A",
        7_500,
    ),
    "imagenet-r": ImageSet(
        "ImageNet-R",
        "2006.16241",
        "Paintings, cartoons, toys and so on; the prediction is among its 200 classes.",
        "R",
        30_000,
    ),
    "imagenet-sketch": ImageSet(
        "ImageNet-Sketch", "1905.13549", "Black-and-white sketches of all 1,000 classes.", images=50_889
    ),
    "imagenet-c": ImageSet(
        "ImageNet-C",
        "1903.12261",
        "Fifteen corruptions at five severities; each one's errors are divided by AlexNet's, and averaged (mCE).",
    ),
}
REAL_FILE = "real.json"
VALIDATION = re.compile(r"ILSVRC2012_val_(\d{8})")
IMAGES = 50_000
"""Images of ImageNet's validation split."""


def find_set(name: str) -> ImageSet:
    """Return a test set; raises UnknownName."""
    if name not in SETS:
        raise UnknownName("benchmark", name, SETS)
    return SETS[name]


def is_class_folder(folder: Path) -> bool:
    """Return whether a folder is named after a class, and holds none: those of severities, 1 to 5, are no classes."""
    return find_class(folder.name) >= 0 and not any(find_class(one.name) >= 0 for one in list_subfolders(folder))


def class_folders(root: Path) -> Path:
    """Return the folder that holds the class folders: the one given, or the only one in it.

    Raises:
        DataError: no such folder, or none of its folders is a class.
    """
    if not is_folder(root):
        raise DataError(f"no such folder: {root}; name your copy of the benchmark, unpacked")
    for place in (root, *(folders[:1] if len(folders := list_subfolders(root)) == 1 else [])):
        if any(map(is_class_folder, list_subfolders(place))):
            return place
    listed = format_names([folder.name + "/" for folder in folders]) or "no folders"
    raise DataError(
        f"{root} has no folders that are named after ImageNet's classes (n01440764 or 0 to 999), but {listed}; "
        "name the folder that holds them"
    )


def open_classes(
    root: Path, decode: DecodeConfig, broken: str, chosen: Int64[np.ndarray, " chosen"]
) -> tuple[Source, Int64[np.ndarray, " example"]]:
    """Open a tree of class folders; return the images with their classes of ImageNet.

    Args:
        root: the user's copy.
        decode: limits of decoding.
        broken: raise, or skip.
        chosen: the benchmark's classes.

    Raises:
        DataError: no such folder, or a folder that is not one of the benchmark's classes.
    """
    place = class_folders(root)
    source = open_source(str(place), None, decode, broken)
    own = find_classes(source.classes, str(place))
    strange = [name for name, index in zip(source.classes, own, strict=True) if index not in chosen]
    if strange:
        raise DataError(
            f"{place} has classes that this benchmark has no images of: {format_names(strange)}; is it another one?"
        )
    return source, own[source.labels]


def open_validation(root: Path, decode: DecodeConfig, broken: str) -> tuple[FileSource, Int64[np.ndarray, " example"]]:
    """Open ImageNet's validation images, in class folders or not; return them with their numbers, from 0.

    Their names contain the numbers (ILSVRC2012_val_00000001.JPEG, and any suffix).

    Raises:
        DataError: no images with such names, or two of one number.
    """
    rows = sorted(_validation_rows(root))
    if not rows:
        raise DataError(
            f"{root} holds no images named like ILSVRC2012_val_00000001.JPEG; name the folder of ImageNet's "
            "validation images"
        )
    first: dict[int, str] = {}
    for row in rows:
        if (other := first.setdefault(read_number(row.name), row.name)) != row.name:
            raise DataError(
                f"{root} has one of ImageNet's validation images twice: {other} and {row.name}; leave one out"
            )
    listing = Listing(root, tuple(rows))
    part = ScannedListing(listing, scan(listing, decode, "full"))
    source = build_source(keep_readable(part, broken), ("image",), decode, part.broken)
    return source, np.array([read_number(name) for name in source.names], np.int64)


def _validation_rows(root: Path) -> Iterator[Row]:
    walk = Walk(root, stamps=True)
    folders, loose = walk.read_folder("", "image")
    for row in chain(loose, *(walk.list_images(folder, "image") for folder in folders)):
        if 0 <= read_number(row.name) < IMAGES:
            yield row


def read_number(name: str) -> int:
    """Return the number, from 0, of one of ImageNet's validation images, given its name; -1 for any other name."""
    match = VALIDATION.match(name.rpartition("/")[2])
    return int(match[1]) - 1 if match else -1


def read_real_labels(root: Path) -> list[frozenset[int]]:
    """Read the user's real.json, from the folder of the validation images or the one above: a set for each image.

    Raises:
        DataError: no such folder, or the file is missing, or isn't a list of 50,000 lists of classes.
    """
    if not is_folder(root):
        raise DataError(f"no such folder: {root}; name the folder of ImageNet's validation images")
    path = next((place / REAL_FILE for place in (root, root.parent) if (place / REAL_FILE).is_file()), None)
    if path is None:
        raise DataError(
            f"neither {root} nor the folder above has {REAL_FILE}; put the file of "
            "google-research/reassessed-imagenet there"
        )
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} can't be read as JSON: {error}") from error
    if not isinstance(found, list) or len(found) != IMAGES or not all(map(_is_labels, found)):
        raise DataError(f"{path} must be a list of {IMAGES:,} lists of classes, 0 to {CLASSES - 1}")
    return [frozenset(labels) for labels in found]


def _is_labels(labels: object) -> bool:
    return isinstance(labels, Sequence) and all(type(label) is int and 0 <= label < CLASSES for label in labels)
