"""The torch engine, on any device: runs the model itself."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from vitreous.engines.base import PRECISIONS_OF, check_precision
from vitreous.engines.fast_path import WORTH, FastPath
from vitreous.engines.gpu_path import GpuPath
from vitreous.engines.int8_gpu import check_torchao
from vitreous.engines.int8_linear import check_int8
from vitreous.engines.packed_blocks import centre
from vitreous.engines.packed_model import PATCHES, list_layers
from vitreous.errors import ConfigError
from vitreous.images.tensors import Normalization
from vitreous.runtime.device import choose_device, takes_bf16, tune_cpu
from vitreous.shapes import Float, Float32, Pixels
from vitreous.weights.model_folder import ModelFolder


class TorchEngine:
    """A model folder's model on a device.

    Args:
        folder: the model; it is moved to the device.
        device: auto, cpu, cuda or mps.
        precision: fp32; bf16 (autocast); int8, for a model that was calibrated for it, on a CPU or an NVIDIA GPU, where
            the rest is in bf16 if that is faster; auto: bf16 if the hardware multiplies it faster.
        packed: use the fast path on a CPU (`engines/fast_path.py`) or an NVIDIA GPU (`engines/gpu_path.py`); otherwise,
            and if patches are merged, use the model's own layers.
        compile: on an NVIDIA GPU, compile the model with torch.compile.

    Raises:
        ConfigError: this machine has no such device, a precision other than these, or one that the model or the device
        can't compute in; compile without an NVIDIA GPU, or if patches are merged.
    """

    name = "torch"

    def __init__(
        self,
        folder: ModelFolder,
        device: str = "auto",
        precision: str = "fp32",
        *,
        packed: bool = True,
        compile: bool = False,
    ) -> None:
        check_precision(self.name, precision, PRECISIONS_OF[self.name])
        self.device = choose_device(device)
        if self.device.type == "cpu":
            tune_cpu()
        if precision == "int8":
            check_computable(folder, self.device)
        small = precision == "int8" and self.device.type == "cuda"
        self.bf16 = takes_bf16("auto" if small else precision, self.device)
        if compile:
            check_compilable(folder, self.device)
        self.ranges = folder.ranges if precision == "int8" else {}
        """Input ranges of the int8 layers; empty: no layer is int8."""
        self.folder, self.model = folder, folder.computing.to(self.device).eval()
        self.normalize = Normalization(folder.preprocess, folder.preprocess.channels, self.device)
        self.sealed = False
        """Whether the model no longer changes."""
        self.fast: FastPath | None = None
        """The fast path on a CPU, built once there have been enough images to pay for it."""
        self.waiting = WORTH if packed and self.device.type == "cpu" and not folder.merge else None
        """Number of images left until the fast path is built; None: never."""
        if self.ranges:
            self.waiting = 0
        self.compiles = compile
        """Whether a batch size that occurs for the second time is compiled."""
        self.gpu: GpuPath | None = None
        """The fast path on an NVIDIA GPU."""
        if self.device.type == "cuda" and (self.ranges or packed) and not folder.merge:
            self.gpu = GpuPath(self.model, self.normalize, bf16=self.bf16, compiles=compile, int8=tuple(self.ranges))

    def seal(self) -> None:
        """Use the model as it is now for all further passes, which no longer check whether it has changed."""
        self.sealed = True
        for path in (self.fast, self.gpu):
            if path is not None:
                path.seal()

    @property
    def precision(self) -> str:
        """The precision of its computation."""
        return "int8" if self.ranges else "bf16" if self.bf16 else "fp32"

    @property
    def threads(self) -> int:
        """Threads of torch."""
        return torch.get_num_threads()

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on how it computes."""
        path = self.gpu or self.fast
        if path is not None:
            return path.notes
        return () if self.waiting is None else ("torch's own layers: too few images for packing to pay",)

    def logits(self, pixels: Pixels[np.ndarray, "batch row col channel"]) -> Float32[np.ndarray, "batch label"]:
        """Return the model's outputs."""
        return self.compute("forward", to_channels_first(pixels)).cpu().numpy()

    def probabilities(self, pixels: Pixels[np.ndarray, "batch row col channel"]) -> Float32[np.ndarray, "batch label"]:
        """Return each class's probability, at the model's temperature."""
        return to_probabilities(self.compute("forward", to_channels_first(pixels)), self.folder).cpu().numpy()

    def features(self, pixels: Pixels[np.ndarray, "batch row col channel"]) -> Float32[np.ndarray, "batch features"]:
        """Return each image's features."""
        return self.compute("features", to_channels_first(pixels)).cpu().numpy()

    def compute(
        self, what: Literal["forward", "features"], pixels: Pixels[Tensor, "batch channel row col"]
    ) -> Float[Tensor, "batch values"]:
        """Return the model's logits or features for preprocessed pixels, in float32 on the device, by the fast path if
        there is one."""
        see = partial(self._see, what)
        if self.gpu is not None:
            return self.gpu.run(what, pixels, lambda part: see(self.model, part))
        if self.fast is None and self.waiting is not None:
            self.waiting -= len(pixels)
            if self.waiting <= 0:
                self.fast = FastPath(self.model, bf16=self.bf16, preprocess=self.folder.preprocess, ranges=self.ranges)
                self.fast.sealed = self.sealed
        return see(self.model, pixels) if self.fast is None else self.fast.run(see, pixels)

    def count(self, pixels: Pixels[np.ndarray, "batch row col channel"], batches: int) -> None:
        """Prepare as if it had processed this many more batches of this size."""
        if self.fast is not None:
            self.fast.count(partial(self._see, "forward"), to_channels_first(pixels), batches)

    def _see(self, what: Literal["forward", "features"], model: nn.Module, part: Tensor) -> Tensor:
        see = model if what == "forward" else model.features
        return self.pass_through(see, part, getattr(model, "centred", None))

    def pass_through(
        self,
        see: Callable[[Tensor], Tensor],
        pixels: Pixels[Tensor, "batch channel row col"],
        centred: torch.dtype | None = None,
    ) -> Float[Tensor, "batch ..."]:
        """Return the output of the model, or of a part of it, for preprocessed pixels, in float32 on the device;
        `centred`: the model takes pixels minus 128 in this precision."""
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            if centred is not None:
                return see(centre(pixels, centred)).float()
            return see(self.normalize(pixels.to(self.device))).float()


def check_compilable(folder: ModelFolder, device: torch.device) -> None:
    """Raise ConfigError if torch.compile isn't used for a model on a device."""
    if device.type != "cuda":
        raise ConfigError(f"compile is for NVIDIA GPUs, but this model computes on {device.type!r}; leave it out")
    if folder.merge:
        raise ConfigError("a model that merges patches can't be compiled; leave out compile, or merge")


def check_computable(folder: ModelFolder, device: torch.device) -> None:
    """Raise ConfigError for a model that can't compute in int8 on a device."""
    if not folder.ranges:
        raise ConfigError(
            "this model was not calibrated for int8; write one that is: vitreous quantise MODEL DATA --to torch --out FOLDER, then give FOLDER"
        )
    changed = sorted(set(folder.ranges) - set(list_layers(folder.model)) - {PATCHES})
    if changed:
        raise ConfigError(
            f"{changed[0]} is no longer a plain dense layer of a block, so this model can't compute in int8; choose --precision fp32"
        )
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(
            f"int8 computes on a CPU or an NVIDIA GPU, not on {device.type!r}; choose --device cpu, or --precision bf16"
        )
    if folder.merge:
        raise ConfigError("int8 was calibrated without merged patches; leave out merge, or choose --precision bf16")
    if device.type == "cpu":
        check_int8()
    else:
        check_torchao()


def to_probabilities(logits: Float[Tensor, "*batch label"], folder: ModelFolder) -> Float[Tensor, "*batch label"]:
    """Return the probabilities of logits at the model's temperature: their softmax or, for multilabel models, each
    one's sigmoid."""
    calibrated = logits / folder.temperature
    return calibrated.sigmoid() if folder.multilabel else calibrated.softmax(-1)


def to_channels_first(pixels: Pixels[np.ndarray, "batch row col channel"]) -> Pixels[Tensor, "batch channel row col"]:
    """Return an array of pixels as a tensor, channels first; memory is shared."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)
