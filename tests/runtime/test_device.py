"""How a CPU is set up, and which attention kernel follows from it."""

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from tests.deploy.conftest import TINY, folder_of
from tests.support.processor import needs_bf16

from vitreous.cli.main import main
from vitreous.errors import UnknownName
from vitreous.model.attention import SHORT, Heads, attend, attention_weights, prefers_products
from vitreous.runtime import device
from vitreous.runtime.device import choose_device, computes_bf16
from vitreous.runtime.processor import is_x86
from vitreous.weights.model_folder import save_model


@pytest.fixture
def products():
    before = torch.get_float32_matmul_precision()
    yield torch.set_float32_matmul_precision
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(
    ("vendor", "amx", "gpu", "expected"),
    [("AuthenticAMD", False, False, "medium"), ("AuthenticAMD", True, False, "highest"), ("AuthenticAMD", False, True, "highest"),
     ("GenuineIntel", False, False, "highest"), ("", False, False, "highest")],
)  # fmt: skip
def test_only_amd_without_amx_or_gpu_sends_float32_to_onednn(monkeypatch, products, vendor, amx, gpu, expected):
    products("highest")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
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


ROUNDS = torch.cpu.get_capabilities().get("amx_bf16", False)
"""With AMX, float32 at "medium" is rounded to bfloat16."""


@pytest.mark.parametrize(
    "precision", ["highest", pytest.param("medium", marks=pytest.mark.skipif(ROUNDS, reason="rounded with AMX"))]
)
@pytest.mark.parametrize("tokens", [17, SHORT[torch.float32] + 1])
def test_either_kernel_gives_equation_7(products, precision, tokens):
    products(precision)
    assert prefers_products(torch.ones(()), SHORT[torch.float32]) == (precision == "medium")
    assert not prefers_products(torch.ones(()), SHORT[torch.float32] + 1)
    q, k, v = (torch.randn(2, 3, tokens, 8, generator=torch.Generator().manual_seed(n)) * 1.5 for n in range(3))
    expected = attention_weights(q.double(), k.double()) @ v.double()
    torch.testing.assert_close(attend(Heads(q, k, v, None)).double(), expected, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize(("amx", "gradients", "expected"), [
    (False, False, True), (False, True, True), (True, True, True), (True, False, False),
])  # fmt: skip
def test_with_amx_bfloat16_takes_the_fused_kernel_where_no_gradient_is_needed(monkeypatch, amx, gradients, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx})
    q = torch.ones(1, 1, 17, 8, dtype=torch.bfloat16, requires_grad=gradients)
    assert prefers_products(q, 17) == expected
    assert not prefers_products(q, SHORT[torch.bfloat16] + 1)
    assert not prefers_products(q.half(), 17)


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
    monkeypatch.setattr(device, "PRODUCT", 8)
    assert device.measure_bf16.__wrapped__() == 0.25


@pytest.mark.parametrize("arguments", [
    ["train", "digits", "--precision", "bf16", "--out", "OUT"],
    ["export", "MODEL", "--to", "torch", "--precision", "bf16", "--out", "OUT"],
    ["predict", "MODEL", "IMAGE", "--precision", "bf16"],
    ["evaluate", "MODEL", "digits", "--protocol", "knn", "--precision", "bf16", "--out", "OUT"],
    ["embed", "MODEL", "IMAGE", "--precision", "bf16", "--out", "OUT.npz"],
])  # fmt: skip
def test_a_processor_without_bf16_is_told_so_before_any_work(tmp_path, monkeypatch, capfd, arguments):
    monkeypatch.setattr(device, "computes_bf16", lambda _: False)
    names = {name: str(tmp_path / name) for name in ("MODEL", "IMAGE", "OUT", "OUT.npz")}
    save_model(tmp_path / "MODEL", folder_of(TINY))
    Image.new("RGB", (16, 16)).save(tmp_path / "IMAGE", "png")
    assert main([names.get(one, one) for one in arguments]) == 2
    said = capfd.readouterr().err.splitlines()
    assert said[-1].startswith("vitreous: error: this processor has no instructions for bf16")
    assert said[-1].endswith("choose --precision fp32")
    assert len(said) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"MODEL", "IMAGE"}


@pytest.mark.skipif(not is_x86(), reason="an x86 processor's")
def test_onednn_decides_whether_there_are_products_in_bf16():
    """oneDNN held to AVX2, which is all that many laptops have."""
    ask = "import torch; from vitreous.runtime.device import computes_bf16; print(computes_bf16(torch.device('cpu')))"
    limited = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", ask], env=limited, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert computes_bf16(torch.device("cuda"))


@needs_bf16
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
