"""Record what a function does on an NVIDIA GPU, to replay it as one CUDA graph."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

WARM = 3
"""Passes before a graph is recorded: the first ones compile kernels and allocate memory, which a graph can't do."""
RECORDING = threading.Lock()
"""Held while a graph is recorded: torch records only one at a time per process."""


@dataclass
class GraphSpace:
    """What the graphs of one model on a device share. They run one after the other, and their results are copied."""

    device: torch.device
    pool: tuple[int, int] = field(init=False)
    """The graphs' memory."""
    stream: torch.cuda.Stream = field(init=False)
    """The stream on which they are recorded."""
    done: torch.cuda.Event = field(init=False)
    """The end of the last pass, on any stream; the next pass waits for it."""

    def __post_init__(self) -> None:
        with torch.cuda.device(self.device):
            self.pool, self.stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream()
            self.done = torch.cuda.Event()

    def begin(self) -> None:
        """Make the caller's stream wait for the last pass."""
        torch.cuda.current_stream(self.device).wait_event(self.done)

    def end(self) -> None:
        """Mark the end of the pass on the caller's stream."""
        self.done.record(torch.cuda.current_stream(self.device))


def record(function: Callable[[Tensor], Tensor], pixels: Tensor, space: GraphSpace) -> Callable[[Tensor], Tensor]:
    """Return a function that replays, for inputs of this shape, what the given one does on the GPU; raises RuntimeError if it
    can't be recorded.

    Call this, and the returned function, without gradients and outside inference mode.
    """
    with RECORDING, torch.cuda.device(pixels.device):
        static, current = pixels.clone(), torch.cuda.current_stream()
        space.stream.wait_stream(current)
        with torch.cuda.stream(space.stream):
            for _ in range(WARM):
                function(static)
        current.wait_stream(space.stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(current):  # restored even if recording fails
            clear_workspaces()
            try:
                # other threads load images meanwhile: their calls to the GPU aren't part of the graph
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
    """Release cuBLAS's workspaces, so that a graph gets its own, which lives as long as the graph (torch's own graphs
    do so too)."""
    torch._C._cuda_clearCublasWorkspaces()
