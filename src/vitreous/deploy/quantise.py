"""Models in int8 for each runtime, some of whose layers can be kept in float."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from vitreous.deploy.int8_onnx import OnnxInt8
from vitreous.deploy.int8_openvino import OpenVinoInt8
from vitreous.engines.exported_folder import CONFIG, ExportedFolder
from vitreous.errors import ConfigError, UnknownName
from vitreous.runtime.packages import require_packages
from vitreous.settings import to_dict, to_json
from vitreous.storage.atomic import write_atomically
from vitreous.storage.limits import read_json

Int8Target = Literal["onnx", "openvino"]
NEEDED = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "onnxruntime", "openvino", "nncf"),
}
"""Packages that int8 for a runtime needs."""


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

    def write(self, path: Path, kept: Sequence[str]) -> ExportedFolder:
        """Write an export with these layers, by the runtime's names, in float32 into an existing folder."""


def check_quantisable(to: Int8Target, dynamic: bool) -> None:
    """Raise UnknownName for an unknown target, ConfigError for an option that it lacks or a package that isn't
    installed."""
    if to not in NEEDED:
        raise UnknownName("target of quantising", to, NEEDED)
    if dynamic and to != "onnx":
        raise ConfigError(f"dynamic ranges are ONNX Runtime's, and the target is {to}; leave out --dynamic")
    require_packages(NEEDED[to], f"quantising for {to}", "export")


def quantise_export(
    folder: ExportedFolder, pixels: np.ndarray, work: Path, to: Int8Target, *, dynamic: bool = False
) -> Int8:
    """Return an export in int8.

    Args:
        folder: the export to ONNX, in float32, of normalised images.
        pixels: calibration images as the model sees them.
        work: a folder for temporary files.
        to: the runtime.
        dynamic: ranges are each batch's own.
    """
    return OpenVinoInt8(folder, pixels) if to == "openvino" else OnnxInt8(folder, pixels, work, dynamic=dynamic)


def finish(written: ExportedFolder, source: Path, found: dict[str, Any]) -> None:
    """Write config.json: that of the export in float32, with the differences and the measurements."""
    document = read_json(source / CONFIG)
    document |= {"target": written.target, "files": [to_dict(one) for one in written.files]}
    document |= {"graph": to_dict(written.graph), "quantised": found}
    write_atomically(written.path / CONFIG, to_json(document))
