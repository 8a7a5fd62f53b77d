"""The options of what works with frozen features: `vitreous embed` and `vitreous cka`. Imports no torch."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from vitreous.cli.options.loading import Load, LoadOther


@dataclass(frozen=True)
class Embed:
    """Write what a model makes of images as vectors, for searching, clustering and other programs: parquet or npz."""

    model: Annotated[str, tyro.conf.Positional]
    """A model folder or a run folder."""
    paths: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATHS")]
    """Images: files, folders, globs, or - for paths on standard input; or digits, a formula or a manifest alone."""
    null: bool = False
    """Paths on standard input are parted by NULs, also if the first has a line break in its name."""
    data: str | None = None
    """Labelled images in place of PATHS, such as a folder of class folders: labels and parts are written too."""
    out: str | None = None
    """The file to write, new; its extension says the format: .parquet or .npz. By default the next free features.parquet."""
    overwrite: bool = False
    """Let --out be a file that is there: it is replaced once the new one is whole."""
    layer: str = "features"
    """Which features: what the head reads, mean (of the patches), norm, pooled, block.5, block.5:class, stage.2, ..."""
    batch: int = 64
    """Images that pass through the model at once."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """bf16 is faster where the hardware multiplies it natively; auto: use it there."""
    cache: bool = True
    """Keep features on the disk, in ~/.cache/vitreous/features or below $VITREOUS_CACHE, and take those that are there."""
    broken: Literal["raise", "skip"] = "raise"
    """What to do about images that can't be read: raise, or skip (they are counted)."""
    load: Annotated[Load, tyro.conf.arg(name="")] = Load()


@dataclass(frozen=True)
class Cka:
    """Compare how two models represent the same images, layer by layer: centred kernel alignment (CKA)."""

    model: Annotated[str, tyro.conf.Positional]
    """A model folder or a run folder, or anything else that can be loaded."""
    other: Annotated[str, tyro.conf.Positional]
    """Another one, of whatever kind and size; or the same, to compare its layers with each other."""
    data: Annotated[str, tyro.conf.Positional]
    """Labelled images, of which the validation split is taken if there is one; the labels play no part."""
    load: Annotated[Load, tyro.conf.arg(name="")] = Load()
    load_other: Annotated[LoadOther, tyro.conf.arg(name="")] = field(default_factory=LoadOther)
    images: int = 2000
    """Most images to compare on; of more, so many are drawn at random."""
    unbiased: bool = False
    """Estimate by minibatches without the bias that few images and wide features bring."""
    batch: int = 64
    """Images that pass through the models at once; the minibatch of --unbiased."""
    out: str | None = None
    """Folder for report.html, report.json and report.md, new or empty; by default the next free one of evaluations/."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """bf16 is faster where the hardware multiplies it natively; auto: use it there."""
    broken: Literal["raise", "skip"] = "raise"
    """What to do about files that can't be read: raise, or skip (they are counted)."""
