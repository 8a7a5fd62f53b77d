"""The options of the commands that look into files or rewrite them: `vitreous inspect` and `vitreous shard`. Imports no
torch."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from vitreous.cli.options.loading import Load


@dataclass(frozen=True)
class Inspect:
    """Describe what a path holds: a model folder, a file of weights, a run folder, a data set or an image."""

    path: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
    """A folder, a file, `digits`, or a formula such as 'formula:atoms?classes=10'."""
    review: bool = False
    """Look for problems in labelled images: near-duplicates, likely wrong labels, outliers, images that are too small,
    blurred or of one colour, and confused classes. Writes a page with pictures and a CSV."""
    weights: str | None = None
    """With --review: a model whose frozen features reveal wrong labels and outliers; without it these checks are left out."""
    apply: str | None = None
    """With --review: write a new manifest (CSV) without near-duplicates, likely wrong labels and images of one colour.
    No image is touched."""
    out: str | None = None
    """With --review: folder for report.html, report.json, report.md and review.csv, new or empty; by default the next
    free one of evaluations/."""
    load: Annotated[Load, tyro.conf.arg(name="")] = Load()


@dataclass(frozen=True)
class Shard:
    """Write a data set as tar shards in WebDataset's layout. If it is killed, the same command continues."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """A folder of class folders or of images, a manifest, or packed files."""
    out: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """The folder to write: new, or begun by the same command."""
    megabytes: float = 256.0
    """Size of the images (MiB) after which a shard is closed."""
    seed: int = 0
    """Seed of the order in which images are written."""
