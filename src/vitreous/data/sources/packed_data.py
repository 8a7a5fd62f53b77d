"""Recognise packed images: shards, parquet files, and the binary files of MNIST and CIFAR; and list them by split."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from vitreous.data.listing.class_folders import has_images_directly, holds_images, list_subfolders
from vitreous.data.listing.listing import Splits, format_names, get_split, note_unlabelled, sort_key
from vitreous.data.sources.binary_sets import find_cifar, find_idx, open_cifar, open_idx
from vitreous.data.sources.packs import Contents, list_contents, read_split
from vitreous.data.sources.parquet_files import open_table
from vitreous.data.sources.remote_packs import KINDS, find_remote
from vitreous.data.sources.shard_plan import PLAN, find_class_names, read_plan
from vitreous.data.sources.shards import label_by_folders, open_shard
from vitreous.errors import DataError
from vitreous.storage.presence import is_file, is_folder
from vitreous.storage.remote import find_url

INSIDE = ("data", "shards")
"""Folders that are looked into for packed files, besides those of splits."""


def is_packed(path: Path) -> bool:
    """Return whether packed images are at a path."""
    return bool(find_packed(path))


def find_packed(path: Path) -> dict[str, list[Callable[[], Contents]]]:
    """Return how the packed files of each split at a path are opened, "" for those of none; empty if there are none there.

    Raises:
        DataError: a file of a pair is missing, or shards.json is damaged.
    """
    if (url := find_url(path)) is not None:
        return find_remote(url)
    if is_file(path):
        return {"": [opener(path, path.name, None)]} if path.suffix.lower() in KINDS else {}
    if not is_folder(path):
        return {}
    if pairs := find_idx(path):
        return {split: [lambda pair=pair: open_idx(*pair, name=pair[0].name)] for split, pair in pairs.items()}
    if sets := find_cifar(path):
        return {split: [lambda one=one: open_cifar(one, one.name) for one in files] for split, files in sets.items()}
    found: dict[str, list[Callable[[], Contents]]] = {}
    files = find_files(path)
    classes = read_classes(path / PLAN) if is_file(path / PLAN) else None
    for file in files:
        split = read_split(file.name, *([] if file.parent == path else [file.parent.name])) or ""
        found.setdefault(split, []).append(opener(file, file.relative_to(path).as_posix(), classes))
    return found


def opener(file: Path, name: str, classes: Sequence[str] | None) -> Callable[[], Contents]:
    """Return what opens a shard or a parquet file."""
    return lambda: open_shard(file, name, classes) if file.suffix.lower() == ".tar" else open_table(file, name)


def find_files(folder: Path) -> list[Path]:
    """Return the shards and parquet files in a folder, and in its folders of splits; none if it has images as files too."""
    places = [folder]
    for inner in list_subfolders(folder):
        if get_split(inner.name) or inner.name.lower() in INSIDE:
            places += [inner, *(below for below in list_subfolders(inner) if get_split(below.name))]
    found = [file for place in places for file in list_kind(place)]
    if found and (has_images_directly(folder) or any(map(holds_images, list_subfolders(folder)))):
        return []
    return sorted(found, key=lambda file: sort_key(str(file)))


def list_kind(folder: Path) -> Iterable[Path]:
    """Yield the shards and parquet files directly in a folder."""
    try:
        yield from (one for one in folder.iterdir() if one.suffix.lower() in KINDS and not one.name.startswith("."))
    except OSError as error:
        raise DataError(f"can't list {folder}: {error.strerror or error}") from error


def list_packed(path: Path, optional: bool = False) -> Splits | None:
    """Return the packed images at a path by split, or all of them as `train`; None if there are none.

    Args:
        path: a shard, a parquet file, or a folder of them, or of MNIST's or CIFAR's files.
        optional: labels may be missing.

    Raises:
        DataError: files that can't be read, or images without labels.
    """
    found = find_packed(path)
    if not found:
        return None
    loose, notes = found.pop("", []), ()
    if found and loose:
        notes = (f"{len(loose):,} packed files belong to no split by their names, and were left out",)
    if not found:
        found = {"train": loose}
    if "train" not in found:
        raise DataError(
            f"{path} has packed files for {format_names(sorted(found))}, but none for train; add them, or name one to train on"
        )
    root = path if is_folder(path) or find_url(path) else path.parent
    opened = {split: label_by_folders([one() for one in openers]) for split, openers in found.items()}
    if lack_labels(opened.get("test", ())) and not lack_labels(opened["train"]):
        notes += (note_unlabelled(sum(len(one.names) for one in opened.pop("test"))),)
    return Splits(
        **{
            split: list_contents(contents, root, str(path), optional, notes if split == "train" else ())
            for split, contents in opened.items()
        }
    )


def lack_labels(contents: Sequence[Contents]) -> bool:
    """Return whether packs are there and none of them has labels."""
    return bool(contents) and all(one.labels is None for one in contents)


def read_classes(plan: Path) -> list[str] | None:
    """Return the names of the classes by number from shards.json; None if it has none; raises DataError."""
    found = read_plan(plan)
    check_whole(plan, found)
    return find_class_names(found, str(plan))


def check_whole(plan: Path, found: dict[str, Any]) -> None:
    """Refuse shards that aren't all there, or of another length than shards.json says; raises DataError."""
    if found.get("complete") is False:
        raise DataError(f"{plan.parent} isn't written to its end; run the same vitreous shard command again")
    listed = found.get("shardlist")
    for one in listed if isinstance(listed, list) else ():
        name, size = (one.get("url"), one.get("filesize")) if isinstance(one, dict) else (None, None)
        if not isinstance(name, str) or name != Path(name).name:
            raise DataError(f"{plan} names {name!r} as a shard; it must be a file beside it")
        if not is_file(plan.parent / name):
            raise DataError(f"{plan.parent} lacks {name}, which its {PLAN} names; fetch it, or write the shards anew")
        held = (plan.parent / name).stat().st_size
        if size is not None and held != size:
            raise DataError(f"{plan.parent / name} has {held:,} bytes, but {PLAN} says {size}; fetch it anew")
