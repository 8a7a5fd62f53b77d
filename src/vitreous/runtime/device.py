"""The device that computes, and how a CPU is set up."""

import ctypes
import functools
import os
import sys
from functools import partial

import torch

from vitreous.errors import ConfigError, UnknownName
from vitreous.runtime.precision import WORTH, compare_speeds
from vitreous.runtime.processor import is_x86, read_cpu_vendor

DEVICES = ("auto", "cpu", "cuda", "mps")
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""Parameters of glibc's mallopt (malloc.h)."""
MALLOC = (
    ("MALLOC_MMAP_THRESHOLD", M_MMAP_THRESHOLD, 1 << 30),
    ("MALLOC_TRIM_THRESHOLD", M_TRIM_THRESHOLD, 2**31 - 1),
    ("MALLOC_TOP_PAD", M_TOP_PAD, 64 << 20),
)
"""Settings of glibc's allocator, named as its environment variables are, without their last underscore."""

PRODUCT = 768
"""Rows and columns of the matrices by which the speed of bfloat16 is measured."""


def choose_device(name: str | torch.device = "auto") -> torch.device:
    """Return the device with that name, or a device itself; auto prefers cuda, then mps, then cpu.

    Raises:
        ConfigError: this machine, or this build of torch, has no such device.
    """
    name = str(name)
    if name.split(":")[0] not in DEVICES:
        raise UnknownName("device", name, DEVICES)
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if present[kind]))
    if not present[name.split(":")[0]]:
        found = ", ".join(kind for kind, here in present.items() if here)
        raise ConfigError(f"device {name!r} is not usable here (torch {torch.__version__}); found: {found}")
    return torch.device(name)


def has_fast_bf16(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 faster than float32.

    Emulated, bfloat16 is several times slower. A CPU that has instructions for it is measured, once a process: on an Intel
    Xeon with avx512_bf16 but without AMX its products take 1.4 times as long as those of float32 (docs/notebook.md).
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        announced = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
        return announced and measure_bf16() > WORTH
    return False


def takes_bf16(precision: str, device: torch.device) -> bool:
    """Return whether a precision, fp32, bf16, int8 or auto, means products in bfloat16 on a device; raises ConfigError as
    `check_bf16` does."""
    check_bf16(precision, device)
    return precision == "bf16" or (precision == "auto" and has_fast_bf16(device))


def check_bf16(precision: str, device: torch.device) -> None:
    """Raise ConfigError for the precision bf16 on a CPU that doesn't compute in it."""
    if precision == "bf16" and not computes_bf16(device):
        raise ConfigError(
            "this processor has no instructions for bf16, and torch would take some hundred times as long as in fp32; choose --precision fp32"
        )


def computes_bf16(device: torch.device) -> bool:
    """Return whether products in bfloat16 are feasible, if not fast: on an x86 processor that oneDNN can't multiply them on,
    one without AVX-512, torch multiplies number by number, at 1 GFLOP/s where float32 has 109 (docs/notebook.md)."""
    if device.type != "cpu" or not is_x86():
        return True
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


@functools.cache
def measure_bf16() -> float:
    """Return how many times as fast as in float32 the CPU multiplies matrices in bfloat16, in some 0.1 s."""
    tune_cpu()
    wide = torch.ones(PRODUCT, PRODUCT)
    narrow = wide.bfloat16()
    with torch.inference_mode():
        return compare_speeds(partial(torch.mm, wide, wide), partial(torch.mm, narrow, narrow))


def has_amx() -> bool:
    """Return whether the CPU multiplies tiles of bfloat16."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


@functools.cache
def tune_cpu() -> None:
    """Let fp32 products go to oneDNN on AMD processors, and let glibc keep large blocks between steps.

    On AMD processors oneDNN is up to 1.2 times faster than MKL, still in fp32. On Intel's it is 0.8 to 0.9 times as
    fast (benchmarks/attention.py), and with AMX "medium" would round the factors to bfloat16, so torch is left as it is
    there. It is also left alone beside an NVIDIA GPU, whose own fp32 products "medium" would round to TF32, in the user's models too. Activations of tens of megabytes would otherwise be mapped, faulted in page by page and unmapped again in
    every step. MALLOC_MMAP_THRESHOLD_, MALLOC_TRIM_THRESHOLD_, MALLOC_TOP_PAD_ and GLIBC_TUNABLES take precedence.
    """
    if "AuthenticAMD" in read_cpu_vendor() and not (has_amx() or torch.cuda.is_available()):
        torch.set_float32_matmul_precision("medium")
    if sys.platform.startswith("linux"):
        tunables = os.environ.get("GLIBC_TUNABLES", "")
        try:
            mallopt = ctypes.CDLL("libc.so.6").mallopt
        except (OSError, AttributeError):
            return
        for name, parameter, value in MALLOC:
            if f"{name}_" not in os.environ and f"glibc.malloc.{name.removeprefix('MALLOC_').lower()}" not in tunables:
                mallopt(parameter, value)
