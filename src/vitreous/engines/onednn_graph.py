"""Functions as graphs of oneDNN, which fuses their operators and keeps what torch's single operators set up again for each call.
CPU only.

torch hands graphs to oneDNN only from TorchScript. A graph here is a separate function, outside TorchScript's registry, which
never releases a weight.
"""

import threading
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

FUSED = "oneDNNFusionGroup"
"""TorchScript's name for a part that oneDNN computes."""
FEWEST_ROWS = 2
"""oneDNN's product of a single row writes beyond its memory if a residual is added to it (torch 2.13, found with guard
pages around each block of memory; two or more rows are safe)."""
COMPILING = threading.Lock()
"""Held while compiling: whether TorchScript hands graphs to oneDNN is a setting of the whole process."""

Pass = Callable[..., Tensor]


def compile_graph(
    function: Pass, shapes: Sequence[tuple[int, ...]], dtype: torch.dtype, held: Sequence[Tensor] = ()
) -> Pass:
    """Return a function as a graph, for contiguous inputs of these shapes and this type, and for the current number of threads.

    Call the graph with autocast off. Tensors that the function reads are part of the graph and live as long as it does. Tensors
    that can't be part of it are passed as `held`: the function gets them after its inputs, and callers of the graph needn't pass them.

    Raises:
        RuntimeError: this build of torch has no such graphs, or oneDNN takes no part of the function.
    """
    with COMPILING, torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
        generator = torch.Generator().manual_seed(0)  # the program's own random draws stay unchanged
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
