"""The fast way through a model on a CPU: packed dense layers, a few images at a time, separate images for each thread. The
preparation pays off after a few images; the path is used only if its outputs agree with the model's.
"""

import operator
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from vitreous.engines.agreement import NEAR, measure_distance
from vitreous.engines.int8_linear import AnyPacking, Int8Linear, Int8Packing, Range, find_bits
from vitreous.engines.joined_blocks import MOST, JoinedBlocks, holds_no_weights, join_blocks
from vitreous.engines.onednn_graph import Pass
from vitreous.engines.packed_linear import Packing, choose_packing
from vitreous.engines.packed_model import count_packed, pack_model
from vitreous.errors import ConfigError
from vitreous.images.config import PreprocessConfig
from vitreous.model.vit import ViT
from vitreous.runtime.device import has_fast_bf16
from vitreous.runtime.memory import read_memory

WORTH = 8
"""Images after which packing pays: packing takes about as long as it saves on four images."""
HIDDEN_BYTES = 5_000_000
"""Largest activations, in bytes, of the images that go through a block together: smaller groups need more calls, larger
ones don't fit the cache (docs/speed.md)."""
WITHOUT_VNNI = " with weights of 7 bits, as this processor lacks VNNI"
"""Note about int8 layers on such a processor, whose results differ from those of other processors."""
NOT_PLAIN = "the model has hooks, is in training mode, or isn't float32"
"""Why a model has no packed twin in its present state."""
SHARE = 4
"""Packed weights may take this fraction of the memory: one over this number."""

See = Callable[[nn.Module, Tensor], Tensor]
"""Computes something from a model and preprocessed pixels: logits, features, ..."""


class WatchedPath:
    """A way through a model that is rebuilt when the model has changed, until it is sealed.

    In-place changes of a weight's `.data` go unnoticed, since torch's version counter doesn't see them.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model, self.sealed = model, False
        self._state: ModelState | None = None
        """State of the model for which the way was built."""
        self._lock = threading.Lock()
        """Held while the way is looked up or built."""

    def seal(self) -> None:
        """Use the model as it is now for all further passes."""
        with self._lock:
            if not self._is_current():
                self._state = None
            self.sealed = True

    def _is_current(self) -> bool:
        return self._state is not None and self._state.is_current(self.model, self.sealed)


class FastPath(WatchedPath):
    """A model's packed twin, built once it pays.

    Args:
        model: on the CPU, in eval mode.
        bf16: whether products are in bfloat16.
        preprocess: how a ViT's images are normalised, if its twin does that; None: its input is already normalised.
        ranges: input ranges of the int8 layers by name; empty: no layer is int8.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        bf16: bool,
        preprocess: PreprocessConfig | None = None,
        ranges: Mapping[str, Range] | None = None,
    ) -> None:
        super().__init__(model)
        self.dtype, self.preprocess = torch.bfloat16 if bf16 else torch.float32, preprocess
        self.ranges = ranges or {}
        self.threads = torch.get_num_threads()
        self._way: tuple[str, ...] = ()
        """Description of how layers are packed, and of those that aren't."""
        self._twin, self._kind, self._each = None, torch.uint8, 1
        self._joined: JoinedBlocks | None = None
        self._pool: ThreadPoolExecutor | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on how it computes, and on which parts use torch's own layers and why."""
        joined = self._joined
        return self._way if joined is None else (*self._way, *joined.notes)

    def run(self, see: See, pixels: Tensor) -> Tensor:
        """Return the result for these pixels; raises ConfigError if int8 was requested and isn't possible."""
        twin, joined = self._choose(see, pixels)
        if twin is None:
            return see(self.model, pixels)
        parts = self._split(pixels)
        pool = self._choose_pool(len(parts))
        if joined is not None:
            self._compile_frequent(twin, joined, see, parts, pool)
        if pool is None:
            return torch.cat([see(twin, part) for part in parts])
        return torch.cat(list(pool.map(lambda part: see(twin, part), parts)))

    def count(self, see: See, pixels: Tensor, batches: int) -> None:
        """Build the graphs that there would be after this many more batches like this one."""
        twin, joined = self._choose(see, pixels)
        if twin is not None and joined is not None:
            parts = self._split(pixels)
            self._compile_frequent(twin, joined, see, parts, self._choose_pool(len(parts)), batches)

    def _choose_pool(self, parts: int) -> ThreadPoolExecutor | None:
        """Return a pool of threads that compute one part each; None: all threads together compute one part after the
        other."""
        if parts < max(2, self.threads) or self.threads == 1:
            return None
        self._pool = self._pool or open_pool(self.threads)
        return self._pool

    def _compile_frequent(
        self,
        twin: nn.Module,
        joined: JoinedBlocks,
        see: See,
        parts: Sequence[Tensor],
        pool: ThreadPoolExecutor | None,
        batches: int = 1,
    ) -> None:
        """Build graphs for frequent sizes of parts. A graph whose outputs differ from the model's is never used; nor,
        in int8, is one whose outputs are twice as far from the model's as those computed block by block."""
        threads = 1 if pool is not None else torch.get_num_threads()
        for images, part in {len(part): part for part in parts}.items():
            come = batches * images * sum(len(one) == images for one in parts)
            if not joined.is_due((images, threads), come):
                continue

            def compute(images: int = images, part: Tensor = part) -> tuple[Pass, Tensor]:
                return joined.try_graph(images, lambda: see(twin, part))

            try:
                graph, found = compute() if pool is None else pool.submit(compute).result()
            except RuntimeError as error:
                joined.notes.append(f"no graph of oneDNN: {' '.join(str(error).split())[:200]}")
                continue
            expected = see(self.model, part)
            far = measure_distance(found, expected)
            agrees = is_no_farther(found, see(twin, part), expected) if self.ranges else far <= NEAR[self.dtype]
            if not agrees:
                joined.notes.append(f"no graph of oneDNN: its outputs differ by {far:.1e} of the largest")
                continue
            joined.graphs[images, threads] = graph
            joined.notes.append(f"blocks as one graph of oneDNN, images {images} at a time")

    def _choose(self, see: See, pixels: Tensor) -> tuple[nn.Module | None, JoinedBlocks | None]:
        """Return the twin of the model in its current state (None if there is none) and the twin's graphs, building
        them first if necessary."""
        with self._lock:
            if self._kind != pixels.dtype or not self._is_current():
                self._twin, self._joined, self._state = None, None, None
                state = ModelState(self.model)
                if state.is_plain:
                    self._prepare(see, pixels)
                else:
                    self._leave(NOT_PLAIN)
                self._state, self._kind = state, pixels.dtype  # last: after an error the next pass starts over
            return self._twin, self._joined

    def _prepare(self, see: See, pixels: Tensor) -> None:
        """Pack the model, and compare the outputs for some images with its own."""
        tokens, hidden = measure_activations(self.model)
        most = max(1, HIDDEN_BYTES // max(1, tokens * hidden * self.dtype.itemsize))
        first, packing = -(-len(pixels) // self.threads), choose_packing(self.dtype, (tokens,))
        fitted = (
            first > 1 and packing is not None and packing.library == "mkl"
        )  # its layout is for a fixed number of tokens
        self._each = min(most, first) if fitted else most
        packing = packing and replace(packing, rows=tuple(sorted({tokens, tokens * self._each})))
        try:
            if packing is None or self._refusal(packing):
                self._leave(self._refusal(packing))
                return
            packed = pack_model(self.model, self._choose_int8(packing), self._find_folded(pixels))
            found = see(packed.model, pixels[: self._each])
            far = 0.0 if self.ranges else measure_distance(found, see(self.model, pixels[: self._each]))
        except (RuntimeError, IndexError, AttributeError) as error:  # this build of torch lacks an operator
            self._leave(f"packing failed: {' '.join(str(error).split())[:200]}")
            return
        if not far <= NEAR[self.dtype]:
            self._leave(f"packed ones give outputs that differ by {far:.1e} of the largest")
            return
        if not count_packed(packed.model):
            self._leave(*packed.unpacked_layers)
            return
        way = f"{self._each} at a time" + (f" on each of {self.threads} threads" if self.threads > 1 else "")
        count, small = count_packed(packed.model), count_packed(packed.model, (Int8Linear,))
        of_int8 = f", {small} of them in int8{'' if find_bits() == 8 else WITHOUT_VNNI}" if small else ""
        done = f"{count} dense layers packed by {packing.library}{of_int8}, images {way}"
        self._way = (done, *(f"torch's own layer: {one}" for one in packed.unpacked_layers))
        self._twin = packed.model
        if holds_no_weights(packed.model) or self._measure_copies(MOST + 2) <= read_memory() // SHARE:
            self._joined = join_blocks(packed.model, tokens)

    def _leave(self, *reasons: str) -> None:
        """Leave the model to torch's own layers; raises ConfigError if int8 was requested, which they can't compute."""
        if self.ranges:
            refuse_int8(*reasons)
        self._way = tuple(f"torch's own layers: {one}" for one in reasons)

    def _choose_int8(self, packing: Packing) -> AnyPacking:
        """Return a packing in which the layers whose ranges are known multiply in int8."""
        if not self.ranges:
            return packing
        attends = torch.bfloat16 if has_fast_bf16(torch.device("cpu")) else torch.float32
        return Int8Packing(packing, attends, self.ranges)

    def _find_folded(self, pixels: Tensor) -> PreprocessConfig | None:
        """Return how the twin normalises images, if it does so itself."""
        return self.preprocess if pixels.dtype == torch.uint8 and isinstance(self.model, ViT) else None

    def _refusal(self, packing: Packing | None) -> str:
        """Return why the model can't be packed; empty if it can."""
        if packing is None:
            return "no packing for this kind of processor"
        copies = len(packing.rows) if packing.library == "mkl" else 1
        needed = self._measure_copies(copies)
        if needed > read_memory() // SHARE:
            return f"packed, they would take {needed / 1e9:.1f} GB more"
        return ""

    def _measure_copies(self, copies: int) -> int:
        """Return the bytes of this many copies of the weights."""
        return copies * sum(value.numel() for value in self.model.parameters()) * self.dtype.itemsize

    def _split(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Cut a batch into parts that fit the cache and keep all threads busy."""
        each = self._each if len(pixels) >= self._each * self.threads else -(-len(pixels) // self.threads)
        return pixels.split(min(each, self._each))


def is_no_farther(found: Tensor, other: Tensor, expected: Tensor) -> bool:
    """Return whether int8 outputs equal those of another way, or are overall less than twice as far from the expected
    ones."""
    if measure_distance(found, other) <= NEAR[torch.float32]:
        return True
    return bool((found - expected).norm() < 2 * (other - expected).norm())


def refuse_int8(*reasons: str) -> NoReturn:
    """Raise ConfigError for a model that was requested in int8 and can't compute in it: no other precision stands
    in."""
    raise ConfigError(f"this model can't compute in int8: {'; '.join(reasons)}; choose --precision fp32")


FLAGS = tuple(map(operator.itemgetter, ("training", "_forward_hooks", "_forward_pre_hooks")))
"""Attributes that mustn't be set in a packed module."""
VERSION = operator.attrgetter("_version")
"""A tensor's count of changes in place."""


def list_held(holders: Iterable[Mapping[str, Any]]) -> Iterator[Any]:
    """Return modules' children or parameters, one after the other."""
    return chain.from_iterable(where.values() for where in holders)


class ModelState:
    """The parts of a model at one moment. `is_current` runs before every pass, so it looks at each part once, in place,
    and without a Python loop over the parts."""

    def __init__(self, model: nn.Module) -> None:
        modules = list(model.modules())
        self.image = getattr(model, "image", None)
        self.flags = [module.__dict__ for module in modules]
        self.holders = [module._modules for module in modules if module._modules]
        self.holders += [module._parameters for module in modules if module._parameters]
        self.sizes, self.held = list(map(len, self.holders)), list(list_held(self.holders))
        values = [value for value in self.held if isinstance(value, Tensor)]
        self.is_plain = all(value.dtype == torch.float32 and not value.is_inference() for value in values)
        """Whether it can be packed: in eval mode, without hooks, in float32."""
        self.is_plain = self.is_plain and self._is_untouched()
        self.values = values if self.is_plain else []
        self.places, self.versions = list(map(Tensor.data_ptr, self.values)), list(map(VERSION, self.values))

    def _is_untouched(self) -> bool:
        return not any(any(map(flag, self.flags)) for flag in FLAGS)

    def is_current(self, model: nn.Module, sealed: bool = False) -> bool:
        """Return whether the model's function is still the same; False for a model that couldn't be packed. `sealed`:
        it is known to be unchanged."""
        return self.is_plain and (sealed or self._is_same(model))

    def _is_same(self, model: nn.Module) -> bool:
        return (
            self.image == getattr(model, "image", None)
            and self._is_untouched()
            and list(map(len, self.holders)) == self.sizes
            and all(map(operator.is_, list_held(self.holders), self.held))
            and list(map(Tensor.data_ptr, self.values)) == self.places
            and list(map(VERSION, self.values)) == self.versions
        )


def measure_activations(model: nn.Module) -> tuple[int, int]:
    """Return a model's tokens and the width of its widest activations; 1 and 0 for anything but a ViT."""
    if not isinstance(model, ViT):
        return 1, 0
    config = model.config
    return config.prefix + model.grid.rows * model.grid.cols, max(config.mlp_width, 3 * config.attention_width)


def open_pool(threads: int) -> ThreadPoolExecutor:
    """Return a pool whose threads compute with one torch thread each; the caller's setting stays."""
    ready = threading.Barrier(threads + 1)

    def begin() -> None:
        torch.get_num_threads()  # otherwise a thread would make the first query later, and get the caller's setting
        torch.set_num_threads(1)
        ready.wait()

    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="compute")
    for _ in range(threads):
        pool.submit(begin)
    ready.wait()
    torch.set_num_threads(before)  # the setting that torch gives to later threads
    return pool
