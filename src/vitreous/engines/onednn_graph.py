"""Functions as graphs of oneDNN, which fuses their operators and keeps what torch's single ones set up anew for each call. CPU only.

torch hands graphs to oneDNN from TorchScript alone. A graph here is a function of its own, apart from TorchScript's register, which never
lets go of a weight.
"""

import threading
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

FUSED = "oneDNNFusionGroup"
"""TorchScript's name for a part that oneDNN computes."""
FEWEST_ROWS = 2
"""oneDNN's product of a single row writes beyond its memory where a residual is added to it (torch 2.13, found with guard pages around
each block of memory; with two rows and more nothing does)."""
COMPILING = threading.Lock()
"""Whether TorchScript hands graphs to oneDNN holds for the whole process."""

Pass = Callable[..., Tensor]


def compile_graph(
    function: Pass, shapes: Sequence[tuple[int, ...]], dtype: torch.dtype, held: Sequence[Tensor] = ()
) -> Pass:
    """Return a function as a graph, for contiguous inputs of these shapes and this type, and for as many threads as compute now.

    The graph is to be called with autocast off. Tensors that the function reads are part of it, and live as long; `held` are those that
    can't be: the function gets them behind its inputs, and whoever calls the graph needn't give them.

    Raises:
        RuntimeError: this build of torch has no such graphs, or oneDNN takes no part of the function.
    """
    with COMPILING, torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
        generator = torch.Generator().manual_seed(0)  # the program's own draws stay as they are
        examples = (*(torch.rand(shape, generator=generator).to(dtype) for shape in shapes), *held)
        before = torch.jit.onednn_fusion_enabled()
        torch.jit.enable_onednn_fusion(True)
        try:
            graph, *_ = torch._C._create_graph_by_tracing(function, examples, lambda _: "", True, False)
            compiled: Pass = torch._C._create_function_from_graph("compiled", graph)
            for _ in range(2):  # the first pass records shapes, the second compiles for them
                compiled(*examples)
            executed = str(torch._C._last_executed_optimized_graph())
        except (AttributeError, TypeError) as error:
            raise RuntimeError(f"this build of torch has no graphs of oneDNN ({error})") from error
        finally:
            torch.jit.enable_onednn_fusion(before)
    if FUSED not in executed:
        raise RuntimeError("oneDNN takes no part of it")
    return (lambda *inputs: compiled(*inputs, *held)) if held else compiled
