"""The options of `vitreous export` and `vitreous quantise`. Imports no torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from vitreous.cli.options.loading import Load


@dataclass(frozen=True)
class Export:
    """Write a model for another runtime, run it there on real images, and report how far its outputs are from torch's.

    The result is a model like any other: predict, evaluate and inspect accept it, without torch if its runtime needs none.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A model folder or a run folder, or anything else that can be loaded."""
    to: Literal["onnx", "openvino", "torch", "aotinductor"] = "onnx"
    """onnx, for ONNX Runtime, TensorRT and others; openvino; torch: torch.export, for programs with torch; aotinductor: compiled for
    this processor (needs a C++ compiler)."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Of the weights and what they are multiplied with; norms, softmax and sums stay in float32. bf16: for torch and aotinductor."""
    out: str | None = None
    """The folder to write, new or empty; by default the next free exports/<model>-<to>-<n>."""
    outputs: Literal["logits", "features", "both"] | None = None
    """The graph's outputs: logits, features (the head's input), or both; by default logits, or features for a model
    without a head."""
    preprocess_inside: bool = False
    """The graph takes pixels of the model's size, (batch, row, col, channel), 0 to 255, normalises them itself, and gives
    calibrated probabilities before the logits."""
    dynamic_image: bool = False
    """The graph accepts other rows and columns too (ResNets and EfficientNets only: a ViT's positions are made for one grid)."""
    merge: int = 0
    """Pairs of similar patches that each block of a ViT merges (token merging): faster, and a little less accurate."""
    data: str | None = None
    """Images to run both on: a folder, a file or a glob; by default crops of two photographs."""
    load: Annotated[Load, tyro.conf.arg(name="")] = Load()


@dataclass(frozen=True)
class Quantise:
    """Write a model in int8, calibrated on your images, and measure it beside fp32 in the same runtime on labelled images.

    Layers that hurt are named and kept in float32 until accuracy fits; otherwise nothing is written.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A model folder or a run folder, or anything else that can be loaded."""
    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """Labelled images to measure on; the validation split is used if there is one."""
    to: Literal["onnx", "openvino", "torch"] = "onnx"
    """onnx, for ONNX Runtime; openvino (needs nncf); torch: a model folder that also computes with --precision int8 (models with
    encoder blocks)."""
    dynamic: bool = False
    """The ranges of dense layers' inputs are each batch's own, in place of those of calibration images (onnx)."""
    out: str | None = None
    """The folder to write, new or empty; by default the next free exports/<model>-int8-<n>."""
    json: str | None = None
    """Also write all figures to this file."""
    overwrite: bool = False
    """Replace an existing --json file once the new one is complete."""
    calibration: str | None = None
    """Images of the kind that the model was trained on, a folder, a file or a glob; by default the training split of DATA."""
    images: int = 256
    """Most images to calibrate the ranges on."""
    most_lost: float = 0.5
    """Points of accuracy that may be lost."""
    batch: int = 64
    """Images in one pass through the model when it is measured."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where int8 is measured; cuda (--to torch): on an NVIDIA GPU, by torchao (pip install 'vitreous[gpu]'), compiled."""
    broken: Literal["raise", "skip"] = "raise"
    """What to do about files that can't be read: raise, or skip (they are counted)."""
    load: Annotated[Load, tyro.conf.arg(name="")] = Load()
