"""How a CPU is set up, and which attention kernel follows from it."""

import sys
from types import SimpleNamespace

import pytest
import torch

from vitreous.model.attention import SHORT, Heads, attend, attention_weights, has_slow_small_products
from vitreous.runtime import device


@pytest.fixture
def products():
    before = torch.get_float32_matmul_precision()
    yield torch.set_float32_matmul_precision
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(
    ("vendor", "amx", "expected"),
    [("AuthenticAMD", False, "medium"), ("AuthenticAMD", True, "highest"), ("GenuineIntel", False, "highest"), ("", False, "highest")],
)  # fmt: skip
def test_only_amd_without_amx_sends_float32_to_onednn(monkeypatch, products, vendor, amx, expected):
    products("highest")
    monkeypatch.setattr(device, "read_cpu_vendor", lambda: f"vendor_id : {vendor}")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx})
    device.tune_cpu.__wrapped__()
    assert torch.get_float32_matmul_precision() == expected


@pytest.mark.parametrize(
    ("name", "value", "left"),
    [
        (None, "", [-3, -1, -2]),
        ("MALLOC_TRIM_THRESHOLD_", "1000000", [-3, -2]),
        ("MALLOC_MMAP_THRESHOLD_", "1000000", [-1, -2]),
        ("GLIBC_TUNABLES", "glibc.malloc.top_pad=4096:glibc.malloc.arena_max=1", [-3, -1]),
    ],
)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's")
def test_what_the_environment_says_of_the_allocator_stays(monkeypatch, products, name, value, left):
    products("highest")
    for one in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(one, raising=False)
    if name:
        monkeypatch.setenv(name, value)
    told = []
    library = SimpleNamespace(mallopt=lambda parameter, value: told.append(parameter))
    monkeypatch.setattr(device.ctypes, "CDLL", lambda name: library)
    device.tune_cpu.__wrapped__()
    assert told == left


@pytest.mark.parametrize("precision", ["highest", "medium"])
@pytest.mark.parametrize("tokens", [17, SHORT[torch.float32] + 1])
def test_either_kernel_gives_equation_7(products, precision, tokens):
    products(precision)
    assert has_slow_small_products(torch.float32) == (precision == "medium")
    q, k, v = (torch.randn(2, 3, tokens, 8, generator=torch.Generator().manual_seed(n)) * 1.5 for n in range(3))
    expected = attention_weights(q.double(), k.double()) @ v.double()
    torch.testing.assert_close(attend(Heads(q, k, v, None)).double(), expected, atol=2e-6, rtol=1e-5)
