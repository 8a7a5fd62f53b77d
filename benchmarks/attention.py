"""Attention on a CPU: torch's fused kernel beside plain products, by sequence length and precision.

    python benchmarks/attention.py [--quick]

Prints, for each shape (batch, heads, tokens, head_dim), the time of plain products divided by that of the fused kernel:
below 1, plain products are faster. Forward alone, and forward with backward; interleaved, medians. float32 comes twice:
with its products by MKL (torch's own choice), and by oneDNN (matmul precision "medium"). Then, for linear layers in
float32, MKL's time divided by oneDNN's: above 1, oneDNN is faster. This is what `vitreous.model.attention.attend` and
`vitreous.runtime.tune_cpu` decide by.
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
LINEARS = ((2048, 128, 512), (6304, 384, 1536), (3152, 768, 3072))


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
    for dtype, products in ((torch.float32, "highest"), (torch.float32, "medium"), (torch.bfloat16, "highest")):
        torch.set_float32_matmul_precision(products)
        for shape in SHAPES:
            batch, heads, tokens, dim = shape
            base = [torch.randn(batch, tokens, heads, dim, dtype=dtype) for _ in range(3)]
            forward, both = (ratio(base, backward, rounds) for backward in (False, True))
            print(
                f"{dtype!s:15} {products:8} {shape!s:20} forward {forward:5.2f}   with backward {both:5.2f}", flush=True
            )
    for rows, width, hidden in LINEARS:
        print(f"linear {rows} x {width} to {hidden}: {linear_ratio(rows, width, hidden, rounds):5.2f}", flush=True)


def linear_ratio(rows: int, width: int, hidden: int, rounds: int) -> float:
    """Return MKL's time divided by oneDNN's for one linear layer in float32."""
    x, weight, bias = torch.randn(rows, width), torch.randn(hidden, width), torch.randn(hidden)
    times: dict[str, list[float]] = {"highest": [], "medium": []}
    for _ in range(rounds + 2):
        for products, found in times.items():
            torch.set_float32_matmul_precision(products)
            started = time.perf_counter()
            F.linear(x, weight, bias)
            found.append(time.perf_counter() - started)
    mkl, onednn = (statistics.median(found[2:]) for found in times.values())
    return mkl / onednn


if __name__ == "__main__":
    main()
