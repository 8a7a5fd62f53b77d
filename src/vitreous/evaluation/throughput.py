"""The cost of a model: parameters, operations, and images per second of its forward pass on this device."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from vitreous.engines.exported_folder import ExportedFolder
from vitreous.model.count import count_flops, count_parameters
from vitreous.predictor import Predictor
from vitreous.runtime.display import Shown

FEWEST, MOST = 3, 50
"""Fewest and most timed forward passes."""
LONG_ENOUGH = 0.5
"""Seconds of timing after which FEWEST passes are enough."""


@dataclass(frozen=True)
class Cost(Shown):
    """Parameters and operations are exact and hold anywhere; the speed holds only for this machine at this time."""

    parameters: int
    flops: int
    """Operations of one image's forward pass: two for each multiply-add."""
    images_per_second: float
    """Speed of the median pass: normalisation and forward, from pixels in memory to logits; no decoding."""
    range: tuple[float, float]
    """Images per second of the slowest and of the fastest pass."""
    passes: int
    batch: int
    device: str
    precision: str
    """fp32 or bf16."""
    threads: int
    """Threads of the engine, on the CPU."""
    engine: str = "torch"
    """Who computed."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        low, high = self.range
        return (
            f"cost       {self.parameters:,} parameters, {self.flops / 1e9:,.3g} GFLOPs an image\n"
            f"speed      {self.images_per_second:,.0f} images/s forward ({low:,.0f} to {high:,.0f}; {self.where})"
        )

    @property
    def where(self) -> str:
        """How the speed was measured."""
        threads = f", {self.threads} thread{'s' * (self.threads != 1)}" if self.device == "cpu" else ""
        engine = "" if self.engine == "torch" else f"{self.engine}, "
        return f"{engine}batch {self.batch}, {self.precision}, {self.device}{threads}, median of {self.passes} passes"


def cost(predictor: Predictor, batch: int = 64) -> Cost:
    """Count a model's parameters and operations, and time its forward pass; see `compare_costs`."""
    return compare_costs([predictor], batch)[0]


def compare_costs(predictors: Sequence[Predictor], batch: int = 64) -> list[Cost]:
    """Count each model's parameters and operations, and time their forward passes in turn, so that a slow moment hits all.

    After one warm-up pass, at least FEWEST passes of each are timed, and more until LONG_ENOUGH seconds or MOST passes. The images
    are noise of the model's input size.

    Args:
        predictors: the models, on the device and in the precision to be timed.
        batch: images per pass.
    """
    every = [make_noise(predictor, batch) for predictor in predictors]
    seconds: list[list[float]] = [[] for _ in predictors]
    for predictor, pixels in zip(predictors, every, strict=True):
        _time(predictor, pixels)
    while waiting := [place for place, one in enumerate(seconds) if not _is_enough(one)]:
        for place in waiting:
            seconds[place].append(_time(predictors[place], every[place]))
    return [_describe(predictor, batch, one) for predictor, one in zip(predictors, seconds, strict=True)]


def make_noise(predictor: Predictor, batch: int) -> torch.Tensor:
    """Return noise of a model's input size on its device."""
    rows, cols = predictor.folder.preprocess.size
    generator = torch.Generator().manual_seed(0)
    channels = predictor.folder.preprocess.channels
    pixels = torch.randint(256, (batch, channels, rows, cols), dtype=torch.uint8, generator=generator)
    return pixels.to(predictor.device)


def _is_enough(seconds: list[float]) -> bool:
    return len(seconds) >= FEWEST and (sum(seconds) >= LONG_ENOUGH or len(seconds) >= MOST)


def _describe(predictor: Predictor, batch: int, seconds: list[float]) -> Cost:
    parameters, flops = count_costs(predictor)
    return Cost(
        parameters=parameters,
        flops=flops,
        images_per_second=batch / statistics.median(seconds),
        range=(batch / max(seconds), batch / min(seconds)),
        passes=len(seconds),
        batch=batch,
        device=_device(predictor.device),
        precision=predictor.engine.precision,
        threads=predictor.engine.threads,
        engine=predictor.engine.name,
    )


def _time(predictor: Predictor, pixels: torch.Tensor) -> float:
    """Return the seconds of one pass; moving the logits to the CPU waits for any device."""
    start = time.perf_counter()
    predictor.logits(pixels).cpu()
    return time.perf_counter() - start


def count_costs(predictor: Predictor) -> tuple[int, int]:
    """Return a model's parameters and operations; an export says those of the model that it was made of."""
    if isinstance(predictor.folder, ExportedFolder):
        shape = predictor.folder.shape
        return int(shape.get("parameters", 0)), int(shape.get("flops", 0))
    config = predictor.model.config
    return count_parameters(config), count_flops(config, predictor.folder.merge)


def _device(device: torch.device | str) -> str:
    if isinstance(device, str):
        return device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
