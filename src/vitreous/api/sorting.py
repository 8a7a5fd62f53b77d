"""`vitreous.sort_into`: sort images into one folder per class, as copies or links; the originals stay unchanged."""

import errno
import filecmp
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, get_args

from vitreous.api.models import ModelLike, as_predictor
from vitreous.api.progress import shows_progress
from vitreous.api.results import Result
from vitreous.errors import ConfigError, ImageError, UnknownName
from vitreous.image_paths import expand_paths
from vitreous.images.video import find_frame_file, write_frame
from vitreous.prediction import Prediction, name_unknown
from vitreous.predictor import Predictor
from vitreous.storage.atomic import (
    STEM,
    WITHOUT_LINKS,
    check_name,
    clear_partials,
    copy_atomically,
    translate_write_errors,
)
from vitreous.storage.presence import is_folder, path_exists
from vitreous.training.reporter import Reporter, Silent

Link = Literal["hard", "symbolic"]
THRESHOLD = 0.5
"""Default probability below which an image counts as unknown."""
NOT_IN_NAMES = re.compile(r"[/\\\x00-\x1f\x7f\ud800-\udc7f\udd00-\udfff]|^\.")


@dataclass(frozen=True, eq=False, repr=False)
class SortingResult(Result):
    """The images sorted into folders."""

    folder: Path
    counts: dict[str, int]
    """Number of images in each folder below `folder`; an image with several classes is in the folder of each."""
    already: int
    """How many of these images were already there, unchanged, and were not written again."""
    renamed: dict[str, str]
    """Classes whose names can't be folder names, with the names of their folders."""
    failed: tuple[tuple[str, str], ...]
    """Images that couldn't be read or copied: (name, reason)."""

    def __str__(self) -> str:
        each = ", ".join(f"{name} {number:,}" for name, number in sorted(self.counts.items())) or "none"
        lines = [f"sorted into {self.folder}: {each}"]
        lines += [f"{self.already:,} of them were already there"] if self.already else []
        lines += [f"class {label!r} is in the folder {name!r}" for label, name in self.renamed.items()]
        lines += [f"{len(self.failed):,} images were left out; the first: {self.failed[0][1]}"] if self.failed else []
        return "\n".join(lines)


@shows_progress
def sort_into(
    model: ModelLike,
    images: str | Path | Sequence[str | Path],
    folder: str | Path,
    *,
    threshold: float = THRESHOLD,
    link: Link | None = None,
    every: float = 1.0,
    device: str = "auto",
    progress: bool | None = None,
    reporter: Reporter | None = None,
) -> SortingResult:
    """Classify images and sort each into a folder for its class; uncertain ones get a separate folder.

    Nothing is overwritten, moved or changed: if a name is in use, the copy's name gets a number, and an identical image that
    is already there isn't written again. Every file that has its name is complete, even if the process dies.

    >>> vitreous.sort_into("runs/photos-1", "unsorted/", "sorted/", threshold=0.6).counts   # doctest: +SKIP
    {'cat': 40, 'dog': 52, 'unknown': 7}

    Args:
        model: what `vitreous.load` accepts or returns, with a head.
        images: files, folders or globs, one or many.
        folder: where the class folders are made; images below it are ignored.
        threshold: probability below which an image is unknown; for multilabel models, the probability from which a
            class is predicted.
        link: make hard or symbolic links instead of copies.
        every: for a video named itself: seconds from one frame to the next; frames are written as PNG.
        device: auto, cpu, cuda or mps; for a model that isn't loaded yet.
        progress: show progress; None: only in a notebook or on a terminal.
        reporter: receives the progress instead of that display.

    Raises:
        ConfigError: a model without a head, a threshold out of range, a folder that is a file, or links that can't be
            made there.
        DataError: no images. StorageError: the disk is full or read-only; files written so far stay.
    """
    predictor = as_predictor(model, device, merges=True)
    before = predictor.decision
    predictor.decision = replace(before, threshold=threshold)
    try:
        sorter = Sorter(predictor, Path(folder), link)
        paths = [str(images)] if isinstance(images, (str, Path)) else [str(path) for path in images]
        sorter.refuse_inside(paths)
        files = count_files(sorter.select_outside(expand_paths(paths)), reporter or Silent())
        for one in predictor.predict_many(files, every):
            sorter.put(one)
        return sorter.result
    finally:
        predictor.decision = before


def count_files(paths: Iterable[Path], display: Reporter) -> Iterator[Path]:
    """Yield paths, and show how many of them have been read."""
    display.phase("listing the images")
    files = list(paths)
    display.phase(f"classifying {len(files):,} files")
    for done, path in enumerate(files):
        display.progress(done, len(files), {})
        yield path
    display.progress(len(files), len(files), {})


class Sorter:
    """Sorts images into folders one after the other, as they are classified.

    Raises:
        ConfigError: the folder is a file, or no folder can have its name.
    """

    def __init__(self, predictor: Predictor, folder: Path, link: Link | None = None) -> None:
        check_folder(folder)
        if link is not None and link not in get_args(Link):
            raise UnknownName("link", link, get_args(Link))
        classes = predictor.folder.classes
        self.folder, self.link = folder, link
        self.none = next(word for word in ("none", "no-class", "none-of-the-classes", "") if word not in classes)
        self.names = name_folders([*classes, self.none if predictor.folder.multilabel else name_unknown(classes)])
        self.placed: set[Path] = set()
        """Files written so far."""
        self.counts: Counter[str] = Counter()
        self.already, self.failed = 0, list[tuple[str, str]]()
        self._ready: set[str] = set()
        """Folders made or found so far."""

    @property
    def result(self) -> SortingResult:
        """The result so far."""
        renamed = {label: name for label, name in self.names.items() if label != name}
        return SortingResult(self.folder, dict(self.counts), self.already, renamed, tuple(self.failed))

    def refuse_inside(self, paths: Iterable[str]) -> None:
        """Raise ConfigError for a named path inside the target folder."""
        for path in paths:
            if path != "-" and not self._is_outside(Path(path)):
                raise ConfigError(
                    f"{path} is in {self.folder}, into which the images are sorted; name another folder for them"
                )

    def select_outside(self, paths: Iterable[Path]) -> Iterator[Path]:
        """Yield the paths outside the target folder, so that no sorted image is read again."""
        return filter(self._is_outside, paths)

    def _is_outside(self, path: Path) -> bool:
        return not Path(os.path.abspath(path)).is_relative_to(self.folder.resolve()) and not (  # noqa: PTH100 (not through links)
            path_exists(path) and path.resolve().is_relative_to(self.folder.resolve())
        )

    def put(self, one: Prediction) -> None:
        """Put one image into the folder of its prediction; raises ConfigError, StorageError."""
        if one.error is not None or one.label is None:
            self.failed.append((one.name, one.error or "it has no label"))
            return
        for label in [one.label] if one.labels is None else one.labels or (self.none,):
            name = self.names[label]
            try:
                with self._file(one.name) as file:
                    self._place(file, self._open_folder(name))
                self.counts[name] += 1
            except ImageError as error:
                self.failed.append((one.name, str(error)))
            except OSError as error:
                self.failed.append((one.name, f"{one.name} can no longer be read: {error.strerror}"))

    @contextmanager
    def _file(self, name: str) -> Iterator[Path]:
        """Yield an image's file: its own, or one made for a frame of a video; raises ImageError, OSError."""
        if find_frame_file(name) is None:
            yield Path(name)
            return
        if self.link is not None:
            raise ImageError(f"{name} is a frame of a video, not a file that can be linked to; leave --link out")
        with TemporaryDirectory(prefix="vitreous-") as folder:
            yield write_frame(name, Path(folder))

    def _open_folder(self, name: str) -> Path:
        """Return the folder of a class, created if necessary; remnants of a dead process are removed from it."""
        folder = self.folder / name
        if name not in self._ready:
            check_folder(folder)
            with translate_write_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
                clear_partials(folder)
            self._ready.add(name)
        return folder

    def _place(self, image: Path, folder: Path) -> None:
        source = image.resolve()
        for number in count(1):
            target = folder / number_name(image.name, number)
            if target not in self.placed and os.path.lexists(target) and self._is_same(source, target):
                self.already += 1
            elif os.path.lexists(target) or not self._make(source, target):
                continue
            self.placed.add(target)
            return

    def _make(self, source: Path, target: Path) -> bool:
        """Copy or link; return whether the name was free."""
        if self.link is None:
            return copy_atomically(source, target)
        source.stat()
        with translate_write_errors(target):
            try:
                (target.hardlink_to if self.link == "hard" else target.symlink_to)(source)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in (*WITHOUT_LINKS, errno.EXDEV):
                    raise
                other = "leave --link out for copies" if self.link == "symbolic" else "give --link symbolic, or copy"
                raise ConfigError(f"can't link {target} to {source}: {error.strerror}; {other}") from error
        return True

    def _is_same(self, source: Path, target: Path) -> bool:
        """Return whether the file of that name is this same image, put there earlier in the same way."""
        with suppress(OSError):
            if self.link == "symbolic":
                return target.is_symlink() and target.readlink() == source
            if target.is_symlink():
                return False
            return target.samefile(source) if self.link else filecmp.cmp(source, target, shallow=False)
        return False


def check_folder(path: Path) -> None:
    """Raise ConfigError unless a folder is or can be made at a path."""
    check_name(path)
    if path_exists(path) and not is_folder(path):
        raise ConfigError(f"{path} is a file; name a folder for the sorted images")


def name_folders(labels: Sequence[str]) -> dict[str, str]:
    """Return a folder name for each label: the label without forbidden characters; names are distinct even ignoring
    case."""
    names: dict[str, str] = {}
    used: set[str] = set()
    for label in labels:
        whole = NOT_IN_NAMES.sub("_", label.strip()) or "_"
        plain = os.fsdecode(os.fsencode(whole)[:STEM])
        name = next(
            name for name in (number_name(plain, number, "") for number in count(1)) if name.casefold() not in used
        )
        used.add(name.casefold())
        names[label] = name
    return names


def number_name(name: str, number: int, ending: str | None = None) -> str:
    """Return a name with a number before its ending, shortened as file systems require: a.jpg, a-2.jpg, a-3.jpg, ..."""
    if number == 1:
        return name
    stem, suffix = (name, ending) if ending is not None else os.path.splitext(name)  # noqa: PTH122 (a name, not a path)
    return f"{os.fsdecode(os.fsencode(stem)[:STEM])}-{number}{suffix}"
