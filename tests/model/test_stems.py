import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.one_graph import check_one_graph

from vitreous.errors import ConfigError, UnknownName
from vitreous.model import count
from vitreous.model.config import ViTConfig
from vitreous.model.factory import create
from vitreous.model.names import build_vit_config
from vitreous.model.resnet_config import StemConfig
from vitreous.model.vit import ViT
from vitreous.settings import from_dict, to_dict
from vitreous.shapes import Size

# With 1000 classes, for 224 px. Those that timm builds are what timm 1.0.31 counts too (tests/references).
HYBRIDS = {
    "R+Ti/16": (6_337_704, (7, 7)),
    "R26+S/32": (36_431_912, (7, 7)),
    "R50+B/32": (110_945_832, (7, 7)),
    "R50+B/16": (98_659_112, (14, 14)),
    "R50+L/32": (328_994_856, (7, 7)),
    "R50+L/16": (316_483_624, (14, 14)),
}
EARLY = StemConfig("conv", convolutions=(4, 8))

stems = st.one_of(
    st.builds(StemConfig, st.just("resnet"), st.lists(st.integers(1, 2), max_size=2).map(tuple), st.integers(1, 2)),
    st.builds(
        lambda channels: StemConfig("conv", convolutions=tuple(channels)),
        st.lists(st.integers(1, 9), min_size=1, max_size=3),
    ),
    st.just(StemConfig()),
)
configs = st.builds(
    lambda stem, rows, cols, patch, **more: ViTConfig(
        image=(rows * patch[0] * stem.stride, cols * patch[1] * stem.stride),
        patch=(patch[0] * stem.stride, patch[1] * stem.stride),
        **({"stem": stem, "width": 8, "depth": 1, "heads": 2, "mlp_width": 8, "classes": 3} | more),
    ),
    stems,
    rows=st.integers(1, 3),
    cols=st.integers(1, 3),
    patch=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    channels=st.integers(1, 5),
    positions=st.sampled_from(["learned", "sincos2d", "relative"]),
)


def small(**overrides: object) -> ViT:
    made = {"image": (32, 48), "patch": (8, 8), "stem": StemConfig("resnet", (1, 1)), "classes": 5, "depth": 2}
    return create(build_vit_config("mu/8", **(made | overrides)), seed=0).eval()


def images(config: ViTConfig, count: int = 2) -> torch.Tensor:
    return torch.randn(count, config.channels, *config.image, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", HYBRIDS)
def test_the_papers_hybrids_count_what_they_should(name: str) -> None:
    parameters, grid = HYBRIDS[name]
    with torch.device("meta"):
        model = ViT(build_vit_config(name))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert count.count_parameters(build_vit_config(name)) == parameters
    assert build_vit_config(name).grid == grid
    assert build_vit_config(name.replace("+", "+ViT-")) == build_vit_config(name)


@settings(max_examples=15)
@given(configs)
def test_any_stem_any_patch_any_channels(config: ViTConfig) -> None:
    model = create(config).eval()
    assert sum(parameter.numel() for parameter in model.parameters()) == count.count_parameters(config)
    found = model.intermediates(images(config), ["patches", "logits"])
    assert found["patches"].shape == (2, config.grid.rows * config.grid.cols, 8)
    assert bool(torch.isfinite(found["patches"]).all())
    assert from_dict(ViTConfig, to_dict(config)) == config


@pytest.mark.parametrize("settings", [{}, {"stem": StemConfig("conv", convolutions=(5, 7, 9))}])
def test_flops_are_what_torch_counts(settings: dict) -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    model = small(**settings)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model(images(model.config, 1))
    assert counter.get_total_flops() == count.count_flops(model.config)


def test_a_stem_needs_memory() -> None:
    plain, hybrid = build_vit_config("B/16"), build_vit_config("R50+B/16")
    for training in (False, True):
        needs = [count.estimate_activation_bytes(config, 1, training=training) for config in (plain, hybrid)]
        assert needs[0] < needs[1]


@pytest.mark.parametrize("stem", [StemConfig("resnet", (1, 1)), EARLY, StemConfig("resnet")])
def test_every_parameter_learns(stem: StemConfig) -> None:
    model = small(stem=stem).train()
    torch.nn.init.normal_(model.head.weight)
    for name, parameter in model.named_parameters():
        if "last_norm" in name:  # starts at zero: the layers before it learn from the second step on
            torch.nn.init.ones_(parameter)
    model(images(model.config)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_a_hybrids_units_start_by_passing_their_input_on() -> None:
    stem = small(stem=StemConfig("resnet", (3,)), patch=(4, 4)).patches.stem
    with torch.no_grad():
        root = torch.rand(1, 64, 5, 5)
        first = stem.stages[0][0](root)
        assert torch.equal(stem.stages[0][2](stem.stages[0][1](first)), first)


def test_each_images_patches_depend_on_that_image_alone() -> None:
    for stem in (StemConfig("resnet", (1, 1)), EARLY):
        model = small(stem=stem).train()
        x = images(model.config, 3)
        torch.testing.assert_close(model.patches(x)[:1], model.patches(x[:1]), rtol=1e-5, atol=1e-5)


def test_hybrids_are_resized_and_repatched() -> None:
    model = small(stem=EARLY)
    torch.nn.init.normal_(model.head.weight)
    assert model.resize((48, 32)).patches.patch == Size(2, 2)
    finer = model.repatch((4, 8))
    assert (finer.config.image, finer.patches.patch) == ((16, 48), Size(1, 2))
    for other in (finer, model.resize((48, 32))):
        assert other(images(other.config)).shape == (2, 5)


@pytest.mark.parametrize(
    ("made", "complaint"),
    [
        (lambda: StemConfig("conv"), "needs the channels of its convolutions"),
        (lambda: StemConfig("resnet", convolutions=(8,)), "other kinds have none"),
        (lambda: StemConfig(units=(2,)), "for kind='resnet', not for 'none'"),
        (lambda: StemConfig("conv", width=2, convolutions=(8,)), "for kind='resnet', not for 'conv'"),
        (lambda: StemConfig("resnet", units=(2, 0)), "at least 1"),
        (lambda: StemConfig("resnet", units=(10**7,)), "at most 10,000"),
        (lambda: StemConfig("conv", convolutions=(10**7,)), "at most 131,072"),
        (lambda: build_vit_config("R50+B/16", patch=(8, 8)), "16 pixels per side.*multiple of 16"),
        (lambda: build_vit_config("B/16", stem=StemConfig("conv", convolutions=(8,) * 5)), "multiple of 32"),
    ],
)
def test_stems_that_cannot_be_are_refused(made, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        made()


@pytest.mark.parametrize(("name", "suggested"), [("R51+B/16", r"R50\+B/16"), ("R50+X/16", "B/16")])
def test_unknown_hybrids_suggest_the_nearest(name: str, suggested: str) -> None:
    with pytest.raises(UnknownName, match=suggested):
        build_vit_config(name)


def test_unknown_settings_of_a_stem_are_named() -> None:
    with pytest.raises(UnknownName, match="'units'"):
        from_dict(ViTConfig, {"stem": {"unit": [1]}})


BACKENDS = ["eager", pytest.param("aot_eager", marks=pytest.mark.slow)]
"""Either traces one graph; the second traces the gradients too, in twice the time."""


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "stem", [pytest.param(StemConfig("resnet", (1, 1)), marks=pytest.mark.slow), EARLY], ids=["resnet", "conv"]
)
def test_compiles_without_graph_breaks(stem: StemConfig, backend: str, as_users_run_it: None) -> None:
    model = create(build_vit_config("mu/8", image=(32, 48), classes=3, depth=1, stem=stem)).train()
    check_one_graph(model, torch.randn(2, 3, 32, 48), backend)
