"""The interface of every engine: pixels to logits. Imports no torch."""

from typing import Literal, Protocol, runtime_checkable

import numpy as np

from vitreous.errors import ConfigError, UnknownName
from vitreous.shapes import Float32, Pixels

Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
ENGINES = ("auto", "torch", "onnxruntime", "openvino")
PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")
"""Precision of a command's computation; auto: bf16 if the hardware multiplies it faster than float32."""
PRECISIONS_OF = {"torch": ("fp32", "bf16", "int8"), "onnxruntime": ("fp32",), "openvino": ("fp32", "bf16", "fp16")}
"""Precisions in which each engine computes a float32 model; the engine checks whether the processor supports them."""


@runtime_checkable
class Engine(Protocol):
    """A model, ready to compute on a device in a precision.

    It takes pixels as `images/inputs.py` makes them, (batch, row, col, channel), uint8 or float32 on the same scale,
    and normalises them. Outputs are float32 on the CPU.
    """

    @property
    def name(self) -> str:
        """torch, onnxruntime, openvino, ..."""

    @property
    def precision(self) -> str:
        """fp32 or bf16: the precision of its computation."""

    @property
    def device(self) -> object:
        """The device that computes."""

    @property
    def threads(self) -> int:
        """Number of threads that it uses on a CPU."""

    @property
    def notes(self) -> tuple[str, ...]:
        """How it computes, and why."""

    def logits(self, pixels: Pixels[np.ndarray, "batch row col channel"]) -> Float32[np.ndarray, "batch label"]:
        """Return the model's outputs."""

    def probabilities(self, pixels: Pixels[np.ndarray, "batch row col channel"]) -> Float32[np.ndarray, "batch label"]:
        """Return each class's probability, at the model's temperature."""

    def features(self, pixels: Pixels[np.ndarray, "batch row col channel"]) -> Float32[np.ndarray, "batch features"]:
        """Return each image's features."""


@runtime_checkable
class CountingEngine(Protocol):
    """An engine that computes frequent batch sizes in another way."""

    def count(self, pixels: Pixels[np.ndarray, "batch row col channel"], batches: int) -> None:
        """Prepare as if it had processed this many more batches of this size."""


def list_precisions(engine: str, stored: str) -> tuple[str, ...]:
    """Return the precisions in which an engine computes an export: those for float32, and the weights' own if that is
    another."""
    return tuple(dict.fromkeys((*PRECISIONS_OF[engine], stored)))


def check_precision(engine: str, precision: str, known: tuple[str, ...]) -> None:
    """Raise UnknownName for an unknown precision, ConfigError for one in which the engine doesn't compute this
    model."""
    if precision not in PRECISIONS:
        raise UnknownName("precision", precision, PRECISIONS)
    if precision not in ("auto", *known):
        raise ConfigError(
            f"the engine {engine} doesn't compute this model in {precision}; choose --precision {' or '.join(known)}"
        )
