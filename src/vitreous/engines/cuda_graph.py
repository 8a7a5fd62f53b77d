"""Recording what a function does on an NVIDIA GPU, to be replayed as one CUDA graph."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

WARM = 3
"""Passes before a graph is recorded: the first ones compile kernels and take memory, which a graph can't."""
RECORDING = threading.Lock()
"""torch records one graph at a time in a process."""


@dataclass
class GraphSpace:
    """What the graphs of one model on a device share: they run one after the other, and what they give is copied."""

    device: torch.device
    pool: tuple[int, int] = field(init=False)
    """Their memory."""
    stream: torch.cuda.Stream = field(init=False)
    """Where they are recorded."""
    done: torch.cuda.Event = field(init=False)
    """The end of the last pass, on whatever stream: the next one waits for it."""

    def __post_init__(self) -> None:
        with torch.cuda.device(self.device):
            self.pool, self.stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream()
            self.done = torch.cuda.Event()

    def begin(self) -> None:
        """Let the caller's stream wait for the last pass."""
        torch.cuda.current_stream(self.device).wait_event(self.done)

    def end(self) -> None:
        """Say where the pass ends on the caller's stream."""
        self.done.record(torch.cuda.current_stream(self.device))


def record(function: Callable[[Tensor], Tensor], pixels: Tensor, space: GraphSpace) -> Callable[[Tensor], Tensor]:
    """Return a function of one shape that replays what another one does on the GPU; raises RuntimeError if that can't be recorded.

    To be called without gradients and outside inference mode, as the function it returns.
    """
    with RECORDING, torch.cuda.device(pixels.device):
        static, current = pixels.clone(), torch.cuda.current_stream()
        space.stream.wait_stream(current)
        with torch.cuda.stream(space.stream):
            for _ in range(WARM):
                function(static)
        current.wait_stream(space.stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(current):  # back to it where recording fails, too
            clear_workspaces()
            try:
                # other threads load images meanwhile: what they ask of the GPU isn't part of this
                with torch.cuda.graph(graph, pool=space.pool, stream=space.stream, capture_error_mode="thread_local"):
                    found = function(static)
            finally:
                clear_workspaces()

    def replay(images: Tensor) -> Tensor:
        static.copy_(images)
        graph.replay()
        return found.clone()

    return replay


def clear_workspaces() -> None:
    """Let go of cuBLAS' workspaces, so that a graph's is its own and lives as long (torch's own graphs do so too)."""
    torch._C._cuda_clearCublasWorkspaces()
