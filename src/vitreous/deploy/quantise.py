"""Models in int8 for each runtime; some of their layers can be kept in float."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from vitreous.deploy.int8_onnx import OnnxInt8
from vitreous.deploy.int8_openvino import OpenVinoInt8
from vitreous.deploy.targets import LARGEST_FILE
from vitreous.engines.exported_folder import ExportedFolder
from vitreous.engines.int8_gpu import check_torchao
from vitreous.engines.int8_linear import check_int8
from vitreous.errors import ConfigError, UnknownName
from vitreous.runtime.device import choose_device
from vitreous.runtime.packages import require_packages
from vitreous.storage.limits import format_bytes
from vitreous.weights.model_folder import ModelFolder

Int8Target = Literal["onnx", "openvino", "torch"]
NEEDED = {
    "torch": (),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "onnxruntime", "openvino", "nncf"),
}
"""Packages that int8 for a runtime needs."""
DEVICES = ("cpu", "cuda")
"""Where int8 computes."""


@runtime_checkable
class Int8(Protocol):
    """A model in int8 for one runtime."""

    @property
    def engine(self) -> str:
        """The runtime."""

    @property
    def layers(self) -> dict[str, str]:
        """Torch's name of each layer that is quantised, by the runtime's name."""

    def rank_layers(self) -> list[str]:
        """Return the runtime's names of the layers, the most harmful first."""

    def write(self, path: Path, kept: Sequence[str]) -> ExportedFolder | ModelFolder:
        """Return a model with these layers, by the runtime's names, in float32; an export is written into an existing folder."""

    def finish(self, path: Path, found: dict[str, Any]) -> None:
        """Write the model that was returned last in full, including the measurements."""


def check_quantisable(to: Int8Target, dynamic: bool, device: str = "cpu") -> None:
    """Raise UnknownName for an unknown target or device, ConfigError for an option that the target lacks, or for a
    missing package or an unsuitable processor."""
    if to not in NEEDED:
        raise UnknownName("target of quantising", to, NEEDED)
    if dynamic and to != "onnx":
        raise ConfigError(f"dynamic ranges are for ONNX Runtime, but the target is {to}; leave out --dynamic")
    if device not in DEVICES:
        raise UnknownName("device to quantise for", device, DEVICES)
    if device != "cpu" and to != "torch":
        raise ConfigError(
            f"an export to {to} is measured on the CPU, not on {device!r}; leave out --device, or give --to torch"
        )
    require_packages(NEEDED[to], f"quantising for {to}", "export")
    if device == "cuda":
        choose_device(device)
        check_torchao()
    elif to == "torch":
        check_int8()


def check_size(folder: ModelFolder) -> None:
    """Raise ConfigError for a model too large for the tools that quantise exports, which hold it in one protobuf."""
    needed = sum(value.numel() * 4 for value in folder.model.state_dict().values())
    if needed > LARGEST_FILE:
        raise ConfigError(
            f"this model's weights take {format_bytes(needed)}, but exports of more than {format_bytes(LARGEST_FILE)} can't be quantised; give --to torch"
        )


def quantise_export(
    folder: ExportedFolder, pixels: np.ndarray, work: Path, to: Int8Target, *, dynamic: bool = False
) -> Int8:
    """Return an export in int8.

    Args:
        folder: the export to ONNX, in float32, of normalised images.
        pixels: calibration images as the model sees them.
        work: a folder for temporary files.
        to: the runtime, other than torch.
        dynamic: take ranges from each batch.
    """
    return OpenVinoInt8(folder, pixels) if to == "openvino" else OnnxInt8(folder, pixels, work, dynamic=dynamic)
