"""Exports whose weights don't fit into one protobuf lie in a file beside it."""

import numpy as np
import onnx
import pytest
import torch
from tests.deploy.conftest import TINY, folder_of, traceable

import vitreous
from vitreous.deploy import targets
from vitreous.errors import CheckpointError
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.model.config import ViTConfig
from vitreous.model.factory import create
from vitreous.weights.model_folder import ModelFolder

PIXELS = np.random.default_rng(0).integers(0, 256, (3, *TINY.image, 3), dtype=np.uint8)


@pytest.mark.slow
def test_weights_beside_the_file_are_found_again_and_guarded(tmp_path, monkeypatch):
    """As if the limit were a kilobyte."""
    monkeypatch.setattr(targets, "LARGEST_FILE", 1000)
    folder = folder_of(TINY)
    with traceable():
        found = vitreous.export(folder, out=tmp_path / "export")
    assert [one.file for one in found.export.files] == ["model.onnx", "model.onnx.data"]
    inside = onnx.load(found.path / "model.onnx", load_external_data=False)
    assert any(one.external_data for one in inside.graph.initializer)
    with torch.inference_mode():
        images = torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255
        wanted = folder.model((images - 0.4) / 0.3).numpy()
    for engine in ("onnxruntime", "openvino"):
        logits = vitreous.load(found.path, engine=engine).engine.logits(PIXELS)
        assert np.abs(logits - wanted).max() < 1e-5 * np.abs(wanted).max()
    data = bytearray((found.path / "model.onnx.data").read_bytes())
    data[len(data) // 2] ^= 1
    (found.path / "model.onnx.data").write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match=r"model\.onnx\.data is damaged: its SHA-256"):
        vitreous.load(found.path)
    (found.path / "model.onnx.data").unlink()
    with pytest.raises(CheckpointError, match=r"is damaged: it has no file model\.onnx\.data"):
        vitreous.load(found.path)


@pytest.mark.slow
def test_a_model_above_two_gigabytes(tmp_path):
    """11 blocks of width 2048: 554 million weights, 2.2 GB; needs about 12 GB of memory."""
    config = ViTConfig(image=(32, 32), patch=(16, 16), width=2048, depth=11, heads=16, mlp_width=8192, classes=3)
    folder = ModelFolder(create(config).eval(), PreprocessConfig((32, 32)), DecodeConfig(), ("a", "b", "c"))
    with torch.no_grad():
        folder.model.head.weight.normal_(generator=torch.Generator().manual_seed(0))
    with traceable():
        found = vitreous.export(folder, out=tmp_path / "export")
    assert sum(one.bytes for one in found.export.files) > 2**31
    assert found.proof.difference < 1e-4
    assert vitreous.load(found.path).engine.logits(np.zeros((1, 32, 32, 3), np.uint8)).shape == (1, 3)
