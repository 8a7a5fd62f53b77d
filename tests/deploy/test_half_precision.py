"""Exports in 16 bits against arithmetic in float64, and what stays in float32."""

import numpy as np
import onnx
import openvino
import pytest
import torch
from tests.deploy.conftest import folder_of, traceable
from tests.deploy.test_families import FAMILIES
from tests.support.processor import needs_bf16

import vitreous
from vitreous.cli.main import main
from vitreous.deploy.proof import TOLERANCES
from vitreous.engines.openvino_engine import OpenVinoEngine
from vitreous.errors import ConfigError, UnknownName
from vitreous.images.tensors import normalize

PRODUCTS = ("MatMul", "Gemm", "Conv")
FLOAT = ("LayerNormalization", "InstanceNormalization", "BatchNormalization", "Softmax", "Gelu", "Relu")
HALF, SINGLE = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT


def logits_of(folder, pixels):
    images = normalize(torch.from_numpy(pixels).permute(0, 3, 1, 2), folder.preprocess).double()
    with torch.inference_mode():
        found = folder.model.double()(images).numpy()
    folder.model.float()
    return found


def pixels_of(folder):
    shape = (3, *folder.preprocess.size, folder.preprocess.channels)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def types_of(path):
    """Return the types of the inputs of each operator."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True)
    graph = model.graph
    types = {one.name: one.data_type for one in graph.initializer}
    types |= {one.name: one.type.tensor_type.elem_type for one in (*graph.value_info, *graph.input, *graph.output)}
    found = {}
    for node in graph.node:
        found.setdefault(node.op_type, set()).update(types[name] for name in node.input if name in types)
    return found


@pytest.mark.parametrize("name", ["relative", pytest.param("hybrid", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_onnx_multiplies_16_bits_and_the_rest_is_float32(name, tmp_path):
    """`relative` has a bias inside its softmax, `hybrid` convolutions, whose group norms take the plain way too."""
    folder = folder_of(FAMILIES[name])
    with traceable():
        found = vitreous.export(folder, to="onnx", precision="fp16", out=tmp_path / "fp16")
    types = types_of(found.path / "model.onnx")
    assert all(types[kind] == {HALF} for kind in PRODUCTS if kind in types)
    assert "Softmax" in types and all(types[kind] <= {SINGLE} for kind in FLOAT if kind in types)
    assert SINGLE in types["Add"]  # of residuals; biases are added to products before those are widened
    loaded = vitreous.load(found.path, engine="onnxruntime", precision="fp16")
    assert loaded.engine.precision == "fp16"
    pixels = pixels_of(folder)
    wanted = logits_of(folder, pixels)
    away = np.abs(loaded.engine.logits(pixels) - wanted).max() / np.abs(wanted).max()
    assert 1e-5 < away < 3e-3
    assert found.proof.tolerance == TOLERANCES["fp16"]
    assert ", fp16, model.onnx" in str(found)


def test_openvino_stores_16_bits_and_computes_float32(tmp_path, monkeypatch):
    folder = folder_of(FAMILIES["plain"])
    with traceable():
        found = vitreous.export(folder, to="openvino", precision="fp16", out=tmp_path / "fp16")
    values = sum(one.numel() for one in folder.model.parameters())
    assert (found.path / "model.bin").stat().st_size < 2.2 * values
    assert vitreous.load(found.path).engine.precision == "fp32"
    pixels = pixels_of(folder)
    wanted = logits_of(folder, pixels)
    assert np.abs(vitreous.load(found.path).engine.logits(pixels) - wanted).max() < 3e-3 * np.abs(wanted).max()
    with pytest.raises(ConfigError, match="doesn't multiply fp16, and openvino doesn't emulate it"):
        monkeypatch.setattr(openvino.Core, "get_property", lambda *_: ["FP32", "BF16"])
        OpenVinoEngine(found.export, precision="fp16")


@pytest.mark.parametrize("precision", [pytest.param("bf16", marks=[pytest.mark.slow, needs_bf16]), "fp16"])
@pytest.mark.slow
def test_a_torch_program_has_narrow_weights_and_wide_outputs(precision, tmp_path, monkeypatch):
    monkeypatch.setenv("VITREOUS_CACHE", str(tmp_path / "cache"))
    folder = folder_of(FAMILIES["rotary mixed"])
    with traceable():
        found = vitreous.export(folder, to="torch", precision=precision, out=tmp_path / "program")
    program = torch.export.load(found.path / "model.pt2")
    wanted = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    stored = {name: value.dtype for name, value in program.state_dict.items()}
    assert stored["model.blocks.0.attention.qkv.weight"] == stored["model.head.weight"] == wanted
    assert {kind for name, kind in stored.items() if "norm" in name} == {torch.float32}
    pixels = pixels_of(folder)
    logits = logits_of(folder, pixels)
    engine = vitreous.load(found.path, precision=precision).engine
    assert np.abs(engine.logits(pixels) - logits).max() < {"bf16": 3e-2, "fp16": 3e-3}[precision] * np.abs(logits).max()
    with pytest.raises(
        ConfigError, match=f"torch doesn't compute this model in int8; choose --precision fp32 or {precision}"
    ):
        vitreous.load(found.path, precision="int8")


def test_what_a_target_or_an_engine_lacks_is_said_in_one_line(tmp_path, original, capfd):
    for to, remedy in (
        ("onnx", "choose --precision fp16, or --to torch"),
        ("openvino", "with --precision bf16 of predict"),
    ):
        with pytest.raises(ConfigError, match=f"exports to {to} are fp32 or fp16, not bf16: .*{remedy}"):
            vitreous.export(original, to=to, precision="bf16", out=tmp_path / "x")
    with pytest.raises(UnknownName, match="int8"):
        vitreous.export(original, precision="int8", out=tmp_path / "x")
    assert main(["predict", str(original), "x.jpg", "--precision", "fp16"]) == 2
    assert "torch doesn't compute this model in fp16; choose --precision fp32 or bf16" in capfd.readouterr().err
    assert not (tmp_path / "x").exists()
