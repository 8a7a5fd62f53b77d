"""`vitreous.export`: a model as a graph for another runtime, run there at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vitreous.api.descriptions import describe_input, describe_use
from vitreous.api.models import open_folder
from vitreous.api.names import name_export
from vitreous.api.progress import shows_progress
from vitreous.api.results import Result
from vitreous.deploy.export import check_target, export_model
from vitreous.deploy.graph import GraphOptions
from vitreous.deploy.proof import MOST, Proof
from vitreous.engines.exported_folder import ExportedFolder, Target
from vitreous.errors import ConfigError, DataError
from vitreous.image_paths import expand_paths
from vitreous.images.inputs import Image
from vitreous.predictor import Predictor
from vitreous.storage.limits import format_bytes
from vitreous.training.reporter import Reporter, Silent
from vitreous.weights.model_folder import ModelFolder


@dataclass(frozen=True, eq=False)
class ExportResult(Result):
    """A model that was exported, and run in its runtime."""

    path: Path
    """The folder that was written; `vitreous.load` opens it as any model."""
    to: str
    """onnx, openvino, torch or aotinductor."""
    proof: Proof
    """How far the runtime's outputs are from torch's on the same images."""
    export: ExportedFolder
    """What was written."""

    def __str__(self) -> str:
        graph = self.export.graph
        opset = f", opset {graph.opset}" if graph.opset else ""
        size = format_bytes(sum(one.bytes for one in self.export.files))
        return "\n".join(
            [
                f"proof       {self.proof}",
                f"takes       {describe_input(self.export)}",
                f"gives       {', '.join(graph.outputs)}",
                f"written     {self.path} ({self.to}{opset}, {graph.precision}, {', '.join(one.file for one in self.export.files)}, {size})",
                f"next: {describe_use(self.export)}",
            ]
        )


@shows_progress
def export(
    model: ModelFolder | Predictor | str | Path,
    to: Target = "onnx",
    out: str | Path | None = None,
    *,
    outputs: Literal["logits", "features", "both"] | None = None,
    preprocess_inside: bool = False,
    dynamic_image: bool = False,
    precision: Literal["fp32", "fp16", "bf16"] = "fp32",
    merge: int | None = None,
    data: str | Path | Sequence[Image] | None = None,
    progress: bool | None = None,
    reporter: Reporter | None = None,
    **load: Any,
) -> ExportResult:
    """Write a model for another runtime, run it there on real images, and compare its outputs with torch's.

    >>> vitreous.export("runs/photos-1", to="onnx", out="photos-onnx").proof.difference  # doctest: +SKIP
    8.1e-07

    Args:
        model: what `vitreous.load` accepts or returns, but for an export.
        to: onnx; openvino; torch (torch.export); aotinductor (compiled for this processor).
        out: the folder to write, new or empty; None: the next free exports/<model>-<to>-<n>.
        outputs: logits; features, what the head reads; both. None: logits, or of a model without head its features.
        preprocess_inside: the graph takes pixels as they come from a decoder and a resize to the model's size, (batch,
            row, col, channel), 0 to 255, normalises them itself, and gives calibrated probabilities before the logits.
        dynamic_image: the graph takes other rows and columns too, where the model can (ResNets, EfficientNets).
        precision: fp32; fp16, except norms, softmax and sums; bf16 likewise, for torch and aotinductor.
        merge: pairs of similar patches that each block of a ViT merges; None: as the model was loaded, which is none by
            default.
        data: images to run both on: a folder, files or a glob, or images as `vitreous.load(...)` takes them; None:
            crops of two photographs.
        progress: show progress; None: only in a notebook or on a terminal.
        reporter: receives the progress instead of that display.
        load: how the weights are loaded, as in `vitreous.load`: image, labels, ...

    Raises:
        UnknownName: no such target or outputs. ConfigError: a package that is missing, or a part that the target can't
            express.
        CheckpointError: nothing that can be loaded, a folder that is not empty, or outputs that differ by more than is
            allowed (nothing is written). DataError: no image that can be read.
    """
    options = GraphOptions(outputs, preprocess_inside, dynamic_image, precision)
    out = name_export(model, to) if out is None else Path(out)
    check_target(out, to, precision)
    display = reporter or Silent()
    images = None if data is None else gather_images(data)
    refuse_format(load)
    folder, source, _ = open_folder(model, load, display)
    folder = folder if merge is None else replace(folder, merge=merge)
    display.phase(f"exporting to {to}, and running it on real images")
    written, proof = export_model(folder, out, to, options, images, source)
    return ExportResult(out, to, proof, written)


def refuse_format(options: Mapping[str, Any]) -> None:
    """Raise ConfigError for `format`, as others call what is `to` here."""
    if "format" in options:
        raise ConfigError("unknown argument 'format'; a format to write is called to: to='onnx'")


def gather_images(data: str | Path | Sequence[Image], most: int = MOST) -> list[Image]:
    """Return images of what was named, evenly spread, since folders have one class after the other; raises DataError if there are
    none."""
    found = list(expand_paths([str(data)])) if isinstance(data, (str, Path)) else list(data)
    if not found:
        raise DataError(f"no images in {data}")
    chosen = np.linspace(0, len(found) - 1, min(most, len(found))).astype(int)
    return [found[place] for place in chosen]
