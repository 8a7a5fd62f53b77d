from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from vitreous.errors import ConfigError, UnknownName
from vitreous.model.batch_norm import BatchNorm, synchronise_norms
from vitreous.model.config import RegularisationConfig
from vitreous.model.count import count_flops, count_parameters, estimate_activation_bytes
from vitreous.model.efficientnet_config import EfficientNetConfig, build_efficientnet_config
from vitreous.model.factory import create, create_empty
from vitreous.model.kinds import build_config, check_name
from vitreous.model.names import translate_name
from vitreous.settings import from_dict, to_dict

# With 1,000 classes; timm 1.0.31 counts the same, and transformers.
COUNTS = {
    "B0": 5_288_548,
    "B1": 7_794_184,
    "B2": 9_109_994,
    "B3": 12_233_232,
    "B4": 19_341_616,
    "B5": 30_389_784,
    "B6": 43_040_704,
    "B7": 66_347_960,
    "L2": 480_309_308,
}
PAPER = {"B0": 0.39, "B1": 0.70, "B2": 1.0, "B3": 1.8, "B4": 4.2, "B5": 9.9, "B6": 19.0, "B7": 37.0}
"""Billions of multiply-adds of 1905.11946, table 2."""

configs = st.integers(1, 4).flatmap(
    lambda count: st.builds(
        EfficientNetConfig,
        image=st.tuples(st.integers(2, 40), st.integers(2, 40)),
        channels=st.integers(1, 4),
        root_channels=st.integers(1, 9),
        **{
            name: st.lists(values, min_size=count, max_size=count).map(tuple)
            for name, values in {
                "units": st.integers(1, 2),
                "widths": st.integers(1, 9),
                "kernels": st.sampled_from([1, 3, 5]),
                "strides": st.sampled_from([1, 2]),
                "expansions": st.integers(1, 3),
            }.items()
        },
        squeeze=st.integers(1, 4),
        last_channels=st.integers(1, 9),
        classes=st.integers(0, 4),
        padding=st.sampled_from(["same", "symmetric"]),
    )
)


def tiny(**overrides: object) -> EfficientNetConfig:
    shape = {"units": (1, 2), "widths": (4, 8), "kernels": (3, 5), "strides": (1, 2), "expansions": (1, 2)}
    return EfficientNetConfig(
        **{"image": (17, 24), "root_channels": 8, "last_channels": 16, "classes": 5, **shape, **overrides}
    )


def images(rows: int, cols: int, count: int = 4) -> torch.Tensor:
    return torch.randn(count, 3, rows, cols, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", COUNTS)
def test_parameter_counts_are_pinned(size: str) -> None:
    config = build_efficientnet_config(f"EfficientNet-{size}")
    assert count_parameters(config) == COUNTS[size]
    assert sum(one.numel() for one in create_empty(config).parameters()) == COUNTS[size]


@pytest.mark.parametrize("size", PAPER)
def test_operations_are_about_twice_the_papers_multiply_adds(size: str) -> None:
    assert count_flops(build_efficientnet_config(f"EfficientNet-{size}")) / 2e9 == pytest.approx(PAPER[size], rel=0.05)


@settings(max_examples=15)
@given(configs)
def test_counts_are_those_of_the_model_that_is_built(config: EfficientNetConfig) -> None:
    model = create(config).eval()
    assert count_parameters(config) == sum(one.numel() for one in model.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        out = model(torch.zeros(1, config.channels, *config.image))
    assert out.shape == (1, config.classes or config.features)
    assert counter.get_total_flops() == count_flops(config)
    assert model.last_maps(torch.zeros(1, config.channels, *config.image)).shape[2:] == tuple(config.grid)
    assert estimate_activation_bytes(config, 2, training=True) >= estimate_activation_bytes(config, 2, training=False)
    assert from_dict(EfficientNetConfig, to_dict(config), "model") == config


def test_names_settings_and_names_of_others() -> None:
    assert build_config("EfficientNet-B3", classes=7).root_channels == 40
    assert translate_name("tf_efficientnet_b7_ns") == translate_name("google/efficientnet-b7") == "EfficientNet-B7"
    assert translate_name("tf_efficientnet_l2.ns_jft_in1k") == "EfficientNet-L2"
    with pytest.raises(UnknownName, match="EfficientNet-B0"):
        check_name("EfficientNet-B9")
    for wrong, said in (
        ({"widths": (4,)}, "widths .* for 1 stages, but units"),
        ({"kernels": (3, 4)}, "must be odd"),
        ({"strides": (1, 3)}, "must be 1 or 2"),
        ({"norm_momentum": 0.0}, "above 0, and at most 1"),
        ({"norm_eps": 0.0}, "above 0"),
        ({"squeeze": 0}, "squeeze is 0"),
    ):
        with pytest.raises(ConfigError, match=said):
            tiny(**wrong)


def test_another_size_keeps_weights_and_what_is_left_out() -> None:
    model = create(tiny(), seed=3)
    model.regularise(RegularisationConfig(dropout=0.3, drop_path=0.5))
    other = model.resize((40, 30))
    assert [unit.drop_path.rate for unit in other.units] == [0.0, 0.25, 0.5]
    pixels = images(40, 30)
    assert torch.equal(model.eval()(pixels), other.eval()(pixels))
    with pytest.raises(ConfigError, match="no patches"):
        model.regularise(RegularisationConfig(patch_dropout=0.5))


def test_initial_values_are_the_authors() -> None:
    model = create(build_efficientnet_config("EfficientNet-B0", image=(32, 32)), seed=1)
    unit = model.stages[4][1]
    for weight, outputs in (
        (unit.expand.conv.weight, 672),
        (unit.depthwise.conv.weight, 25),
        (unit.excitation.excite.weight, 672),
    ):
        assert float(weight.detach().std()) == pytest.approx((2 / outputs) ** 0.5, rel=0.05)
    assert torch.equal(unit.contract.norm.weight, torch.ones(112))
    assert torch.equal(unit.contract.norm.running_var, torch.ones(112))


def test_what_is_left_out_depends_on_each_examples_key_alone() -> None:
    model = create(tiny(), seed=2).train()
    model.regularise(RegularisationConfig(dropout=0.5, drop_path=0.5))
    for norm in model.modules():
        if isinstance(norm, BatchNorm):
            norm.requires_grad_(False)  # frozen: the statistics of the batch play no part
    pixels, keys = images(17, 24), torch.tensor([5, 9, 2, 7], dtype=torch.int32)
    model.head.weight.data.normal_()
    model.set_examples(keys)
    whole = model(pixels)
    model.set_examples(keys[[2, 0]])
    assert torch.allclose(model(pixels[[2, 0]]), whole[[2, 0]], atol=1e-6)
    model.set_examples(keys[[1, 1]])
    assert not torch.allclose(model(pixels[[2, 0]]), whole[[2, 0]], atol=1e-3)


def test_a_frozen_norm_keeps_its_statistics() -> None:
    norm = BatchNorm(3, 1e-3, 0.1).train()
    norm.load_state_dict(
        {
            "weight": torch.ones(3),
            "bias": torch.zeros(3),
            "running_mean": torch.ones(3),
            "running_var": torch.full((3,), 4.0),
        }
    )
    norm.requires_grad_(False)
    maps = images(4, 5)
    assert torch.allclose(norm(maps), (maps - 1) / (4 + 1e-3) ** 0.5)
    assert torch.equal(norm.running_mean, torch.ones(3))


def test_synchronised_statistics_are_those_of_the_whole() -> None:
    """Alone, where the sum over processes is the sum itself, they are torch's, to the running variance and the gradients."""
    plain, joined = (BatchNorm(3, 1e-3, 0.1).double() for _ in range(2))
    start = {"weight": torch.tensor([1.0, 2, 3]), "bias": torch.tensor([0.5, 0, 1])}
    for norm in (plain, joined):
        norm.load_state_dict(start, strict=False)
    assert synchronise_norms(joined, lambda values: values) == 1
    outputs, gradients = [], []
    for norm in (plain, joined):
        maps = (3 * images(4, 5).double() + 1).requires_grad_()
        outputs.append(norm(maps))
        F.mse_loss(outputs[-1], torch.linspace(-1, 1, maps.numel(), dtype=torch.float64).view_as(maps)).backward()
        gradients.append(maps.grad)
    assert torch.allclose(outputs[0], outputs[1], atol=1e-6)
    assert torch.allclose(gradients[0], gradients[1], atol=1e-8)
    for name in ("running_mean", "running_var"):
        assert torch.allclose(getattr(plain, name), getattr(joined, name), atol=1e-6)


def test_intermediates_and_maps_are_those_of_the_forward_pass() -> None:
    model, pixels = create(tiny()).eval(), images(17, 24)
    found = model.intermediates(pixels, ["root", "stage.1", "norm", "pooled", "logits"])
    assert torch.equal(found["logits"], model(pixels))
    assert torch.equal(found["pooled"], model.features(pixels))
    assert [tuple(one.shape[1:]) for one in model.maps(pixels, [0, -1])] == [(9, 12, 4), (5, 6, 16)]
    assert torch.equal(model.maps(pixels, [1], norm=False)[0], found["stage.1"].permute(0, 2, 3, 1))
    assert replace(model.config, classes=0).features == 16
