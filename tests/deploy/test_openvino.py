"""Export to OpenVINO, and ONNX in OpenVINO."""

import ctypes
import gc
import sys

import numpy as np
import openvino
import pytest
import torch
from tests.deploy.conftest import TINY, traceable

import vitreous
from vitreous.errors import CheckpointError, ConfigError
from vitreous.images.tensors import normalize
from vitreous.runtime.signal_stack import keep_signal_stack


@pytest.fixture(scope="module")
def exported(original, tmp_path_factory):
    path = tmp_path_factory.mktemp("openvino") / "exported"
    with traceable():
        vitreous.export(original, to="openvino", out=path)
    return path


def normalised(model, batch):
    pixels = np.random.default_rng(batch).integers(0, 256, (batch, *TINY.image, 3), dtype=np.uint8)
    return pixels, normalize(torch.from_numpy(pixels).permute(0, 3, 1, 2), model.folder.preprocess)


@pytest.mark.parametrize("batch", [1, 6])
@pytest.mark.slow
def test_other_programs_get_the_models_numbers(exported, original, batch):
    model = vitreous.load(original, device="cpu")
    _, images = normalised(model, batch)
    with keep_signal_stack():
        compiled = openvino.Core().compile_model(exported / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    with torch.inference_mode():
        own = model.model(images).numpy()
    assert np.abs(compiled(images.numpy())[0] - own).max() < 1e-5 * np.abs(own).max()


def test_the_file_itself_says_what_it_is(exported):
    model = openvino.Core().read_model(exported / "model.xml")
    assert model.get_rt_info(["vitreous", "classes"]).value == '["class 0", "class 1", "class 2"]'
    assert model.get_rt_info(["vitreous", "temperature"]).value == "1.7"


def signal_stack():
    """Return where this thread's signal handlers run: pointer, flags, size."""
    stack = (ctypes.c_size_t * 3)()
    ctypes.CDLL(None).sigaltstack(None, stack)
    return tuple(stack)


@pytest.mark.skipif(sys.platform != "linux", reason="the stack is looked at as Linux keeps it")
def test_signals_are_handled_where_they_were_before(exported, photo):
    """OpenVINO sets a stack of its own; of two models freed in the order they were made, the second left one that was gone."""
    before = signal_stack()
    with keep_signal_stack():
        compiled = openvino.Core().compile_model(exported / "model.xml", "CPU")
        assert signal_stack() != before
        del compiled
    first, second = (vitreous.load(exported, engine="openvino") for _ in range(2))
    for model in (first, second):
        model([photo, photo])
    assert signal_stack() == before
    del model, first
    gc.collect()
    assert signal_stack() == before
    del second
    gc.collect()
    assert signal_stack() == before


@pytest.mark.parametrize("threads", [1, 2])
def test_an_export_is_a_model_like_any_other(exported, original, photo, threads, monkeypatch):
    """Batches that don't divide by the streams keep their order."""
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    ours, theirs = vitreous.load(original, device="cpu"), vitreous.load(exported, batch=5)
    pixels, _ = normalised(ours, 7)
    assert (theirs.engine.name, theirs.engine.threads) == ("openvino", threads)
    away = theirs.engine.probabilities(pixels) - ours.engine.probabilities(pixels)
    assert np.abs(away).max() < 1e-5
    assert [one.label for one in theirs(list(pixels))] == [one.label for one in ours(list(pixels))]
    assert theirs(photo).label == ours(photo).label


def test_what_it_lacks_is_said(exported, tmp_path):
    with pytest.raises(ConfigError, match=r"exported with only logits.*--outputs features or both"):
        vitreous.load(exported).features(np.zeros((16, 24, 3), np.uint8))
    with pytest.raises(ConfigError, match="which onnxruntime doesn't run; choose --engine openvino"):
        vitreous.load(exported, engine="onnxruntime")
    with pytest.raises(ConfigError, match="not on 'cuda'"):
        vitreous.load(exported, device="cuda")
    with pytest.raises(
        CheckpointError, match=r"export to openvino, whose weights torch can.t train or inspect.*\(.*model\)"
    ):
        vitreous.convert(exported, tmp_path / "converted")
