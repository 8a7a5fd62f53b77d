"""The machine's limits: operations a second of its fastest products of large matrices."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from vitreous.engines.int8_linear import Int8Linear
from vitreous.runtime.device import has_fast_bf16

CPU = torch.device("cpu")
Clock = Callable[[], float]


def measure_products(
    dtype: torch.dtype, side: int = 2048, device: torch.device = CPU, clock: Clock = time.perf_counter
) -> float:
    """Return the floating-point operations a second of the fastest product."""
    one, other = torch.randn(2, side, side, device=device).to(dtype)
    found = 0.0
    for how in ("highest", "medium"):  # of float32: on a GPU TensorFloat-32, on a CPU oneDNN in place of MKL
        with use_products(how):
            found = max(found, find_fastest(lambda: one @ other, side, 4, device, clock))
    return found


def measure_int8(side: int = 2048, device: torch.device = CPU, clock: Clock = time.perf_counter) -> float:
    """Return the operations a second of the fastest int8 product: oneDNN's on a CPU, cuBLAS's on a GPU."""
    if device.type == "cpu":
        gives = torch.bfloat16 if has_fast_bf16(device) else torch.float32
        layer = Int8Linear(torch.randn(side, side), None, (-4.0, 4.0), gives=gives, rows=side)
        values = torch.randint(256, (side, side), dtype=torch.uint8)
        return find_fastest(lambda: layer(values), side, 8, device, clock)
    one, other = torch.randint(-128, 128, (2, side, side), dtype=torch.int8, device=device)
    return find_fastest(lambda: torch._int_mm(one, other.t()), side, 8, device, clock)


def find_fastest(multiply: Callable[[], Tensor], side: int, times: int, device: torch.device, clock: Clock) -> float:
    """Return the operations a second of the fastest of several products of square matrices."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    best = float("inf")
    for _ in range(times):
        wait()
        started = clock()
        multiply()
        wait()
        best = min(best, clock() - started)
    return 2 * side**3 / best


def find_precision(contender: str) -> str:
    """Return the precision that a contender's name says, int8 where it says what the rest is in too."""
    return next(one for one in ("int8", "bf16", "fp32") if one in contender)


@contextmanager
def use_products(how: str) -> Iterator[None]:
    """Have float32 products computed in another way meanwhile: highest, high or medium."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(how)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
