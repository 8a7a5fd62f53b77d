"""The fast path on an NVIDIA GPU: a twin of the model with fewer bytes to move. On request its passes are compiled by
torch.compile and recorded as one CUDA graph per batch size, so that the kernels follow each other without waiting for
Python."""

from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from vitreous.engines.agreement import NEAR, measure_distance
from vitreous.engines.cuda_graph import GraphSpace, record
from vitreous.engines.fast_path import NOT_PLAIN, ModelState, WatchedPath, refuse_int8
from vitreous.engines.gpu_model import GpuModel, build_gpu_model
from vitreous.engines.int8_gpu import COMPILER, round_layers
from vitreous.errors import ConfigError
from vitreous.images.tensors import Normalization
from vitreous.shapes import Float, Pixels

SIZES = 8
"""Number of batch sizes that get a graph, at most: the first ones that occur twice. A server's batches have any size up
to its largest, and recording takes several passes, so no graph is replaced by another."""
LIMITS = {"recompile_limit": 1000, "accumulated_recompile_limit": 1000}
"""Limits of torch.compile, which counts the sizes of all models in a process together."""

What = Literal["forward", "features"]
Pass = Callable[[Tensor], Tensor]
Key = tuple[What, torch.Size, torch.dtype]


class GpuPath(WatchedPath):
    """A model's twin and its graphs, rebuilt when the model has changed.

    In-place changes of a weight's `.data` go unnoticed, since torch's version counter doesn't see them.

    Args:
        model: on the GPU, in eval mode.
        normalize: how its images are normalised.
        bf16: whether products are in bfloat16.
        compiles: compile and record passes: some ten seconds for each batch size that occurs twice.
        int8: names of the int8 dense layers; empty: no layer is int8.
    """

    def __init__(
        self,
        model: nn.Module,
        normalize: Normalization,
        *,
        bf16: bool,
        compiles: bool = False,
        int8: Collection[str] = (),
    ) -> None:
        super().__init__(model)
        self.normalize, self.device = normalize, normalize.scale.device
        self.dtype, self.compiles, self.int8 = torch.bfloat16 if bf16 else torch.float32, compiles, int8
        self.notes: tuple[str, ...] = ()
        """Notes on how it computes, with the reason if it doesn't use the twin."""
        self._twin: GpuModel | None = None
        self._space: GraphSpace | None = None
        self._graphs: dict[Key, Pass] = {}
        self._seen: Counter[Key] = Counter()

    def run(
        self, what: What, pixels: Pixels[Tensor, "batch channel row col"], own: Pass
    ) -> Float[Tensor, "batch values"]:
        """Return the result for these pixels, on the device; `own`: the model's own pass.

        Raises:
            ConfigError: torch.compile fails, or the model can't compute in int8 in its present state.
        """
        if not len(pixels):
            return own(pixels)
        # recorded passes and the compiler can't read tensors of inference mode
        with self._lock, torch.inference_mode(False), torch.no_grad():
            if not self._is_current():
                self._prepare(what, pixels, own)
            if self._twin is None:
                return own(pixels)
            space = self._space
            if space is None:
                return self._compute(self._twin, what, pixels.to(self.device))
            space.begin()
            try:
                return self._replay((what, pixels.shape, pixels.dtype), pixels)
            finally:
                space.end()

    def _prepare(self, what: What, pixels: Tensor, own: Pass) -> None:
        """Build the twin of the model as it is now, and compare its output for an image with the model's."""
        if self._space is not None:
            self._space.done.synchronize()
        self._twin, self._state, self._space = None, None, None
        self._graphs.clear()
        self._seen.clear()
        state = ModelState(self.model)
        if not state.is_plain:
            if self.int8:
                refuse_int8(NOT_PLAIN)
            self._state = state
            self.notes = (f"torch's own layers: {NOT_PLAIN}",)
            return
        one = pixels[:1].to(self.device)
        expected = own(one)
        if not expected.isfinite().all():
            return
        twin = build_gpu_model(self.model, self.dtype)
        small = round_layers(twin.model, self.int8) if self.int8 else ()
        far = 0.0 if small else measure_distances(self._compute(twin, what, one), expected)
        self._state = state
        if not far <= NEAR[self.dtype]:
            self.notes = (f"torch's own layers: the outputs of others differ by {far:.1e}",)
            return
        self._twin = twin
        self._space = GraphSpace(self.device) if self.compiles else None
        width = "bfloat16 throughout" if self.dtype == torch.bfloat16 and not twin.autocast else ""
        graphs = "compiled, a CUDA graph for each batch size" if self.compiles else ""
        layers = f"{len(small)} dense layers in int8 by torchao" if small else ""
        self.notes = tuple(filter(None, (width, layers, graphs)))

    def _replay(self, key: Key, pixels: Tensor) -> Tensor:
        """Return the result of a graph, which is recorded when its size occurs for the second time."""
        assert self._twin is not None
        image = getattr(self.model, "image", None)
        self._seen[key] += 1
        whole = image is None or tuple(pixels.shape[2:]) == tuple(image)
        if key not in self._graphs and self._seen[key] > 1 and len(self._graphs) < SIZES and whole:
            self._keep(key, pixels)
        if key in self._graphs:
            return self._graphs[key](pixels)
        return self._compute(self._twin, key[0], pixels.to(self.device))

    def _keep(self, key: Key, pixels: Tensor) -> None:
        """Compile and record a size; if recording fails, or the graph's outputs differ, no more sizes are recorded."""
        twin, space = self._twin, self._space
        assert twin is not None and space is not None
        images = pixels.to(self.device, copy=True)
        plain: Pass = partial(self._compute, twin, key[0])
        function = self._compile(plain, images)
        try:
            graph = record(function, -images if images.is_floating_point() else 255 - images, space)
            far = measure_distances(graph(images), plain(images))
            reason = "" if far <= NEAR[self.dtype] else f"its outputs differ by {far:.1e}"
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
        if not reason:
            self._graphs[key] = graph
            return
        space.done.synchronize()
        self.notes, self._space = (f"neither compiled nor a CUDA graph: {reason}",), None
        self._graphs.clear()

    def _compile(self, function: Pass, images: Tensor) -> Pass:
        """Return a function compiled for these images; raises ConfigError if that fails."""
        compiled = torch.compile(function, dynamic=False, **({"options": COMPILER} if self.int8 else {}))
        try:
            with torch._dynamo.config.patch(**LIMITS):
                compiled(images)
        except Exception as error:  # whatever the compiler raises
            raise ConfigError(
                f"torch.compile can't compile this model: {' '.join(str(error).split())[:200]}; leave out compile"
            ) from error
        return compiled

    def _compute(self, twin: GpuModel, what: What, pixels: Tensor) -> Tensor:
        """Return the twin's output for pixels on the device, in float32."""
        # a cast that a caller's own autocast keeps would be gone when a graph reads it
        with torch.autocast("cuda", torch.bfloat16, enabled=twin.autocast, cache_enabled=False):
            images = self.normalize(pixels).to(twin.takes)
            return (twin.model if what == "forward" else twin.model.features)(images).float()


def measure_distances(found: Tensor, expected: Tensor) -> float:
    """Return the larger of two differences: of single values as a share of the largest one, and of all as a share of their norm."""
    norm = float((found - expected).norm() / expected.norm().clamp(min=1e-30))
    return max(measure_distance(found, expected), norm)
