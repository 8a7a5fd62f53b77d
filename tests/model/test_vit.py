from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitreous.errors import ConfigError, UnknownName
from vitreous.model import count
from vitreous.model.config import RegularisationConfig, ViTConfig
from vitreous.model.factory import create
from vitreous.model.kinds import build_config
from vitreous.model.names import build_vit_config
from vitreous.model.vit import ViT
from vitreous.shapes import Size

# 2010.11929 (B, L, H), 2106.10270 (Ti, S), 2106.04560 (g, G): 1000 classes, linear head, 224 px.
COUNTS = {
    "Ti/16": 5_717_416,
    "S/16": 22_050_664,
    "B/32": 88_224_232,
    "B/16": 86_567_656,
    "L/32": 306_535_400,
    "L/16": 304_326_632,
    "H/14": 632_045_800,
    "g/14": 1_012_611_432,
    "G/14": 1_844_440_680,
}

configs = st.builds(
    lambda rows, cols, patch, heads, **more: ViTConfig(
        image=(rows * patch[0], cols * patch[1]), patch=patch, heads=heads, width=4 * heads, **more
    ),
    rows=st.integers(1, 4),
    cols=st.integers(1, 4),
    patch=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    heads=st.integers(1, 3),
    channels=st.integers(1, 5),
    depth=st.integers(1, 3),
    mlp_width=st.integers(1, 9),
    classes=st.integers(0, 4),
    pool=st.sampled_from(["class", "mean"]),
    positions=st.sampled_from(["learned", "sincos2d", "none"]),
    pre_logits=st.booleans(),
)


def small(**overrides: object) -> ViT:
    settings = {"image": (8, 12), "classes": 5, "depth": 3} | overrides
    return create(build_vit_config("mu/4", **settings), seed=0)


def images(model: ViT, count: int = 2) -> torch.Tensor:
    shape = (count, model.config.channels, *model.config.image)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts_are_the_published_ones(name: str) -> None:
    with torch.device("meta"):
        model = ViT(build_vit_config(name))
    assert sum(parameter.numel() for parameter in model.parameters()) == COUNTS[name]
    assert count.count_parameters(build_vit_config(name)) == COUNTS[name]


@given(configs)
def test_the_closed_form_counts_every_variant(config: ViTConfig) -> None:
    model = create(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == count.count_parameters(config)
    outputs = model(images(model))
    assert outputs.shape == (2, config.classes or config.width)
    assert bool(torch.isfinite(outputs).all())


def test_flops_are_what_torch_counts() -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    model = create(build_vit_config("Ti/16", image=(64, 96), classes=10)).eval()
    # Fused attention isn't counted on a CPU; the plain products are.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model(images(model, 1))
    assert counter.get_total_flops() == count.count_flops(model.config)


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second, other = small(), small(), create(small().config, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.patches.embed.weight, other.patches.embed.weight)


def test_the_head_starts_at_zero() -> None:
    model = small()
    assert not model.head.weight.any()
    assert not model.head.bias.any()


def test_initial_deviations() -> None:
    model = create(build_vit_config("S/16", classes=10))
    assert model.positions.embedding.std().item() == pytest.approx(0.02, rel=0.02)
    assert model.patches.embed.weight.std().item() == pytest.approx(768**-0.5, rel=0.02)
    query = model.blocks[0].attention.qkv.weight[:384]
    assert query.std().item() == pytest.approx((2 / (384 + 384)) ** 0.5, rel=0.02)


def test_intermediates_are_named_and_the_same_bits() -> None:
    model = small().eval()
    found = model.intermediates(
        images(model), ["patches", "embedded", "block.0", "block.2", "norm", "pooled", "logits"]
    )
    assert found["patches"].shape == (2, 6, 32)
    assert found["embedded"].shape == (2, 7, 32)
    assert torch.equal(found["norm"], model.norm(found["block.2"]))
    assert torch.equal(found["logits"], model(images(model)))
    assert torch.equal(found["pooled"], found["norm"][:, 0])
    with pytest.raises(UnknownName, match=r"block\.1"):
        model.intermediates(images(model), ["blok.1"])
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(UnknownName, match="'norm'"):
        small(final_norm="none").intermediates(images(model), ["norm"])


def test_recomputing_changes_no_number() -> None:
    gradients = []
    for recompute in (False, True):
        model = small()
        model.regularise(RegularisationConfig(dropout=0.2, drop_path=0.2))
        model.recompute = recompute
        torch.manual_seed(3)
        torch.nn.init.ones_(model.head.weight)
        model.train()(images(model)).square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_dropout_and_drop_path_act_in_training_alone() -> None:
    model = small()
    model.regularise(RegularisationConfig(dropout=0.5, drop_path=0.5))
    torch.nn.init.ones_(model.head.weight)
    assert torch.equal(model.eval()(images(model)), model(images(model)))
    model.train()
    assert not torch.equal(model(images(model)), model(images(model)))
    rates = [block.mlp_drop_path.rate for block in model.blocks]
    assert rates == [0.0, 0.25, 0.5]
    model.regularise(RegularisationConfig(drop_path=0.5, drop_path_schedule="constant"))
    assert [block.mlp_drop_path.rate for block in model.blocks] == [0.5] * 3


def test_a_rebuilt_model_is_trained_as_before() -> None:
    model = small()
    model.regularise(RegularisationConfig(0.1, 0.2, "constant", 0.5))
    model.recompute = True
    model.patches.requires_grad_(False)
    learned = [one.requires_grad for one in model.parameters()]
    for other in (model.resize((16, 20)), model.repatch((8, 8))):
        assert [one.requires_grad for one in other.parameters()] == learned
        assert other.regularisation == model.regularisation
        assert other.recompute
        assert [block.mlp_drop_path.rate for block in other.blocks] == [0.2] * 3
        assert other.dropout.rate == other.blocks[0].mlp.dropout.rate == 0.1


def test_a_dropped_path_is_scaled_so_that_its_mean_stays() -> None:
    from vitreous.model.encoder import DropPath

    torch.manual_seed(0)
    out = DropPath(0.3).train()(torch.ones(20_000, 1, 1))
    assert out.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert out.mean().item() == pytest.approx(1.0, abs=0.02)


def test_a_patch_embedding_is_a_convolution_and_can_be_undone() -> None:
    from vitreous.model.patches import convolve, cut_patches, join_patches

    model = small(image=(12, 8), channels=2)
    x = images(model)
    torch.testing.assert_close(model.patches(x), convolve(model.patches, x), rtol=1e-5, atol=1e-6)
    assert torch.equal(join_patches(cut_patches(x, Size(4, 4)), Size(4, 4), Size(3, 2)), x)


def test_a_wrong_image_gets_one_clear_line() -> None:
    with pytest.raises(ConfigError, match=r"expects images .*\(3, 8, 12\).*resize"):
        small()(torch.zeros(1, 3, 12, 8))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"image": (225, 224)}, "multiple of the patch, such as 224"),
        ({"heads": 5}, "heads must divide"),
        ({"pool": "class", "class_token": False}, "pool='mean'"),
        ({"depth": 0}, "at least 1"),
        ({"classes": -1}, "0 \\(none\\)"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        replace(ViTConfig(), **settings)


@pytest.mark.parametrize("name", ["dropout", "drop_path", "patch_dropout"])
@pytest.mark.parametrize("rate", [1.0, -0.1])
def test_rates_that_leave_out_everything_are_refused(name: str, rate: float) -> None:
    with pytest.raises(ConfigError, match=f"{name} is {rate:g}; it must be at least 0 and below 1"):
        RegularisationConfig(**{name: rate})


@pytest.mark.parametrize(("name", "suggested"), [("s/16", "'S/16'"), ("B16", "B/16"), ("X/16", "Known")])
def test_unknown_models_suggest_the_nearest(name: str, suggested: str) -> None:
    with pytest.raises(UnknownName, match=suggested):
        build_vit_config(name)


@pytest.mark.parametrize("name", ["S/{}", "S/16x{}", "R{}+B/16", "R{}x1", "R50x{}"])
def test_no_number_of_a_name_is_too_long_to_be_refused(name: str) -> None:
    with pytest.raises(UnknownName, match="Known"):
        build_config(name.format("9" * 5000))


def test_former_settings_are_answered_by_todays() -> None:
    with pytest.raises(UnknownName, match="'norm_at'; did you mean 'final_norm'"):
        build_config("S/16", norm_at="none")
    with pytest.raises(ConfigError, match=r"drop_path is a setting of training, .* give regularisation\.drop_path"):
        build_config("S/16", drop_path=0.1)


def test_resizing_keeps_the_function_of_a_constant_grid_and_the_class_position() -> None:
    model = small()
    with torch.no_grad():
        model.positions.embedding[1:] = 0.5
    other = model.resize((16, 20), rule="bicubic")
    assert other.config.image == (16, 20)
    torch.testing.assert_close(other.positions.embedding[1:], torch.full((20, 32), 0.5))
    assert torch.equal(other.positions.embedding[0], model.positions.embedding[0])
    assert other(images(other)).shape == (2, 5)


def test_a_low_resolution_trains_the_full_grid() -> None:
    model = small(image=(16, 16))
    torch.nn.init.ones_(model.head.weight)
    model.set_resolution(Size(8, 8))
    with torch.no_grad():
        model.head.weight += torch.randn(model.head.weight.shape, generator=torch.Generator().manual_seed(0))
    model(torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    assert bool(model.positions.embedding.grad.any(dim=1).all())
    model.set_resolution(None)
    assert model(images(model)).shape == (2, 5)
    assert "positions.matrix" not in model.state_dict()


ONE_GRAPH = (
    ({}, 0.0, False),
    ({}, 0.3, False),
    ({}, 0.0, True),
    ({"pool": "mean", "positions": "sincos2d"}, 0.0, False),
    ({"pool": "mean"}, 0.3, True),
)
"""Settings of the model, its rates of dropout and drop path, and whether it recomputes."""


def one_graph(training: bool, kind: tuple[dict, float, bool], backend: str) -> None:
    settings, rate, recompute = kind
    torch._dynamo.reset()
    model = create(build_vit_config("mu/4", image=(8, 12), classes=3, depth=2, **settings)).train(training)
    model.regularise(RegularisationConfig(dropout=rate, drop_path=rate))
    model.recompute = recompute
    torch.nn.init.ones_(model.head.weight)
    x = torch.randn(4, 3, 8, 12)
    y = torch.compile(model, fullgraph=True, backend=backend)(x)
    if training:
        y.square().sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
    else:
        torch.testing.assert_close(y, model(x))


@pytest.mark.parametrize(("training", "kind"), [(True, ONE_GRAPH[-1]), (False, ONE_GRAPH[-2])])
def test_compiles_without_graph_breaks(training: bool, kind: tuple, as_users_run_it: None) -> None:
    """Table 8's tests compile a model as it is by itself, for training."""
    one_graph(training, kind, "eager")


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", ONE_GRAPH)
def test_compiles_without_graph_breaks_for_other_backends(training: bool, kind: tuple, as_users_run_it: None) -> None:
    one_graph(training, kind, "aot_eager")
