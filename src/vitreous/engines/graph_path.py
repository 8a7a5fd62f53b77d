"""The fast path on an NVIDIA GPU: a pass through the model as one CUDA graph for each size of batch, so that its kernels follow each other
without waiting for Python; on request they are compiled by torch.compile first."""

import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitreous.engines.fast_path import NEAR, ModelState, measure_distance
from vitreous.engines.graph_model import GraphModel, build_graph_model
from vitreous.errors import ConfigError
from vitreous.images.tensors import Normalization
from vitreous.shapes import Pixels

SIZES = 8
"""Most sizes of batch that have a graph: the first ones that come twice. A server's come in any size up to its largest, and recording
takes several passes, so none is given up for another."""
WARM = 3
"""Passes before a graph is recorded: the first ones compile kernels and take memory, which a graph can't."""

What = Literal["forward", "features"]
Pass = Callable[[Tensor], Tensor]
Key = tuple[What, torch.Size, torch.dtype]


class GraphPath:
    """A model's graphs, recorded when a size of batch comes for the second time, and again when the model has changed.

    In-place changes of a weight's `.data` are not seen by torch's version counter, and so not here.

    Args:
        model: on the GPU, in eval mode.
        normalize: how its images are normalised.
        bf16: whether products are in bfloat16.
        compiles: compile what is recorded: some ten seconds for each size of batch.
    """

    def __init__(self, model: nn.Module, normalize: Normalization, *, bf16: bool, compiles: bool = False) -> None:
        self.model, self.normalize = model, normalize
        self.dtype, self.compiles = torch.bfloat16 if bf16 else torch.float32, compiles
        self.notes: tuple[str, ...] = ()
        """How it computes, with the reason if no graphs are used."""
        self._state: ModelState | None = None
        self._twin: GraphModel | None = None
        self._graphs: dict[Key, Pass] = {}
        self._seen: Counter[Key] = Counter()
        self._pool = torch.cuda.graph_pool_handle() if torch.cuda.is_available() else (0, 0)
        """Memory that all graphs share: one runs after the other, and what it gives is copied."""
        self._lock = threading.Lock()

    def run(
        self, what: What, pixels: Pixels[Tensor, "batch channel row col"], own: Pass
    ) -> Float[Tensor, "batch values"]:
        """Return the result for these pixels, on the device; `own`: the model's own pass.

        Raises:
            ConfigError: torch.compile fails.
        """
        with self._lock, torch.no_grad():  # the compiler can't read tensors of inference mode
            if self._state is None or not self._state.is_current(self.model):
                self._prepare(what, pixels, own)
            if self._twin is None:
                return own(pixels)
            key: Key = (what, pixels.shape, pixels.dtype)
            self._seen[key] += 1
            if key not in self._graphs and self._seen[key] > 1 and len(self._graphs) < SIZES:
                self._keep(key, pixels)
            if key in self._graphs:
                return self._graphs[key](pixels)
            return self._compute(self._twin, what, pixels.to(self.normalize.scale.device))

    def _prepare(self, what: What, pixels: Tensor, own: Pass) -> None:
        """Make the twin of the model as it is, and compare an image's output with its own."""
        self._twin, self._state = None, ModelState(self.model)
        self._graphs.clear()
        self._seen.clear()
        if not self._state.is_plain:
            self.notes = ("torch's own layers: the model has hooks, is in training mode, or isn't float32",)
            return
        twin = build_graph_model(self.model, self.dtype)
        one = pixels[:1].to(self.normalize.scale.device)
        far = measure_distance(self._compute(twin, what, one), own(one))
        if not far <= NEAR[self.dtype]:
            self.notes = (f"torch's own layers: others give outputs {far:.1e} of the largest away",)
            return
        self._twin = twin
        self.notes = (f"a CUDA graph for each size of batch{', compiled' if self.compiles else ''}",)

    def _keep(self, key: Key, pixels: Tensor) -> None:
        """Record a graph; where that fails, or the graph gives other outputs, the passes go on one kernel at a time."""
        twin, what = self._twin, key[0]
        assert twin is not None
        images = pixels.to(self.normalize.scale.device)
        plain: Pass = partial(self._compute, twin, what)
        function = self._compile(plain, images) if self.compiles else plain
        try:
            graph = record(function, images, self._pool)
            far = measure_distance(graph(images), plain(images))
            reason = "" if far <= NEAR[self.dtype] else f"one gives outputs {far:.1e} of the largest away"
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
        if reason:
            self.notes = (f"no CUDA graphs: {reason}",)
        self._graphs[key] = graph if not reason else lambda pixels: function(pixels.to(images.device))

    def _compile(self, function: Pass, images: Tensor) -> Pass:
        """Return a function compiled for these images; raises ConfigError if that fails."""
        compiled = torch.compile(function, dynamic=False)
        try:
            compiled(images)
        except Exception as error:  # whatever the compiler raises
            raise ConfigError(
                f"torch.compile can't compile this model: {' '.join(str(error).split())[:200]}; leave out compile"
            ) from error
        return compiled

    def _compute(self, twin: GraphModel, what: What, pixels: Tensor) -> Tensor:
        """Return the twin's output for pixels on the device, in float32."""
        with torch.autocast("cuda", torch.bfloat16, enabled=twin.autocast):
            images = self.normalize(pixels).to(twin.takes)
            return (twin.model if what == "forward" else twin.model.features)(images).float()


def record(function: Pass, pixels: Tensor, pool: tuple[int, int]) -> Pass:
    """Return a function of one shape that replays what another one does on the GPU; raises RuntimeError if that can't be recorded.

    To be called without gradients, as the function it returns.
    """
    static = pixels.clone()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM):
            function(static)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    # other threads load images meanwhile: what they ask of the GPU isn't part of this
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
        found = function(static)

    def replay(images: Tensor) -> Tensor:
        static.copy_(images)
        graph.replay()
        return found.clone()

    return replay
