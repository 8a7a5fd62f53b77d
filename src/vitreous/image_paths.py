"""Turn arguments into image files: files, folders, globs, and paths on standard input."""

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from vitreous.data.listing.ignored_files import is_junk, name_kind
from vitreous.data.sources.packed_data import is_packed, list_packed
from vitreous.errors import DataError
from vitreous.images.config import SUFFIXES, DecodeConfig
from vitreous.images.inputs import Packed
from vitreous.storage.presence import explain_url, is_folder, path_exists

IMAGES = ("\udcff\udcd8\udcff", "\udc89PNG")
"""How JPEG and PNG files begin when they are read as text."""


def expand_images(
    arguments: Sequence[str], stdin: Iterable[str] | None = None, null: bool = False, passed: Counter[str] | None = None
) -> Iterator[Path | Packed]:
    """Yield images in the order of the arguments: those of packed files, else paths as `expand_paths` yields them.

    Raises:
        DataError: packed files that can't be read; also raised by `expand_paths`.
    """
    plain: list[str] = []
    for argument in arguments:
        if argument == "-" or not is_packed(Path(argument)):
            plain.append(argument)
            continue
        if plain:
            yield from expand_paths(plain, stdin, null, passed)
            plain = []
        yield from list_images(Path(argument), DecodeConfig().max_bytes)
    if plain or not arguments:
        yield from expand_paths(plain, stdin, null, passed)


def list_images(path: Path, most: int) -> Iterator[Packed]:
    """Yield the images of packed files, split after split; raises DataError. `most`: bytes that an image may have."""
    splits = list_packed(path, optional=True)
    listings = [] if splits is None else [splits.train, splits.validation, splits.test]
    for listing in listings:
        if listing is None or listing.reader is None:
            continue
        for row in listing.rows:
            read = partial(listing.reader.read, row.number, most)
            yield Packed(str(listing.root / row.name), f"{row.bytes} {row.changed}", read)


def expand_paths(
    arguments: Sequence[str], stdin: Iterable[str] | None = None, null: bool = False, passed: Counter[str] | None = None
) -> Iterator[Path]:
    """Yield image paths in the order of the arguments.

    A folder gives its images, including those of its subfolders, sorted by name. A glob (** works too) gives its
    matches, sorted. "-" gives the paths from `stdin`, one per line or separated by NULs, as they arrive (see
    `split_names`). A path that leads to nothing is passed on, so that the reader reports it in its place; it is an
    error here only if there is nothing else at all. `passed` counts the ignored files of folders, for
    `ignored.describe_ignored`.

    Raises:
        DataError: no image was found, or an argument is a URL.
    """
    missing: list[Path] = []
    found = False
    for path, exists in _list_candidates(arguments, stdin, null, passed):
        if not (exists or found):
            missing.append(path)
            continue
        if not found:
            yield from missing
            found = True
        yield path
    if not found:
        raise DataError(_explain_nothing(arguments, missing))


def _list_candidates(
    arguments: Sequence[str], stdin: Iterable[str] | None, null: bool, passed: Counter[str] | None
) -> Iterator[tuple[Path, bool]]:
    """Yield each path, and whether it leads anywhere."""
    for argument in arguments:
        if argument == "-" and stdin is not None:
            yield from ((Path(name), True) for name in split_names(stdin, null) if name)
            continue
        if reason := explain_url(argument):
            raise DataError(reason)
        path = Path(argument)
        matches = [path] if path_exists(path) or not glob.has_magic(argument) else _match_pattern(argument)
        for match in matches:
            if is_folder(match):
                inside = _list_images(match, passed)
                first = next(inside, None)
                yield (match, False) if first is None else (first, True)
                yield from ((image, True) for image in inside)
            else:
                yield match, path_exists(match)
        if not matches:
            yield path, False


def split_names(lines: Iterable[str], null: bool = False) -> Iterator[str]:
    """Yield the names in a text as they arrive: one per line, or separated by NULs, as `find -print0` writes them.

    A NUL in the first line is recognised; if the first name contains a line break, `null` must be given. Raises DataError
    if the text is the contents of an image.
    """
    rest = ""
    for number, line in enumerate(lines):
        if number == 0 and line.startswith(IMAGES):
            raise DataError("standard input is an image, but a list of paths is expected; name the file itself")
        null = null or (number == 0 and "\0" in line)
        if null:
            *whole, rest = (rest + line).split("\0")
            yield from whole
        else:
            yield line.rstrip("\r\n")
    yield rest.rstrip("\n")


def _match_pattern(pattern: str) -> list[Path]:
    return sorted(Path(match) for match in glob.glob(pattern, recursive=True))  # noqa: PTH207 (Path.glob has no absolute patterns)


def _list_images(folder: Path, passed: Counter[str] | None = None) -> Iterator[Path]:
    """Yield the images below a folder, sorted, folder by folder; links to folders are followed once."""
    seen: set[tuple[int, int]] = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        about = Path(root).stat()
        if (about.st_dev, about.st_ino) in seen:
            folders.clear()
            continue
        seen.add((about.st_dev, about.st_ino))
        folders[:] = sorted(name for name in folders if not is_junk(name))
        for name in sorted(files):
            if not is_junk(name) and Path(name).suffix.lower() in SUFFIXES:
                yield Path(root, name)
            elif passed is not None:
                passed[name_kind(name)] += 1


def _explain_nothing(arguments: Sequence[str], missing: Sequence[Path]) -> str:
    if not arguments:
        return "no images were given; name files, folders, globs, or - for paths on standard input"
    first = missing[0] if missing else Path(arguments[0])
    if is_folder(first):
        return f"no images in {first}: no file below it ends in {', '.join(sorted(SUFFIXES))}"
    if not missing:
        return "no images were given: standard input is empty"
    more = f" (nor the {len(missing) - 1} others)" if len(missing) > 1 else ""
    return f"no images found: {first} does not exist{more}"
