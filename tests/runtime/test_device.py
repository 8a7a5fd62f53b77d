"""How a CPU is set up, and which attention kernel follows from it."""

import pytest
import torch

from vitreous.model.attention import SHORT, Heads, attend, attention_weights, small_products_are_slow
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


@pytest.mark.parametrize("precision", ["highest", "medium"])
@pytest.mark.parametrize("tokens", [17, SHORT[torch.float32] + 1])
def test_either_kernel_gives_equation_7(products, precision, tokens):
    products(precision)
    assert small_products_are_slow(torch.float32) == (precision == "medium")
    q, k, v = (torch.randn(2, 3, tokens, 8, generator=torch.Generator().manual_seed(n)) * 1.5 for n in range(3))
    expected = attention_weights(q.double(), k.double()) @ v.double()
    torch.testing.assert_close(attend(Heads(q, k, v, None)).double(), expected, atol=2e-6, rtol=1e-5)
