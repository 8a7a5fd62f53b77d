"""Blocks that pass as one graph of oneDNN: the model's own outputs, for sizes of batch that come often."""

import gc
import threading
import weakref

import numpy as np
import pytest
import torch
from tests.deploy.conftest import folder_of, trained
from tests.deploy.test_families import FAMILIES, vit
from tests.deploy.test_families import Block as BlockConfig
from tests.engines.test_fast_path import ONEDNN, close, far, own, pixels_of
from torch.nn import functional as F

import vitreous
from vitreous.engines import fast_path, joined_blocks
from vitreous.engines.joined_blocks import MOST, JoinedBlocks, join_blocks
from vitreous.engines.onednn_graph import compile_graph
from vitreous.engines.packed_linear import Packing
from vitreous.engines.packed_model import pack_model
from vitreous.engines.torch_engine import TorchEngine
from vitreous.runtime.device import computes_bf16
from vitreous.weights.model_folder import save_model

needs_bf16 = pytest.mark.skipif(
    not computes_bf16(torch.device("cpu")), reason="this processor doesn't compute in bfloat16"
)

GRAPH = "blocks as one graph of oneDNN, images {} at a time"
JOINED = {
    "plain", "sincos, pre-logits", "grey, MAE", "five channels", "registers (DINOv2)", "attention pooling (SigLIP)",
    "plain pooling (AIM)", "maximum", "distilled", "learned2d", "hybrid", "hybrid (flax)", "convolutions", "no head",
}  # fmt: skip
"""Families whose blocks attend plainly, with GELU and layer norms, to positions that were added once."""


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Graphs after 16 images, one thread, and oneDNN on any processor."""
    monkeypatch.setattr(joined_blocks, "WORTH", 16)
    monkeypatch.setattr(fast_path, "choose_packing", lambda dtype, rows: Packing("onednn", dtype, rows))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_gives_its_own_outputs(name):
    folder = folder_of(FAMILIES[name])
    engine, pixels = TorchEngine(folder, "cpu"), pixels_of(folder, 9)
    for _ in range(3):
        found = engine.features(pixels)
    expected = TorchEngine(folder, "cpu", packed=False).features(pixels)
    assert close(found, expected)
    assert (engine.notes[-1] == GRAPH.format(9)) == (name in JOINED)


@needs_bf16
@pytest.mark.parametrize("name", sorted(JOINED - {"sincos, pre-logits"}))
def test_bfloat16_is_as_near_to_float32_as_block_by_block(name):
    folder = folder_of(FAMILIES[name])
    engine, pixels = TorchEngine(folder, "cpu", "bf16"), pixels_of(folder, 9)
    expected = TorchEngine(folder, "cpu", packed=False).features(pixels)
    before = engine.features(pixels) - expected
    for _ in range(2):
        found = engine.features(pixels)
    assert engine.notes[-1] == GRAPH.format(9)
    assert np.linalg.norm(found - expected) < 1.5 * np.linalg.norm(before)


def far_from(engine, pixels):
    """Return how far the logits are from the model's own in float32, as a share of the largest one."""
    expected = own(engine, pixels)
    return np.abs(engine.logits(pixels) - expected).max() / np.abs(expected).max()


def engine_of(name="plain", precision="fp32"):
    """Return an engine whose blocks have passed as a graph of nine images."""
    engine = TorchEngine(folder_of(FAMILIES[name]), "cpu", precision)
    pixels = pixels_of(engine.folder, 9)
    for _ in range(2):
        engine.logits(pixels)
    assert engine.notes[-1] == GRAPH.format(9)
    return engine, pixels


def joined_of(engine):
    """Return the blocks of an engine's twin."""
    (joined,) = engine.fast._twin.blocks
    assert type(joined) is JoinedBlocks
    return joined


@pytest.mark.parametrize("pool", ["class", "mean"])
@pytest.mark.parametrize("layer_scale", [0.0, 0.3])
@pytest.mark.parametrize("biases", [True, False])
def test_scales_biases_and_pools_are_the_models_own(pool, layer_scale, biases):
    """With one image and with several; where [class] alone is read, the last block computes two tokens for one."""
    block = BlockConfig(layer_scale=layer_scale, biases=biases, qkv_bias="all" if biases else "none")
    folder = folder_of(vit(pool=pool, block=block, depth=3))
    for count in (1, 3):
        engine, pixels = TorchEngine(folder, "cpu"), pixels_of(folder, count)
        for _ in range(fast_path.WORTH + 16):
            engine.logits(pixels)
        assert engine.notes[-1] == GRAPH.format(count)
        assert far_from(engine, pixels) < 1e-5
        assert joined_of(engine).graphs


def test_a_size_has_a_graph_once_it_has_come_often(monkeypatch):
    """Others are computed block by block, as many as four sizes have one, and each number of threads its own."""
    engine = TorchEngine(folder_of(FAMILIES["plain"]), "cpu")
    for _ in range(4):
        engine.logits(pixels_of(engine.folder, 5))
        assert not joined_of_or_none(engine)
    engine.logits(pixels_of(engine.folder, 5))
    assert set(joined_of(engine).graphs) == {(5, torch.get_num_threads())}
    for count in (2, 3, 4, 6, 7):
        for _ in range(10):
            assert far_from(engine, pixels_of(engine.folder, count)) < 1e-5
    assert {images for images, _ in joined_of(engine).graphs} == {2, 3, 4, 5}
    assert MOST == 4


def joined_of_or_none(engine):
    return engine.fast is not None and joined_of(engine).graphs


def test_each_thread_of_a_pool_has_its_images_in_the_graph(monkeypatch):
    """Made in a thread of the pool, since it holds for that number of threads; the bits are the same each time."""
    monkeypatch.setattr(fast_path, "HIDDEN_BYTES", 40_000)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        engine = TorchEngine(folder_of(FAMILIES["plain"]), "cpu")
        pixels = pixels_of(engine.folder, 30)
        for _ in range(17):
            found = engine.logits(pixels)
        assert {threads for _, threads in joined_of(engine).graphs} == {1}
        assert close(found, own(engine, pixels))
        assert all(np.array_equal(engine.logits(pixels), found) for _ in range(5))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_several_callers_share_a_graph():
    engine, pixels = engine_of()
    expected, found = engine.logits(pixels), []
    threads = [
        threading.Thread(target=lambda: found.extend(engine.logits(pixels) for _ in range(20))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80
    assert all(np.array_equal(one, expected) for one in found)


def test_another_number_of_threads_takes_no_graph_of_this_one():
    engine, pixels = engine_of()
    before = torch.get_num_threads()
    torch.set_num_threads(before + 2)
    try:
        assert far_from(engine, pixels) < 1e-5
        assert {threads for _, threads in joined_of(engine).graphs} == {before}
    finally:
        torch.set_num_threads(before)


def test_a_changed_model_has_another_graph():
    engine, pixels = engine_of()
    first, joined = engine.logits(pixels), joined_of(engine)
    with torch.no_grad():
        engine.model.blocks[0].mlp.contract.weight.mul_(3)
    assert far_from(engine, pixels) < 1e-5
    assert not close(engine.logits(pixels), first)
    assert joined_of(engine) is not joined
    assert engine.notes[-1] == GRAPH.format(9)


def test_a_graph_with_other_outputs_is_not_used(monkeypatch):
    compute = joined_blocks.JoinedBlock.compute
    monkeypatch.setattr(joined_blocks.JoinedBlock, "compute", lambda block, z, inputs: compute(block, z, inputs) * 1.01)
    engine = TorchEngine(folder_of(FAMILIES["plain"]), "cpu")
    pixels = pixels_of(engine.folder, 9)
    for _ in range(3):
        assert far_from(engine, pixels) < 1e-5
    assert "no graph of oneDNN: its outputs differ" in engine.notes[-1]
    assert joined_of(engine).graphs == {}


def test_a_graph_that_fails_is_not_used_again(monkeypatch):
    """What it raises when it is tried, the caller doesn't see, nor later ones."""

    def break_down(_):
        raise RuntimeError("could not execute")

    monkeypatch.setattr(joined_blocks, "compile_graph", lambda *_: break_down)
    engine = TorchEngine(folder_of(FAMILIES["plain"]), "cpu")
    pixels = pixels_of(engine.folder, 9)
    for _ in range(4):
        assert far_from(engine, pixels) < 1e-5
    assert engine.notes[-1] == "no graph of oneDNN: could not execute"
    assert joined_of(engine).graphs == {}


def test_a_graph_that_fails_later_gives_way_to_single_blocks():
    engine, pixels = engine_of()
    expected, joined = engine.logits(pixels), joined_of(engine)
    (size,) = joined.graphs

    def break_down(_):
        raise RuntimeError("out of\nmemory")

    joined.graphs[size] = break_down
    for _ in range(3):
        assert close(engine.logits(pixels), expected)
    assert joined.graphs == {}
    assert engine.notes[-1] == "a graph of oneDNN failed: out of memory"
    assert sum("failed" in note for note in engine.notes) == 1


def test_a_model_is_let_go_with_its_last_use():
    """Not when Python's collector comes, which commands pause: its weights may lie in a file."""
    engine, _ = engine_of()
    alive = [weakref.ref(one) for one in (engine.fast, joined_of(engine), engine.model)]
    gc.collect()
    gc.disable()
    try:
        del engine
        assert [one() for one in alive] == [None] * 3
    finally:
        gc.enable()


def test_a_graph_holds_no_more_attention_than_there_is_room_for(monkeypatch):
    twin = pack_model(trained(FAMILIES["plain"]), ONEDNN).model
    monkeypatch.setattr(joined_blocks, "find_room", lambda: 3 * twin.config.heads * 25**2 * 4 + 1)
    joined = join_blocks(twin, 25)
    assert [joined.is_due((images, 1), 100) for images in (1, 3, 4, 9)] == [True, True, False, False]


@pytest.mark.parametrize("batches", [1, 2, 3, 4, 9, 40])
def test_an_engine_that_counts_batches_is_as_if_they_had_come(batches, monkeypatch):
    """Parts of three and a last one of two: each size has its graph when as many of its own images have come."""
    monkeypatch.setattr(fast_path, "HIDDEN_BYTES", 3 * 25 * 96 * 4)
    folder = folder_of(FAMILIES["plain"])
    run, counted = TorchEngine(folder, "cpu"), TorchEngine(folder, "cpu")
    pixels = pixels_of(folder, 5)
    for _ in range(batches):
        run.logits(pixels)
    passes = min(batches, 4)
    for _ in range(passes):
        counted.logits(np.zeros_like(pixels))
    counted.count(np.zeros_like(pixels), batches - passes)
    for _ in range(12):
        assert np.array_equal(counted.logits(pixels), run.logits(pixels))
    assert set(joined_of(run).graphs) == {(3, 1), (2, 1)}
    assert counted.notes == run.notes


def test_predictions_that_go_on_have_the_numbers_of_undisturbed_ones(tmp_path):
    save_model(tmp_path / "model", folder_of(FAMILIES["plain"]))
    images = list(np.random.default_rng(0).integers(0, 256, (90, 40, 50, 3), dtype=np.uint8))
    predictor = vitreous.load(tmp_path / "model", batch=6)
    expected = list(predictor.predict_many(images))
    assert GRAPH.format(6) in predictor.engine.notes
    for skip in (6, 12, 24, 30, 60):
        again = vitreous.load(tmp_path / "model", batch=6)
        assert list(again.predict_many(images, skip=skip)) == expected[skip:]


def test_others_take_no_graph_that_is_being_tried():
    engine = TorchEngine(folder_of(FAMILIES["plain"]), "cpu")
    pixels = pixels_of(engine.folder, 9)
    engine.logits(pixels)
    joined, z = joined_of(engine), torch.randn(9, 25, 32)
    seen = []

    def compute():
        seen.append((dict(joined.graphs), [thread_result(lambda: joined(z))]))
        return joined(z)

    with torch.inference_mode():
        before = joined(z)
        graph, found = joined.try_graph(9, compute)
        assert torch.equal(found, graph(z))
        assert joined.graphs == {}
        assert torch.equal(joined(z), before)
    ((graphs, (elsewhere,)),) = seen
    assert graphs == {}
    assert torch.equal(elsewhere, before)


def thread_result(function):
    """Return what a function returns in a thread of its own, with as many threads of torch."""
    found, threads = [], torch.get_num_threads()

    def run():
        torch.set_num_threads(threads)
        with torch.inference_mode():
            found.append(function())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


def test_without_graphs_in_torch_blocks_pass_one_by_one(monkeypatch):
    def refuse(*_):
        raise RuntimeError("not in this build\nof torch")

    monkeypatch.setattr(joined_blocks, "compile_graph", refuse)
    engine = TorchEngine(folder_of(FAMILIES["plain"]), "cpu")
    pixels = pixels_of(engine.folder, 9)
    for _ in range(3):
        assert far_from(engine, pixels) < 1e-5
    assert engine.notes[-1] == "no graph of oneDNN: not in this build of torch"


def test_wide_models_single_tokens_and_other_layers_are_not_joined(monkeypatch):
    """Also where the copies of their weights would take too much memory, or their attention, and in batches of bfloat16 with AMX."""
    for config in (
        vit(width=joined_blocks.WIDEST + 32, heads=2),
        vit(image=(8, 8), patch=(8, 8), class_token=False, pool="mean"),
        vit(block=BlockConfig(activation="gelu-tanh")),
    ):
        twin = pack_model(trained(config), ONEDNN).model
        tokens, _ = fast_path.measure_activations(twin)
        assert join_blocks(twin, tokens) is None
        assert len(twin.blocks) == 2
    twin = pack_model(trained(FAMILIES["plain"]), Packing("mkl", torch.float32, (25,))).model
    assert join_blocks(twin, 25) is None
    twin = pack_model(trained(FAMILIES["plain"]), ONEDNN).model
    with monkeypatch.context() as changed:
        changed.setattr(joined_blocks, "find_room", lambda: twin.config.heads * 25**2 * 4 - 1)
        assert join_blocks(twin, 25) is None
    monkeypatch.setattr(fast_path, "SHARE", 10**9)
    monkeypatch.setattr(fast_path.FastPath, "_refusal", lambda *_: "")
    engine = TorchEngine(folder_of(FAMILIES["plain"]), "cpu")
    engine.logits(pixels_of(engine.folder, 9))
    assert engine.fast._joined is None


@pytest.mark.parametrize(("amx", "images", "due"), [(True, 2, False), (True, 1, True), (False, 2, True)])
def test_batches_in_bfloat16_with_amx_are_not_joined(amx, images, due, monkeypatch):
    monkeypatch.setattr(joined_blocks, "has_amx", lambda: amx)
    twin = pack_model(trained(FAMILIES["plain"]), Packing("onednn", torch.bfloat16, (25,))).model
    joined = join_blocks(twin, 25)
    assert joined.is_due((images, 1), 100) == due
    assert not joined.is_due((images, 1), 100)


@needs_bf16
def test_a_callers_autocast_changes_nothing():
    engine, pixels = engine_of(precision="bf16")
    expected = engine.logits(pixels)
    with torch.autocast("cpu", torch.float16):
        assert np.array_equal(engine.logits(pixels), expected)


def test_a_graph_that_is_let_go_lets_go_of_its_weights():
    """TorchScript's own register keeps each function for good."""
    weights = [torch.randn(64, 64)]
    alive = weakref.ref(weights[0])
    graph = compile_graph(lambda values: F.linear(values, weights[0]), [(4, 64)], torch.float32)
    assert far(graph(torch.eye(64)[:4]), weights[0].T[:4]) < 1e-6
    weights.clear()
    gc.collect()
    assert alive() is not None
    del graph
    gc.collect()
    assert alive() is None
