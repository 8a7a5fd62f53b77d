"""VTAB's 19 tasks (1910.04867): groups, classes, test images, and how labels derive from annotations.

Facts follow the authors' definitions (github.com/google-research/task_adaptation, task_adaptation/data) and their
tests, except for KITTI's test split: the tests expect 634 images, a tenth of its 6,347, while the split used, that of
TensorFlow Datasets since version 3.1, has 711. Folder names are those of the circulating copies of VTAB-1k.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from vitreous.errors import ConfigError, UnknownName

Group = Literal["Natural", "Specialized", "Structured"]
GROUPS: tuple[Group, ...] = ("Natural", "Specialized", "Structured")
CLEVR_DISTANCES = (8.0, 8.5, 9.0, 9.5, 10.0)
"""Bounds between the classes of the closest object's depth, in CLEVR's units; there is no class below 0 or above
100."""
KITTI_DISTANCES = (8.0, 20.0, 999.0)
"""Bounds between the classes of the closest vehicle's distance, in metres; the last class means no vehicle."""


@dataclass(frozen=True)
class Task:
    """One of the 19."""

    title: str
    group: Group
    classes: int
    test: int
    """Images of the test split."""
    asks: str
    """What the classes are."""


TASKS = {
    "caltech101": Task("Caltech101", "Natural", 102, 6_084, "objects, and a class of background"),
    "cifar": Task("CIFAR-100", "Natural", 100, 10_000, "objects, in 32x32 pixels"),
    "dtd": Task("DTD", "Natural", 47, 1_880, "textures"),
    "oxford_flowers102": Task("Flowers102", "Natural", 102, 6_149, "flowers"),
    "oxford_iiit_pet": Task("Pets", "Natural", 37, 3_669, "breeds of cats and dogs"),
    "sun397": Task("Sun397", "Natural", 397, 21_750, "scenes"),
    "svhn": Task("SVHN", "Natural", 10, 26_032, "digits of house numbers"),
    "patch_camelyon": Task("Patch Camelyon", "Specialized", 2, 32_768, "tumour in a slice of tissue, or not"),
    "eurosat": Task("EuroSAT", "Specialized", 10, 5_400, "use of land, seen by a satellite"),
    "resisc45": Task("Resisc45", "Specialized", 45, 6_300, "scenes, seen from above"),
    "diabetic_retinopathy": Task("Retinopathy", "Specialized", 5, 42_670, "stages of retinopathy, 0 to 4"),
    "clevr_count": Task("Clevr-Count", "Structured", 8, 15_000, "number of objects, 3 to 10"),
    "clevr_dist": Task("Clevr-Dist", "Structured", 6, 15_000, "depth of the closest object, in 6 ranges"),
    "dmlab": Task("DMLab", "Structured", 6, 22_735, "close, far or very far from a good or a bad object"),
    "kitti": Task("KITTI-Dist", "Structured", 4, 711, "distance of the closest vehicle, in 3 ranges, or none"),
    "dsprites_loc": Task("dSprites-Loc", "Structured", 16, 73_728, "horizontal position, 32 values in 16 pairs"),
    "dsprites_ori": Task("dSprites-Ori", "Structured", 16, 73_728, "orientation, 40 values in 16 ranges"),
    "smallnorb_azi": Task("sNORB-Azim", "Structured", 18, 12_150, "azimuth of the camera, steps of 20 degrees"),
    "smallnorb_ele": Task("sNORB-Elev", "Structured", 9, 12_150, "elevation of the camera, steps of 5 degrees"),
}
"""The tasks by the names of their folders."""
OTHER_NAMES = {
    "cifar100": "cifar",
    "cifar-100": "cifar",
    "flowers102": "oxford_flowers102",
    "pets": "oxford_iiit_pet",
    "oxford_pets": "oxford_iiit_pet",
    "retinopathy": "diabetic_retinopathy",
    "clevr_distance": "clevr_dist",
    "kitti_distance": "kitti",
    "dsprites_location": "dsprites_loc",
    "dsprites_orientation": "dsprites_ori",
    "smallnorb_azimuth": "smallnorb_azi",
    "smallnorb_elevation": "smallnorb_ele",
    "camelyon": "patch_camelyon",
}
"""Other names of the same tasks."""


def find_task(name: str) -> str:
    """Return a task's own name; raises UnknownName."""
    own = OTHER_NAMES.get(name.lower(), name.lower())
    if own not in TASKS:
        raise UnknownName("task of VTAB", name, TASKS)
    return own


def clevr_count(objects: int) -> int:
    """Return the class of a scene with this many objects, 3 to 10."""
    return _check_within("objects of a CLEVR scene", objects, 3, 10) - 3


def clevr_distance(depths: Sequence[float]) -> int:
    """Return the class of a scene by its objects' depths (the third of CLEVR's pixel_coords).

    >>> [clevr_distance([depth, 11.0]) for depth in (7.9, 8.2, 9.9, 10.5)]
    [0, 1, 4, 5]
    """
    if not depths:
        raise ConfigError("a CLEVR scene without objects has no closest one")
    return sum(min(depths) > bound for bound in CLEVR_DISTANCES)


def kitti_distance(vehicles: Sequence[float]) -> int:
    """Return the class of a street by the distances (z, in metres) of its cars, vans and trucks; 3 without any.

    >>> [kitti_distance(found) for found in ([5.0, 30.0], [12.0], [33.0], [])]
    [0, 1, 2, 3]
    """
    return sum(min([*vehicles, 1000.0]) > bound for bound in KITTI_DISTANCES)


def dsprites_location(place: int) -> int:
    """Return the class of a sprite at one of the 32 horizontal positions, 0 to 31."""
    return _check_within("horizontal position of a sprite", place, 0, 31) // 2


def dsprites_orientation(orientation: int) -> int:
    """Return the class of a sprite in one of the 40 orientations, 0 to 39: floor(orientation / 2.5)."""
    return _check_within("orientation of a sprite", orientation, 0, 39) * 2 // 5


def smallnorb_azimuth(azimuth: int) -> int:
    """Return the class of smallNORB's own azimuth, an even number from 0 to 34 (tens of degrees)."""
    if azimuth % 2:
        raise ConfigError(f"azimuth of smallNORB is {azimuth}; it must be an even number from 0 to 34")
    return _check_within("azimuth of smallNORB", azimuth, 0, 34) // 2


def smallnorb_elevation(elevation: int) -> int:
    """Return the class of smallNORB's own elevation, 0 to 8 (30 to 70 degrees)."""
    return _check_within("elevation of smallNORB", elevation, 0, 8)


DERIVED: dict[str, Callable[..., int]] = {
    "clevr_count": clevr_count,
    "clevr_dist": clevr_distance,
    "kitti": kitti_distance,
    "dsprites_loc": dsprites_location,
    "dsprites_ori": dsprites_orientation,
    "smallnorb_azi": smallnorb_azimuth,
    "smallnorb_ele": smallnorb_elevation,
}
"""The class for an annotation, by task; for preparing a copy from the originals."""


def _check_within(what: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise ConfigError(f"{what} is {value}; it must be {low} to {high}")
    return value
