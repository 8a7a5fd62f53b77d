"""int8 of the torch engine, from quantising to every command that computes; what is refused."""

import json

import httpx
import numpy as np
import pytest
import torch
from tests.deploy.conftest import folder_of, measure_shortly, write_noise
from tests.engines.test_gpu_path import needs_gpu

import vitreous
from vitreous.api import quantisation
from vitreous.cli.main import main
from vitreous.deploy import quantise as targets
from vitreous.engines import int8_linear
from vitreous.errors import CheckpointError, ConfigError, DataError, UnknownName
from vitreous.evaluation.probes.features import FeatureOptions, features
from vitreous.model.config import ViTConfig
from vitreous.model.resnet_config import ResNetConfig
from vitreous.weights.model_folder import load_model, save_model

MODEL = ViTConfig(image=(16, 24), patch=(8, 8), width=16, depth=2, heads=2, mlp_width=24, classes=3)


@pytest.fixture(autouse=True, scope="module")
def short():
    """Skip where torch has no int8 products; speed is measured by two passes: figures are not what is tested here."""
    try:
        int8_linear.check_int8()
    except ConfigError as error:
        pytest.skip(str(error))
    with measure_shortly():
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Noise of three classes, in training and validation folders."""
    return write_noise(tmp_path_factory.mktemp("data"), (16, 24))


@pytest.fixture(scope="module")
def found(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "int8"
    return vitreous.quantise(folder_of(MODEL), photos, out, to="torch", most_lost=100, batch=8)


def test_a_quantised_folder_is_a_model_in_any_precision(found, photos):
    assert (found.engine, found.layers, found.kept, found.calibrated, found.examples) == ("torch", 9, (), 24, 12)
    assert (found.fp32.precision, found.int8.precision, found.int8.bytes) == ("fp32", "int8", found.fp32.bytes)
    assert str(found).endswith("IMAGES... --precision int8")
    plain, small = vitreous.load(found.path), vitreous.load(found.path, precision="int8", engine="torch")
    assert (plain.engine.precision, small.engine.precision) == ("fp32", "int8")
    assert vitreous.evaluate(small, photos, speed=False).metrics.top1 == found.int8.top1
    pixels = np.random.default_rng(1).integers(256, size=(9, 16, 24, 3), dtype=np.uint8)
    original, logits = vitreous.load(folder_path(found)).engine.logits(pixels), small.engine.logits(pixels)
    assert np.array_equal(plain.engine.logits(pixels), original)
    assert 1e-4 < np.abs(logits - original).max() / np.abs(original).max() < 0.1
    assert load_model(found.path).origin["quantised"]["layers"] == 9


def folder_path(found):
    """Return the same weights without ranges, beside the folder that has them."""
    path = found.path.parent / "original"
    if not path.exists():
        save_model(path, folder_of(MODEL))
    return path


def test_features_are_the_engines_own(found, photos):
    """Of one image, of many and of a source; nothing is taken from those of another precision."""
    small, plain = vitreous.load(found.path, precision="int8"), vitreous.load(found.path)
    paths = [str(one) for one in sorted(photos.glob("val/*/*.png"))]
    many, wanted = small.features(paths).numpy(), plain.features(paths).numpy()
    assert 1e-4 < np.abs(many - wanted).max() / np.abs(wanted).max() < 0.2
    assert np.abs(small.features(paths[0]).numpy() - many[0]).max() < 0.03 * np.abs(wanted).max()
    source = quantisation.open_labelled(photos, plain, "raise", quantisation.Silent())
    vectors = {
        name: features(one, source, FeatureOptions(precision=name)).vectors
        for name, one in (("fp32", plain), ("int8", small), ("fp32", plain))
    }
    assert 1e-4 < np.abs(vectors["int8"] - vectors["fp32"]).max() / np.abs(wanted).max() < 0.2
    with pytest.raises(ConfigError, match=r"only the model's features are computed, not block\.1"):
        features(small, source, FeatureOptions(layer="block.1", precision="int8"))
    with pytest.raises(ConfigError, match="computes in fp32, as it was loaded, not in int8"):
        features(plain, source, FeatureOptions(precision="int8"))
    with pytest.raises(ConfigError, match="can't be computed in int8"):
        small.tokens(paths[0])


def test_commands_take_it(found, photos, tmp_path, capfd):
    image = str(next(photos.glob("val/*/*.png")))
    for words in (
        ["predict", str(found.path), image, "--precision", "int8", "--verbose"],
        ["evaluate", str(found.path), str(photos), "--precision", "int8", "--out", str(tmp_path / "evaluated")],
        ["embed", str(found.path), image, "--precision", "int8", "--out", str(tmp_path / "vectors.npz")],
    ):
        assert main(words) == 0, capfd.readouterr().err
        assert "int8" in "".join(capfd.readouterr()) or words[0] == "embed"
    assert main(["train", "digits", "--precision", "int8", "--out", str(tmp_path / "run")]) == 2
    assert "--precision is 'int8'; it must be one of" in capfd.readouterr().err
    assert main(["predict", str(folder_path(found)), image, "--precision", "int8"]) == 2
    assert capfd.readouterr().err.count("\n") == 1


@needs_gpu
def test_a_gpu_is_measured_where_it_computes(photos, tmp_path):
    """In widths that cuBLAS multiplies in int8."""
    model = ViTConfig(image=(16, 24), patch=(8, 8), width=16, depth=3, heads=2, mlp_width=24, classes=3)
    found = vitreous.quantise(folder_of(model), photos, tmp_path / "out", to="torch", device="cuda", most_lost=100)
    assert (found.engine, found.int8.precision, found.fp32.precision) == ("torch", "int8", "fp32")
    assert vitreous.load(found.path, precision="int8", device="cuda").engine.precision == "int8"


def test_a_layer_that_is_given_nothing_stays_in_float(photos, tmp_path):
    """Its range would be 0 to 0, which no step reaches over: the folder could not be loaded again."""
    folder = folder_of(MODEL)
    with torch.no_grad():
        folder.model.blocks[0].mlp.expand.weight.zero_()
        folder.model.blocks[0].mlp.expand.bias.zero_()
    found = vitreous.quantise(folder, photos, tmp_path / "out", to="torch", most_lost=100, batch=8)
    assert found.layers == 8
    assert "blocks.0.mlp.contract" not in load_model(found.path).ranges


def test_a_service_answers_in_int8(found, photos):
    files = sorted(photos.glob("val/*/*.png"))
    expected, plain = (vitreous.load(found.path, precision=one)([*map(str, files)]) for one in ("int8", "fp32"))
    options = {"precision": "int8"}
    with (
        vitreous.serve({"small": found.path}, port=0, wait_ms=1, load_options=options) as service,
        httpx.Client(base_url=service.url, timeout=60) as client,
    ):
        described = client.get("/v1/models").json()["models"][0]
        sent = [("images", (one.name, one.read_bytes())) for one in files]
        answers = client.post("/v1/predict", files=sent).json()["predictions"]
    assert (described["engine"], described["precision"]) == ("torch", "int8")
    assert [one["label"] for one in answers] == [one.label for one in expected]
    assert [one["score"] for one in answers] == pytest.approx([one.score for one in expected], abs=1e-6)
    assert max(abs(one["score"] - other.score) for one, other in zip(answers, plain, strict=True)) > 1e-5


def test_layers_that_hurt_are_found_and_kept(photos, tmp_path, monkeypatch):
    """Measured accuracy is replaced: it fits once two layers are in float32."""
    calls = []

    def fake(predictor, source, batch, progress=None):
        calls.append(predictor.engine.precision)
        logits = np.eye(3, dtype=np.float32)[source.labels]
        return logits if predictor.engine.precision == "fp32" or len(calls) > 3 else logits[:, ::-1].copy()

    monkeypatch.setattr(quantisation, "outputs", fake)
    found = vitreous.quantise(folder_of(MODEL), photos, tmp_path / "out", to="torch", batch=4)
    assert calls == ["fp32", "int8", "int8", "int8"]
    ranges = load_model(tmp_path / "out").ranges
    assert len(found.kept) == 2
    assert {*found.kept, *ranges} == {*load_model(tmp_path / "out").ranges, *found.kept}
    assert not set(found.kept) & set(ranges)
    assert len(ranges) == 7


def test_what_cannot_be_quantised_is_refused_before_any_work(photos, tmp_path, monkeypatch):
    refused = {"to": "torch", "out": tmp_path / "out"}
    with pytest.raises(DataError, match="has 4 images that can be read, and calibration takes at least 16"):
        vitreous.quantise(folder_of(MODEL), photos, calibration=photos / "val" / "class 0", **refused)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images"):
        vitreous.quantise(folder_of(MODEL), photos, calibration=tmp_path / "empty", **refused)
    with pytest.raises(ConfigError, match="dynamic ranges are for ONNX Runtime, but the target is torch"):
        vitreous.quantise(folder_of(MODEL), photos, dynamic=True, **refused)
    resnet = ResNetConfig(image=(16, 16), units=(1, 1), root="3x3", root_channels=8, groups=4, classes=3)
    with pytest.raises(
        ConfigError, match="encoder blocks in int8, but a ResNet has none; choose --to onnx or openvino"
    ):
        vitreous.quantise(folder_of(resnet), photos, **refused)
    with pytest.raises(ConfigError, match="without merged patches"):
        vitreous.quantise(folder_of(MODEL, merge=1), photos, **refused)
    with pytest.raises(
        ConfigError, match="an export to onnx is measured on the CPU, not on 'cuda'; leave out --device"
    ):
        vitreous.quantise("no such model", photos, tmp_path / "out", device="cuda")
    with pytest.raises(UnknownName, match="unknown device to quantise for 'gpu'"):
        vitreous.quantise("no such model", photos, **refused, device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="device 'cuda' is not usable here"):
            vitreous.quantise("no such model", photos, **refused, device="cuda")
    monkeypatch.setattr(int8_linear, "is_exact", lambda bits: False)
    assert targets.check_int8 is int8_linear.check_int8
    with pytest.raises(ConfigError, match=r"sums overflow .* vitreous quantise MODEL DATA --to onnx"):
        vitreous.quantise("no such model", photos, **refused)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("changed", "said"), [
    ({"blocks.0.mlp.expnd": [-1, 1]}, "did you mean 'blocks.0.mlp.expand'"),
    ({"blocks.0.mlp.expand": [1, 2]}, "the range of blocks.0.mlp.expand is 1.0 to 2.0; it must reach over 0"),
    ({"blocks.0.mlp.expand": [0, 0]}, "it must reach over 0"),
    ({"blocks.0.mlp.expand": [-1]}, "has 1 values; it must have 2"),
    ({"blocks.0.mlp.expand": "wide"}, "it must be a list of 2 numbers"),
    ([-1, 1], "it must be"),
])  # fmt: skip
def test_damaged_ranges_are_refused(found, tmp_path, changed, said):
    path = tmp_path / "model"
    save_model(path, load_model(found.path))
    document = json.loads((path / "config.json").read_text())
    assert set(document["ranges"]) == set(load_model(found.path).ranges)
    (path / "config.json").write_text(json.dumps(document | {"ranges": changed}))
    with pytest.raises(CheckpointError, match=said):
        vitreous.load(path)


def test_ranges_belong_to_a_size_and_to_channels(found):
    assert load_model(found.path).ranges
    for options in ({"image": (24, 24)}, {"channels": 1}):
        with pytest.raises(ConfigError, match="was not calibrated for int8"):
            vitreous.load(found.path, precision="int8", **options)
    assert vitreous.load(found.path, precision="int8", labels=("class 2", "class 0")).engine.precision == "int8"
