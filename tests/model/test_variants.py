"""Every variant of the model: counted, trained, resized, seen at a low resolution, looked into, deterministic."""

from dataclasses import replace

import pytest
import torch

from vitreous.errors import ConfigError, UnknownName
from vitreous.insight.attention import compute_attention_maps
from vitreous.model import count
from vitreous.model.config import BlockConfig, RegularisationConfig, RotaryConfig, ViTConfig
from vitreous.model.factory import create
from vitreous.model.positions.resize import RULES, resize_grid
from vitreous.model.vit import ViT
from vitreous.settings import from_dict, to_dict
from vitreous.shapes import Size

PLAIN = ViTConfig(image=(16, 24), patch=(4, 4), width=32, depth=3, heads=2, mlp_width=48, classes=5)
KINDS = ("none", "learned", "learned2d", "sincos2d", "sincos2d-mae", "relative", "bias")
PLACES = ("input", "layers", "shared")
BLOCKS = {
    "rms": BlockConfig(norm="rms"),
    "quick-gelu": BlockConfig(activation="quick-gelu"),
    "gelu-tanh": BlockConfig(activation="gelu-tanh"),
    "swiglu": BlockConfig(mlp="swiglu"),
    "eva": BlockConfig(mlp="swiglu", mlp_inner_norm=True, qkv_bias="no-key", attention_inner_norm=True),
    "no biases": BlockConfig(qkv_bias="none", biases=False),
    "qk norm": BlockConfig(qk_norm=True),
    "qk rms norm": BlockConfig(qk_norm=True, norm="rms"),
    "layer scale": BlockConfig(layer_scale=0.1),
    "parallel": BlockConfig(parallel=True),
}
VARIANTS = {
    f"{kind} at {place}": {"positions": kind, "position_placement": place} for kind in KINDS for place in PLACES
}
VARIANTS |= {name: {"block": block} for name, block in BLOCKS.items()}
VARIANTS |= {
    f"registers, positions of {who}": {"registers": 3, "positioned_tokens": who} for who in ("all", "class", "patches")
}
VARIANTS |= {
    "distilled": {"distillation_token": True},
    "max": {"pool": "max"},
    "attention pooling": {"pool": "map", "class_token": False, "pool_mlp_width": 20},
    "class and mean": {"pool": "class+mean", "final_norm": "pooled", "pre_logits": True},
    "mean, normed after": {"pool": "mean", "class_token": False, "final_norm": "pooled"},
    "rotary cells": {"positions": "none", "rotary": RotaryConfig("cells", reference=(16, 16))},
    "rotary centred": {"registers": 4, "rotary": RotaryConfig("centred", 100.0)},
    "clip": {"embed_norm": True, "patch_bias": False, "head_bias": False},
}
AXIAL = {"block": BlockConfig(attention="axial"), "depth": 4, "class_token": False, "pool": "mean"}
VARIANTS |= {
    "axial": AXIAL,
    "axial, learned in every layer": AXIAL | {"positions": "learned2d", "position_placement": "layers"},
    "axial, rotary": AXIAL | {"positions": "none", "rotary": RotaryConfig("cells"), "pool": "map"},
    "axial, parallel": AXIAL
    | {"block": BlockConfig(attention="axial", parallel=True, qk_norm=True, layer_scale=0.1), "pool": "max"},
}


def random_model(**settings: object) -> ViT:
    """Every parameter drawn at random: a zero head or zero biases would hide mistakes."""
    model = create(replace(PLAIN, **settings))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model


def images(count: int = 2, rows: int = 16, cols: int = 24) -> torch.Tensor:
    return torch.randn(count, 3, rows, cols, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", VARIANTS)
def test_builds_counts_trains_and_resizes(name: str) -> None:
    model = random_model(**VARIANTS[name]).train()
    config = model.config
    assert sum(parameter.numel() for parameter in model.parameters()) == count.count_parameters(config)
    assert from_dict(ViTConfig, to_dict(config)) == config
    model(images()).square().sum().backward()
    without = [key for key, parameter in model.named_parameters() if parameter.grad is None]
    assert not without
    model.eval()
    with torch.no_grad():
        once = model(images())
        assert torch.equal(once, model(images()))
        assert model.resize((24, 16))(images(rows=24, cols=16)).shape == (2, 5)
        again = model.resize((16, 24))
        assert torch.equal(again(images()), once)
        model.set_resolution(Size(8, 12))
        assert model(images(rows=8, cols=12)).shape == (2, 5)
        model.set_resolution(None)
        assert torch.equal(model(images()), once)


@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in ("none at layers", "none at shared")])
def test_attention_maps_are_what_the_kernel_used(name: str) -> None:
    """The weights, recomputed, times the values give what the fused kernel gave."""
    model = random_model(**VARIANTS[name]).eval()
    block = model.blocks[1]
    seen = {}
    handle = block.attention.register_forward_hook(
        lambda module, inputs, output: seen.update(inputs=inputs, output=output)
    )
    with torch.no_grad():
        model(images())
        handle.remove()
        tokens, places = seen["inputs"]
        heads = block.attention.compute_heads(block.attention.project(tokens), places)
        weights = compute_attention_maps(model, images(), [1])[1]
        gathered = (weights @ heads.v).transpose(1, 2).flatten(2)
        found = block.attention.out(block.attention.norm(gathered))
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:3]))
    torch.testing.assert_close(found, seen["output"], atol=1e-5, rtol=1e-5)


def test_relative_logits_by_hand() -> None:
    """q . r(key - query) / sqrt(head_dim), pair by pair (appendix D.4)."""
    model = random_model(positions="relative")
    relative = model.blocks[0].attention.relative
    q = torch.randn(1, 2, PLAIN.tokens, 16)
    found = relative(q)
    for query, key in ((0, 0), (3, 7), (24, 0), (0, 24)):
        offset = relative.table[key - query + PLAIN.tokens - 1]
        torch.testing.assert_close(found[0, :, query, key], q[0, :, query] @ offset / 4)


def test_bias_by_hand() -> None:
    """One number for each head and 2-D offset, the same wherever the pair lies; [class] has three of its own."""
    model = random_model(positions="bias")
    bias = model.blocks[0].attention.relative(torch.zeros(1, 2, PLAIN.tokens, 16))[0]
    grid = bias[:, 1:, 1:].unflatten(1, (4, 6)).unflatten(3, (4, 6))
    assert torch.equal(grid[:, 1, 2, 3, 1], grid[:, 0, 4, 2, 3])
    assert not torch.equal(grid[:, 1, 2, 3, 1], grid[:, 1, 2, 3, 3])
    assert len({value.item() for value in bias[0, 0]}) == 2


def test_rotation_depends_on_offsets_alone() -> None:
    """The product of a turned q and a turned k is the same for all pairs that lie equally far apart (2104.09864)."""
    for kind in ("cells", "centred"):
        model = random_model(positions="none", rotary=RotaryConfig(kind), class_token=False, pool="mean")
        from vitreous.model.positions.rotary import rotate

        q, k = torch.randn(2, 1, 1, 1, 16)
        q, k = (rotate(part.expand(1, 1, 24, 16).contiguous(), model.rotary(), kind) for part in (q, k))
        logits = (q @ k.mT)[0, 0].unflatten(0, (4, 6)).unflatten(2, (4, 6))
        torch.testing.assert_close(logits[0, 1, 2, 3], logits[1, 2, 3, 4])
        assert not torch.allclose(logits[0, 1, 2, 3], logits[0, 1, 2, 4])


def test_patch_dropout_leaves_out_patches_in_training_alone() -> None:
    model = random_model()
    model.regularise(RegularisationConfig(patch_dropout=0.5))
    assert model.train().embed(images()).shape[1] == 1 + 12
    assert model.eval().embed(images()).shape[1] == 1 + 24


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"positions": "bias"}, "patch_dropout needs positions that are added at the input"),
        ({"rotary": RotaryConfig("cells")}, "patch_dropout needs positions that are added at the input"),
        ({"position_placement": "layers"}, "patch_dropout needs positions that are added at the input"),
        (AXIAL, "holes in the grid"),
    ],
)
def test_patch_dropout_is_refused_where_blocks_need_every_patch(settings: dict, complaint: str) -> None:
    model = random_model(**settings)
    with pytest.raises(ConfigError, match=complaint):
        model.regularise(RegularisationConfig(patch_dropout=0.5))
    assert model.regularisation == RegularisationConfig()


def test_a_distilled_models_heads_are_averaged() -> None:
    model = random_model(distillation_token=True).eval()
    with torch.no_grad():
        z = model.tokens(images())
        expected = (model.head(z[:, 0]) + model.distillation_head(z[:, 1])) / 2
        torch.testing.assert_close(model(images()), expected)
        assert torch.equal(model.intermediates(images(), ["logits"])["logits"], model(images()))


def test_maps_are_the_patches_of_a_block() -> None:
    model = random_model(registers=2).eval()
    with torch.no_grad():
        last, first = model.maps(images(), [-1, 0])
        torch.testing.assert_close(last.flatten(1, 2), model.tokens(images())[:, 3:])
        raw = model.maps(images(), [0], norm=False)[0]
    assert first.shape == raw.shape == (2, 4, 6, 32)
    torch.testing.assert_close(model.norm(raw), first)
    for layer in (3, -4):
        with pytest.raises(UnknownName, match=r"'block\.-?\d'"):
            model.maps(images(), [layer])


@pytest.mark.parametrize("rule", RULES)
def test_rows_and_columns_are_resized_each_as_a_line(rule: str) -> None:
    model = random_model(positions="learned2d")
    other = model.resize((28, 12), rule)
    rows = resize_grid(model.positions.row_embedding.detach()[:, None].expand(-1, 2, -1), Size(7, 2), rule)
    cols = resize_grid(model.positions.col_embedding.detach()[None].expand(2, -1, -1), Size(2, 3), rule)
    torch.testing.assert_close(other.positions.row_embedding.detach(), rows[:, 0])
    torch.testing.assert_close(other.positions.col_embedding.detach(), cols[0])
    assert not torch.allclose(rows[0], rows[1])


@pytest.mark.parametrize("kind", KINDS)
def test_no_kind_of_positions_takes_a_rule_that_there_is_not(kind: str) -> None:
    with pytest.raises(UnknownName, match="did you mean 'bicubic'"):
        random_model(positions=kind).resize((24, 16), "cubic")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"pool": "class+mean", "class_token": False}, "class_token=True"),
        ({"distillation_token": True, "pool": "mean"}, "distillation token needs"),
        ({"distillation_token": True, "final_norm": "pooled"}, "32 wide; set final_norm='tokens'"),
        ({"distillation_token": True, "pre_logits": True, "pre_logits_width": 12}, "and pre_logits_width=0"),
        ({"positions": "learned2d", "width": 33, "heads": 1}, "it must be even"),
        ({"rotary": RotaryConfig("cells"), "width": 36, "heads": 6}, "divisible by 4, not 6"),
        ({"position_init": "sincos2d", "positions": "learned2d"}, "not for 'learned2d'; set position_init='normal'"),
        ({"patch": (0, 4)}, r"patch is \(0, 4\); it must be at least 1"),
        ({"norm_eps": -1.0}, "norm_eps is -1; it must be at least 0"),
        ({"position_temperature": 0.0}, "position_temperature is 0; it must be above 0"),
        ({"registers": -1}, "0 \\(none\\) or more"),
        (AXIAL | {"registers": 1}, r"\[class\] and registers have no place; set class_token=False"),
        (AXIAL | {"class_token": True}, r"\[class\] and registers have no place"),
        (AXIAL | {"depth": 3}, "depth 3 must be even, such as 4"),
        (AXIAL | {"positions": "relative"}, "compares only those of one row or column"),
        ({"positions": "rel"}, "positions is 'rel'; it must be 'learned' or"),
        ({"pool": "avg"}, "pool is 'avg'; it must be 'class' or"),
        ({"image": 16}, "image is 16; it must be a list of 2 whole numbers"),
        ({"width": 32.0}, "width is 32.0; it must be a whole number"),
        ({"registers": True}, "registers is True"),
        ({"block": {"norm": "rms"}}, "it must be a BlockConfig"),
    ],
)
@pytest.mark.usefixtures("as_users_run_it")
def test_variants_that_cannot_be(settings: dict, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        replace(PLAIN, **settings)


@pytest.mark.usefixtures("as_users_run_it")
def test_words_of_blocks_and_angles_are_held_to_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match="norm is 'batch'; it must be 'layer' or 'rms'"):
        BlockConfig(norm="batch")
    with pytest.raises(ConfigError, match="kind is 'axial'"):
        RotaryConfig("axial")


def test_angles_need_a_temperature_and_a_grid() -> None:
    with pytest.raises(ConfigError, match=r"rotary\.temperature is 0; it must be above 0"):
        RotaryConfig("cells", 0.0)
    with pytest.raises(ConfigError, match=r"rotary\.reference is \(0, 4\); its rows and columns"):
        RotaryConfig("cells", reference=(0, 4))


@pytest.mark.usefixtures("as_users_run_it")
def test_lists_in_settings_become_tuples() -> None:
    assert replace(PLAIN, image=[16, 24]) == PLAIN
    assert hash(replace(PLAIN, image=[16, 24])) == hash(PLAIN)
