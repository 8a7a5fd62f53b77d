from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.one_graph import check_one_graph
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vitreous.errors import ConfigError, UnknownName
from vitreous.model.config import RegularisationConfig
from vitreous.model.count import count_flops, count_parameters, estimate_activation_bytes
from vitreous.model.factory import create, create_empty
from vitreous.model.kinds import build_config, check_name
from vitreous.model.lora import add_lora, merge_state
from vitreous.model.names import translate_name
from vitreous.model.parameters import roles
from vitreous.model.swin import Swin
from vitreous.model.swin_config import SwinConfig, build_swin_config
from vitreous.model.windows import WindowAttention
from vitreous.settings import from_dict, to_dict
from vitreous.shapes import Size

# With 1,000 classes at the authors' images; timm 1.0.31 counts the same.
COUNTS = {
    "Swin-T": 28_288_354,
    "Swin-S": 49_606_258,
    "Swin-B": 87_768_224,
    "Swin-L": 196_532_476,
    "SwinV2-T": 28_347_154,
    "SwinV2-S": 49_728_418,
    "SwinV2-B": 87_918_816,
    "SwinV2-L": 196_739_932,
}
PAPER = {"Swin-T": 4.5, "Swin-S": 8.7, "Swin-B": 15.4}
"""Billions of multiply-adds of 2103.14030, table 1."""

stages = st.integers(1, 3)
configs = stages.flatmap(
    lambda count: st.builds(
        SwinConfig,
        image=st.tuples(st.integers(1, 70), st.integers(1, 70)),
        patch=st.tuples(st.integers(1, 5), st.integers(1, 5)),
        channels=st.integers(1, 4),
        version=st.sampled_from(["v1", "v2"]),
        width=st.sampled_from([4, 8]),
        depths=st.lists(st.integers(1, 2), min_size=count, max_size=count).map(tuple),
        heads=st.lists(st.sampled_from([1, 2, 4]), min_size=count, max_size=count).map(tuple),
        windows=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=count, max_size=count).map(tuple),
        mlp_factor=st.integers(1, 3),
        classes=st.integers(0, 4),
    )
)


def tiny(**overrides: object) -> SwinConfig:
    given = {
        "image": (32, 48), "width": 16, "depths": (2, 2), "heads": (2, 4), "windows": ((4, 4), (2, 3)), "classes": 5,
    }  # fmt: skip
    return SwinConfig(**(given | overrides))


def images(rows: int, cols: int, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, rows, cols, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts_are_pinned(name: str) -> None:
    config = build_swin_config(name)
    assert count_parameters(config) == COUNTS[name]
    assert sum(one.numel() for one in create_empty(config).parameters()) == COUNTS[name]


@pytest.mark.parametrize("name", PAPER)
def test_operations_are_twice_the_papers_multiply_adds(name: str) -> None:
    assert round(count_flops(build_swin_config(name)) / 2e9, 1) == pytest.approx(PAPER[name], abs=0.05)


@settings(max_examples=15)
@given(configs)
def test_any_shape_is_counted_built_and_saved(config: SwinConfig) -> None:
    model = create(config).eval()
    assert sum(one.numel() for one in model.parameters()) == count_parameters(config)
    assert from_dict(SwinConfig, to_dict(config)) == config
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        output = model(torch.randn(1, config.channels, *config.image))
    assert output.shape == (1, config.classes or config.features)
    assert counter.get_total_flops() == count_flops(config)
    assert estimate_activation_bytes(config, 2, training=True) >= estimate_activation_bytes(config, 2, training=False)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_windows_are_cut_shifted_and_joined_as_their_definition_says(version: str) -> None:
    """Every patch of the padded grid is in one window with those within half a window's shift, and nowhere else."""
    config = tiny(version=version).stage(0)
    grid = Size(6, 9)
    for shifted in (False, True):
        attention = WindowAttention(config, shifted=shifted, cosine=version == "v2")
        numbers = torch.arange(1.0, 55.0).view(1, 54, 1)
        windows = attention.cut(numbers, grid)[0, :, :, 0].int().tolist()
        assert torch.equal(attention.join(attention.cut(numbers, grid), grid), numbers[:, None])
        mask = attention._build_mask(grid, torch.device("cpu"))
        together = torch.zeros(55, 55, dtype=torch.bool)
        for index, window in enumerate(windows):
            for one, first in enumerate(window):
                for other, second in enumerate(window):
                    if first and second and not (mask is not None and mask[index, one, other]):
                        together[first, second] = True
        move = 2 if shifted else 0
        place = [((one // 9 + move) // 4, (one % 9 + move) // 4) for one in range(54)]
        expected = torch.tensor([[a == b for b in place] for a in place])
        assert torch.equal(together[1:, 1:], expected)


def test_a_patch_sees_no_further_than_its_windows() -> None:
    """In one block a patch in a corner changes only its window; in the next, shifted one, its neighbours as well."""
    model = create(tiny(image=(64, 64), depths=(2,), heads=(2,), windows=((4, 4),))).eval()
    first = images(64, 64, 1)
    second = first.clone()
    second[:, :, 60:, 60:] += 1.0
    found = [model.intermediates(one, ["block.0", "block.1"]) for one in (first, second)]
    changed = [
        (found[0][name] - found[1][name]).abs().amax(dim=2).view(16, 16) > 1e-6 for name in ("block.0", "block.1")
    ]
    assert changed[0][12:, 12:].all() and changed[0].sum() == 16
    assert changed[1][10:, 10:].all() and not changed[1][:8].any() and not changed[1][:, :8].any()


def test_any_size_of_images_goes_through_whatever_masks_are_kept() -> None:
    model, pixels = create(tiny(), seed=3).eval(), images(37, 22)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))) * 0.1)
        expected = model(pixels)
        model.set_resolution(Size(37, 22))
        assert torch.equal(model(pixels), expected)
        assert torch.equal(model.resize((37, 22))(pixels), expected)
        model.set_resolution(None)
        assert model.image == Size(32, 48)
        assert [tuple(one.shape[1:]) for one in model.maps(pixels, [0, -1])] == [(10, 6, 16), (5, 3, 32)]
    with pytest.raises(UnknownName, match="stage"):
        model.maps(pixels, [2])
    with pytest.raises(ConfigError, match="3 channels"):
        model(images(32, 48)[:, :1])


def test_other_windows_resize_the_table_by_the_rule_and_scale_offsets_by_those_of_training() -> None:
    first = create(tiny(image=(32, 32), windows=((4, 4), (2, 2))), seed=2).eval()
    other = first.rewindow((8, 8), "bicubic")
    assert other.config.windows == ((8, 8), (4, 4))
    table = first.stages[0].blocks[0].attention.relative.table.detach().T.view(1, 2, 7, 7)
    expected = torch.nn.functional.interpolate(table, size=(15, 15), mode="bicubic")[0].flatten(1).T
    found = other.stages[0].blocks[0].attention.relative.table
    assert torch.allclose(found, expected, atol=1e-6)
    with pytest.raises(UnknownName, match="resize rule"):
        first.rewindow((8, 8), "cubic")
    second = create(tiny(version="v2", image=(32, 32), windows=((4, 4), (2, 2)))).rewindow((8, 8)).rewindow((4, 4))
    assert second.config.trained_windows == ((4, 4), (2, 2)) and second.config.windows == ((4, 4), (4, 4))
    small, large = (
        second.rewindow(side).stages[0].blocks[0].attention.relative.biases()[0] for side in ((4, 4), (8, 8))
    )
    assert torch.allclose(small[:, 0, :4], large[:, 0, :4], atol=1e-6)  # offsets mean the same patches


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_training_leaves_out_branches_and_recomputing_changes_no_bit(version: str) -> None:
    model = create(tiny(version=version), seed=1)
    model.regularise(RegularisationConfig(drop_path=0.5, dropout=0.1))
    assert [round(block.mlp_drop_path.rate, 3) for block in model.blocks] == [0, 0.167, 0.333, 0.5]
    gradients = []
    for recompute in (False, True):
        model.recompute = recompute
        model.zero_grad()
        torch.manual_seed(0)
        model.train()(images(32, 48)).square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert gradients[0] and all(map(torch.equal, *gradients))
    with pytest.raises(ConfigError, match="patch_dropout"):
        model.regularise(RegularisationConfig(patch_dropout=0.5))


def test_the_second_versions_branches_begin_at_zero_and_cosines_don_t_decay() -> None:
    model = create(tiny(version="v2"))
    known = roles(model)
    assert not any(block.attention_norm.weight.any() for block in model.blocks)
    assert float(model.blocks[0].attention.q_norm.log_scale.detach().exp().mean()) == pytest.approx(10)
    assert not any(role.decays for name, role in known.items() if "log_scale" in name or "norm" in name)
    assert not any(role.decays for name, role in known.items() if "relative" in name)
    assert known["stages.1.merge.reduce.weight"].matrices == 1


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_lora_reaches_the_blocks_and_merges(version: str) -> None:
    model = create(tiny(version=version)).eval()
    names = list(model.state_dict())
    add_lora(model, 2)
    assert sum(name.endswith(".up") for name in model.state_dict()) == 4 * len(model.blocks)
    model.set_resolution(Size(16, 24))
    model.set_resolution(None)
    with torch.no_grad():
        for module in model.modules():
            if hasattr(module, "up"):
                module.up.normal_(generator=torch.Generator().manual_seed(1))
    plain = create_empty(tiny(version=version))
    plain.load_state_dict(merge_state(model), assign=True)
    assert list(plain.state_dict()) == names
    assert torch.allclose(plain.eval()(images(32, 48)), model(images(32, 48)), atol=1e-5)


def test_the_trunk_is_everything_but_the_head() -> None:
    model = create(tiny())
    trunk = model.trunk
    parts = [*trunk.front, *trunk.blocks, trunk.norm]
    held = {id(one) for part in parts for one in part.parameters()}
    assert held == {id(one) for one in model.parameters()} - {id(one) for one in model.head.parameters()}
    assert len(trunk.blocks) == model.config.depth


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": (3, 4)}, "16 wide, which can't be divided among 3 heads"),
        ({"heads": (2,)}, "heads is .*give one for each stage"),
        ({"windows": ((4, 4), (0, 2))}, "a window has 0x2 patches"),
        ({"trained_windows": ((4, 4), (2, 2))}, "v1 has a table for its own windows"),
        ({"depths": (2, 0)}, "depths is .* at least 1"),
        ({"depths": ()}, "depths is .* at least 1"),
        ({"classes": -1}, "classes is -1"),
        ({"norm_eps": -1.0}, "norm_eps is -1"),
        ({"version": "v3"}, "version is 'v3'"),
        ({"image": (0, 32)}, "image is .* at least 1"),
    ],
)
def test_impossible_shapes_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny(**change)


def test_names() -> None:
    assert build_config("SwinV2-B", classes=3).windows == ((8, 8),) * 4
    assert build_config("Swin-T", image=(128, 128)).windows == ((7, 7), (7, 7), (7, 7), (4, 4))
    assert translate_name("swin_tiny_patch4_window7_224") == "Swin-T"
    assert translate_name("microsoft/swinv2-base-patch4-window8-256") == "SwinV2-B"
    for wrong, near in (("Swin-X", "Swin-"), ("swin-T", "Swin-T")):
        with pytest.raises(UnknownName, match=near):
            check_name(wrong)
    with pytest.raises(UnknownName, match="setting of a Swin Transformer"):
        build_config("Swin-T", depth=3)


@pytest.mark.slow
@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_compiles_without_graph_breaks(version: str) -> None:
    check_one_graph(create(tiny(version=version)).train(), images(32, 48), "aot_eager")


def test_the_map_that_is_not_whole_windows_is_padded_as_in_another_model_of_larger_images() -> None:
    """Zeros below and to the right of a map are what zeros of patches, after the norm, are: seen by the patches beside them."""
    model: Swin = create(replace(tiny(depths=(1,), heads=(2,), windows=((4, 4),)), image=(24, 24))).eval()
    attention = model.blocks[0].attention
    z = torch.randn(1, 36, 16, generator=torch.Generator().manual_seed(1))
    padded = torch.nn.functional.pad(z.view(1, 6, 6, 16), (0, 0, 0, 2, 0, 2)).flatten(1, 2)
    from vitreous.model.attention import Places

    small, large = attention(z, Places(grid=Size(6, 6))), attention(padded, Places(grid=Size(8, 8)))
    assert torch.allclose(small.view(6, 6, 16), large.view(8, 8, 16)[:6, :6], atol=1e-6)
