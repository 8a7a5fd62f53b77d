"""Batches for training and evaluation, decoded and augmented in workers. How many workers never changes a bit."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vitreous.data.order import example_at, generator, position
from vitreous.data.sources import Source
from vitreous.errors import VitreousError
from vitreous.images.augment import augment, mix
from vitreous.images.config import AugmentConfig, DecodeConfig, PreprocessConfig
from vitreous.images.preprocess import example

OWN, MIXING, PARTNER = 1, 2, 3
"""Purposes: an example's own augmentation, its mixing (partner and weight), its partner's augmentation."""


@dataclass(frozen=True)
class Batch:
    """Examples side by side."""

    pixels: UInt8[Tensor, "batch channel row col"]
    labels: Int64[Tensor, " batch"]
    partners: Int64[Tensor, " batch"]
    """Class of what was mixed in; the same as labels where nothing was."""
    weights: Float32[Tensor, " batch"]
    """Share of `labels`, 0 to 1; the rest is `partners`."""
    indices: Int64[Tensor, " batch"]
    """Which examples of the source these are."""

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self._tensors()))

    def split(self, size: int) -> Iterator["Batch"]:
        """Yield parts of at most `size` examples."""
        yield from (Batch(*parts) for parts in zip(*(t.split(size) for t in self._tensors()), strict=True))

    def _tensors(self) -> tuple[Tensor, ...]:
        return self.pixels, self.labels, self.partners, self.weights, self.indices


@dataclass(frozen=True)
class Example:
    """One example as the model sees it."""

    pixels: UInt8[np.ndarray, "row col channel"]
    label: int
    partner: int
    weight: float
    index: int


@dataclass(frozen=True)
class TrainStream:
    """The endless stream of training examples: the sample-th is a pure function of (seed, epoch, index)."""

    source: Source
    seed: int
    augment: AugmentConfig
    preprocess: PreprocessConfig
    decode: DecodeConfig

    def __len__(self) -> int:
        """Return the examples of one epoch."""
        return len(self.source)

    def example(self, sample: int) -> Example:
        """Return the sample-th example that training consumes, counted from 0 through all epochs.

        Raises:
            ImageError: the file can't be read any more. It is not replaced: that would change every later number.
        """
        epoch, index = position(sample, len(self.source))
        chosen = example_at(self.seed, epoch, index, len(self.source))
        label = int(self.source.labels[chosen])
        pixels = self._augmented(chosen, generator(self.seed, epoch, index, OWN))
        config = self.augment
        if config.mixup or config.cutmix:
            rng = generator(self.seed, epoch, index, MIXING)
            other = int(rng.integers(len(self.source)))
            if rng.random() < config.mix_probability:
                partner = self._augmented(other, generator(self.seed, epoch, index, PARTNER))
                pixels, weight = mix(pixels, partner, config, rng)
                return Example(pixels, label, int(self.source.labels[other]), weight, chosen)
        return Example(pixels, label, label, 1.0, chosen)

    def _augmented(self, index: int, rng: np.random.Generator) -> UInt8[np.ndarray, "row col channel"]:
        data, name = self.source.read(index), self.source.names[index]
        return augment(data, self.augment, self.preprocess, self.decode, rng, name)


@dataclass(frozen=True)
class Examples:
    """Every example of a source once, in order, through the evaluation transform."""

    source: Source
    preprocess: PreprocessConfig
    decode: DecodeConfig

    def example(self, index: int) -> Example:
        """Return one example; raises ImageError."""
        pixels = example(self.source.read(index), self.decode, self.preprocess, self.source.names[index])
        label = int(self.source.labels[index])
        return Example(pixels, label, label, 1.0, index)


def train_batches(
    stream: TrainStream, start: int, batch: int, stop: int, workers: int | Literal["auto"] = 0
) -> Iterator[Batch]:
    """Yield the samples start, start + 1, ... below stop, `batch` at a time. Epochs run into each other."""
    yield from _batches(stream, start, batch, stop, workers)


def evaluation_batches(
    source: Source,
    preprocess: PreprocessConfig,
    decode: DecodeConfig,
    batch: int,
    workers: int | Literal["auto"] = 0,
) -> Iterator[Batch]:
    """Yield every example exactly once, in order; the last batch may be short."""
    yield from _batches(Examples(source, preprocess, decode), 0, batch, len(source), workers)


def resolve_workers(workers: int | Literal["auto"]) -> int:
    """Return how many processes to use: beside a GPU as many as there are cores, up to 16; on a CPU, which the model
    keeps busy, one for every four cores, so none on a small machine."""
    if workers != "auto":
        return workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(16, cores) if torch.cuda.is_available() else min(8, cores // 4)


def _batches(
    examples: TrainStream | Examples, start: int, batch: int, stop: int, workers: int | Literal["auto"]
) -> Iterator[Batch]:
    count = resolve_workers(workers)
    loader = DataLoader(
        _Keyed(examples),
        batch_sampler=_Ranges(start, batch, stop),  # type: ignore[arg-type]
        collate_fn=_same,
        num_workers=count,
        worker_init_fn=_quiet,
        prefetch_factor=4 if count else None,
        pin_memory=False,
    )
    for item in loader:
        if isinstance(item, VitreousError):
            raise item
        yield item


@dataclass(frozen=True)
class _Ranges:
    """The keys of each batch, computed as they are asked for."""

    start: int
    batch: int
    stop: int

    def __len__(self) -> int:
        return max(0, -(-(self.stop - self.start) // self.batch))

    def __iter__(self) -> Iterator[range]:
        for first in range(self.start, self.stop, self.batch):
            yield range(first, min(first + self.batch, self.stop))


class _Keyed(Dataset):
    """What a worker runs: a batch of keys in, a Batch out; our own errors travel as values, so they arrive whole."""

    def __init__(self, examples: TrainStream | Examples) -> None:
        self.examples = examples

    def __getitem__(self, key: int) -> Example:
        return self.examples.example(key)

    def __getitems__(self, keys: range) -> Batch | VitreousError:
        try:
            return collate([self.examples.example(key) for key in keys])
        except VitreousError as error:
            return error


def collate(examples: list[Example]) -> Batch:
    """Put examples side by side, channels first."""
    pixels = np.stack([one.pixels for one in examples])
    return Batch(
        pixels=torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))),
        labels=torch.tensor([one.label for one in examples]),
        partners=torch.tensor([one.partner for one in examples]),
        weights=torch.tensor([one.weight for one in examples], dtype=torch.float32),
        indices=torch.tensor([one.index for one in examples]),
    )


def _same(item: Any) -> Any:
    return item


def _quiet(worker: int) -> None:
    """Leave Ctrl-C to the parent, which checkpoints; end at once when the parent says so."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
