"""The options of `vitreous convert`, `models` and `push`. Imports no torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from vitreous.cli.options.loading import Load


@dataclass(frozen=True)
class Convert:
    """Read weights of any known origin, write them in another format, and prove numerically that both compute the
    same."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """A model or run folder, a file or folder of weights (safetensors, npz, pth), or owner/name on the Hugging Face Hub."""
    out: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """The folder to write, new or empty."""
    to: str = "vitreous"
    """The format: vitreous; for ViTs and hybrids google, timm, huggingface, torchvision; for ResNets bit, timm-bit; for
    EfficientNets timm-efficientnet, huggingface-efficientnet; for Swin Transformers timm-swin, huggingface-swin,
    torchvision-swin."""
    load: Annotated[Load, tyro.conf.arg(name="")] = Load()


@dataclass(frozen=True)
class Models:
    """List the models that can be built, with their sizes, and the origins of weights that can be read."""

    pattern: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[PATTERN]")] = "*"
    """Names to list, such as "*/16" or "R50*"."""
    pretrained: bool = False
    """List the recommended pre-trained models instead, with size, licence and published accuracy (docs/pretrained.md)."""
    compare: bool = False
    """Also measure how fast they are on this machine, and show published accuracies with their sources; without names,
    for a dozen models of all families."""
    batch: int | None = None
    """With --compare: images in one pass; by default 8."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """With --compare: where to compute."""


@dataclass(frozen=True)
class Push:
    """Push a model to the Hugging Face Hub with a model card; `vitreous predict OWNER/NAME` then uses it from there.

    Needs a token with write access: HF_TOKEN, or `hf auth login`.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A run folder or a model folder."""
    repository: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OWNER/NAME")]
    """The repository; created if it doesn't exist."""
    private: bool = False
    """Make a new repository private."""
    licence: str = ""
    """The SPDX name of the weights' licence, such as apache-2.0; by default the card states none."""
    overwrite: bool = False
    """Write to a repository that already holds weights; its history keeps them."""
