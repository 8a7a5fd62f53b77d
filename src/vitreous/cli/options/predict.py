"""The options of `vitreous predict`. Imports no torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from vitreous.cli.options.loading import Load


@dataclass(frozen=True)
class Predict:
    """Classify images; results come in the order of the arguments.

    Exit code 0: every image was classified; 1: some could not be read (they are named; the rest are classified).
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A model folder or a run folder, or anything else that can be loaded."""
    paths: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATHS")]
    """Files, folders, globs, or - for paths on standard input, one per line or separated by NULs (find -print0)."""
    null: bool = False
    """Paths on standard input are separated by NULs, even if the first path contains a line break."""
    top: int = 1
    """Number of classes shown per image, the most probable first."""
    threshold: float | None = None
    """Predict unknown if the most probable class is less probable than this; for multilabel models, predict every class
    at least this probable. By default none (0.5 for multilabel models, and with --sort-into)."""
    every: float = 1.0
    """For a video named itself (not one in a folder): seconds from one frame to the next. Frames are called
    clip.mp4@12.0s. Needs PyAV (pip install 'vitreous[video]')."""
    tta: Literal["none", "flip"] = "none"
    """Test-time augmentation: flip averages the probabilities of each image and of its mirror image."""
    unsure_first: bool = False
    """List first the images that the model is least sure about."""
    sort_into: str | None = None
    """Also copy the images into this folder, with a subfolder per class, and one called unknown for images below the
    threshold. Nothing is overwritten or moved: a name in use gets a number. Video frames become PNG."""
    link: Literal["hard", "symbolic"] | None = None
    """With --sort-into: make links instead of copies."""
    format: Literal["table", "jsonl", "csv", "parquet"] | None = None
    """Format of the results; by default --out's extension, or else a table. parquet: pip install 'vitreous[data]'."""
    out: str | None = None
    """Write results to this file, which must not exist, instead of standard output. If the command is killed and run
    again, it continues after the last complete part; parts are kept next to the file until it is complete."""
    overwrite: bool = False
    """Replace an existing --out file once the new one is complete."""
    on: Literal["here", "ray"] = "here"
    """ray: on a Ray cluster (RAY_ADDRESS), or else Ray on this machine; --out is a folder of parquet files."""
    actors: int = 0
    """Engines with --on ray; 0: one per GPU, or per 4 cores."""
    batch: int = 32
    """Images in one pass through the model."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "fp32"
    """bf16 is faster where hardware supports it; auto: use it there. int8: for models in int8."""
    merge: int = 0
    """Pairs of similar patches that each block of a ViT merges (token merging): faster, a little less accurate;
    measured by evaluate --merge-curve."""
    engine: Literal["auto", "torch", "onnxruntime", "openvino"] = "auto"
    """torch; for exports onnxruntime or openvino, without torch. auto: the faster one here, as measured
    (docs/speed.md)."""
    compile: bool = False
    """Compile for an NVIDIA GPU, which takes some ten seconds."""
    verbose: bool = False
    """Report the engine used, and why, on standard error."""
    decode: Literal["exact", "reduced"] | None = None
    """exact: decode images at full size (the default, unless the model was trained otherwise). reduced: decode large
    JPEGs at 1/2, 1/4 or 1/8 of their size, but at least twice the model's input on each side; several times as fast for
    large photographs."""
    load: Annotated[Load, tyro.conf.arg(name="")] = Load()
