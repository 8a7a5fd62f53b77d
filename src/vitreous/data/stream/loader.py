"""Batches for training and evaluation, decoded and augmented in workers, whose number never changes a bit."""

import itertools
import math
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vitreous.data.sources.base import Source, get_label_matrix
from vitreous.data.sources.in_memory import remember
from vitreous.data.sources.pseudo_labels import PseudoLabelled
from vitreous.data.stream.interleaving import choose_example, count_epoch, draw_partner
from vitreous.data.stream.order import find_position, restart_generator, seed_generator
from vitreous.data.stream.shared_batch import Label, SharedBatch, pack
from vitreous.data.stream.worker_deaths import settle_worker, start_workers, take_next
from vitreous.errors import ConfigError, VitreousError, explain_exhaustion
from vitreous.images.augment import augment, mix
from vitreous.images.config import AugmentConfig, DecodeConfig, PreprocessConfig
from vitreous.images.preprocess import preprocess_image
from vitreous.runtime.collection import keep_memory_shared
from vitreous.runtime.threads import count_cores
from vitreous.shapes import Bool, Float32, Int64, Pixels

OWN, MIXING, PARTNER = 1, 2, 3
"""Purposes: an example's own augmentation, its mixing (partner and weight), its partner's augmentation."""
AHEAD = 4
"""Batches that each worker prepares ahead."""
MOST_WORKERS = 1024
"""Processes, more than any machine has cores to read with."""

Workers = int | Literal["auto"]


@dataclass(frozen=True)
class Batch:
    """A batch of examples."""

    pixels: Pixels[Tensor, "batch channel row col"]
    labels: Int64[Tensor, " batch"] | Bool[Tensor, "batch label"] | Float32[Tensor, "batch label"]
    """The class of each; where an example may have several, which of the classes it has; where labels are soft, the probability of
    each class."""
    partners: Int64[Tensor, " batch"] | Bool[Tensor, "batch label"] | Float32[Tensor, "batch label"]
    """The labels of what was mixed in; the same as `labels` where nothing was."""
    weights: Float32[Tensor, " batch"]
    """Share of `labels`, 0 to 1; the rest is `partners`."""
    indices: Int64[Tensor, " batch"]
    """The examples' indices in the source."""
    draws: Float32[Tensor, "batch draw"] | None = None
    """What is drawn for augmentation on the device, which has yet to be carried out."""

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self._tensors()))

    def split(self, size: int) -> Iterator["Batch"]:
        """Yield parts of at most `size` examples."""
        yield from (Batch(*parts) for parts in zip(*(t.split(size) for t in self._tensors()), strict=True))

    def _tensors(self) -> tuple[Tensor, ...]:
        given = (self.pixels, self.labels, self.partners, self.weights, self.indices)
        return given if self.draws is None else (*given, self.draws)


@dataclass(frozen=True)
class Example:
    """One example as the model sees it."""

    pixels: Pixels[np.ndarray, "row col channel"]
    label: Label
    partner: Label
    weight: float
    index: int
    draws: Float32[np.ndarray, " draw"] | None = None


@dataclass(frozen=True)
class TrainStream:
    """The endless stream of training examples: the sample-th is a pure function of (seed, epoch, index)."""

    source: Source
    seed: int
    augment: AugmentConfig
    preprocess: PreprocessConfig
    decode: DecodeConfig

    def __len__(self) -> int:
        """Return the number of examples of one epoch."""
        return count_epoch(self.source)

    @property
    def example_bytes(self) -> int:
        """Bytes of an example's pixels, as they travel."""
        return count_bytes(self.preprocess)

    def example(self, sample: int) -> Example:
        """Return the sample-th example that training consumes, counted from 0 through all epochs.

        Raises:
            ImageError: the file can no longer be read. It is not replaced: that would change every later example.
        """
        return next(self.examples([sample]))

    def examples(self, samples: Iterable[int]) -> Iterator[Example]:
        """Yield the examples of these samples, as `preprocess_image` would; raises ImageError."""
        own, mixing = seed_generator(0), seed_generator(0)
        for sample in samples:
            epoch, index = find_position(sample, len(self))
            chosen = choose_example(self.source, self.seed, sample, self.augment.views)
            label = read_label(self.source, chosen)
            pixels = self._augment(chosen, restart_generator(own, self.seed, epoch, index, OWN))
            partner, weight = label, 1.0
            if self.augment.mixup or self.augment.cutmix:
                rng = restart_generator(mixing, self.seed, epoch, index, MIXING)
                other = draw_partner(self.source, rng)
                if rng.random() < self.augment.mix_probability:
                    partner = read_label(self.source, other)
                    second = self._augment(other, restart_generator(own, self.seed, epoch, index, PARTNER))
                    pixels, weight = mix(pixels, second, self.augment, rng)
            yield Example(pixels, label, partner, weight, chosen)

    def remember(self) -> "TrainStream":
        """Return the same stream, with a small source kept decoded in memory."""
        return replace(self, source=remember(self.source, self.decode, self.preprocess, self.augment))

    def _augment(self, index: int, rng: np.random.Generator) -> Pixels[np.ndarray, "row col channel"]:
        data, name = self.source.read(index), self.source.names[index]
        return augment(data, self.augment, self.preprocess, self.decode, rng, name)


@dataclass(frozen=True)
class Share:
    """One process's part of a stream whose every batch is divided among several: the rank-th of `size` equal parts.

    Its own samples are counted without gaps: sample `n` is one of the batch of step n // (batch / size).
    """

    stream: TrainStream
    batch: int
    """Samples of a batch, in all processes together."""
    rank: int
    size: int
    local_size: int = 1
    """Processes on this machine, which share its memory."""

    @property
    def example_bytes(self) -> int:
        """Bytes of an example's pixels, as they travel."""
        return self.stream.example_bytes

    def examples(self, samples: Iterable[int]) -> Iterator[Example]:
        """Yield the examples of these of its own samples; raises ImageError."""
        own = self.batch // self.size
        places = ((sample // own) * self.batch + self.rank * own + sample % own for sample in samples)
        return self.stream.examples(places)

    def remember(self) -> "Share":
        """Return the same, with a small source kept decoded in memory."""
        return replace(self, stream=self.stream.remember())


@dataclass(frozen=True)
class Examples:
    """Every example of a source once, in order, through the evaluation transform."""

    source: Source
    preprocess: PreprocessConfig
    decode: DecodeConfig

    @property
    def example_bytes(self) -> int:
        """Bytes of an example's pixels, as they travel."""
        return count_bytes(self.preprocess)

    def examples(self, samples: Iterable[int]) -> Iterator[Example]:
        """Yield the examples at these indices; raises ImageError."""
        for index in samples:
            data, name = self.source.read(index), self.source.names[index]
            label = read_label(self.source, index)
            yield Example(preprocess_image(data, self.decode, self.preprocess, name), label, label, 1.0, index)

    def remember(self) -> "Examples":
        """Return the same, with a small source kept decoded in memory."""
        return replace(self, source=remember(self.source, self.decode, self.preprocess))


def count_bytes(preprocess: PreprocessConfig) -> int:
    """Return the bytes of an image at the model's size."""
    return math.prod(preprocess.size) * preprocess.channels * preprocess.value_bytes


def read_label(source: Source, index: int) -> Label:
    """Return an example's class; where it may have several, which of the classes it has; or its soft label."""
    if isinstance(source, PseudoLabelled):
        return source.target(index)
    label_matrix = get_label_matrix(source)
    return int(source.labels[index]) if label_matrix is None else label_matrix[index]


def load_train_batches(
    stream: TrainStream | Share,
    start: int,
    batch: int,
    stop: int | None = None,
    workers: Workers = 0,
    device: torch.device | None = None,
) -> Iterator[Batch]:
    """Yield the samples start, start + 1, ... below stop, `batch` at a time. Epochs run into each other.

    Args:
        stream: what to draw from.
        start: number of the first sample.
        batch: samples per batch; the last before `stop` may be smaller.
        stop: None for an endless stream.
        workers: processes that decode and augment; they change no bit.
        device: where the batches will go: for CUDA, workers put their pixels into pinned memory, from which they are copied while the
            GPU computes. None: a GPU if there is one, for the number of workers alone.

    Raises:
        ImageError: a file can't be read; raised when its batch is due.
        WorkerKilled: a worker was killed. OutOfMemory, OutOfMeans: the machine has too little.
    """
    return _load_batches(stream, _Ranges(start, batch, stop), workers, device)


def load_evaluation_batches(
    examples: Examples,
    batch: int,
    workers: Workers = 0,
    share: tuple[int, int] = (0, 1),
    device: torch.device | None = None,
) -> Iterator[Batch]:
    """Yield every example exactly once, in order; the last batch may be smaller. Raises as `load_train_batches`
    does. `share`: rank and size yield every size-th of these batches, beginning with that of number rank. `device`: as
    `load_train_batches` has it."""
    return _load_batches(examples, _Ranges(0, batch, len(examples.source), *share), workers, device)


def resolve_workers(workers: Workers, device: torch.device | None = None) -> int:
    """Return the number of worker processes to use.

    With a GPU, one per core, up to 16. On a CPU, which the model keeps busy, one per four cores: a worker beside a
    model that uses both of two cores made training slower, not faster.
    """
    if workers != "auto":
        if not 0 <= workers <= MOST_WORKERS:
            raise ConfigError(f"workers is {workers}; it must be auto, or 0 to {MOST_WORKERS}")
        return workers
    cores = count_cores()
    beside_gpu = device.type != "cpu" if device is not None else torch.cuda.is_available()
    return min(16, cores) if beside_gpu else min(8, cores // 4)


def collate(examples: list[Example]) -> Batch:
    """Stack examples into a batch, channels first."""
    return unpack(pack(examples, shared=False))


def unpack(parcel: SharedBatch) -> Batch:
    """Return a worker's shared batch as a batch, without a copy."""
    return Batch(*(torch.from_numpy(part) if isinstance(part, np.ndarray) else part for part in parcel))


def _load_batches(
    examples: TrainStream | Share | Examples, keys: "_Ranges", workers: Workers, device: torch.device | None
) -> Iterator[Batch]:
    if keys.batch < 1:
        raise ConfigError(f"the batch size is {keys.batch}; it must be at least 1")
    count = resolve_workers(workers, device)
    with keep_memory_shared(forks=count > 0):
        yield from _take_batches(_start_loader(examples, keys, count, device))


def _start_loader(
    examples: TrainStream | Share | Examples, keys: "_Ranges", count: int, device: torch.device | None
) -> Iterator[Any]:
    beside = examples.local_size if isinstance(examples, Share) else keys.every
    shared = count > 0 and _fits_shared_memory(keys.batch * examples.example_bytes * AHEAD * count * beside)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*worker processes in total.*")  # the user asked for that many
        loader = DataLoader(
            _Keyed(examples.remember(), shared),
            batch_sampler=keys,  # type: ignore[arg-type]
            collate_fn=_return_item,
            num_workers=count,
            worker_init_fn=settle_worker,
            prefetch_factor=AHEAD if count else None,
            pin_memory=device is not None and device.type == "cuda",
            multiprocessing_context="fork" if count and sys.platform == "linux" else None,
            generator=torch.Generator(),  # leaves torch's global random number generator alone
        )
        return start_workers(loader)


def _take_batches(items: Iterator[Any]) -> Iterator[Batch]:
    try:
        while (item := take_next(items)) is not None:
            if isinstance(item, VitreousError):
                raise item
            yield unpack(item)
    finally:
        del items  # ends the workers now; if an error's traceback kept them alive, each would be waited for 5 s


@dataclass(frozen=True)
class _Ranges:
    """The keys of each batch, computed on demand."""

    start: int
    batch: int
    stop: int | None
    skip: int = 0
    """Batches that are left out before the first."""
    every: int = 1
    """1: all batches; 2: every second one; ..."""

    def __iter__(self) -> Iterator[range]:
        firsts = itertools.count(self.start + self.skip * self.batch, self.every * self.batch)
        if self.stop is None:
            yield from (range(first, first + self.batch) for first in firsts)
        else:
            for first in itertools.takewhile(lambda first: first < self.stop, firsts):
                yield range(first, min(first + self.batch, self.stop))


class _Keyed(Dataset):
    """A worker's job: a batch of keys in, a shared batch out; our own errors travel as values, so they arrive whole."""

    def __init__(self, examples: TrainStream | Share | Examples, shared: bool) -> None:
        self.examples, self.shared = examples, shared

    def __getitem__(self, key: int) -> Example:
        return next(self.examples.examples([key]))

    def __getitems__(self, keys: range) -> SharedBatch | VitreousError:
        try:
            return pack(list(self.examples.examples(keys)), self.shared)
        except VitreousError as error:
            return error
        except Exception as error:
            if (failure := explain_exhaustion(error)) is None:
                raise
            return failure


def _return_item(item: Any) -> Any:
    return item


def _fits_shared_memory(need: int) -> bool:
    """Return whether batches can travel through shared memory; containers often have 64 MB of it. If not, pipes
    serve."""
    try:
        room = os.statvfs("/dev/shm")
    except OSError:
        return sys.platform == "darwin"
    return need < room.f_bavail * room.f_frsize // 2
