"""The options of `vitreous export` and `vitreous quantise`. Imports no torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from vitreous.cli.options.loading import Load


@dataclass(frozen=True)
class Export:
    """Write a model for another runtime, run it there on real images, and report how far its outputs are from torch's.

    The result is a model like any other: predict, evaluate and inspect accept it, without torch unless its runtime
    needs it.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A model folder or a run folder, or anything else that can be loaded."""
    to: Literal["onnx", "openvino", "torch", "aotinductor"] = "onnx"
    """onnx, for ONNX Runtime, TensorRT and others; openvino; torch: torch.export, for programs with torch; aotinductor: compiled for
    this processor (needs a C++ compiler)."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Precision of the weights and of the values they multiply; norms, softmax and sums stay in float32. bf16: only for
    torch and aotinductor."""
    out: str | None = None
    """The folder to write, new or empty; by default the next free exports/<model>-<to>-<n>."""
    outputs: Literal["logits", "features", "both"] | None = None
    """The graph's outputs: logits, features (the head's input), or both; by default logits, or features for a model
    without a head."""
    preprocess_inside: bool = False
    """The graph takes pixels (0 to 255) of the model's size as (batch, row, col, channel), normalises them itself, and
    returns calibrated probabilities before the logits."""
    dynamic_image: bool = False
    """The graph accepts images of other sizes too (ResNets and EfficientNets only: a ViT's positions are made for one
    grid)."""
    merge: int = 0
    """Pairs of similar patches that each block of a ViT merges (token merging): faster, and a little less accurate."""
    data: str | None = None
    """Images to run both models on: a folder, a file or a glob; by default crops of two photographs."""
    load: Annotated[Load, tyro.conf.arg(name="")] = Load()


@dataclass(frozen=True)
class Quantise:
    """Write a model in int8, calibrated on your images, and compare it with fp32 in the same runtime on labelled ones.

    Layers that lose accuracy are named and kept in float32 until the loss is within the limit; otherwise nothing is
    written.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A model folder or a run folder, or anything else that can be loaded."""
    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """Labelled images to measure on; the validation split is used if there is one."""
    to: Literal["onnx", "openvino", "torch"] = "onnx"
    """onnx, for ONNX Runtime; openvino (needs nncf); torch: a model folder that can also run with --precision int8
    (models with encoder blocks)."""
    dynamic: bool = False
    """Take the ranges of dense layers' inputs from each batch instead of from calibration images (onnx)."""
    out: str | None = None
    """The folder to write, new or empty; by default the next free exports/<model>-int8-<n>."""
    json: str | None = None
    """Also write all figures to this file."""
    overwrite: bool = False
    """Replace an existing --json file once the new one is complete."""
    calibration: str | None = None
    """Images like those the model was trained on: a folder, a file or a glob; by default the training split of DATA."""
    images: int = 256
    """Number of images to calibrate the ranges on, at most."""
    most_lost: float = 0.5
    """Percentage points of accuracy that may be lost."""
    batch: int = 64
    """Images in one pass through the model while it is measured."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to measure int8; cuda (--to torch): on an NVIDIA GPU, by torchao (pip install 'vitreous[gpu]'),
    compiled."""
    broken: Literal["raise", "skip"] = "raise"
    """What to do with files that can't be read: raise, or skip (they are counted)."""
    load: Annotated[Load, tyro.conf.arg(name="")] = Load()
