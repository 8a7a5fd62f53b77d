"""The options of commands for frozen features: `vitreous embed`, `similar` and `cka`. Imports no torch."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from vitreous.cli.options.loading import Load, LoadOther


@dataclass(frozen=True)
class Embed:
    """Write a model's features of images as vectors, for search, clustering and other programs: parquet or npz."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A model folder or a run folder."""
    paths: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATHS")]
    """Images: files, folders, globs, or - for paths on standard input; or just digits, a formula or a manifest."""
    null: bool = False
    """Paths on standard input are separated by NULs, even if the first path contains a line break."""
    data: str | None = None
    """Labelled images instead of PATHS, such as a folder of class folders; labels and splits are written too."""
    out: str | None = None
    """The file to write, which must not exist; its extension is the format: .parquet or .npz. By default the next free
    features.parquet."""
    overwrite: bool = False
    """Replace an existing --out file once the new one is complete."""
    on: Literal["here", "ray"] = "here"
    """ray: run on a Ray cluster (RAY_ADDRESS) or, without one, by Ray on this machine; --out is then a folder of
    parquet files, one per part. A part that fails is tried again, and the same command continues with the missing
    parts. Needs Ray (pip install 'vitreous[ray]')."""
    actors: int = 0
    """With --on ray: number of processes, each with its engine; by default one per GPU or, without any, per 4 cores."""
    layer: str = "features"
    """Which features: features (the head's input), mean (of the patches), norm, pooled, block.5, block.5:class,
    stage.2, ..."""
    batch: int = 64
    """Images in one pass through the model."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "fp32"
    """bf16 is faster where hardware supports it; auto: use it there. int8: for models in int8."""
    engine: Literal["auto", "torch", "onnxruntime", "openvino"] = "auto"
    """The engine: torch; for an exported model onnxruntime or openvino, without torch. auto: the faster one on this
    machine, measured if there are enough images (docs/speed.md)."""
    verbose: bool = False
    """Report the engine used, and why, on standard error."""
    decode: Literal["exact", "reduced"] | None = None
    """exact: decode images at full size (the default, unless the model was trained otherwise). reduced: decode large
    JPEGs at 1/2, 1/4 or 1/8 of their size, but at least twice the model's input on each side; several times as fast for
    large photographs."""
    cache: bool = True
    """Keep features on disk, in ~/.cache/vitreous/features or under $VITREOUS_CACHE, and reuse them."""
    broken: Literal["raise", "skip"] = "raise"
    """What to do with images that can't be read: raise, or skip (they are counted)."""
    every: float = 1.0
    """For a video named itself: seconds from one frame to the next. Frames are called clip.mp4@12.0s. Needs PyAV (pip
    install 'vitreous[video]')."""
    load: Annotated[Load, tyro.conf.arg(name="")] = Load()


@dataclass(frozen=True)
class Similar:
    """List the images most similar to a given one among those that `vitreous embed` wrote, by the cosine of their
    vectors."""

    query: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE")]
    """An image file; or the name of an embedded image or the end of its name, for which no model is needed."""
    embeddings: Annotated[str, tyro.conf.arg(name="in")]
    """The file that vitreous embed wrote, .parquet or .npz."""
    top: int = 10
    """Number of images to list, the most similar first; the image itself is left out."""
    model: str | None = None
    """The model that made the embeddings, if it has been moved. Any other is refused."""
    format: Literal["table", "jsonl", "csv"] = "table"
    """The format of the list."""
    out: str | None = None
    """Folder for a page with the pictures (report.html, report.json, report.md), new or empty."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    load: Annotated[Load, tyro.conf.arg(name="")] = Load()


@dataclass(frozen=True)
class Cka:
    """Compare how two models represent the same images, layer by layer: centred kernel alignment (CKA)."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A model folder or a run folder, or anything else that can be loaded."""
    other: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OTHER")]
    """Another model, of any kind and size; or the same one, to compare its layers with each other."""
    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """Labelled images; the validation split is used if there is one. The labels are ignored."""
    load: Annotated[Load, tyro.conf.arg(name="")] = Load()
    load_other: Annotated[LoadOther, tyro.conf.arg(name="")] = field(default_factory=LoadOther)
    images: int = 2000
    """Number of images to compare on, at most; if there are more, this many are drawn at random."""
    unbiased: bool = False
    """Estimate from minibatches, without the bias that few images and wide features cause."""
    batch: int = 64
    """Images in one pass through the models; the minibatch of --unbiased."""
    out: str | None = None
    """Folder for report.html, report.json and report.md, new or empty; by default the next free one of evaluations/."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """bf16 is faster where hardware supports it; auto: use it there."""
    broken: Literal["raise", "skip"] = "raise"
    """What to do with files that can't be read: raise, or skip (they are counted)."""
