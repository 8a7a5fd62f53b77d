"""Axial attention against loops in float64 over full attention with all but a line masked out."""

from dataclasses import replace

import pytest
import torch
from tests.model.test_variants import AXIAL, images, random_model
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vitreous.errors import ConfigError
from vitreous.insight.attention import compute_attention_maps
from vitreous.insight.attention_distance import measure_attention_distance
from vitreous.insight.rollout import compute_rollout_matrix
from vitreous.model import count
from vitreous.model.attention import Attention, Places
from vitreous.model.axial import join_lines, split_lines
from vitreous.model.config import BlockConfig, RegularisationConfig, RotaryConfig
from vitreous.model.factory import create
from vitreous.model.names import build_vit_config
from vitreous.model.packing import forward_packed
from vitreous.model.token_merging import Merging
from vitreous.model.vit import ViT
from vitreous.shapes import Size

GRID = Size(4, 6)
SETTINGS = {
    "plain": {},
    "qk norm": {"block": BlockConfig(attention="axial", qk_norm=True, attention_inner_norm=True)},
    "no key bias": {"block": BlockConfig(attention="axial", qkv_bias="no-key")},
    "rotary": {"positions": "none", "rotary": RotaryConfig("cells")},
    "every layer": {"position_placement": "layers"},
}


def masked_attention(attention: Attention, tokens: Tensor, along: str, places: Places) -> Tensor:
    """Full attention, one image, head and query at a time, with minus infinity wherever the line is another."""
    q, k, v, _ = Attention.compute_heads(attention, attention.project(tokens), places)
    gathered = torch.empty_like(q)
    for image, head, query in torch.cartesian_prod(*(torch.arange(size) for size in q.shape[:3])):
        logits = torch.full((q.shape[2],), -torch.inf, dtype=q.dtype)
        for key in range(q.shape[2]):
            same = query // GRID.cols == key // GRID.cols if along == "rows" else (query - key) % GRID.cols == 0
            if same:
                logits[key] = q[image, head, query] @ k[image, head, key] / q.shape[3] ** 0.5
        gathered[image, head, query] = torch.softmax(logits, dim=0) @ v[image, head]
    return attention.mix(gathered)


def brute_force(model: ViT, pixels: Tensor) -> Tensor:
    """The whole model, block by block, its attention written out."""
    z = model.embed(pixels)
    places = Places(model.rotary() if model.rotary is not None else None)
    for index, block in enumerate(model.blocks):
        z = model.add_positions(z, index)
        along = ("rows", "cols")[index % 2]
        z = z + masked_attention(block.attention, block.attention_norm(z), along, places)
        z = z + block.mlp(block.mlp_norm(z))
    return model.logits(model.norm(z))


@pytest.mark.parametrize("name", SETTINGS)
def test_the_model_is_full_attention_with_all_but_a_line_masked_out(name: str) -> None:
    model = random_model(**AXIAL | {"depth": 2, **SETTINGS[name]}).eval().double()
    pixels = images(1).double()
    with torch.no_grad():
        found, expected = model(pixels), brute_force(model, pixels)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    assert found.abs().max() > 0.01


def test_lines_are_rows_and_columns_and_come_back() -> None:
    numbers = torch.arange(2 * 24).float().view(2, 1, 24, 1)
    rows, cols = split_lines(numbers, GRID, "rows"), split_lines(numbers, GRID, "cols")
    assert rows.shape == (2 * 4, 1, 6, 1)
    assert cols.shape == (2 * 6, 1, 4, 1)
    assert rows[5].flatten().tolist() == [24 + 6 + col for col in range(6)]
    assert cols[8].flatten().tolist() == [24 + 2 + 6 * row for row in range(4)]
    assert torch.equal(join_lines(rows, GRID, "rows"), numbers)
    assert torch.equal(join_lines(cols, GRID, "cols"), numbers)


def test_a_patch_reaches_its_row_first_and_then_everything() -> None:
    model = random_model(**AXIAL).eval()
    pixels = images(1).requires_grad_()
    found = model.intermediates(pixels, ["block.0", "block.1"])
    for name, reached in (("block.0", 6), ("block.1", 24)):
        gradient = torch.autograd.grad(found[name][0, 2 * 6 + 3].sum(), pixels, retain_graph=True)[0][0]
        touched = gradient.unflatten(1, (4, 4)).unflatten(3, (6, 4)).abs().amax(dim=(0, 2, 4)) > 0
        assert int(touched.sum()) == reached
        assert bool(touched[2].all())


def test_maps_are_zero_off_the_line() -> None:
    model = random_model(**AXIAL)
    same_row = torch.arange(24)[:, None] // 6 == torch.arange(24)[None, :] // 6
    same_col = torch.arange(24)[:, None] % 6 == torch.arange(24)[None, :] % 6
    maps = compute_attention_maps(model, images(2))
    for layer, same in enumerate((same_row, same_col, same_row, same_col)):
        assert bool((maps[layer][..., same] > 0).all())
        assert not maps[layer][..., ~same].any()
        torch.testing.assert_close(maps[layer].sum(-1), torch.ones(2, 2, 24))
    assert bool((compute_rollout_matrix(model, images(2)) > 0).all()), (
        "after a pair of blocks every patch reaches every other"
    )
    found = measure_attention_distance(model, images(2))
    assert bool((found.entropy[::2] <= torch.tensor(6.0).log()).all())
    assert bool((found.distance[1::2] <= 4 * 3).all())


def test_on_one_row_it_is_full_attention() -> None:
    """Where every line that a block goes along is the whole image, both are the same model."""
    model = random_model(**AXIAL | {"image": (4, 24), "depth": 2}).eval()
    full = ViT(replace(model.config, block=BlockConfig()))
    full.load_state_dict(model.state_dict())
    z, places = torch.randn(2, 6, 32), Places(grid=Size(1, 6))
    with torch.no_grad():
        torch.testing.assert_close(model.blocks[0](z, places), full.blocks[0](z), atol=1e-6, rtol=1e-5)
        assert (model.blocks[1](z, places) - full.blocks[1](z)).abs().max() > 0.01


def test_another_resolution_has_other_lines() -> None:
    model = random_model(**AXIAL | {"positions": "none"}).eval()
    small = images(rows=8, cols=12)
    with torch.no_grad():
        expected = model.resize((8, 12))(small)
        model.set_resolution(Size(8, 12))
        torch.testing.assert_close(model(small), expected)


def test_recomputed_blocks_have_the_same_gradients() -> None:
    gradients = []
    for recompute in (False, True):
        model = random_model(**AXIAL).train()
        model.regularise(RegularisationConfig(dropout=0.1, drop_path=0.2))
        model.recompute = recompute
        torch.manual_seed(3)
        model(images()).square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


@pytest.mark.parametrize("image", [(16, 24), (32, 8)])
def test_operations_are_those_that_torch_counts(image: tuple[int, int]) -> None:
    model = random_model(**AXIAL | {"image": image}).eval()
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model(images(1, *image))
    assert counter.get_total_flops() == count.count_flops(model.config)


def test_names() -> None:
    full, axial = build_vit_config("B/16"), build_vit_config("Axial-ViT-B/16")
    assert axial == build_vit_config("Axial-B/16")
    assert (axial.depth, axial.pool, axial.class_token, axial.block.attention) == (24, "mean", False, "axial")
    # 12 blocks more; neither [class] nor its position.
    block = 4 * 768 * 769 + 768 * 3072 * 2 + 3072 + 768 + 4 * 768
    assert count.count_parameters(axial) - count.count_parameters(full) == 12 * block - 2 * 768
    assert build_vit_config("Axial-B/16", block=BlockConfig(norm="rms")).block == BlockConfig(
        attention="axial", norm="rms"
    )
    with pytest.raises(ConfigError, match="block is None"):
        build_vit_config("Axial-B/16", block=None)
    assert build_vit_config("R50+Axial-B/16").stem == build_vit_config("R50+B/16").stem
    assert create(build_vit_config("Axial-mu/16", image=(32, 48), classes=2)).config.depth == 2


def test_what_needs_single_patches_is_refused() -> None:
    model = random_model(**AXIAL)
    with pytest.raises(ConfigError, match="whole rows and columns, but merged tokens leave holes"):
        Merging(model, 2)
    with pytest.raises(ConfigError, match="images with several can't be packed"):
        forward_packed(model, [images()[0]])
