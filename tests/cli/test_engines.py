"""--engine, --precision and --verbose, wherever a command runs a model forward."""

import numpy as np
import pytest
from PIL import Image
from tests.deploy.conftest import TINY, folder_of
from tests.engines.test_onnx_file import folder_of as export_of
from tests.engines.test_onnx_file import linear
from tests.support.processor import needs_bf16

from vitreous.cli.main import main
from vitreous.weights.model_folder import save_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("engines") / "model"
    save_model(path, folder_of(TINY))
    return str(path)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Eleven images of two of the model's three classes, one folder each."""
    root, drawn = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for place in range(11):
        file = root / f"class {place % 2}" / f"{place}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(drawn.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(file)
    return str(root)


def test_verbose_says_who_computed_and_how(model, photos, capfd):
    assert main(["predict", model, photos, "--device", "cpu", "--verbose"]) == 0
    said = capfd.readouterr()
    assert "vitreous: computed by torch in fp32 on cpu, " in said.err
    assert "6 dense layers packed by " in said.err
    assert "vitreous:" not in said.out
    assert main(["predict", model, photos, "--device", "cpu"]) == 0
    quiet = capfd.readouterr()
    assert (quiet.out, quiet.err) == (said.out, "")


@pytest.mark.parametrize("precision", [pytest.param("bf16", marks=needs_bf16), "auto"])
def test_evaluate_and_embed_compute_in_the_precision_that_is_named(model, photos, tmp_path, capfd, precision):
    common = ["--device", "cpu", "--precision", precision, "--verbose", "--engine", "torch"]
    out = ["--out", str(tmp_path / "report")]
    assert main(["evaluate", model, photos, *out, *common]) == 0
    assert main(["embed", model, photos, "--out", str(tmp_path / "a.npz"), *common]) == 0
    said = capfd.readouterr().err
    assert said.count("computed by torch in " + ("bf16" if precision == "bf16" else "")) == 2
    assert main(["evaluate", model, photos, "--protocol", "knn", "--out", str(tmp_path / "knn"), *common]) == 0


@pytest.mark.parametrize(("arguments", "said"), [
    (["predict", "MODEL", "PHOTOS", "--precision", "int8"], "this model was not calibrated for int8; write one that is: vitreous quantise"),
    (["evaluate", "MODEL", "PHOTOS", "--precision", "fp16"], "torch doesn't compute this model in fp16"),
    (["evaluate", "MODEL", "PHOTOS", "--protocol", "knn", "--precision", "int8"], "this model was not calibrated for int8"),
    (["embed", "MODEL", "PHOTOS", "--precision", "fp16"], "torch doesn't compute this model in fp16"),
    (["embed", "MODEL", "PHOTOS", "--engine", "openvino"], "openvino runs exported models; write one: vitreous export"),
    (["explain", "MODEL", "PHOTOS", "--engine", "onnxruntime"], "explain looks into layers, which only torch can do"),
    (["predict", "EXPORT", "PHOTOS", "--engine", "onnxruntime", "--precision", "bf16"], "doesn't compute this model in bf16"),
    (["predict", "EXPORT", "PHOTOS", "--engine", "torch"], "an export to onnx, which torch doesn't run"),
])  # fmt: skip
def test_what_an_engine_lacks_is_one_line(model, photos, tmp_path, capfd, arguments, said):
    export = str(export_of(tmp_path / "export", linear()))
    where = {"MODEL": model, "PHOTOS": photos, "EXPORT": export}
    out = [] if arguments[0] == "predict" else ["--out", str(tmp_path / "out.npz")]
    assert main([where.get(one, one) for one in arguments] + out) == 2
    told = capfd.readouterr()
    assert said in told.err
    assert len(told.err.splitlines()) == 1
    assert not (tmp_path / "out.npz").exists()
