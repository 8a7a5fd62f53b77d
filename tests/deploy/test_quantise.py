"""int8 against arithmetic in float64, and what is refused."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image
from tests.deploy.conftest import folder_of, traceable

import vitreous
from vitreous.errors import CheckpointError, DataError
from vitreous.model.config import ViTConfig

MODEL = ViTConfig(image=(16, 16), patch=(8, 8), width=16, depth=1, heads=2, mlp_width=24, classes=3)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Noise of three classes, in training and validation folders."""
    root, noise = tmp_path_factory.mktemp("data"), np.random.default_rng(3)
    for place in range(36):
        path = root / ("train" if place < 24 else "val") / f"class {place % 3}" / f"{place}.png"
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(noise.integers(256, size=(16, 16, 3), dtype=np.uint8)).save(path)
    return root


@pytest.fixture(scope="module")
def found(photos, tmp_path_factory):
    with traceable():
        return vitreous.quantise(
            folder_of(MODEL), photos, tmp_path_factory.mktemp("out") / "int8", most_lost=100, batch=8
        )


def test_an_int8_export_is_a_model_like_any_other(found, photos):
    loaded = vitreous.load(found.path, engine="onnxruntime")
    assert (loaded.engine.name, loaded.engine.precision) == ("onnxruntime", "int8")
    assert (found.layers, found.kept, found.calibrated, found.examples) == (6, (), 24, 12)
    own = vitreous.evaluate(loaded, photos, speed=False).metrics.top1
    assert own == found.int8.top1
    assert found.int8.bytes < found.fp32.bytes


def test_weights_are_rounded_by_channel_and_only_layers_are_int8(found):
    model = onnx.load(found.path / "model.onnx")
    held = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    own = folder_of(MODEL).model.head.weight.detach().numpy().astype(np.float64)
    dequantised = {
        node.output[0]: [held.get(name) for name in node.input]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear"
    }
    (head,) = (node for node in model.graph.node if node.op_type == "Gemm")
    whole, scale, zero = dequantised[head.input[1]]
    assert (whole.dtype, zero.any(), len(scale)) == (np.int8, False, 3)
    np.testing.assert_allclose(scale, abs(own).max(1) / 63.5, rtol=0.02)
    assert np.abs(whole).max() <= 64  # 7 bits
    assert np.abs(whole * scale[:, None] - own).max() <= 0.51 * scale.max()
    read = {
        name
        for node in model.graph.node
        if node.op_type in ("Add", "LayerNormalization", "Softmax")
        for name in node.input
    }
    assert not read & {name for name in dequantised if "bias" not in name}


def test_layers_that_hurt_are_found_and_kept(photos, tmp_path, monkeypatch):
    """Measured accuracy is replaced: it fits once two layers are in float32."""
    from vitreous.api import quantisation

    calls = []

    def fake(predictor, source, batch, progress=None):
        calls.append(predictor.folder.graph.precision)
        logits = np.eye(3, dtype=np.float32)[source.labels]
        return logits if predictor.folder.graph.precision == "fp32" or len(calls) > 3 else logits[:, ::-1].copy()

    monkeypatch.setattr(quantisation, "outputs", fake)
    with traceable():
        found = vitreous.quantise(folder_of(MODEL), photos, tmp_path / "out", batch=4)
        assert calls == ["fp32", "int8", "int8", "int8"]
        assert len(found.kept) == 2
        assert all(name.startswith(("blocks.0", "patches", "head")) for name in found.kept)
        loaded = vitreous.load(tmp_path / "out", engine="openvino")
        assert loaded.engine.logits(np.zeros((2, 16, 16, 3), np.uint8)).shape == (2, 3)
        monkeypatch.setattr(quantisation, "outputs", lambda one, source, batch, progress=None: np.eye(3, dtype=np.float32)[
            source.labels if one.folder.graph.precision == "fp32" else (source.labels + 1) % 3])  # fmt: skip
        with pytest.raises(
            CheckpointError, match=r"int8 loses 100\.00 points of accuracy .* hurt most\. Nothing was written"
        ):
            vitreous.quantise(folder_of(MODEL), photos, tmp_path / "bad", batch=4)
    assert not (tmp_path / "bad").exists()


def test_too_few_images_are_refused(photos, tmp_path):
    with pytest.raises(DataError, match="has 4 images that can be read, and calibration takes at least 16"):
        vitreous.quantise(folder_of(MODEL), photos, tmp_path / "out", calibration=photos / "val" / "class 0")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images"):
        vitreous.quantise(folder_of(MODEL), photos, tmp_path / "out", calibration=tmp_path / "empty")
    assert not (tmp_path / "out").exists()
