"""What every engine can do: pixels to logits. Imports no torch."""

from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from vitreous.errors import ConfigError, UnknownName
from vitreous.shapes import Pixels

EngineName = Literal["auto", "torch", "onnxruntime", "openvino"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
ENGINES = ("auto", "torch", "onnxruntime", "openvino")
PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")
"""What a command computes in; auto: bf16 where the hardware multiplies it natively."""
PRECISIONS_OF = {"torch": ("fp32", "bf16"), "onnxruntime": ("fp32",), "openvino": ("fp32", "bf16", "fp16")}
"""What each engine computes a float32 model in; whether the processor can is theirs to say."""


@runtime_checkable
class Engine(Protocol):
    """A model, ready to compute on a device in a precision.

    Pixels are as `images/inputs.py` makes them, (batch, row, col, channel), uint8 or float32 on the same scale;
    normalising them is the engine's work. What comes back is float32 on the CPU.
    """

    @property
    def name(self) -> str:
        """torch, onnxruntime, openvino, ..."""

    @property
    def precision(self) -> str:
        """fp32 or bf16: what it computes in."""

    @property
    def device(self) -> object:
        """Where it computes."""

    @property
    def threads(self) -> int:
        """Threads of its own, on a CPU."""

    @property
    def notes(self) -> tuple[str, ...]:
        """How it computes, and why so."""

    def logits(self, pixels: Pixels[np.ndarray, "batch row col channel"]) -> Float32[np.ndarray, "batch label"]:
        """Return the model's outputs."""

    def probabilities(self, pixels: Pixels[np.ndarray, "batch row col channel"]) -> Float32[np.ndarray, "batch label"]:
        """Return what they say of each class, at the model's temperature."""

    def features(self, pixels: Pixels[np.ndarray, "batch row col channel"]) -> Float32[np.ndarray, "batch features"]:
        """Return what represents each image."""


def list_precisions(engine: str, stored: str) -> tuple[str, ...]:
    """Return what an engine computes an export in: what it computes float32 in, or where weights are stored otherwise also that."""
    return tuple(dict.fromkeys((*PRECISIONS_OF[engine], stored)))


def check_precision(engine: str, precision: str, known: tuple[str, ...]) -> None:
    """Raise UnknownName for no such precision, ConfigError for one that an engine doesn't compute this model in."""
    if precision not in PRECISIONS:
        raise UnknownName("precision", precision, PRECISIONS)
    if precision not in ("auto", *known):
        raise ConfigError(
            f"the engine {engine} doesn't compute this model in {precision}; choose --precision {' or '.join(known)}"
        )
