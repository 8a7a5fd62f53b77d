"""The parts that other people's checkpoints need: counted, initialised, differentiable, and at home at other resolutions."""

from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vitreous.errors import ConfigError
from vitreous.model.config import BlockConfig, RotaryConfig, ViTConfig
from vitreous.model.count import count_flops, count_parameters
from vitreous.model.factory import create
from vitreous.model.packing import forward_packed
from vitreous.model.parameters import roles
from vitreous.model.token_merging import Merging
from vitreous.shapes import Size

SMALL: dict[str, Any] = {
    "image": (32, 48),
    "patch": (8, 8),
    "width": 64,
    "depth": 2,
    "heads": 4,
    "mlp_width": 96,
    "classes": 5,
}
CASES: dict[str, dict[str, Any]] = {
    "offsets by an MLP": {"positions": "bias-log"},
    "shared, Swin's": {"positions": "bias-log-swin", "position_placement": "shared", "position_mlp_width": 7},
    "head width": {
        "attention_head_width": 24,
        "block": BlockConfig(attention_inner_norm=True, qk_norm=True, qkv_bias="no-key"),
    },
    "head width, relative": {"attention_head_width": 8, "positions": "relative"},
    "mixed rotary": {"rotary": RotaryConfig("mixed", 10.0)},
    "columns first": {
        "rotary": RotaryConfig("cells", 100.0, (4, 4), offset=1.0, columns_first=True),
        "attention_head_width": 8,
    },
    "norms of patches": {"patch_norm": "both", "block": BlockConfig(norm="rms")},
    "norms after": {"patch_norm": "after", "block": BlockConfig(norm_order="after", layer_scale=0.1)},
    "pooling's own heads": {"pool": "map", "pool_heads": 2, "pool_prefix": True},
    "plain pooling": {"pool": "map", "pool_plain": True, "block": BlockConfig(qkv_bias="none")},
    "several blocks": {"pool": "class+mean", "pool_layers": 2},
    "before the head": {"pre_logits": True, "pre_logits_width": 12},
    "mean of all": {"pool": "mean", "pool_prefix": True, "registers": 2},
}


@pytest.mark.parametrize("case", list(CASES))
def test_parameters_are_counted_declared_and_learn(case: str) -> None:
    config = ViTConfig(**SMALL | CASES[case])
    model = create(config, seed=1)
    assert count_parameters(config) == sum(parameter.numel() for parameter in model.parameters())
    assert len(roles(model)) == len(list(model.parameters()))
    torch.nn.init.normal_(model.head.weight)
    model(torch.randn(2, 3, 32, 48)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("case", list(CASES))
def test_operations_are_what_torch_counts(case: str) -> None:
    model = create(ViTConfig(**SMALL | CASES[case]), seed=1).eval().requires_grad_(False)
    # Fused attention isn't counted on a CPU; the plain products are.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model(torch.randn(1, 3, 32, 48))
    assert counter.get_total_flops() == count_flops(model.config)


@pytest.mark.parametrize("case", list(CASES))
def test_other_resolutions(case: str) -> None:
    model = create(ViTConfig(**SMALL | CASES[case]), seed=1)
    model.set_resolution(Size(16, 24))
    assert model(torch.randn(2, 3, 16, 24)).shape == (2, 5)
    model.set_resolution(None)
    assert model.resize((64, 32))(torch.randn(1, 3, 64, 32)).shape == (1, 5)


@pytest.mark.parametrize("precision", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("positions", ["relative", "bias", "bias-log", "learned"])
def test_other_resolutions_in_other_precisions(positions: str, precision: torch.dtype) -> None:
    model = create(ViTConfig(**SMALL | {"positions": positions}), seed=1).to(precision)
    pixels = torch.randn(2, 3, 16, 24, dtype=precision)
    resized = model.resize((16, 24))
    assert {tensor.dtype for tensor in resized.state_dict().values()} == {resized(pixels).dtype} == {precision}
    model.set_resolution(Size(16, 24))
    assert model(pixels).dtype == precision


def test_class_of_several_blocks_is_what_stands_there() -> None:
    model = create(ViTConfig(**SMALL | CASES["several blocks"]), seed=1)
    pixels = torch.randn(2, 3, 32, 48)
    found = model.intermediates(pixels, ["block.0", "block.1"])
    first, last = (model.norm(found[f"block.{index}"]) for index in range(2))
    wanted = torch.cat([first[:, 0], last[:, 0], last[:, 1:].mean(dim=1)], dim=1)
    assert torch.allclose(model.features(pixels), wanted, atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {"pool": "mean", "pool_layers": 2},
        {"pool": "class+mean", "pool_layers": 3},
        {"pool": "map", "pool_heads": 3},
        {"block": BlockConfig(parallel=True, norm_order="after")},
        {
            "block": BlockConfig(attention="axial"),
            "pool": "mean",
            "class_token": False,
            "rotary": RotaryConfig("mixed"),
        },
    ],
)
def test_what_does_not_go_together_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ViTConfig(**SMALL | settings)


@pytest.mark.parametrize("case", ["mixed rotary", "several blocks", "offsets by an MLP"])
def test_packing_and_merging_refuse_what_they_cannot(case: str) -> None:
    model = create(ViTConfig(**SMALL | CASES[case]), seed=1)
    with pytest.raises(ConfigError):
        forward_packed(model, [torch.randn(3, 32, 48)])
    with pytest.raises(ConfigError):
        Merging(model, 1)
