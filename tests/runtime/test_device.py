"""How a CPU is set up, and which attention kernel follows from it."""

import sys
import time
from types import SimpleNamespace

import pytest
import torch

from vitreous.errors import UnknownName
from vitreous.model.attention import SHORT, Heads, attend, attention_weights, has_slow_small_products
from vitreous.runtime import device
from vitreous.runtime.device import choose_device


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


@pytest.mark.parametrize(("gain", "expected"), [(0.5, False), (1.1, False), (2.0, True)])
@pytest.mark.parametrize("name", ["avx512_bf16", "amx_bf16", "bf16"])
def test_a_cpu_that_announces_bf16_must_be_faster_in_it(monkeypatch, name, gain, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {name: True})
    monkeypatch.setattr(device, "measure_bf16", lambda: gain)
    assert device.has_fast_bf16(torch.device("cpu")) == expected


def test_without_instructions_for_bf16_nothing_is_measured(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})
    monkeypatch.setattr(device, "measure_bf16", lambda: pytest.fail("measured"))
    assert not device.has_fast_bf16(torch.device("cpu"))


def test_the_gain_is_the_ratio_of_the_fastest_products(monkeypatch):
    """A clock on which float32 takes 6, 5, ..., 1 s and bfloat16 4 s each: 1 / 4."""
    times = iter([time for wide in range(6, 0, -1) for time in (0, wide, 0, 4)])
    monkeypatch.setattr("vitreous.runtime.precision.time", SimpleNamespace(perf_counter=lambda: next(times)))
    assert device.measure_bf16.__wrapped__() == 0.25


def test_the_gain_agrees_with_a_longer_measurement():
    """Whatever this processor is: more products, timed by the process's own time, are on the same side."""
    gain = device.measure_bf16()
    spent = {}
    for dtype in (torch.float32, torch.bfloat16):
        factor, start = torch.ones(512, 512, dtype=dtype), time.process_time()
        for _ in range(16):
            factor @ factor
        spent[dtype] = time.process_time() - start
    longer = spent[torch.float32] / spent[torch.bfloat16]
    if not 0.8 < longer / device.WORTH < 1.25:
        assert (gain > device.WORTH) == (longer > device.WORTH)


def test_a_device_of_torch_is_itself_and_what_is_none_is_named():
    assert choose_device(torch.device("cpu")) == torch.device("cpu")
    with pytest.raises(UnknownName, match=r"^unknown device 'None'; "):
        choose_device(None)
