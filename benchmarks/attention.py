"""Attention on a CPU: torch's fused kernel beside plain products, by sequence length and precision.

    python benchmarks/attention.py [--quick]

Prints, for each shape (batch, heads, tokens, head_dim), the time of plain products divided by that of the fused kernel:
below 1, plain products are faster. Forward alone, and forward with backward; interleaved, medians. This is what
`vitreous.model.attention.attend` decides by.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from vitreous.model.attention import attention_weights

SHAPES = ((128, 4, 16, 32), (128, 4, 64, 32), (32, 6, 197, 64), (8, 12, 197, 64), (8, 12, 256, 64), (4, 12, 577, 64))


def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v)


def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attention_weights(q, k) @ v


def seconds(kernel: Callable[[Tensor, Tensor, Tensor], Tensor], base: list[Tensor], backward: bool) -> float:
    started = time.perf_counter()
    with torch.set_grad_enabled(backward):
        q, k, v = (tensor.detach().transpose(1, 2).requires_grad_(backward) for tensor in base)
        out = kernel(q, k, v).transpose(1, 2).flatten(2)
        if backward:
            out.sum().backward()
    return time.perf_counter() - started


def ratio(base: list[Tensor], backward: bool, rounds: int) -> float:
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds + 2):
        for kernel, found in zip((plain, fused), times, strict=True):
            found.append(seconds(kernel, base, backward))
    plainly, fusedly = (statistics.median(found[2:]) for found in times)
    return plainly / fusedly


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    rounds = 5 if parser.parse_args().quick else 25
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; time of plain products / fused kernel")
    for dtype in (torch.float32, torch.bfloat16):
        for shape in SHAPES:
            batch, heads, tokens, dim = shape
            base = [torch.randn(batch, tokens, heads, dim, dtype=dtype) for _ in range(3)]
            forward, both = (ratio(base, backward, rounds) for backward in (False, True))
            print(f"{dtype!s:15} {shape!s:20} forward {forward:5.2f}   with backward {both:5.2f}", flush=True)


if __name__ == "__main__":
    main()
