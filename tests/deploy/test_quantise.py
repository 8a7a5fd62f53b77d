"""int8 against arithmetic in float64, and what is refused."""

import contextlib
import io
import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import tifffile
import torch
from onnx import numpy_helper
from PIL import Image
from tests.deploy.conftest import folder_of, measure_shortly, traceable, write_classes, write_noise

import vitreous
from vitreous.api import quantisation
from vitreous.cli.main import main
from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.deploy import quantise as targets
from vitreous.deploy.int8_openvino import LAYOUT
from vitreous.errors import CheckpointError, ConfigError, DataError
from vitreous.images.config import DecodeConfig
from vitreous.images.tensors import normalize
from vitreous.model.config import ViTConfig
from vitreous.model.resnet_config import ResNetConfig
from vitreous.training.reporter import Silent
from vitreous.weights.model_folder import save_model

MODEL = ViTConfig(image=(16, 16), patch=(8, 8), width=16, depth=1, heads=2, mlp_width=24, classes=3)
CONVOLUTIONS = ResNetConfig(image=(16, 16), units=(1, 1), root="3x3", root_channels=8, groups=4, classes=3)


@pytest.fixture(autouse=True, scope="module")
def short():
    """Speed is measured by two passes: figures are not what is tested here."""
    with measure_shortly():
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Noise of three classes, in training and validation folders."""
    return write_noise(tmp_path_factory.mktemp("data"), (16, 16))


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


@pytest.mark.parametrize(
    ("layers", "tried"), [(1, [0]), (3, [0, 1]), (7, [0, 1, 2, 3]), (10, [0, 1, 2, 4, 5]), (16, [0, 1, 2, 4, 8])]
)
def test_up_to_half_of_the_layers_are_tried_in_float32(monkeypatch, tmp_path, layers, tried):
    class Fake:
        engine = "onnxruntime"

        def __init__(self):
            self.layers, self.written = {str(n): f"layer{n}" for n in range(layers)}, []

        def rank_layers(self):
            return list(self.layers)

        def write(self, path, kept):
            self.written.append(len(kept))
            return folder_of(MODEL)

        def finish(self, path, found):
            raise AssertionError

    source = open_dataset(DataConfig("digits"), DecodeConfig()).validation
    fake, labels = Fake(), np.array([0, 1])
    monkeypatch.setattr(quantisation, "Predictor", lambda *given, **how: None)
    monkeypatch.setattr(quantisation, "outputs", lambda *given, **how: np.eye(2, dtype=np.float32)[::-1])
    with pytest.raises(CheckpointError, match=f"with {tried[-1]} layers in float32"):
        quantisation.fit(fake, tmp_path, (source, labels, np.eye(2, dtype=np.float32)), 0.5, 2, "cpu", Silent())
    assert fake.written == tried


@pytest.mark.parametrize(("latency", "speed", "said"), [(2.0, 5, True), (2.0, 50, False), (0.5, 5, False)])
def test_int8_that_gains_nothing_is_said(latency, speed, said, tmp_path):
    fp32 = quantisation.Measured("fp32", 0.9, 1.0, 1000, 1.0, 10)
    found = quantisation.QuantiseResult(
        tmp_path,
        fp32,
        replace(fp32, precision="int8", latency=latency, images_per_second=speed),
        "onnxruntime",
        (),
        9,
        0,
        5,
        1,
    )
    assert ("int8 is no faster than fp32 here; another --to may be" in str(found)) == said


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Noise of three classes, twelve each, in plain class folders."""
    noise = np.random.default_rng(5).integers(256, size=(36, 16, 16, 3), dtype=np.uint8)
    return write_classes(tmp_path_factory.mktemp("plain"), noise)


def test_plain_class_folders_are_held_out_from(plain, tmp_path):
    with traceable():
        found = vitreous.quantise(folder_of(MODEL), plain, tmp_path / "int8", most_lost=100, batch=8)
    held = len(open_dataset(DataConfig(str(plain))).validation)
    assert (found.examples, found.calibrated, found.shared) == (held, 36 - held, 0)
    assert f"calibrated on {36 - held} others" in str(found)


def test_images_that_are_calibrated_on_and_measured_are_no_others(plain, tmp_path):
    with traceable():
        found = vitreous.quantise(
            folder_of(MODEL), plain, tmp_path / "int8", calibration=plain, images=20, most_lost=100, batch=8
        )
    assert (found.examples, found.calibrated, found.shared) == (36, 20, 20)
    assert "calibrated on 20, 20 of them among these" in str(found)


def test_the_split_of_the_models_run_is_used_for_its_own_data(plain, tmp_path):
    from vitreous.api.quantisation import open_parts
    from vitreous.predictor import Predictor

    data = DataConfig(str(plain), holdout=0.5, split_seed=3)
    made = vitreous.train(plain, recipe="small", out=tmp_path / "run", settings={"data": {"holdout": 0.5, "split_seed": 3}, "duration": "1st"})  # fmt: skip
    measured, training = open_parts(plain, True, Predictor.load(made.run, device="cpu"), "raise", Silent())
    wanted = open_dataset(data)
    assert (measured.names, training.names) == (wanted.validation.names, wanted.train.names)


def test_figures_of_images_that_were_learned_from_say_so(plain, tmp_path):
    """Of the model itself, and of what was exported and quantised from it."""
    made = vitreous.train(plain, recipe="small", out=tmp_path / "run", settings={"duration": "1st"})
    how = {"calibration": plain, "images": 20, "most_lost": 100, "batch": 8}
    said = "27 of the 36 measured images are among those that the model was trained on, so both accuracies flatter it"
    trained = len(open_dataset(DataConfig(str(plain))).train)
    with traceable():
        found = vitreous.quantise(made.run, plain, tmp_path / "int8", **how)
        torch_found = vitreous.quantise(folder_of(MODEL), plain, tmp_path / "other", **how)
    assert found.note == said.replace("27", str(trained)) and found.note in str(found)
    assert torch_found.note == "" and "flatter" not in str(torch_found)
    measured = vitreous.evaluate(found.path, plain, speed=False)
    assert (measured.overlap.trained, measured.overlap.measured) == (trained, 36)


def test_too_few_images_are_refused(photos, tmp_path):
    with pytest.raises(DataError, match="has 4 images that can be read, and calibration takes at least 16"):
        vitreous.quantise(folder_of(MODEL), photos, tmp_path / "out", calibration=photos / "val" / "class 0")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images"):
        vitreous.quantise(folder_of(MODEL), photos, tmp_path / "out", calibration=tmp_path / "empty")
    with pytest.raises(ConfigError, match="images is 8; calibration takes at least 16"):
        vitreous.quantise("no such model", photos, tmp_path / "out", images=8)
    assert not (tmp_path / "out").exists()


def test_a_model_too_large_for_one_protobuf_is_refused_before_it_is_exported(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(targets, "LARGEST_FILE", 1000)
    with pytest.raises(ConfigError, match=r"exports of more than .* can't be quantised; give --to torch"):
        vitreous.quantise(folder_of(MODEL), photos, tmp_path / "out")


def test_channels_that_are_kept_are_calibrated_as_the_model_sees_them(tmp_path):
    """Files of whole numbers, and of floats whose levels are given: the proof runs on the very pixels."""
    config = ViTConfig(image=(16, 24), patch=(8, 8), width=16, depth=1, heads=2, mlp_width=24, classes=3, channels=5)
    levels = {"whole": DecodeConfig(), "floats": DecodeConfig(levels=(0.0, 1.0))}
    for name, decode in levels.items():
        for split, count in (("train", 18), ("val", 6)):
            for place in range(count):
                path = tmp_path / name / split / f"class {place % 3}" / f"{place}.tif"
                path.parent.mkdir(parents=True, exist_ok=True)
                values = np.random.default_rng(place).random((16, 24, 5))
                values = values.astype(np.float32) if name == "floats" else (values * 65535).astype(np.uint16)
                tifffile.imwrite(path, values, photometric="minisblack", planarconfig="contig")
        with traceable():
            found = vitreous.quantise(
                replace(folder_of(config), decode=decode), tmp_path / name, tmp_path / f"{name} out", most_lost=100
            )
        proof = json.loads((found.path / "config.json").read_text())["proof"]
        assert proof["images"] == 8 and proof["difference"] < 1e-4


def reference(folder, pixels):
    """Return the model's own logits."""
    images = normalize(torch.from_numpy(pixels).permute(0, 3, 1, 2), folder.preprocess)
    with torch.inference_mode():
        return folder.model(images).numpy()


def test_dynamic_ranges_are_each_batchs_own(photos, tmp_path):
    """Images that are far from what calibration would have seen lose nothing by it."""
    folder = folder_of(MODEL)
    with traceable():
        found = vitreous.quantise(folder, photos, tmp_path / "int8", dynamic=True, most_lost=100, batch=8)
    assert (found.engine, found.calibrated, found.layers) == ("onnxruntime", 0, 6)
    assert "ranges of each batch's own" in str(found)
    kinds = [node.op_type for node in onnx.load(found.path / "model.onnx").graph.node]
    assert (kinds.count("MatMulInteger"), kinds.count("MatMul"), kinds.count("Gemm")) == (6, 2, 0)  # 2 of attention
    pixels = np.zeros((3, 16, 16, 3), np.uint8)
    pixels[1:, 3:9] = 255
    own = vitreous.load(found.path, precision="int8").engine.logits(pixels)
    wanted = reference(folder, pixels)
    assert np.abs(own - wanted).max() < 0.05 * np.abs(wanted).max()


def test_dynamic_ranges_need_dense_layers(photos, tmp_path):
    with traceable(), pytest.raises(ConfigError, match="only one is its head; leave out --dynamic"):
        vitreous.quantise(folder_of(CONVOLUTIONS), photos, tmp_path / "out", dynamic=True)
    with pytest.raises(ConfigError, match="dynamic ranges are for ONNX Runtime, but the target is openvino"):
        vitreous.quantise(folder_of(MODEL), photos, tmp_path / "out", to="openvino", dynamic=True)


@pytest.mark.parametrize("config", [MODEL, pytest.param(CONVOLUTIONS, marks=pytest.mark.slow)], ids=["vit", "resnet"])
def test_openvino_rounds_what_layers_multiply_and_nothing_else(config, photos, tmp_path, monkeypatch):
    """The first measured accuracy is replaced, so that a layer is kept; nothing is reported to anybody, or printed."""
    pytest.importorskip("nncf")
    import openvino

    measure, calls = quantisation.outputs, []

    def measure_low(predictor, source, batch, progress=None):
        calls.append(predictor.engine.name)
        found = measure(predictor, source, batch, progress=progress)
        return -found if len(calls) == 2 else found

    monkeypatch.setattr(quantisation, "outputs", measure_low)
    monkeypatch.setattr("openvino_telemetry.Telemetry.__init__", lambda *_, **__: pytest.fail("reported"))
    folder, said = folder_of(config), io.StringIO()
    labels = reference(folder, np.stack([np.asarray(Image.open(one)) for one in sorted(photos.glob("val/*/*.png"))]))
    most = float(100 * np.bincount(labels.argmax(1), minlength=3).max() / len(labels))
    with traceable(), contextlib.redirect_stdout(said):
        found = vitreous.quantise(folder, photos, tmp_path / "int8", to="openvino", most_lost=most, batch=8)
    assert said.getvalue() == ""
    assert (set(calls), found.engine) == ({"openvino"}, "openvino")
    model = openvino.Core().read_model(found.path / "model.xml")
    readers, ports = set(), [op.output(0) for op in model.get_ops() if op.get_type_name() == "FakeQuantize"]
    while ports:
        for one in ports.pop().get_target_inputs():
            if (kind := one.get_node().get_type_name()) in LAYOUT:
                ports.append(one.get_node().output(0))
            elif kind != "ShapeOf":
                readers.add(kind)
    assert readers == ({"MatMul"} if config is MODEL else {"MatMul", "Convolution"})
    rounded = [
        op for op in model.get_ops() if op.get_type_name() == "Constant" and op.get_element_type().to_string() == "i8"
    ]
    assert len(rounded) == found.layers - len(found.kept)
    assert max(np.abs(op.data.astype(int)).max() for op in rounded) in (63, 64)  # 7 bits
    assert json.loads(model.get_rt_info(["vitreous", "graph"]).value)["precision"] == "int8"
    loaded = vitreous.load(found.path, precision="int8")
    assert (loaded.engine.name, loaded.engine.precision) == ("openvino", "int8")
    pixels = np.random.default_rng(5).integers(256, size=(5, 16, 16, 3), dtype=np.uint8)
    wanted = reference(folder, pixels)
    assert np.abs(loaded.engine.logits(pixels) - wanted).max() < 0.1 * np.abs(wanted).max()


def test_kernels_are_standardised_before_they_are_rounded(photos, tmp_path):
    with traceable():
        found = vitreous.quantise(folder_of(CONVOLUTIONS), photos, tmp_path / "int8", most_lost=100, batch=8)
    nodes = onnx.load(found.path / "model.onnx").graph.node
    assert found.layers == sum(node.op_type in ("Conv", "Gemm") for node in nodes) == 10
    assert not {node.op_type for node in nodes} & {"Sqrt", "Div"}


def test_all_figures_go_to_a_file(found, photos, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(quantisation, "quantise", lambda *_, **__: found)
    words = ["quantise", "a model", str(photos), "--out", str(tmp_path / "int8"), "--json", str(tmp_path / "all.json")]
    assert main(words) == 0
    assert f"all numbers are in {tmp_path / 'all.json'}" in capfd.readouterr().out
    written = json.loads((tmp_path / "all.json").read_text())
    assert (written["engine"], written["int8"]["precision"], written["layers"]) == ("onnxruntime", "int8", 6)
    assert main(words) == 2
    assert "all.json" in capfd.readouterr().err


def test_without_a_folder_both_take_the_next_free_one(plain, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "cats", folder_of(MODEL))
    how = {"to": "torch", "most_lost": 100, "calibration": plain, "progress": False}
    found = [vitreous.quantise("cats", plain, **how).path for _ in range(2)]
    found.append(vitreous.quantise(folder_of(MODEL), plain, **how).path)
    with traceable():
        found.append(vitreous.export(vitreous.load("cats"), "onnx").path)
    assert [str(one) for one in found] == [
        "exports/cats-int8-1", "exports/cats-int8-2", "exports/model-int8-1", "exports/cats-onnx-1",
    ]  # fmt: skip
    assert all((one / "config.json").exists() for one in found)
