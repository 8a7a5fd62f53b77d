"""The options of `vitreous predict`. Imports no torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from vitreous.cli.options.loading import Load


@dataclass(frozen=True)
class Predict:
    """Classify images; results come in the order of the arguments.

    Exit code 0: every image was classified; 1: some could not be read (they are named, and stop nothing).
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A model folder or a run folder, or anything else that can be loaded."""
    paths: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATHS")]
    """Files, folders, globs, or - for paths on standard input, one a line, or between NULs as find -print0 writes them."""
    null: bool = False
    """Paths on standard input are separated by NULs, even if the name of the first contains a line break."""
    top: int = 1
    """Classes shown for each image, most probable first."""
    threshold: float | None = None
    """Predict unknown if the most probable class is less probable than this; if an image may have several classes, the
    probability from which a class is predicted. By default none (0.5 with several classes, and with --sort-into)."""
    every: float = 1.0
    """For a named video (not one in a folder): seconds from one frame to the next. Frames are called
    clip.mp4@12.0s. Needs PyAV (pip install 'vitreous[video]')."""
    tta: Literal["none", "flip"] = "none"
    """Test-time augmentation: flip averages the probabilities of each image and of its mirror image."""
    unsure_first: bool = False
    """List the images that the model is least sure of first, once all are done."""
    sort_into: str | None = None
    """Also copy the images into this folder, with a subfolder for each class and one, unknown, for those below the
    threshold. Nothing is overwritten or moved: a name that is in use gets a number, and existing files stay. Frames of videos
    are written as PNG."""
    link: Literal["hard", "symbolic"] | None = None
    """With --sort-into: make links instead of copies."""
    format: Literal["table", "jsonl", "csv", "parquet"] | None = None
    """Format of the results; by default --out's extension, or else a table. parquet: pip install 'vitreous[data]'."""
    out: str | None = None
    """Write results to this file, which must not exist, instead of standard output. If the command is killed and run
    again, it continues after the last complete part; the parts are kept beside the file until it is complete."""
    overwrite: bool = False
    """Replace an existing --out file once the new one is complete."""
    on: Literal["here", "ray"] = "here"
    """ray: on a cluster (RAY_ADDRESS) or by a Ray of its own; --out is then a folder of parquet files."""
    actors: int = 0
    """Engines of --on ray; 0: one for each GPU or every 4 cores."""
    batch: int = 32
    """Images in one pass through the model."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "fp32"
    """bf16 is faster where the hardware has it; auto: use it there. int8: what vitreous quantise wrote."""
    merge: int = 0
    """Pairs of similar patches that each block of a ViT merges (token merging): faster, and a little less accurate; vitreous
    evaluate --merge-curve measures both."""
    engine: Literal["auto", "torch", "onnxruntime", "openvino"] = "auto"
    """torch; for exports onnxruntime or openvino, without torch. auto: whichever
    is faster here, as measured (docs/speed.md)."""
    compile: bool = False
    """Compile the model for an NVIDIA GPU, in some ten seconds."""
    verbose: bool = False
    """Say on standard error how the model was computed, and why."""
    decode: Literal["exact", "reduced"] | None = None
    """exact: decode images whole (the default, unless the model was trained otherwise). reduced: large JPEGs at 1/2,
    1/4 or 1/8 of their size, still at least twice the model's input on each side: several times as fast for photographs
    of many megapixels."""
    load: Annotated[Load, tyro.conf.arg(name="")] = Load()
