"""int8 blocks that pass as one graph: what they give one by one, for sizes of batch that come often."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.deploy.conftest import folder_of
from tests.deploy.test_families import FAMILIES, vit
from tests.deploy.test_families import Block as BlockConfig
from tests.engines.test_fast_path import own, pixels_of
from tests.engines.test_int8_linear import exact  # noqa: F401 (a fixture for all tests)
from tests.engines.test_joined_blocks import GRAPH, JOINED, joined_of, soon  # noqa: F401 (likewise)

from vitreous.deploy.int8_torch import measure_ranges
from vitreous.engines import joined_blocks
from vitreous.engines.int8_linear import Int8Linear
from vitreous.engines.int8_product import Int8Product
from vitreous.engines.packed_model import list_layers
from vitreous.engines.torch_engine import TorchEngine


def engine_of(config, left=()):
    """Return an engine in int8 and its images, calibrated on them, with some layers in float."""
    folder = folder_of(config)
    pixels, layers = pixels_of(folder, 9, np.random.default_rng(0)), list_layers(folder.model)
    ranges = measure_ranges(layers, lambda: TorchEngine(folder, "cpu", packed=False).logits(pixels))
    kept = {name: ends for name, ends in ranges.items() if not name.endswith(tuple(left))}
    return TorchEngine(replace(folder, ranges=kept), "cpu", "int8"), pixels


def is_as_near(found, before, engine, pixels):
    """Return whether logits are as near to those in float as they were before."""
    plain = own(engine, pixels)
    return 0 < np.linalg.norm(found - plain) < 1.5 * np.linalg.norm(before - plain) < 0.2 * np.linalg.norm(plain)


@pytest.mark.parametrize("name", sorted(JOINED))
def test_int8_gives_what_it_gives_block_by_block(name):
    engine, pixels = engine_of(FAMILIES[name])
    before = engine.logits(pixels)
    for _ in range(2):
        found = engine.logits(pixels)
    assert engine.notes[-1] == GRAPH.format(9)
    assert is_as_near(found, before, engine, pixels)
    assert all(np.array_equal(engine.logits(pixels), found) for _ in range(3))


@pytest.mark.parametrize("left", [(), ("qkv",), ("out", "expand"), ("contract",), ("qkv", "out", "expand")])
@pytest.mark.parametrize("pool", ["class", "mean"])
@pytest.mark.parametrize("biases", [True, False])
def test_int8_layers_beside_float_ones(left, pool, biases):
    """GELU's tanh form too, which int8 products know."""
    activation = "gelu" if left else "gelu-tanh"
    block = BlockConfig(layer_scale=0.3, biases=biases, qkv_bias="all" if biases else "none", activation=activation)
    for count in (1, 3):
        engine, _ = engine_of(vit(pool=pool, block=block, depth=3), left)
        pixels = pixels_of(engine.folder, 15, np.random.default_rng(1))
        before = np.concatenate([engine.logits(part) for part in np.split(pixels, 15 // count)])
        for _ in range(2):
            found = np.concatenate([engine.logits(part) for part in np.split(pixels, 15 // count)])
        assert engine.notes[-1] == GRAPH.format(count)
        assert is_as_near(found, before, engine, pixels)


def test_wide_models_in_int8_have_a_graph_after_four_times_as_many_images():
    """Unless some of their layers are float, of which each graph would hold a copy."""
    config = vit(width=joined_blocks.WIDEST + 32, heads=2)
    engine, pixels = engine_of(config)
    found = []
    for _ in range(8):
        found.append(engine.logits(pixels))
        assert (len(engine.notes) == 2) == (len(found) * 9 >= 4 * joined_blocks.WORTH), len(found)
    assert engine.notes[-1] == GRAPH.format(9)
    assert is_as_near(found[-1], found[0], engine, pixels)
    engine, _ = engine_of(config, ["qkv"])
    engine.logits(pixels)
    assert engine.fast._joined is None


def test_without_functions_from_text_blocks_pass_one_by_one(monkeypatch):
    monkeypatch.delattr(torch._C, "parse_ir")
    engine, pixels = engine_of(FAMILIES["plain"])
    expected = engine.logits(pixels)
    for _ in range(3):
        assert np.array_equal(engine.logits(pixels), expected)
    assert engine.notes[-1].startswith("no graph of oneDNN: this build of torch has no functions from text")


def test_several_callers_share_a_graph_in_int8():
    engine, pixels = engine_of(FAMILIES["plain"])
    images = [np.roll(pixels, turn, 0) for turn in range(4)]
    for _ in range(3):
        engine.logits(pixels)
    assert engine.notes[-1] == GRAPH.format(9)
    expected = [engine.logits(one) for one in images]
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: [engine.logits(one) for one in images], range(40)):
            assert all(map(np.array_equal, found, expected))


def test_int8_weights_are_shared_by_graphs_and_let_go_with_them():
    engine, pixels = engine_of(FAMILIES["plain"])
    for count in (9, 4):
        for _ in range(6):
            engine.logits(pixels[:count])
    joined = joined_of(engine)
    assert {images for images, _ in joined.graphs} == {9, 4}
    packed = next(one for one in joined._inputs if one.is_mkldnn)
    assert any(packed is one.factors[2] for one in joined.modules() if isinstance(one, Int8Linear))
    alive = weakref.ref(packed)
    del joined, packed, engine
    gc.collect()
    assert alive() is None


def test_a_sum_that_leaves_int8_is_noticed(monkeypatch):
    """The graph's outputs are held against the model's, and how far they are against the blocks one by one."""
    add = Int8Product.add
    monkeypatch.setattr(Int8Product, "add", lambda one, values, z, inputs: add(one, values, z * 1.05, inputs))
    engine, pixels = engine_of(FAMILIES["plain"])
    expected = engine.logits(pixels)
    for _ in range(3):
        assert np.array_equal(engine.logits(pixels), expected)
    assert "no graph of oneDNN: its outputs differ" in engine.notes[-1]
