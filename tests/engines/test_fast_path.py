"""The fast path on a CPU: the model's own outputs from packed layers, whatever the model is made of and whatever changes in it."""

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
import torch
from tests.deploy.conftest import folder_of, trained
from tests.deploy.test_families import FAMILIES
from torch.nn import functional as F

import vitreous
from vitreous.api.serving import name_sources
from vitreous.engines import fast_path, packed_linear
from vitreous.engines.fast_path import FastPath, ModelState, measure_activations, open_pool
from vitreous.engines.packed_linear import PackedLinear, Packing
from vitreous.engines.packed_model import count_packed, list_layers, pack_model
from vitreous.engines.torch_engine import TorchEngine
from vitreous.model.lora import add_lora
from vitreous.model.resnet_config import ResNetConfig
from vitreous.model.token_merging import Merging
from vitreous.runtime.device import computes_bf16
from vitreous.runtime.memory import read_memory
from vitreous.weights.model_folder import save_model

if TYPE_CHECKING:
    from vitreous.engines.packed_blocks import PlainBlock
    from vitreous.model.vit import ViT

ACTIVATIONS = {
    "none": lambda values: values,
    "gelu": F.gelu,
    "gelu-tanh": lambda values: F.gelu(values, approximate="tanh"),
    "silu": F.silu,
}
LIBRARIES = [("mkl", torch.float32, 2e-6), ("onednn", torch.float32, 2e-6)]
if computes_bf16(torch.device("cpu")):
    LIBRARIES.append(("onednn", torch.bfloat16, 2e-2))
PIXELS = np.random.default_rng(0)
needs_mkl = pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="this build of torch has no MKL")


def far(found, expected):
    return float((found.double() - expected.double()).abs().max() / expected.abs().max())


def pixels_of(folder, count, drawn=PIXELS):
    channels, kept = folder.preprocess.channels, folder.preprocess.keeps_channels
    pixels = drawn.integers(0, 256, (count, *folder.preprocess.size, channels), dtype=np.uint8)
    return pixels.astype(np.float32) if kept else pixels


@needs_mkl
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("library", "dtype", "near"), LIBRARIES)
def test_a_packed_layer_is_the_product_in_float64(library, dtype, near, activation):
    """With the number of rows that was packed for, and with others; strided values too."""
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(96, 64, generator=generator) / 8, torch.randn(96, generator=generator)
    for added in (bias, None):
        layer = PackedLinear(weight, added, Packing(library, dtype, (10, 40)), activation)
        for shape in ((2, 5, 64), (8, 5, 64), (3, 5, 64), (7, 64), (2, 64, 5)):
            values = torch.randn(*shape, generator=generator)
            values = values if shape[-1] == 64 else values.mT
            product = F.linear(values.double(), weight.double(), None if added is None else added.double())
            assert far(layer(values), ACTIVATIONS[activation](product)) < near
            assert torch.equal(layer(values.bfloat16()), layer(values.bfloat16().float()))
            if activation == "none":
                residual = torch.randn(product.shape, generator=generator)
                before = residual.clone()
                assert far(layer.add(values, residual), product + residual) < near
                assert torch.equal(residual, before)


@needs_mkl
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_gives_its_own_outputs(name):
    """Float32 within 1e-5 of the largest logit; bfloat16 about as far as torch's own autocast is."""
    model = trained(FAMILIES[name])
    config = model.config
    images = torch.randn(3, config.channels, *config.image, generator=torch.Generator().manual_seed(1))
    tokens, _ = measure_activations(model)
    with torch.inference_mode():
        expected = model(images)
        with torch.autocast("cpu", torch.bfloat16):
            cast = far(model(images), expected)
        for library, dtype, _ in LIBRARIES:
            packed = pack_model(model, Packing(library, dtype, (3 * tokens,)))
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
                found = far(packed.model(images).float(), expected)
            assert found < (1e-5 if dtype == torch.float32 else max(0.03, 2 * cast))
            assert (count_packed(packed.model) > 0) == (not isinstance(config, ResNetConfig))
        assert torch.equal(model(images), expected)
    assert count_packed(model) == 0


def test_residuals_belong_to_products_wherever_a_block_allows_it():
    counted = {
        name: [type(part).__name__ for part in cast("ViT", pack_model(trained(FAMILIES[name]), ONEDNN).model).blocks]
        for name in ("plain", "registers (DINOv2)", "bias (BEiT)", "rotary mixed", "axial", "parallel, RMS, QK norm")
    }
    kinds = ["PlainBlock", "PlainBlock", "PackedBlock", "PackedBlock", "PackedBlock", "Block"]
    assert list(counted.values()) == [[kind] * 2 for kind in kinds]


def test_only_a_first_token_that_alone_is_read_is_computed_alone():
    computed = {}
    for name in ("plain", "distilled", "class+mean of layers", "grey, MAE", "maximum", "no head"):
        twin = cast("ViT", pack_model(trained(FAMILIES[name]), ONEDNN).model)
        computed[name] = [cast("PlainBlock", block).query is not None for block in twin.blocks]
    assert computed.pop("plain") == computed.pop("no head") == [False, True]
    assert all(found == [False, False] for found in computed.values())


ONEDNN = Packing("onednn", torch.float32, (25,))


LAYERS = {"registers (DINOv2)": 10, "rotary cells (EVA-02)": 9, "class+mean of layers": 9, "no head": 10}
"""Four in each of two blocks, the patches' one, and q of [class] in the last block where no other token is read."""


@pytest.mark.parametrize("name", [*LAYERS, "bottlenecks"])
@pytest.mark.parametrize("threads", [1, 3])
def test_an_engine_gives_its_own_outputs_for_batches_of_all_sizes(name, threads, monkeypatch):
    monkeypatch.setattr(fast_path, "HIDDEN_BYTES", 40_000)  # parts of a few images
    folder = folder_of(FAMILIES[name])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        fast, plain = TorchEngine(folder, "cpu"), TorchEngine(folder, "cpu", packed=False)
        for count in (1, 9, 1, 30, 7):
            pixels = pixels_of(folder, count)
            for what in ("features", "logits", "probabilities") if folder.classes else ("features",):
                found, expected = getattr(fast, what)(pixels), getattr(plain, what)(pixels)
                assert found.shape == expected.shape
                assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert fast.notes[0].startswith(
        "torch's own layers: a ResNet" if name == "bottlenecks" else f"{LAYERS[name]} dense layers packed by"
    )


def engine_of(name="plain"):
    engine = TorchEngine(folder_of(FAMILIES[name]), "cpu")
    pixels = pixels_of(engine.folder, 9)
    engine.logits(pixels)
    assert "packed by" in engine.notes[0]
    return engine, pixels


def own(engine, pixels):
    return TorchEngine(engine.folder, "cpu", packed=False).logits(pixels)


def close(found, expected):
    return np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("change", [
    lambda model: model.blocks[0].mlp.contract.weight.mul_(3),
    lambda model: model.blocks[1].attention.out.bias.mul_(3),
    lambda model: next(model.positions.parameters()).mul_(5),
    lambda model: setattr(model.head, "weight", torch.nn.Parameter(model.head.weight * 2)),
    lambda model: model.load_state_dict({name: value * 1.5 for name, value in model.state_dict().items()}),
    lambda model: setattr(model.blocks[0].mlp.expand.weight, "data", model.blocks[0].mlp.expand.weight * 2),
    lambda model: setattr(model.blocks[1], "mlp", torch.nn.Identity()),
    lambda model: add_lora(model, 2),
], ids=["in place", "bias", "positions", "parameter", "state", "data", "module", "LoRA"])  # fmt: skip
def test_a_changed_model_is_packed_again(change):
    engine, pixels = engine_of()
    first = engine.logits(pixels)
    with torch.no_grad():
        change(engine.model)
        for name, value in engine.model.named_parameters():
            if name.endswith("up"):
                value.add_(0.5)  # of LoRA, which starts as nothing
    expected = own(engine, pixels)
    assert not close(first, expected)
    assert close(engine.logits(pixels), expected)


def test_hooks_see_the_model_itself():
    engine, pixels = engine_of()
    seen = []
    handle = engine.model.blocks[1].register_forward_hook(lambda module, given, found: seen.append(found.shape))
    engine.logits(pixels)
    assert seen == [(9, 25, 32)]
    assert "hooks" in engine.notes[0]
    handle.remove()
    assert close(engine.logits(pixels), own(engine, pixels))
    assert "packed by" in engine.notes[0]


def test_another_resolution_is_packed_again():
    engine, _ = engine_of("learned2d")
    from vitreous.shapes import Size

    engine.model.set_resolution(Size(16, 32))
    pixels = PIXELS.integers(0, 256, (9, 16, 32, 3), dtype=np.uint8)
    assert close(engine.logits(pixels), own(engine, pixels))


def test_few_images_are_not_worth_packing():
    engine = TorchEngine(folder_of(FAMILIES["plain"]), "cpu")
    engine.logits(pixels_of(engine.folder, fast_path.WORTH - 1))
    assert engine.notes == ("torch's own layers: too few images for packing to pay",)


def test_what_cannot_be_packed_stays_and_is_said(monkeypatch):
    folder = folder_of(FAMILIES["plain"])
    add_lora(folder.model, 2, layers=("out",))
    engine = TorchEngine(folder, "cpu")
    pixels = pixels_of(folder, 9)
    assert close(engine.logits(pixels), own(engine, pixels))
    assert engine.notes[1:] == tuple(f"torch's own layer: blocks.{place}.attention.out: a LoRA" for place in (0, 1))

    for target, name, value, said in (
        (packed_linear, "is_x86", lambda: False, "no packing for this kind of processor"),
        (fast_path, "SHARE", read_memory(), "more"),
        (fast_path, "pack_model", lambda *_: pack_model(trained(FAMILIES["plain"], seed=5), ONEDNN), "of the largest"),
        (fast_path, "pack_model", lambda *_: torch.ops.mkldnn._reorder_linear_weight(torch.ones(2)), "packing failed"),
    ):  # fmt: skip
        with monkeypatch.context() as changed:
            changed.setattr(target, name, value)
            engine = TorchEngine(folder_of(FAMILIES["plain"]), "cpu")
            assert np.array_equal(engine.logits(pixels), own(engine, pixels))
            assert engine.notes[0].startswith("torch's own layers: ")
            assert said in engine.notes[0]


def test_a_model_around_a_vit_is_packed_layer_by_layer():
    """Merged tokens: another number of rows in every block."""
    model = trained(FAMILIES["plain"])
    images = torch.randn(9, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    merging = Merging(model, 3).eval()
    fast = FastPath(merging, bf16=False)
    with torch.inference_mode():
        found = fast.run(lambda module, part: module(part), images)
        assert far(found, merging(images)) < 1e-5
    assert fast.notes[0].startswith("8 dense layers packed by")


def test_threads_of_the_pool_compute_alone_and_the_callers_keep_theirs():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        pool = open_pool(4)
        found = list(pool.map(lambda _: torch.get_num_threads(), range(12)))
        later = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert (set(found), torch.get_num_threads(), later) == ({1}, 3, [3])
        pool.shutdown()
    finally:
        torch.set_num_threads(before)


def test_a_sealed_model_is_not_looked_at_any_more(monkeypatch):
    folder = folder_of(FAMILIES["plain"])
    predictor, pixels = vitreous.Predictor(folder, "cpu"), pixels_of(folder, 9)
    expected = predictor.engine.logits(pixels)
    predictor.seal()
    monkeypatch.setattr(ModelState, "_is_same", None)
    assert np.array_equal(predictor.engine.logits(pixels), expected)
    again = vitreous.Predictor(folder, "cpu")
    again.seal()  # before its first pass
    assert all(np.array_equal(again.engine.logits(pixels), expected) for _ in range(2))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_sealing_takes_the_model_as_it_is_by_then(precision):
    folder = folder_of(FAMILIES["plain"])
    ranges = dict.fromkeys(list_layers(folder.model), (-8.0, 8.0))
    folder, pixels = replace(folder, ranges=ranges), pixels_of(folder, 9)
    engine = TorchEngine(folder, "cpu", precision)
    before = engine.logits(pixels)
    with torch.no_grad():
        folder.model.blocks[0].mlp.contract.weight.mul_(3)
    engine.seal()
    found = engine.logits(pixels)
    assert np.array_equal(found, TorchEngine(folder, "cpu", precision).logits(pixels))
    assert not close(found, before)


def test_a_single_image_doesnt_cut_later_batches_into_single_images(monkeypatch):
    """By MKL a batch is cut as the first one was, since its layout is for one number of tokens, unless that says nothing."""
    folder, seen = folder_of(FAMILIES["plain"]), []
    for library, first, expected in (("onednn", 8, 24), ("onednn", 1, 24), ("mkl", 8, 8), ("mkl", 1, 24)):
        if library == "mkl" and not torch.backends.mkl.is_available():
            continue
        monkeypatch.setattr(fast_path, "choose_packing", lambda dtype, rows, name=library: Packing(name, dtype, rows))
        fast, pixels = FastPath(folder.model, bf16=False), torch.randn(24, 3, 32, 48)
        fast.threads = 1
        for batch in (pixels[:first], pixels):
            seen.clear()
            with torch.inference_mode():
                fast.run(lambda model, part: seen.append(len(part)) or model(part), batch)
        assert max(seen) == expected, (library, first)


def test_a_model_that_was_sealed_with_a_hook_is_packed_once_the_hook_is_gone():
    folder = folder_of(FAMILIES["plain"])
    engine, pixels = TorchEngine(folder, "cpu"), pixels_of(folder, 9)
    engine.seal()
    hook = folder.model.blocks[0].register_forward_hook(lambda *_: None)
    engine.logits(pixels)
    assert "hooks" in engine.notes[0]
    hook.remove()
    engine.logits(pixels)
    assert "dense layers packed by" in engine.notes[0]


def test_a_service_seals_what_it_loads_and_not_its_callers_model(tmp_path):
    save_model(tmp_path / "model", folder_of(FAMILIES["plain"]))
    given = vitreous.load(tmp_path / "model", device="cpu")
    sources = name_sources({"own": tmp_path / "model", "given": given}, {"device": "cpu"})
    assert [one.open().engine.sealed for one in sources] == [True, False]
