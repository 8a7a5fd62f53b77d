"""The common part of engines for exported models: pixels to the graph's input, outputs by name. Imports no torch."""

from abc import ABC, abstractmethod

import numpy as np

from vitreous.engines.exported_folder import ExportedFolder
from vitreous.engines.onnx_file import check_onnx
from vitreous.errors import CheckpointError, ConfigError, explain_exhaustion
from vitreous.images.preprocess import normalize_array
from vitreous.shapes import Float32, Pixels


class ExportedEngine(ABC):
    """An exported model in its runtime."""

    name: str
    precision: str
    device: str
    threads: int

    def __init__(self, folder: ExportedFolder) -> None:
        self.folder = folder

    @property
    def notes(self) -> tuple[str, ...]:
        """Empty: only the runtime knows how it computes."""
        return ()

    def check_device(self, device: str) -> None:
        """Raise ConfigError for any device but the CPU."""
        if device not in ("auto", "cpu"):
            raise ConfigError(
                f"an export to {self.folder.target} computes on the CPU, not on {device!r}; leave out --device"
            )

    def check_onnx(self) -> None:
        """Raise CheckpointError for an ONNX file that reaches outside its folder or would fill the memory."""
        files = self.folder.files
        check_onnx(self.folder.file, {one.file for one in files[1:]}, sum(one.bytes for one in files))

    def check_outputs(self, widths: dict[str, int | None]) -> None:
        """Raise CheckpointError if the graph's outputs differ from those that its folder states.

        Args:
            widths: length of each output's vectors by its name; None: not known before the graph runs.
        """
        for name in self.folder.graph.outputs:
            if name not in widths:
                raise CheckpointError(
                    f"{self.folder.path} says that its graph returns {name}, but it returns {', '.join(widths)}"
                )
            known = None if name == "features" else len(self.folder.classes)
            if known is not None and widths[name] not in (None, known):
                raise CheckpointError(
                    f"{self.folder.path} names {known} classes, but its graph returns {widths[name]} {name}"
                )

    @abstractmethod
    def run(self, inputs: np.ndarray) -> list[np.ndarray]:
        """Return the graph's outputs for a batch of its input, in the order of `graph.outputs`."""

    def outputs(self, pixels: Pixels[np.ndarray, "batch row col channel"]) -> dict[str, np.ndarray]:
        """Return the graph's outputs by name; raises CheckpointError if the runtime fails."""
        inside = self.folder.graph.inputs == "pixels"
        inputs = np.ascontiguousarray(pixels) if inside else normalize_array(pixels, self.folder.preprocess)
        try:
            found = self.run(inputs)
        except Exception as error:  # runtimes raise almost anything
            if explain_exhaustion(error) is not None:
                raise
            said = " ".join(str(error).split())[:300] or type(error).__name__
            raise CheckpointError(
                f"{self.name} can't compute {self.folder.file} for images of shape {inputs.shape}, {inputs.dtype}: {said}"
            ) from error
        return dict(zip(self.folder.graph.outputs, found, strict=True))

    def logits(self, pixels: Pixels[np.ndarray, "batch row col channel"]) -> Float32[np.ndarray, "batch label"]:
        """Return the model's outputs; raises ConfigError for an export with only features."""
        return self._pick("logits", pixels)

    def probabilities(self, pixels: Pixels[np.ndarray, "batch row col channel"]) -> Float32[np.ndarray, "batch label"]:
        """Return each class's probability, at the model's temperature; raises ConfigError as `logits` does."""
        if "probabilities" in self.folder.graph.outputs:
            return self._pick("probabilities", pixels)
        return to_probabilities(self._pick("logits", pixels), self.folder)

    def features(self, pixels: Pixels[np.ndarray, "batch row col channel"]) -> Float32[np.ndarray, "batch features"]:
        """Return each image's features; raises ConfigError for an export without features."""
        return self._pick("features", pixels)

    def _pick(self, name: str, pixels: np.ndarray) -> np.ndarray:
        if name not in self.folder.graph.outputs:
            kept = "features" if name == "features" else "logits"
            raise ConfigError(
                f"{self.folder.path} was exported with only {', '.join(self.folder.graph.outputs)}; export the model again "
                f"with --outputs {kept} or both"
            )
        return self.outputs(pixels)[name]


def to_probabilities(
    logits: Float32[np.ndarray, "batch label"], folder: ExportedFolder
) -> Float32[np.ndarray, "batch label"]:
    """Return the probabilities of logits at the model's temperature: their softmax or, for multilabel models, each
    one's sigmoid."""
    calibrated = logits / np.float32(folder.temperature)
    if folder.multilabel:
        return 1 / (1 + np.exp(-np.clip(calibrated, -80, 80)))
    powers = np.exp(calibrated - calibrated.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)
