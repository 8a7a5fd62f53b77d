from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.one_graph import check_one_graph
from torch import nn
from torch.nn import functional as F

from vitreous.errors import ConfigError, UnknownName
from vitreous.model.config import RegularisationConfig
from vitreous.model.convolutions import StdConv, compute_haar_filters
from vitreous.model.count_resnet import count_resnet_flops, count_resnet_parameters
from vitreous.model.factory import create
from vitreous.model.resnet import ResNet
from vitreous.model.resnet_config import EpsilonConfig, ResNetConfig, build_resnet_config
from vitreous.settings import from_dict, to_dict

# With 1000 classes. All but R200x3, which timm doesn't build, are what timm 1.0.31 counts too (tests/references).
COUNTS = {
    "R50x1": 25_549_352,
    "R50x2": 97_988_712,
    "R50x3": 217_319_080,
    "R101x1": 44_541_480,
    "R101x3": 387_934_888,
    "R152x1": 60_185_128,
    "R152x2": 236_335_208,
    "R152x4": 936_533_224,
    "R200x3": 568_633_000,
}

configs = st.builds(
    ResNetConfig,
    image=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    channels=st.integers(1, 5),
    units=st.lists(st.integers(1, 2), min_size=1, max_size=2).map(tuple),
    unit=st.sampled_from(["bottleneck", "basic", "pooled", "pooled-post"]),
    root=st.sampled_from(["7x7", "3x3", "2x2", "haar"]),
    activation=st.sampled_from(["relu", "gelu"]),
    norm=st.sampled_from(["group", "batch"]),
    groups=st.sampled_from([1, 8, 32]),
    width=st.integers(1, 2),
    classes=st.integers(0, 4),
)


def small(**overrides: object) -> ResNet:
    return create(ResNetConfig(**({"image": (40, 56), "units": (2, 1), "classes": 5} | overrides))).eval()


def images(config: ResNetConfig, count: int = 2) -> torch.Tensor:
    return torch.randn(count, config.channels, *config.image, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts_are_pinned(name: str) -> None:
    with torch.device("meta"):
        model = ResNet(build_resnet_config(name))
    assert sum(parameter.numel() for parameter in model.parameters()) == COUNTS[name]
    assert count_resnet_parameters(build_resnet_config(name)) == COUNTS[name]


@settings(max_examples=10)
@given(configs)
def test_every_shape_of_images_and_units(config: ResNetConfig) -> None:
    model = create(config).eval()
    assert sum(parameter.numel() for parameter in model.parameters()) == count_resnet_parameters(config)
    found = model.intermediates(images(config), ["norm", "logits"])
    assert found["norm"].shape == (2, config.features, *config.grid)
    assert found["logits"].shape == (2, config.classes or config.features)
    assert bool(torch.isfinite(found["norm"]).all())


@pytest.mark.parametrize(("root", "channels"), [("3x3", 64), ("3x3", 32), ("7x7", 96), ("2x2", 64), ("haar", 64)])
@pytest.mark.parametrize("unit", ["bottleneck", "basic", "pooled", "pooled-post"])
def test_other_roots(unit: str, root: str, channels: int) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    model = small(image=(9, 14), unit=unit, root=root, root_channels=channels, width=2)
    config = model.config
    assert sum(parameter.numel() for parameter in model.parameters()) == count_resnet_parameters(config)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        maps = model.last_maps(images(config, 1))
        model.head(model.pool(maps))
    assert counter.get_total_flops() == count_resnet_flops(config)
    assert maps.shape == (1, 2 * channels * 2 * {"bottleneck": 4, "basic": 1}.get(unit, 2), *config.grid)
    halved = {"3x3": (5, 7), "2x2": (3, 4), "7x7": (2, 2), "haar": (5, 7)}[root]
    assert config.grid == (tuple(-(-side // 2) for side in halved) if "pooled" in unit else halved)


def test_flops_are_what_torch_counts() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    model = create(build_resnet_config("R50x1", image=(70, 45), classes=10)).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(images(model.config, 1))
    assert counter.get_total_flops() == count_resnet_flops(model.config)


def test_a_kernel_is_standardised_whatever_its_scale_and_offset() -> None:
    torch.manual_seed(0)
    model = StdConv((3, 4), 3, EpsilonConfig())
    x = torch.randn(1, 3, 9, 9)
    before = model(x)
    with torch.no_grad():
        model.weight.mul_(7).add_(2)
    torch.testing.assert_close(model(x), before, rtol=1e-4, atol=1e-4)


def test_intermediates_are_named_and_the_same_bits() -> None:
    model = small()
    torch.nn.init.normal_(model.head.weight)
    x = images(model.config)
    found = model.intermediates(x, ["root", "stage.0", "stage.1", "norm", "pooled", "logits"])
    shapes = {name: tuple(maps.shape[1:]) for name, maps in found.items()}
    assert shapes == {
        "root": (64, 10, 14),
        "stage.0": (256, 10, 14),
        "stage.1": (512, 5, 7),
        "norm": (512, 5, 7),
        "pooled": (512,),
        "logits": (5,),
    }
    assert torch.equal(found["logits"], model(x))
    assert torch.equal(found["pooled"], model.features(x))
    assert torch.equal(found["norm"], model.norm(found["stage.1"]))
    with pytest.raises(UnknownName, match=r"stage\.1"):
        model.intermediates(x, ["stages.1"])
    assert not any(module._forward_hooks for module in model.modules())


def test_maps_of_stages_are_as_a_vits() -> None:
    model = small()
    x = images(model.config)
    first, last, raw = (*model.maps(x, [0, -1]), *model.maps(x, [1], norm=False))
    assert (first.shape, last.shape) == ((2, 10, 14, 256), (2, 5, 7, 512))
    assert torch.equal(last.permute(0, 3, 1, 2), model.last_maps(x))
    assert torch.equal(model.norm(raw.permute(0, 3, 1, 2)), model.last_maps(x))
    for layer in (2, -3):
        with pytest.raises(UnknownName, match=r"stage\."):
            model.maps(x, [layer])


def test_without_classes_the_features_come_out() -> None:
    model = small(classes=0)
    assert torch.equal(model(images(model.config)), model.features(images(model.config)))


def test_the_same_seed_gives_the_same_weights_and_the_head_starts_at_zero() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second, other = small(), small(), create(small().config, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.root.conv.weight, other.root.conv.weight)
    assert not first.head.weight.any()
    assert not first.head.bias.any()


def test_every_parameter_learns() -> None:
    model = small().train()
    torch.nn.init.normal_(model.head.weight)
    model(images(model.config)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"units": ()}, "each stage needs at least 1"),
        ({"units": (3, 0)}, "each stage needs at least 1"),
        ({"width": 0}, "width is 0"),
        ({"image": (224, 0)}, "image is 0"),
        ({"classes": -1}, "0 \\(none\\)"),
        ({"root_channels": 48}, "root_channels is 48; it must be a multiple of 32"),
        ({"image": 224}, "a list of 2 whole numbers"),
        ({"units": 50}, "a list of whole numbers"),
    ],
)
@pytest.mark.usefixtures("as_users_run_it")
def test_settings_that_cannot_be_are_refused(settings: dict, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        replace(ResNetConfig(), **settings)


def test_settings_go_through_json() -> None:
    config = build_resnet_config("R152x2", image=(128, 96), channels=1)
    assert from_dict(ResNetConfig, to_dict(config)) == config


@pytest.mark.parametrize(("name", "suggested"), [("r50x1", "'R50x1'"), ("R51x1", "R50x1"), ("R50", "Known")])
def test_unknown_models_suggest_the_nearest(name: str, suggested: str) -> None:
    with pytest.raises(UnknownName, match=suggested):
        build_resnet_config(name)


def test_a_wrong_image_gets_one_clear_line() -> None:
    with pytest.raises(ConfigError, match=r"3 channels .*not \(1, 4, 8, 8\)"):
        small()(torch.zeros(1, 4, 8, 8))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiles_without_graph_breaks(backend: str, as_users_run_it: None) -> None:
    model = create(ResNetConfig(image=(40, 56), units=(1, 1), classes=3)).train()
    check_one_graph(model, torch.randn(2, 3, 40, 56), backend)


@pytest.mark.parametrize("unit", ["bottleneck", "basic", "pooled"])
def test_stochastic_depth_leaves_a_units_branch_out_by_example(unit: str) -> None:
    model = create(ResNetConfig(image=(8, 8), units=(1, 1), root_channels=8, groups=4, unit=unit, classes=3), seed=1)
    plain = model.stages[1][0]
    maps, keys = torch.randn(16, plain.norm1.num_channels, 6, 6), torch.arange(16, dtype=torch.int32)
    last = "conv3" if unit == "bottleneck" else "conv2"
    kept = []
    plain.train()._modules[last].register_forward_hook(lambda _, inputs, output: kept.append(output))
    model.set_examples(keys)
    whole = plain(maps)
    model.regularise(RegularisationConfig(drop_path=0.25))
    assert [one.drop_path.rate for one in model.units] == [0.0, 0.25]
    found = plain(maps)
    shortcut = whole - kept[0]
    left_out = (found - shortcut).flatten(1).abs().amax(1) < 1e-5
    assert 0 < left_out.sum() < 16
    torch.testing.assert_close(found[~left_out], (shortcut + kept[0] / 0.75)[~left_out])
    model.set_examples(keys[[3, 0]])
    torch.testing.assert_close(plain(maps[[3, 0]]), found[[3, 0]])
    assert torch.equal(plain.eval()(maps), whole)


def test_dropout_is_of_the_features_and_stays_at_another_size() -> None:
    model = create(ResNetConfig(image=(8, 8), units=(1,), root_channels=8, groups=4, unit="basic", classes=0), seed=1)
    model.regularise(RegularisationConfig(dropout=0.5))
    other, images = model.resize((16, 12)).train(), torch.randn(4, 3, 16, 12)
    other.set_examples(torch.arange(4, dtype=torch.int32))
    features, found = other.features(images), other(images)
    zero = found == 0
    assert 0.2 < zero.float().mean() < 0.8
    torch.testing.assert_close(found[~zero], 2 * features[~zero])
    assert torch.equal(other.eval()(images), other.features(images))
    with pytest.raises(ConfigError, match="a ResNet has no patches"):
        model.regularise(RegularisationConfig(patch_dropout=0.5))


def test_batch_norm_is_torchs_in_training_and_evaluation() -> None:
    """A network of pooled units, written once more from torch's layers, in float64, with scales as trained ones are."""
    config = ResNetConfig(
        (16, 12), units=(1, 1), classes=5, root="3x3", root_channels=6, unit="pooled", norm="batch", activation="gelu"
    )
    ours = create(config, seed=1).double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            if "norm" in name or name.startswith("head"):
                parameter.copy_(torch.rand(parameter.shape, generator=generator) + 0.5)
    norms = {name: nn.BatchNorm2d(len(one.weight)).double() for name, one in ours.named_modules() if "norm" in name}
    for name, norm in norms.items():
        norm.load_state_dict(ours.get_submodule(name).state_dict(), strict=False)

    def convolve(name: str, maps: torch.Tensor) -> torch.Tensor:
        kernel = ours.get_submodule(name).weight
        mean, deviation = kernel.mean((1, 2, 3), keepdim=True), kernel.std((1, 2, 3), correction=0, keepdim=True)
        return F.conv2d(maps, (kernel - mean) / (deviation.square() + 1e-8).sqrt(), padding=1)

    def reference(batch: torch.Tensor) -> torch.Tensor:
        maps = convolve("root.conv", batch)
        for stage in ("stages.0.0.", "stages.1.0."):
            maps = F.max_pool2d(convolve(stage + "conv1", F.gelu(norms[stage + "norm1"](maps))), 2, ceil_mode=True)
            maps = maps + convolve(stage + "conv2", F.gelu(norms[stage + "norm2"](maps)))
        return ours.head(F.gelu(norms["norm"](maps)).mean((2, 3)))

    batch = images(config, 7).double()
    gradients = []
    for forward in (ours, reference):
        ours.zero_grad()
        forward(batch).square().sum().backward()
        gradients.append(ours.stages[0][0].conv1.weight.grad.clone())
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(ours.norm.running_var, norms["norm"].running_var, rtol=1e-12, atol=0)
    ours.eval()
    for norm in norms.values():
        norm.eval()
    torch.testing.assert_close(ours(batch), reference(batch), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(ours(batch[:1]), ours(batch)[:1], rtol=1e-9, atol=1e-12)


def test_a_haar_transform_takes_neighbours_and_colours_apart() -> None:
    """By hand, for one colour and for three; orthogonal, but for the weights, and each filter followed by its negative."""
    grey = compute_haar_filters(8, 1)
    expected = [[1, 1, 1, 1], [4, -4, 4, -4], [4, 4, -4, -4], [4, -4, -4, 4]]
    torch.testing.assert_close(grey[::2, 0].flatten(1), torch.tensor(expected, dtype=torch.float64) / 4)
    assert torch.equal(grey[1::2], -grey[::2])
    filters = compute_haar_filters(24, 3)
    assert filters.shape == (24, 3, 2, 2)
    opponents = torch.tensor([[1, 1, 1], [1, 0, -1], [1, -2, 1]], dtype=torch.float64)
    opponents /= opponents.norm(dim=1, keepdim=True)
    weights = torch.tensor([1, 4, 4], dtype=torch.float64)
    torch.testing.assert_close(filters[:6:2, :, 0, 0], opponents * weights[:, None] / 4)
    assert torch.equal(filters[1::2], -filters[::2])
    gram = filters[::2].flatten(1) @ filters[::2].flatten(1).T
    torch.testing.assert_close(gram, torch.diag(gram.diag()), atol=1e-12, rtol=0)
    root = create(ResNetConfig(image=(4, 4), units=(1,), root="haar", root_channels=32, classes=2)).root
    torch.testing.assert_close(root.conv.weight, filters[torch.arange(32) % 24].float())


def test_channels_of_the_stages_are_as_many_as_stages() -> None:
    ResNetConfig(units=(1, 1), unit="basic", stage_channels=(64, 32))
    for unit, channels, message in (
        ("basic", (64,), "a number for each of the 2 stages, or be empty"),
        ("basic", (64, 40), "multiples of 32, for the 32 groups"),
        ("basic", (64, 0), "at least 1"),
        ("bottleneck", (128, 64), "multiples of 128, for the 32 groups of each norm and the factor 4"),
    ):
        with pytest.raises(ConfigError, match=message):
            ResNetConfig(units=(1, 1), unit=unit, stage_channels=channels)
    with pytest.raises(ConfigError, match="multiples of 4, for the factor 4 of a bottleneck unit"):
        ResNetConfig(units=(1,), norm="batch", stage_channels=(6,))
    with pytest.raises(ConfigError, match="so the first stage has 48 channels; that must be a multiple of 32"):
        ResNetConfig(units=(1,), unit="pooled-post", root="haar", root_channels=24)


@pytest.mark.parametrize("unit", ["bottleneck", "basic", "pooled", "pooled-post"])
def test_stages_may_have_as_many_channels_as_the_one_before(unit: str) -> None:
    """Where rows and columns are halved, the shortcut is projected all the same."""
    model = small(
        units=(2, 1, 2), unit=unit, root="haar", root_channels=24, groups=4, stage_channels=(16, 16, 16), width=2
    )
    assert sum(parameter.numel() for parameter in model.parameters()) == count_resnet_parameters(model.config)
    assert model.last_maps(images(model.config)).shape == (2, 32, *model.config.grid)
