"""Export to ONNX, and the export as a model like any other."""

import json
import subprocess
import sys
from contextlib import suppress

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tests.deploy.conftest import TINY, folder_of, traceable

import vitreous
from vitreous.deploy.proof import measure_difference, prove
from vitreous.deploy.targets import WRITERS
from vitreous.engines.onnxruntime_engine import OnnxRuntimeEngine
from vitreous.errors import CheckpointError, ConfigError, UnknownName
from vitreous.images.tensors import normalize
from vitreous.model.config import ViTConfig
from vitreous.model.resnet_config import ResNetConfig
from vitreous.model.token_merging import Merging


@pytest.fixture(scope="module")
def exported(original, tmp_path_factory):
    """The model with everything inside, features beside the logits."""
    path = tmp_path_factory.mktemp("onnx") / "exported"
    with traceable():
        vitreous.export(original, to="onnx", out=path, preprocess_inside=True, outputs="both")
    return path


def noise(batch):
    return np.random.default_rng(batch).integers(0, 256, (batch, *TINY.image, 3), dtype=np.uint8)


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_other_programs_get_the_models_numbers(exported, original, batch):
    """By ONNX Runtime alone, as whoever was handed the file would: uint8 in, calibrated probabilities out."""
    model = vitreous.load(original, device="cpu")
    session = onnxruntime.InferenceSession(str(exported / "model.onnx"), providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_outputs()] == ["probabilities", "logits", "features"]
    pixels = noise(batch)
    probabilities, logits, features = session.run(None, {"pixels": pixels})
    with torch.inference_mode():
        images = normalize(torch.from_numpy(pixels).permute(0, 3, 1, 2), model.folder.preprocess)
        own = model.model.double()(images.double())
        vectors = model.model.features(images.double())
    model.model.float()
    assert np.abs(logits - own.numpy()).max() < 1e-5 * own.abs().max()
    assert np.abs(features - vectors.numpy()).max() < 1e-5 * vectors.abs().max()
    assert np.abs(probabilities - (own / 1.7).softmax(1).numpy()).max() < 1e-5


def test_the_file_itself_says_what_it_is(exported):
    model = onnx.load(exported / "model.onnx")
    found = {one.key: one.value for one in model.metadata_props}
    assert json.loads(found["vitreous.classes"]) == ["class 0", "class 1", "class 2"]
    assert json.loads(found["vitreous.preprocess"])["size"] == [16, 24]
    assert float(found["vitreous.temperature"]) == 1.7
    assert json.loads(found["vitreous.origin"])["recipe"] == "small"
    assert json.loads(found["vitreous.versions"])["torch"] == torch.__version__
    assert [one.version for one in model.opset_import if one.domain == ""] == [20]
    assert "Resize" not in {node.op_type for node in model.graph.node}


@pytest.mark.slow
def test_merging_is_part_of_the_graph(photo, tmp_path):
    """By both runtimes; the reference is the mathematics alone."""
    folder = folder_of(ViTConfig(image=(16, 24), patch=(4, 4), width=32, depth=2, heads=2, mlp_width=48, classes=3))
    with traceable():
        found = vitreous.export(folder, "onnx", tmp_path / "out", merge=4)
    assert found.proof.difference < 1e-5
    pixels = noise(3)
    with torch.inference_mode():
        images = normalize(torch.from_numpy(pixels).permute(0, 3, 1, 2), folder.preprocess)
        plain, merged = folder.model(images).numpy(), Merging(folder.model, 4)(images).numpy()
    for engine in ("onnxruntime", "openvino"):
        loaded = vitreous.load(tmp_path / "out", engine=engine)
        assert loaded.folder.graph.merge == 4
        assert measure_difference(loaded.engine.logits(pixels), merged) < 1e-5 < measure_difference(plain, merged)
    with pytest.raises(ConfigError, match="whose graph is fixed; leave out merge"):
        vitreous.load(tmp_path / "out", merge=2)


def test_an_export_is_a_model_like_any_other(exported, original, photo):
    ours, theirs = vitreous.load(original, device="cpu"), vitreous.load(exported)
    mine, other = ours(photo), theirs(photo)
    assert (theirs.engine.name, other.label) == ("onnxruntime", mine.label)
    assert other.score == pytest.approx(mine.score, abs=0.01)  # Pillow's pixels against torch's
    away = theirs.features(photo) - ours.features(photo).numpy()
    assert np.abs(away).max() < 0.02 * float(ours.features(photo).abs().max())
    assert list(theirs.table([photo]).columns) == list(ours.table([photo]).columns)


def test_features_are_embedded_and_searched(exported, original, photo, tmp_path):
    copy = tmp_path / "copy.jpg"
    copy.write_bytes(photo.read_bytes())
    found = vitreous.embed(exported, [copy], out=tmp_path / "features.npz")
    own = vitreous.load(original, device="cpu").features(photo).numpy()
    np.testing.assert_allclose(found.vectors[0], own, rtol=1e-4, atol=1e-5)
    nearest = vitreous.similar(photo, tmp_path / "features.npz", model=exported)
    assert nearest.similar[0].cosine == pytest.approx(1, abs=1e-6)
    with pytest.raises(ConfigError, match="whose layers can't be inspected"):
        vitreous.embed(exported, [photo], layer="norm")
    with pytest.raises(ConfigError, match="computes in fp32, as it was loaded, not in bf16"):
        vitreous.embed(exported, [photo], precision="bf16")


def test_an_engine_that_is_not_installed_is_named(exported, monkeypatch):
    monkeypatch.setattr("vitreous.runtime.packages.find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"needs onnxruntime, which is not installed: pip install 'vitreous\[export\]'"
    ):
        vitreous.load(exported)
    with pytest.raises(ConfigError, match="needs onnx, onnxscript, openvino, not installed: pip install"):
        vitreous.export(folder_of(TINY), to="openvino", out="nowhere")


def test_test_time_augmentation_and_labels_of_a_threshold(exported, photo):
    plain, flipped = vitreous.load(exported), vitreous.load(exported, tta="flip", threshold=1.0)
    pixels = np.asarray(noise(1)[0])
    both = [plain(pixels), plain(pixels[:, ::-1].copy())]
    mean = {name: (dict(both[0].top)[name] + dict(both[1].top)[name]) / 2 for name in dict(both[0].top)}
    assert dict(flipped(pixels).top) == pytest.approx(mean, abs=1e-6)
    assert flipped(photo).unknown


def test_what_needs_the_layers_is_refused_in_one_line(exported, tmp_path):
    with pytest.raises(ConfigError, match=r"export to onnx, whose layers.*exported from"):
        vitreous.explain(exported, np.zeros((16, 24, 3), np.uint8))
    with pytest.raises(CheckpointError, match="an export to onnx, whose weights torch"):
        vitreous.export(exported, out=tmp_path / "again")
    with pytest.raises(ConfigError, match="leave out image"):
        vitreous.load(exported, image=(32, 32))
    with pytest.raises(ConfigError, match="choose --engine onnxruntime or openvino"):
        vitreous.load(exported, engine="torch")
    with pytest.raises(ConfigError, match="onnxruntime doesn't compute this model in bf16; choose --precision fp32"):
        vitreous.load(exported, precision="bf16", engine="onnxruntime")


def test_prediction_from_a_file_needs_no_torch(exported, photo):
    code = (
        "import sys, vitreous\n"
        "from vitreous.cli.main import main\n"
        "said = vitreous.load(sys.argv[1])(sys.argv[2])\n"
        "print(said.label, 'torch' in sys.modules)\n"
        "assert main(['predict', sys.argv[1], sys.argv[2]]) == 0\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, exported, photo], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[0] == f"{vitreous.load(exported)(photo).label} False"
    assert lines[-1] == "False"


def test_a_function_that_is_not_the_same_is_not_written(exported, original, tmp_path, monkeypatch):
    """As if the exporter had written something else, a bias that is 0.002 off: the proof sees it, and no folder is left."""

    def write(program, graph, folder, facts):
        (folder / "model.onnx").write_bytes((exported / "model.onnx").read_bytes())
        return ["model.onnx"]

    monkeypatch.setattr("vitreous.deploy.export.trace", lambda graph: None)
    monkeypatch.setitem(WRITERS, "onnx", write)
    same = vitreous.load(original, device="cpu")
    vitreous.export(same, to="onnx", out=tmp_path / "same", preprocess_inside=True, outputs="both")
    with torch.no_grad():
        same.model.head.bias += 0.002
    with pytest.raises(CheckpointError, match="not the same function, and nothing was written"):
        vitreous.export(same, to="onnx", out=tmp_path / "other", preprocess_inside=True, outputs="both")
    assert [path.name for path in tmp_path.iterdir()] == ["same"]


@pytest.mark.parametrize(("key", "value", "said"), [
    ("vitreous_export", 2, "export of format 2; this vitreous reads format 1"),
    ("files", [{"file": "../model.onnx", "sha256": "", "bytes": 1}], "outside its folder"),
    ("files", [{"file": "model.onnx", "sha256": "", "bytes": 1}], "is damaged: it has"),
    ("graph", {"inputs": "bytes"}, "can't be used"),
    ("graph", {"outputs": ["boxes"]}, "unknown outputs"),
    ("temperature", 0.0, "must be a number above 0"),
])  # fmt: skip
def test_damaged_and_newer_exports_are_refused(exported, tmp_path, key, value, said):
    (tmp_path / "model.onnx").write_bytes((exported / "model.onnx").read_bytes())
    document = json.loads((exported / "config.json").read_text()) | {key: value}
    (tmp_path / "config.json").write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match=said):
        vitreous.load(tmp_path)


def test_a_changed_file_is_refused(exported, tmp_path):
    data = bytearray((exported / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "model.onnx").write_bytes(bytes(data))
    (tmp_path / "config.json").write_bytes((exported / "config.json").read_bytes())
    with pytest.raises(CheckpointError, match="SHA-256"):
        vitreous.load(tmp_path)


def test_the_proof_measures_what_it_says():
    expected = np.array([[1.0, -4.0]], np.float32)
    assert measure_difference(expected + np.float32(0.5), expected) == 0.125
    assert measure_difference(expected[:, :1], expected) == float("inf")
    assert not measure_difference(np.full_like(expected, np.nan), expected) <= 1


@pytest.mark.parametrize("place", ["logits", "features"])
def test_one_output_of_several_that_is_no_number_is_refused(exported, original, place, monkeypatch):
    """Whichever comes first."""
    engine, own = vitreous.load(exported, engine="onnxruntime").engine, vitreous.load(original, device="cpu").engine
    right = engine.outputs
    monkeypatch.setattr(engine, "outputs", lambda pixels: (found := right(pixels)) | {place: found[place] * np.nan})
    with pytest.raises(CheckpointError, match="not the same function"):
        prove(own, engine, noise(7), "noise", "broken")


@pytest.mark.parametrize("fixed", [None, "batch", "image"])
def test_a_proof_sees_what_a_single_image_does_not_show(fixed, tmp_path, monkeypatch):
    """An axis that is not open after all."""
    seen, run = [], OnnxRuntimeEngine.run

    def watch(self, inputs):
        seen.append((len(inputs), *inputs.shape[2:]))
        wrong = seen[-1] != (1, 16, 24) and (len(inputs) > 1) == (fixed == "batch") and fixed is not None
        return [one + 0.1 * np.abs(one).max() if wrong else one for one in run(self, inputs)]

    monkeypatch.setattr(OnnxRuntimeEngine, "run", watch)
    resnet = folder_of(ResNetConfig(image=(16, 24), units=(1, 1), root="3x3", root_channels=8, groups=4, classes=3))
    with traceable(), suppress(CheckpointError):
        vitreous.export(resnet, out=tmp_path / "out", dynamic_image=True, data=[noise(1)[0]])
        assert fixed is None
    assert seen == [(1, 16, 24), (2, 16, 24), (1, 16, 36), (1, 24, 24)]
    assert (tmp_path / "out").exists() == (fixed is None)


def test_a_target_is_checked_before_a_model_is_opened(tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    for words, error, said in (
        ({"to": "onnx", "precision": "bf16", "out": tmp_path / "x"}, ConfigError, "bf16"),
        ({"to": "onnx", "out": tmp_path / "full"}, CheckpointError, "full"),
        ({"to": "tensorrt", "out": tmp_path / "x"}, UnknownName, "tensorrt"),
    ):
        with pytest.raises(error, match=said):
            vitreous.export("no such model", **words)


def test_a_model_without_head_exports_its_features_alone(tmp_path):
    with pytest.raises(ConfigError, match="no head, so it can't give logits"):
        vitreous.export(folder_of(TINY.__class__(**{**vars(TINY), "classes": 0})), out=tmp_path / "x", outputs="logits")


def test_open_rows_and_columns_are_refused_where_positions_are_constants(original, tmp_path):
    with pytest.raises(ConfigError, match=r"positions \(learned\) are made for one grid, here 2x3 patches"):
        vitreous.export(original, out=tmp_path / "x", dynamic_image=True)
    assert not (tmp_path / "x").exists()
