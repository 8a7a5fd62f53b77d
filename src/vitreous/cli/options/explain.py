"""The options of `vitreous explain`. Imports no torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from vitreous.cli.options.loading import Load


@dataclass(frozen=True)
class Explain:
    """Show what a model looks at in images: an overlay for each, and one interactive HTML page.

    Exit code 0: every image was explained; 1: some could not be read (they are named; the rest are explained).
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A model folder or a run folder, or anything else that can be loaded."""
    paths: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGES")]
    """Files, folders, globs, or - for paths on standard input, one per line or separated by NULs (find -print0)."""
    null: bool = False
    """Paths on standard input are separated by NULs, even if the first path contains a line break."""
    out: str | None = None
    """The folder to write, new or empty; by default the next free explanations/<model>-<n>."""
    method: str = "auto"
    """What the overlays show: attention, pooling, rollout, relevance, gradient, grad-cam or activation; auto: the
    most informative for this model. The page shows all that apply."""
    layer: int | None = None
    """For attention, gradient, grad-cam and activation: 0 the first, -1 the last (the default)."""
    head: int | None = None
    """For attention, pooling and gradient: 0 the first; by default the mean over all."""
    target: str | None = None
    """For relevance, gradient and grad-cam: the class to explain; by default each image's most probable one."""
    page: int = 8
    """Most images on the page."""
    faithful: int = 2
    """Number of images on which the maps are compared by deletion and insertion."""
    every: float = 1.0
    """For a video named itself: seconds from one frame to the next. Frames are called clip.mp4@12.0s. Needs PyAV (pip
    install 'vitreous[video]')."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    engine: Literal["auto", "torch", "onnxruntime", "openvino"] = "auto"
    """The engine; only torch can look into layers."""
    load: Annotated[Load, tyro.conf.arg(name="")] = Load()
