"""`vitreous.shard`: write images as tar shards."""

from dataclasses import dataclass
from pathlib import Path

from vitreous.api.progress import shows_progress
from vitreous.api.results import Result
from vitreous.data.dataset import is_built_in
from vitreous.data.shard_writing import plan_shards, write_shards
from vitreous.data.splits import list_splits
from vitreous.errors import DataError
from vitreous.storage.atomic import check_name
from vitreous.storage.limits import format_bytes
from vitreous.storage.presence import expand_home
from vitreous.training.reporter import Reporter, Silent


@dataclass(frozen=True, eq=False, repr=False)
class ShardResult(Result):
    """The shards in a folder."""

    path: Path
    shards: tuple[Path, ...]
    images: dict[str, int]
    """The number of images of each split."""
    classes: tuple[str, ...] | None
    """The class names by number; None for images without labels."""
    size: int
    """Bytes of all shards."""
    kept: int
    """Number of shards that already existed and were checked by their SHA-256."""

    def __str__(self) -> str:
        named = ", ".join(f"{count:,} {split}" for split, count in self.images.items())
        kept = f"; {self.kept:,} already existed and are undamaged" if self.kept else ""
        return f"{self.path} holds {named} images in {len(self.shards):,} shards, {format_bytes(self.size)}{kept}"


@shows_progress
def shard(
    data: str | Path,
    out: str | Path,
    *,
    size: int = 256 * 2**20,
    seed: int = 0,
    progress: bool | None = None,
    reporter: Reporter | None = None,
) -> ShardResult:
    """Write a data set as tar shards in WebDataset's layout: few large files, with direct access to any image.

    If it is killed, the same call continues. Existing shards are checked by their SHA-256; each new one is read back before it
    gets its name. Files are copied unchanged and not decoded; `vitreous.inspect` finds broken ones.

    >>> print(vitreous.shard("photos/", "photos-shards/"))                               # doctest: +SKIP
    photos-shards holds 12,000 train, 1,500 validation images in 9 shards, 2.1 GiB

    Args:
        data: a folder of class folders or of images, a manifest, or packed files.
        out: the folder to write: new, or begun by the same call.
        size: bytes of images after which a shard is closed, at least 1.
        seed: seed of the order in which images are written; it is random, so that readers that read in sequence need
            not shuffle.
        progress: show progress; None: only in a notebook or on a terminal.
        reporter: receives the progress instead of that display.

    Raises:
        DataError: data that can't be read, or with several labels per image. ImageError: an image can't be read.
        ConfigError: the folder holds other things, or was begun otherwise. StorageError: it can't be written.
    """
    folder, display = Path(out), reporter or Silent()
    check_name(folder)
    if is_built_in(str(data)):
        raise DataError(f"{data} comes with vitreous and needs no files; name a folder, a manifest or packed files")
    display.phase(f"listing {data}")
    plan = plan_shards(list_splits(expand_home(data), optional=True, multilabel=True), size, seed)
    display.phase(f"writing {plan.images:,} images into {folder}")
    written = write_shards(plan, folder, lambda done, total: display.progress(done, total, {}))
    return ShardResult(
        folder,
        tuple(folder / one["url"] for one in written.shards),
        {split: len(listing) for split, listing in plan.splits.items()},
        plan.classes,
        sum(one["filesize"] for one in written.shards),
        written.kept,
    )
