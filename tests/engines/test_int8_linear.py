"""int8 of the torch engine: the product of the rounded factors in float64, layer by layer and in whole models."""

import copy
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.deploy.conftest import folder_of, trained
from tests.deploy.test_families import FAMILIES
from torch.nn import functional as F

from vitreous.deploy.int8_torch import measure_ranges
from vitreous.engines import fast_path, int8_linear, torch_engine
from vitreous.engines.int8_linear import (
    Int8Linear,
    Int8Packing,
    check_int8,
    find_bits,
    find_steps,
    is_exact,
    round_values,
)
from vitreous.engines.int8_product import Int8Product
from vitreous.engines.packed_blocks import PIXELS, PlainBlock
from vitreous.engines.packed_linear import Packing
from vitreous.engines.packed_model import PATCHES, count_packed, folds_pixels, list_layers, pack_model
from vitreous.engines.torch_engine import TorchEngine
from vitreous.errors import ConfigError
from vitreous.model.lora import add_lora
from vitreous.model.swin_config import SwinConfig
from vitreous.runtime.processor import is_x86

ACTIVATIONS = {
    "none": lambda values: values,
    "gelu": F.gelu,
    "gelu-tanh": lambda values: F.gelu(values, approximate="tanh"),
    "silu": F.silu,
}
parse_ir = torch._C.parse_ir
REST = Packing("onednn", torch.float32, (25,))
DRAWN = torch.Generator().manual_seed(0)


@pytest.fixture(scope="module", autouse=True)
def exact():
    """Skip where the processor's int8 sums saturate."""
    try:
        check_int8()
    except ConfigError as error:
        pytest.skip(str(error))


def far(found, expected):
    return float((found.double() - expected.double()).abs().max() / expected.abs().max())


def round_inputs(values, ends):
    """Return values of a range in 255 steps, in float64."""
    step = (ends[1] - ends[0]) / 255
    zero = round(-ends[0] / step)
    return ((values.double() / step).round() + zero).clamp(0, 255).sub(zero).mul(step)


def round_rows(weight, largest=None):
    """Return a weight in 127, or without VNNI 63, steps of each row's largest value, in float64."""
    step = weight.double().abs().amax(1, keepdim=True) / (largest or {8: 127, 7: 63}[find_bits()])
    return (weight.double() / step).round() * step


def draw_layer(inputs=64):
    """Return a weight whose rows differ in scale, inputs with outlying channels as a norm gives them, and a bias."""
    weight = torch.randn(96, inputs, generator=DRAWN) * torch.logspace(-2, 1, 96)[:, None] / 8
    values = torch.randn(3, 7, inputs, generator=DRAWN)
    values[..., 5] = 6 + values[..., 5]
    return weight, torch.randn(96, generator=DRAWN), values


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("bits", "largest"), [(8, 127), (7, 63)])
def test_a_layer_is_the_product_of_rounded_factors_in_float64(activation, bits, largest, monkeypatch):
    if not is_exact(bits):
        pytest.skip(f"this processor's sums of {bits} bits saturate")
    monkeypatch.setattr(int8_linear, "find_bits", lambda: bits)
    weight, bias, values = draw_layer()
    ends = (float(values.min()) * 0.8, float(values.max()))  # some lie outside
    product = F.linear(round_inputs(values, ends), round_rows(weight, largest), bias.double())
    expected = ACTIVATIONS[activation](product)
    for gives, near in ((torch.float32, 1e-6), (torch.bfloat16, 4e-3)):
        layer = Int8Linear(weight, bias, ends, activation, gives)
        found = layer(values)
        assert (found.dtype, found.shape) == (gives, expected.shape)
        assert far(found, expected) < near
        assert torch.equal(found, layer(values.mT.contiguous().mT))
    assert far(Int8Linear(weight, None, ends, activation)(values), ACTIVATIONS[activation](product - bias)) < 1e-6
    assert far(F.linear(values, weight, bias), product) > 1e-3


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("gives", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("biased", [True, False])
def test_a_layer_in_a_graph_gives_the_same_bits(activation, gives, biased):
    weight, bias, values = draw_layer()
    ends = (float(values.min()) * 0.8, float(values.max()))
    bias, before, residual = bias if biased else None, torch.zeros(3), torch.randn(3, 7, 96, generator=DRAWN) * 20
    for scale in (1e-9, 1.0, 1e9):
        layer = Int8Linear(weight, bias, (ends[0] * scale, ends[1] * scale), activation, gives)
        product = Int8Product(layer, 1)
        assert torch.equal(product.multiply(values * scale, (before, *product.tensors)), layer(values * scale))
    layer = Int8Linear(weight, bias, ends)
    product = Int8Product(layer, 1)
    assert torch.equal(product.add(values, residual, (before, *product.tensors)), layer.add(values, residual))


def test_a_layer_in_a_graph_has_no_decimal_point():
    """Which graphs read as the program's locale writes it: a comma in half of the world."""
    weight, bias, _ = draw_layer()
    texts = []
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(torch._C, "parse_ir", lambda text: texts.append(text) or parse_ir(text))
        Int8Product(Int8Linear(weight, bias, (-1.7, 3.1), "gelu"), 0)
    numbers = re.findall(r"value=([^\]]*)\]", "".join(texts))
    assert len(texts) == 2 and len(numbers) > 15 and not any("." in one for one in numbers)


def test_the_residual_is_added_and_stays():
    weight, bias, values = draw_layer()
    ends = (float(values.min()), float(values.max()))
    residual = torch.randn(3, 7, 96, generator=DRAWN) * 20
    before = residual.clone()
    found = Int8Linear(weight, bias, ends).add(values, residual)
    expected = F.linear(round_inputs(values, ends), round_rows(weight), bias.double()) + residual
    assert far(found, expected) < 1e-6
    assert torch.equal(residual, before)
    assert far(Int8Linear(weight, bias, ends, gives=torch.bfloat16).add(values, residual), expected) < 4e-3


def test_a_layer_gives_the_next_ones_uint8():
    """After GELU, whose range lies almost wholly above 0, 0 is nearly the lowest value."""
    weight, bias, values = draw_layer()
    ends, behind = (float(values.min()), float(values.max())), (-0.17, 9.0)
    first, second = Int8Linear(weight, bias, ends, "gelu"), Int8Linear(weight.T, None, behind)
    assert second.zero == 5
    first.join(second)
    found = first(values)
    hidden = F.gelu(F.linear(round_inputs(values, ends), round_rows(weight), bias.double()))
    expected = round_inputs(hidden, behind)
    off = (found.double() - second.zero) * second.scale - expected
    assert found.dtype == torch.uint8
    assert off.abs().max() < 1.01 * second.scale  # a tie may go the other way
    assert (off.abs() > 0.01 * second.scale).double().mean() < 0.01


@pytest.mark.parametrize("ends", [(-3.0, 1.0), (0.0, 2.0), (-5.0, 0.0), (0.0, 0.0), (0.0, 1e-42), (-1e30, 1e30)])
def test_values_of_any_range_are_rounded_to_the_nearest_step(ends):
    scale, zero = find_steps(ends)
    values = torch.linspace(2 * ends[0] - 1, 2 * ends[1] + 1, 101)
    found = round_values(values, scale, zero)
    nearest = (values.double() / scale).round().add(zero).clamp(0, 255)
    assert 0 <= zero <= 255
    assert (found.double() - nearest).abs().max() <= 1
    assert torch.equal(round_values(torch.zeros(3), scale, zero), torch.full((3,), zero, dtype=torch.uint8))


def round_model(model, ranges):
    """Return a model in float64 whose layers take and hold rounded values."""
    twin, layers = copy.deepcopy(model).double(), {}
    for name, ends in ranges.items():
        layer = layers[name] = twin.get_submodule(name)
        layer.weight.data = round_rows(layer.weight)
        layer.register_forward_pre_hook(lambda _, given, ends=ends: (round_inputs(given[0], ends),))
    return twin


SWIN = SwinConfig(image=(32, 32), width=16, depths=(1, 2), heads=(2, 4), windows=((4, 4), (2, 2)), classes=5)
INT8 = {name: config for name, config in FAMILIES.items() if list_layers(trained(config))} | {"Swin": SWIN}


@pytest.mark.parametrize("name", INT8)
def test_every_family_is_its_rounded_self_in_float64(name):
    model = trained(INT8[name])
    images = torch.randn(6, model.config.channels, *model.config.image, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        plain = model(images)
        ranges = measure_ranges(list_layers(model), lambda: model(images))
        found = pack_model(model, Int8Packing(REST, torch.float32, ranges)).model
        assert count_packed(found, (Int8Linear,)) >= len(ranges)
        found = found(images)
    expected = round_model(model, ranges)(images.double()).detach()
    away = (found - expected).square().mean().sqrt() / (plain - expected).square().mean().sqrt()
    assert away < 0.35  # ties, and values that float32 has on the other side of one
    assert 1e-3 < far(plain, expected) < 0.3


def test_families_without_encoder_blocks_have_no_such_layers():
    names = set(FAMILIES) - set(INT8)
    assert names == {"bottlenecks", "basic units", "pooled units", "Haar transform"}


def engine_of(name="plain", left=(), pixel_range=PIXELS):
    folder = folder_of(FAMILIES[name])
    pixels = np.random.default_rng(0).integers(256, size=(9, *folder.preprocess.size, 3), dtype=np.uint8)
    plain = TorchEngine(folder, "cpu", packed=False)
    ranges = measure_ranges(list_layers(folder.model), lambda: plain.logits(pixels))
    ranges |= {PATCHES: pixel_range} if folds_pixels(folder.model) else {}
    kept = {one: ends for one, ends in ranges.items() if one not in left}
    return TorchEngine(replace(folder, ranges=kept), "cpu", "int8"), plain.logits(pixels), pixels


def test_an_engine_is_int8_from_the_first_image_on():
    engine, plain, pixels = engine_of()
    assert (engine.precision, engine.bf16) == ("int8", False)
    one = engine.logits(pixels[:1])
    assert re.match("10 dense layers packed by (mkl|onednn), 10 of them in int8", engine.notes[0])
    many = engine.logits(pixels)
    assert np.abs(one - many[:1]).max() < 0.02 * np.abs(plain).max()
    assert 1e-4 < np.abs(many - plain).max() / np.abs(plain).max() < 0.1
    assert engine.features(pixels).shape == (9, 32)


def test_threads_that_begin_at_once_all_compute_in_int8():
    engine, plain, pixels = engine_of()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(engine.logits, [pixels] * 8))
    assert all(np.abs(one - plain).max() > 1e-4 * np.abs(plain).max() for one in found)


def test_without_vnni_weights_take_7_bits_and_it_is_said(monkeypatch):
    """The largest factors are exact then, in any order; an engine says so, since its numbers are others."""
    monkeypatch.setattr(int8_linear, "is_exact", lambda bits: bits == 7)
    monkeypatch.setattr(fast_path, "find_bits", int8_linear.find_bits)
    engine, plain, pixels = engine_of()
    found = engine.logits(pixels)
    assert re.match(
        "10 dense layers packed by (mkl|onednn), 10 of them in int8 with weights of 7 bits, as this", engine.notes[0]
    )
    assert 1e-4 < np.abs(found - plain).max() / np.abs(plain).max() < 0.1
    weight = torch.where(torch.rand(32, 64, generator=DRAWN) < 0.5, 1.0, -1.0)
    values = torch.where(torch.rand(16, 64, generator=DRAWN) < 0.5, 127.0, -128.0)
    layer = Int8Linear(weight, None, (-128.0, 127.0), rows=16)
    assert far(layer(values), F.linear(values.double(), weight.double())) < 1e-6


@pytest.mark.skipif(not is_x86(), reason="an x86 processor's")
@pytest.mark.parametrize(("most", "bits"), [("AVX2", 7), ("DEFAULT", 0)])
def test_the_bits_are_those_that_the_processor_sums_exactly(most, bits):
    """oneDNN held to AVX2, and as it is, where this process must find the same."""
    ask = "from vitreous.engines.int8_linear import check_int8, find_bits; check_int8(); print(find_bits())"
    limited = os.environ | {"ONEDNN_MAX_CPU_ISA": most}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ask], env=limited, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{bits or find_bits()}\n"


def test_pixels_are_exact_and_layers_can_stay_in_float():
    names = [f"blocks.{place}.{part}" for place in (0, 1) for part in ("attention.qkv", "attention.out", "mlp.expand")]
    engine, plain, pixels = engine_of(left=names)
    some = np.abs(engine.logits(pixels) - plain).max()
    assert re.match("10 dense layers packed by (mkl|onednn), 3 of them in int8", engine.notes[0])
    block = next(one for one in engine.fast._twin.modules() if isinstance(one, PlainBlock))
    assert block.qkv(torch.zeros(1, 2, 32)).dtype == torch.float32
    whole = engine_of()[0].logits(pixels)
    assert some < np.abs(whole - plain).max()


def test_pixels_go_into_the_first_product_as_they_are_if_its_steps_are_theirs():
    engine, plain, pixels = engine_of()
    own = engine.logits(pixels)
    assert engine.fast._twin.centred == torch.uint8
    wider, _, _ = engine_of(pixel_range=(-129.0, 128.0))
    found = wider.logits(pixels)
    assert wider.fast._twin.centred == torch.float32
    assert 0 < np.abs(found - own).max() < 0.05 * np.abs(plain).max()


def test_stems_keep_their_pixels():
    engine, plain, pixels = engine_of("hybrid")
    assert np.abs(engine.logits(pixels) - plain).max() < 0.1 * np.abs(plain).max()


def test_what_cannot_be_int8_is_refused(monkeypatch):
    engine, _, pixels = engine_of()
    folder = engine.folder
    with pytest.raises(ConfigError, match="was not calibrated for int8; write one that is: vitreous quantise"):
        TorchEngine(folder_of(FAMILIES["plain"]), "cpu", "int8")
    with pytest.raises(ConfigError, match="without merged patches"):
        TorchEngine(replace(folder, merge=2), "cpu", "int8")
    monkeypatch.setattr(torch_engine, "choose_device", lambda _: torch.device("mps"))
    with pytest.raises(ConfigError, match="int8 computes on a CPU or an NVIDIA GPU, not on 'mps'"):
        TorchEngine(folder, "mps", "int8")
    monkeypatch.undo()
    with monkeypatch.context() as changed:
        changed.setattr(int8_linear, "is_exact", lambda bits: False)
        with pytest.raises(ConfigError, match="int8 sums overflow silently in torch on this processor"):
            TorchEngine(folder, "cpu", "int8")
        changed.setattr(int8_linear, "is_exact", lambda bits: torch.ops.onednn.no_such_product)
        with pytest.raises(ConfigError, match="has no int8 products"):
            TorchEngine(folder, "cpu", "int8")
    with monkeypatch.context() as changed:
        changed.setattr("vitreous.engines.fast_path.SHARE", 10**12)
        refused = TorchEngine(folder, "cpu", "int8")
        for _ in range(2):
            with pytest.raises(ConfigError, match=r"can't compute in int8: packed, they would take .* more"):
                refused.logits(pixels)
    handle = engine.model.blocks[0].register_forward_hook(lambda *_: None)
    for _ in range(2):
        with pytest.raises(ConfigError, match="can't compute in int8: the model has hooks"):
            engine.logits(pixels)
    handle.remove()
    assert engine.logits(pixels).shape == (len(pixels), 5)
    add_lora(folder.model, 2, layers=("out",))
    with pytest.raises(ConfigError, match=r"blocks\.0\.attention\.out is no longer a plain dense layer"):
        TorchEngine(folder, "cpu", "int8")
