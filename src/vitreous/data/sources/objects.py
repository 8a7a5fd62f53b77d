"""Data sets that a program holds: PyTorch's, with items (image, label), and those of Hugging Face's `datasets`.

Each has a name for as long as the process lives, object:CIFAR10, which stands where another data set has its path. Images are
read when it is their turn, through the object.
"""

import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.data.listing.class_folders import UNLABELLED
from vitreous.data.listing.listing import BETWEEN, Listing, Row, Splits, format_names, note_unlabelled
from vitreous.data.sources.packs import check_length, read_split
from vitreous.data.sources.parquet_files import IMAGES, LABELS, choose_column, lacks_labels, name_class, take_bytes
from vitreous.errors import DataError, ImageError
from vitreous.images.inputs import FILE, convert_array, convert_pillow, is_pillow
from vitreous.shapes import Pixels

PREFIX = "object:"
TWICE = 8
"""Items that are read twice, to see that they stay the same."""
_HELD: dict[str, dict[str, Any]] = {}
"""Data sets by their names: their splits."""
_turn = threading.Lock()
"""Held while an item is read, since not every data set can be read by several threads."""


def is_object(path: str | Path) -> bool:
    """Return whether this is the name of a data set that a program holds."""
    return str(path).startswith(PREFIX)


def is_held(path: str | Path) -> bool:
    """Return whether this process holds a data set of this name."""
    return str(path) in _HELD


def hold(data: Any, name: str | None = None) -> str:
    """Return the name of a data set from now on.

    Args:
        data: a data set, or several by the names of their splits, as a `datasets.DatasetDict` has them.
        name: the one that it had in another process; None: a free one.

    Raises:
        DataError: it can't be read by index, or a split's name means none.
    """
    given = dict(data) if isinstance(data, Mapping) else {"train": data}
    splits: dict[str, Any] = {}
    for key, part in given.items():
        split = read_split(str(key))
        if split is None or split in splits:
            raise DataError(
                f"the data set's splits are {format_names([str(one) for one in given])}; expected train, validation, test"
            )
        splits[split] = check_kind(part)
    if "train" not in splits:
        raise DataError(f"the data set's splits are {format_names([str(one) for one in given])}, none of them train")
    held = next((known for known, one in _HELD.items() if name is None and is_same(one, splits)), None)
    found = held or name or choose_name(next(iter(splits.values())))
    _HELD[found] = splits
    for part in splits.values():
        if id(part) in _READERS and not _READERS[id(part)][1].is_current():
            del _READERS[id(part)]
    return found


def is_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two data sets are of the very same objects."""
    return one.keys() == other.keys() and all(one[name] is other[name] for name in one)


def choose_name(data: Any) -> str:
    """Return a free name for a data set."""
    info = getattr(data, "info", None)
    said = str(getattr(info, "dataset_name", None) or type(data).__name__)
    word = "".join(one if one.isalnum() else "-" for one in said).lower()
    names = (f"{PREFIX}{word}{f'-{number}' if number > 1 else ''}" for number in range(1, len(_HELD) + 2))
    return next(name for name in names if name not in _HELD)


def check_kind(data: Any) -> Any:
    """Return a data set; raises DataError for one that can't be read by index."""
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")) or isinstance(data, str | bytes):
        raise DataError(
            f"{type(data).__name__} can't be read by index: give a folder, a torch Dataset with __len__ and __getitem__, or a "
            "datasets.Dataset that isn't streamed"
        )
    return data


def list_objects(path: str | Path, optional: bool = False) -> Splits:
    """Return the examples of a data set that this program holds, by split.

    Args:
        path: its name.
        optional: labels may be missing.

    Raises:
        DataError: this program holds no such data set, or it can't be learned from.
    """
    if str(path) not in _HELD:
        raise DataError(
            f"{path} was an object of the program that trained on it; give it anew, vitreous.resume(RUN, data=DATASET), or name "
            "files with --data"
        )
    readers = {split: open_reader(data, f"{path}, {split}") for split, data in _HELD[str(path)].items()}
    notes: tuple[str, ...] = ()
    if "test" in readers and readers["test"].labels is None and readers["train"].labels is not None:
        notes = (note_unlabelled(len(readers.pop("test").data)),)
    found = {split: list_rows(reader, optional) for split, reader in readers.items()}
    return Splits(**found | {"train": replace(found["train"], notes=notes)})


def open_reader(data: Any, name: str) -> "Items | Table":
    """Return how to read one split; raises DataError."""
    if id(data) not in _READERS:
        _READERS[id(data)] = data, (Table if is_table(data) else Items).open(data, name)
    return _READERS[id(data)][1]


def list_rows(reader: "Items | Table", optional: bool) -> Listing:
    """Return the examples of one split; raises DataError."""
    labels, name = reader.labels, reader.location
    if labels is None and not optional:
        raise DataError(f"{name} has no labels, which are needed here")
    multilabel = labels is not None and any(not isinstance(one, str) for one in labels)
    texts = [one if isinstance(one, str) else BETWEEN.join(one) for one in labels or (UNLABELLED,) * len(reader.data)]
    rows = tuple(Row(f"{number:08}", label, 0, 0, number) for number, label in enumerate(texts))
    if not rows:
        raise DataError(f"{name} holds no images")
    return Listing(Path(name), rows, multilabel=multilabel, reader=reader)


_READERS: dict[int, tuple[Any, "Items | Table"]] = {}
"""Data sets and how they are read, by their identity; they are held here, since a reader of a table holds another one, and so
the identity stays its own."""


def is_table(data: Any) -> bool:
    """Return whether this is one of Hugging Face's `datasets`."""
    return hasattr(data, "cast_column") and hasattr(data, "features") and hasattr(data, "with_format")


@dataclass(frozen=True)
class Items:
    """A torch Dataset, whose items are (image, label, ...), or {"image": ..., "label": ...}."""

    data: Any
    location: str
    labels: Sequence[str | list[str]] | None
    scans: dict = field(default_factory=dict, repr=False)
    """What scans found, since this process ends with the object."""
    stated: tuple[list[Any] | None, list[str] | None] | None = field(default=None, repr=False)
    """The targets and class names beside the items that the labels are of; None for labels of the items."""

    @classmethod
    def open(cls, data: Any, name: str) -> "Items":
        """Return how to read a data set; raises DataError for one that draws its images at random, or has labels of no kind."""
        if not len(data):
            return cls(data, name, None)
        known = stated = find_targets(data)
        for number in range(min(TWICE, len(data))):
            where = f"image {number} of {name}"
            first, second = (to_file_or_pixels(get_image(data[number], name), where) for _ in range(2))
            if not (first == second if isinstance(first, bytes) else np.array_equal(first, second)):
                raise DataError(
                    f"{where} is another one when it is read again; leave out random transforms, vitreous augments "
                    "by itself (--augment)"
                )
        if known is None or any(  # compared as texts, since arrays don't say whether they are equal
            repr(known[number]) != repr(get_label(data[number])) for number in range(min(TWICE, len(data)))
        ):
            known, stated = [get_label(data[number]) for number in range(len(data))], None
        classes = find_classes(data)
        labels = name_labels(known, classes, name)
        if labels is None:
            return cls(data, name, None)
        return cls(data, name, labels, stated=None if stated is None else (stated, classes))

    def is_current(self) -> bool:
        """Return whether the labels are known to be those that the data set has now."""
        return self.stated is not None and self.stated == (find_targets(self.data), find_classes(self.data))

    def read(self, number: int, most: int) -> bytes | Pixels[np.ndarray, "row col channel"]:
        """Return an image's bytes, or its pixels; raises ImageError."""
        with _turn:
            item = self.data[number]
        return to_file_or_pixels(get_image(item, self.location), f"image {number}")


def get_image(item: Any, name: str) -> Any:
    """Return the image of an item; raises DataError."""
    if isinstance(item, Mapping):
        found = next((item[key] for key in (*IMAGES, "pixel_values") if key in item), None)
        if found is None:
            raise DataError(
                f"{name} has items with {format_names([str(key) for key in item])}; expected image and label"
            )
        return found
    return item[0] if isinstance(item, tuple | list) and item else item


def get_label(item: Any) -> int | str | list[Any] | None:
    """Return the label of an item: a class's number or name, or a list of them; None without one."""
    if isinstance(item, Mapping):
        found = next((item[key] for key in LABELS if key in item), None)
    else:
        found = item[1] if isinstance(item, tuple | list) and len(item) > 1 else None
    return to_plain(found)


def to_plain(label: Any) -> Any:
    """Return a number without the array or the tensor around it, also in a list; anything else as it is."""
    if isinstance(label, list):
        return [to_plain(one) for one in label]
    return label.item() if hasattr(label, "item") and math.prod(getattr(label, "shape", ())) == 1 else label


def find_targets(data: Any) -> list[Any] | None:
    """Return the labels that a data set keeps beside its items, as torchvision's do; None without them."""
    found = getattr(data, "targets", None)
    if found is None or getattr(data, "target_transform", None) is not None or not hasattr(found, "__len__"):
        return None
    if getattr(found, "ndim", 1) != 1:  # a column for each class, which is no list of classes
        return None
    listed = found.tolist() if hasattr(found, "tolist") else [to_plain(one) for one in found]
    return listed if len(listed) == len(data) else None


def find_classes(data: Any) -> list[str] | None:
    """Return the class names of a data set, or of the one that it is a part of; None without any."""
    while data is not None:
        found = getattr(data, "classes", None)
        if isinstance(found, Iterable) and not isinstance(found, str):
            return [str(one) for one in found]
        data = getattr(data, "dataset", None)
    return None


def to_file_or_pixels(image: Any, name: str) -> bytes | Pixels[np.ndarray, "row col channel"]:
    """Return an image as a file's bytes, or as its pixels; raises ImageError.

    Arrays are uint8, (row, col) or (row, col, channel). Tensors have the channel first; their values are uint8, or floats from 0 to
    1 in steps of 1/255.
    """
    if isinstance(image, FILE):
        return bytes(image)
    if is_pillow(image):
        return convert_pillow(image, name)
    if hasattr(image, "detach"):
        try:
            image = from_tensor(image.detach().cpu().numpy(), name)
        except TypeError as error:  # bfloat16, which can't hold 256 values from 0 to 1
            raise ImageError(
                f"{name} is a tensor of {image.dtype}; expected one of uint8, or of float32 from 0 to 1"
            ) from error
    if not isinstance(image, np.ndarray):
        raise ImageError(f"{name} is a {type(image).__name__}; expected a Pillow image, an array, a tensor or bytes")
    return convert_array(image, name)


def from_tensor(values: np.ndarray, name: str) -> np.ndarray:
    """Return a tensor's values as uint8 with the channel last; raises ImageError."""
    if values.dtype.kind == "f":
        whole = np.round(values * 255.0)
        if not (np.abs(values * 255.0 - whole) < 1e-2).all() or whole.min() < 0 or whole.max() > 255:
            raise ImageError(
                f"{name} is a tensor of floats that are no pixels from 0 to 1; leave out normalisation and other transforms: "
                "vitreous does that by itself"
            )
        values = whole.astype(np.uint8)
    return values if values.ndim == 2 else np.moveaxis(values, 0, -1)


@dataclass(frozen=True)
class Table:
    """One of Hugging Face's `datasets`."""

    data: Any
    column: str
    location: str
    labels: Sequence[str | list[str]] | None
    scans: dict = field(default_factory=dict, repr=False)

    @classmethod
    def open(cls, data: Any, name: str) -> "Table":
        """Return how to read a data set; raises DataError for columns without an image, or with labels of no kind."""
        features = {key: describe_feature(one) for key, one in data.features.items()}
        columns = list(data.column_names)
        image = choose_column(columns, features, "Image", IMAGES)
        if image is None:
            raise DataError(f"{name} has the columns {', '.join(columns)}; expected image and label")
        label = choose_column([one for one in columns if one != image], features, "ClassLabel", LABELS)
        labels = None
        if label is not None:
            values = data.select_columns([label]).with_format(None)[:][label]
            labels = name_labels(values, features[label].get("names"), name)
        plain = data.select_columns([image]).with_format(None)
        if features[image].get("_type") == "Image":
            plain = plain.cast_column(image, data.features[image].__class__(decode=False))
        return cls(plain, image, name, labels)

    def is_current(self) -> bool:
        """Return True: these data sets can't be changed."""
        return True

    def read(self, number: int, most: int) -> bytes | Pixels[np.ndarray, "row col channel"]:
        """Return an image's bytes, or its pixels; raises ImageError."""
        value = self.data[number][self.column]
        found = take_bytes(value)
        if found is None and isinstance(value, Mapping) and value.get("path"):
            try:
                found = Path(str(value["path"])).read_bytes()
            except OSError as error:
                raise ImageError(f"can't read {value['path']}: {error.strerror or error}") from error
        if found is None and isinstance(value, list):
            return to_file_or_pixels(np.asarray(value, np.uint8), f"image {number}")
        if found is None:
            raise ImageError("its row has no image")
        check_length(len(found), most)
        return found


def describe_feature(feature: Any) -> dict[str, Any]:
    """Return a column's kind and its class names, as `choose_column` takes them."""
    inner = getattr(feature, "feature", None)
    names = getattr(feature, "names", None) or getattr(inner, "names", None)
    kind = type(inner if type(inner).__name__ == "ClassLabel" else feature).__name__
    return {"_type": kind, "names": list(names) if names else None}


def name_labels(values: Sequence[Any], classes: list[str] | None, name: str) -> list[str | list[str]] | None:
    """Return the class names of rows, several where a row has several; None where no row has any; raises DataError."""
    if lacks_labels(values):
        return None
    return [
        name_several(value, classes, f"{name}, {number}")
        if isinstance(value, list)
        else name_class(value, classes, f"{name}, {number}")
        for number, value in enumerate(values)
    ]


def name_several(value: list[Any], classes: list[str] | None, where: str) -> list[str]:
    """Return the class names of a row, each once; raises DataError, also for a 0 or 1 for each class."""
    if len(value) > 2 and all(type(one) is int and one in (0, 1) for one in value):
        raise DataError(
            f"{where}: label is {value[:8]}, a 0 or 1 for each class; give the numbers or names of those it has"
        )
    return list(dict.fromkeys(name_class(one, classes, where) for one in value))
