"""int8 for the torch engine: dense layers of encoder blocks, and a ViT's first product; everything else stays in float.

The model folder keeps its weights, which are rounded when it is loaded in int8, and gets the ranges of the layers' inputs.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitreous.deploy.int8_onnx import BATCH, rank_by_distance
from vitreous.engines.int8_linear import Range
from vitreous.engines.packed_blocks import PIXELS
from vitreous.engines.packed_model import PATCHES, folds_pixels, list_layers
from vitreous.engines.torch_engine import TorchEngine
from vitreous.errors import ConfigError
from vitreous.model.kinds import name_kind
from vitreous.weights.model_folder import ModelFolder, save_model


class TorchInt8:
    """A model folder in int8, some of whose layers can be left in float32.

    Args:
        folder: the model.
        pixels: calibration images as the model sees them.
        device: where the harmful layers are determined.

    Raises:
        ConfigError: a model without encoder blocks, or one that merges patches.
    """

    engine = "torch"

    def __init__(self, folder: ModelFolder, pixels: np.ndarray, device: str = "cpu") -> None:
        check_family(folder)
        self.folder = self.written = replace(folder, ranges={})
        self.pixels, self.device = pixels, device
        layers, engine = list_layers(folder.model), TorchEngine(folder, device, packed=False)
        self.ranges = measure_ranges(layers, lambda: [engine.logits(part) for part in split(pixels)])
        if folds_pixels(folder.model) and not folder.preprocess.keeps_channels:
            self.ranges[PATCHES] = PIXELS

    @property
    def layers(self) -> dict[str, str]:
        """The names of the layers, mapped to themselves."""
        return {name: name for name in self.ranges}

    def rank_layers(self) -> list[str]:
        """Return the layers, the most harmful first: those that bring the outputs closest to the model's when they are
        in float32."""
        pixels = self.pixels[: 4 * BATCH]
        wanted = TorchEngine(self.folder, self.device, packed=False).logits(pixels)
        return rank_by_distance(
            self.ranges, wanted, lambda name: TorchEngine(self._leave([name]), self.device, "int8").logits(pixels)
        )

    def _leave(self, kept: Sequence[str]) -> ModelFolder:
        return replace(self.folder, ranges={name: ends for name, ends in self.ranges.items() if name not in kept})

    def write(self, path: Path, kept: Sequence[str]) -> ModelFolder:
        """Return the model with these layers in float32; `finish` writes it."""
        self.written = self._leave(kept)
        return self.written

    def finish(self, path: Path, found: dict[str, Any]) -> None:
        """Write the model folder, with the measurements as part of its origin."""
        save_model(path, replace(self.written, origin={**self.written.origin, "quantised": found}))


def check_family(folder: ModelFolder) -> None:
    """Raise ConfigError for a model without layers that the torch engine can compute in int8."""
    if folder.merge:
        raise ConfigError("int8 of the torch engine works only without merged patches; leave out merge")
    if not list_layers(folder.model):
        raise ConfigError(
            f"the torch engine computes dense layers of encoder blocks in int8, but {name_kind(folder.model.config.KIND)} has none; choose "
            "--to onnx or openvino"
        )


def measure_ranges(layers: dict[str, nn.Module], run: Callable[[], Any]) -> dict[str, Range]:
    """Return the lowest and the highest input of each layer, 0 included, in a run of the model; layers whose inputs are
    all 0 are left out."""
    found: dict[str, Range] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def note(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            low, high = (float(end) for end in torch.aminmax(given[0]))
            before = found.get(name, (0.0, 0.0))
            found[name] = (min(before[0], low), max(before[1], high))

        return note

    handles = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return {name: ends for name, ends in found.items() if ends != (0.0, 0.0)}


def split(pixels: np.ndarray) -> list[np.ndarray]:
    """Return calibration images a batch at a time."""
    return [pixels[at : at + BATCH] for at in range(0, len(pixels), BATCH)]
