"""Predictions: the same from every kind of input, in order, one or many, and never stopped by a broken image."""

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.support.processor import needs_bf16

import vitreous
from vitreous.engines.selection import SETTLED
from vitreous.errors import CheckpointError, ConfigError, UnknownName
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.images.preprocess import preprocess_image
from vitreous.model.config import ViTConfig
from vitreous.model.factory import create
from vitreous.prediction import DecisionOptions
from vitreous.predictor import Predictor
from vitreous.weights.model_folder import ModelFolder, save_model

PACKAGE = Path(vitreous.__file__).parent
CLASSES = ("ant", "bee", "cat", "dog")


def folder_of(channels=3, classes=CLASSES):
    config = ViTConfig(
        image=(16, 24), patch=(8, 8), channels=channels, width=16, depth=2, heads=2, mlp_width=32, classes=len(classes)
    )
    model = create(config, 0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.5, generator=torch.Generator().manual_seed(1))
    mode = "RGB" if channels == 3 else "L"
    return ModelFolder(model, PreprocessConfig(size=(16, 24), mode=mode), DecodeConfig(), classes)


@pytest.fixture(scope="module")
def predictor():
    return Predictor(folder_of(), device="cpu", batch=4)


def pixels(seed=0, shape=(40, 50, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def top(prediction):
    assert prediction.error is None, prediction.error
    return prediction.top


def test_one_image_gives_one_prediction(predictor):
    prediction = predictor(png(pixels()))
    labels, scores = zip(*prediction.top, strict=True)
    assert sorted(labels) == sorted(CLASSES)
    assert list(scores) == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1, abs=1e-5)
    assert (prediction.label, prediction.score, prediction.name) == (labels[0], scores[0], "image 1")


def test_scores_are_the_softmax_of_the_model(predictor):
    folder = predictor.folder
    from vitreous.images.preprocess import preprocess_image
    from vitreous.images.tensors import normalize

    ready = torch.from_numpy(preprocess_image(png(pixels()), folder.decode, folder.preprocess, "x")).permute(2, 0, 1)[
        None
    ]
    with torch.inference_mode():
        expected = folder.model(normalize(ready, folder.preprocess)).double().softmax(-1)[0]
    assert dict(predictor(png(pixels())).top) == pytest.approx(
        dict(zip(CLASSES, expected.tolist(), strict=True)), abs=1e-6
    )


def test_every_kind_of_input_gives_the_same(predictor, tmp_path):
    array = pixels()
    (tmp_path / "a.png").write_bytes(png(array))
    read_only = array.copy()
    read_only.flags.writeable = False
    inputs = [
        png(array),
        bytearray(png(array)),
        memoryview(png(array)),
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        array,
        read_only,
        array[::-1][::-1],
        np.dstack([array, np.full(array.shape[:2], 255, np.uint8)]),
        Image.fromarray(array),
        Image.open(io.BytesIO(png(array))),
    ]
    predictor([array] * SETTLED)  # from then on an image's numbers don't depend on how many came before
    expected = top(predictor(inputs[0]))
    for given_image in inputs:
        assert top(predictor(given_image)) == expected
    for prediction in predictor(inputs):
        assert dict(top(prediction)) == pytest.approx(dict(expected), abs=1e-5)
    with (tmp_path / "a.png").open("rb") as file:
        assert top(predictor(file)) == expected
        file.seek(0)
        assert [dict(top(one)) for one in predictor([file])] == [pytest.approx(dict(expected), abs=1e-5)]
    series = pandas.Series([str(tmp_path / "a.png")] * 2)
    assert len(predictor(series)) == 2


def test_a_tensor_is_refused_whole(predictor):
    found = predictor(torch.zeros(3, 48, 48))
    assert found.label is None and "is a Tensor; give bytes, a path, a uint8 array or a Pillow image" in found.error


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_serves_colour_and_colour_grey(channels):
    predictor, grey = Predictor(folder_of(channels), device="cpu"), pixels(shape=(30, 30))
    same = [grey, grey[:, :, None], png(grey), Image.fromarray(grey), np.dstack([grey] * 3), png(np.dstack([grey] * 3))]
    results = [top(prediction) for prediction in predictor(same)]
    assert all(dict(result) == pytest.approx(dict(results[0]), abs=1e-6) for result in results)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "HSV", "LAB"])
def test_every_mode_of_pillow_is_taken(predictor, mode):
    source = Image.fromarray(pixels())
    if mode == "I;16":
        image = Image.fromarray(pixels(shape=(20, 30)).astype(np.uint16) * 257)
    else:
        image = source.convert("LAB" if mode == "LAB" else mode) if mode != "LAB" else Image.new("LAB", (20, 20))
    assert top(predictor(image))


def test_orientation_of_pillow_images_is_applied(predictor):
    image, exif = Image.fromarray(pixels()), Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif)
    from_bytes, from_pillow = predictor(file.getvalue()), predictor(Image.open(io.BytesIO(file.getvalue())))
    turned = dict(top(predictor(np.rot90(pixels(), 3))))  # the 8th image may be the first of packed layers
    for one in (from_bytes, from_pillow):
        assert dict(top(one)) == pytest.approx(turned, abs=1e-6)


def test_alone_and_in_a_batch_are_equal(predictor):
    images = [pixels(seed, (20 + seed, 30, 3)) for seed in range(11)]
    alone = [dict(top(predictor(image))) for image in images]
    for batch in (1, 3, 32):
        many = Predictor(predictor.folder, device="cpu", batch=batch)(images)
        assert [prediction.name for prediction in many] == [f"image {number}" for number in range(1, 12)]
        for one, other in zip(alone, many, strict=True):
            assert dict(other.top) == pytest.approx(one, abs=1e-5)


def test_an_array_of_four_axes_is_many(predictor):
    batch = np.stack([pixels(seed) for seed in range(3)])
    assert [prediction.top for prediction in predictor(batch)] == [
        prediction.top for prediction in predictor(list(batch))
    ]


def test_broken_images_keep_their_place_and_stop_nothing(predictor, tmp_path):
    (tmp_path / "letter.jpg").write_text("dear grandmother")
    (tmp_path / "empty.png").write_bytes(b"")
    good = png(pixels())
    inputs = [good, b"", b"text", good[:200], good, tmp_path / "nowhere.png", tmp_path / "letter.jpg", tmp_path]
    inputs += [
        tmp_path / "empty.png",
        7,
        None,
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((8, 8)),
        np.zeros((0, 8, 3), np.uint8),
        good,
    ]
    results = predictor(inputs)
    assert [prediction.error is None for prediction in results] == [item is good for item in inputs]
    for prediction in results:
        assert prediction.error is None or (prediction.label, prediction.score, prediction.top) == (None, None, ())
        assert "\n" not in (prediction.error or "")
    assert results[0].top == results[4].top == results[-1].top
    assert results[5].name == str(tmp_path / "nowhere.png")
    assert "move the channels last" in results[11].error
    assert "scale floats to 0..255" in results[12].error
    assert predictor(b"").error


def test_a_damaged_pillow_image_is_an_error_in_its_place(predictor):
    lazy = Image.open(io.BytesIO(png(pixels())[:3000]))
    assert "can't be read" in predictor(lazy).error


def test_nothing_gives_nothing(predictor):
    assert predictor([]) == []
    assert predictor(iter([])) == []


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.sampled_from([None, 1, 3, 4]))
def test_any_shape_gets_a_label(rows, cols, channels):
    predictor = Predictor(folder_of(), device="cpu", top=1)
    prediction = predictor(np.zeros((rows, cols) if channels is None else (rows, cols, channels), np.uint8))
    assert prediction.label in CLASSES


@needs_bf16
def test_bf16_agrees_within_its_precision(predictor):
    half = Predictor(predictor.folder, device="cpu", precision="bf16")
    assert dict(half(pixels()).top) == pytest.approx(dict(predictor(pixels()).top), abs=0.05)
    logits = half.logits(torch.zeros(2, 3, 16, 24, dtype=torch.uint8))
    assert logits.dtype == torch.float32


def test_a_saved_model_predicts_the_same(predictor, tmp_path):
    save_model(tmp_path / "model", predictor.folder)
    loaded = Predictor.load(tmp_path / "model", device="cpu", top=2)
    for one in (loaded, predictor):
        one([pixels()] * SETTLED)
    assert loaded(pixels()).top == predictor(pixels()).top[:2]


def test_a_prediction_is_json(predictor):
    good, bad = (json.loads(json.dumps(prediction.to_dict())) for prediction in predictor([pixels(), b""]))
    assert good["top"][0] == {"label": good["label"], "score": good["score"]}
    assert good["error"] is None
    assert (bad["label"], bad["score"], bad["top"]) == (None, None, [])
    assert list(good) == list(bad) == ["name", "label", "score", "top", "error"]


def test_what_cannot_predict_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="has no head"):
        Predictor(folder_of(classes=()), device="cpu")(pixels())
    with pytest.raises(ConfigError, match="at least 1"):
        Predictor(folder_of(), device="cpu", batch=0)
    with pytest.raises(UnknownName, match="did you mean 'fp16'"):
        Predictor(folder_of(), device="cpu", precision="fb16")
    with pytest.raises(UnknownName, match="unknown device"):
        Predictor(folder_of(), device="gpu")
    with pytest.raises(CheckpointError, match="no such model folder"):
        Predictor.load(tmp_path / "nowhere")


@pytest.mark.parametrize(("shift", "claimed"), [(0.0, 2), (-9.0, 0), (9.0, 4)])
def test_several_labels_have_a_sigmoid_each(shift, claimed):
    folder = replace(folder_of(), multilabel=True)
    with torch.no_grad():
        folder.model.head.bias += shift
    predictor = Predictor(folder, device="cpu", top=1)
    images = [pixels(seed) for seed in range(3)]
    for image, one in zip(images, predictor(images), strict=True):
        ready = torch.from_numpy(preprocess_image(image, folder.decode, folder.preprocess)).permute(2, 0, 1)[None]
        shares = torch.sigmoid(predictor.logits(ready))[0].numpy()
        order = np.argsort(-shares, kind="stable")
        assert list(one.labels) == [CLASSES[place] for place in order[:claimed]]
        assert [label for label, _ in one.top] == [CLASSES[place] for place in order[: max(1, claimed)]]
        np.testing.assert_allclose([score for _, score in one.top], shares[order[: len(one.top)]], rtol=1e-6)
        assert (one.label, one.score) == one.top[0]
        assert json.loads(json.dumps(one.to_dict()))["labels"] == list(one.labels)
    assert predictor(b"no image").labels is None


def test_one_label_has_no_list_of_labels(predictor):
    one = predictor(pixels())
    assert (one.labels, "labels" in one.to_dict()) == (None, False)


def test_the_mean_over_an_image_and_its_mirror_image():
    folder = folder_of()
    folder = replace(folder, preprocess=replace(folder.preprocess, crop=1.0))
    plain, both = (Predictor(folder, device="cpu", batch=4) for _ in range(2))
    both.decision = DecisionOptions(tta="flip")
    images = [pixels(seed, (16, 24, 3)) for seed in range(5)]
    for image, found in zip(images, both(images), strict=True):
        views = [dict(plain(view).top) for view in (image, image[:, ::-1])]
        mean = {name: (views[0][name] + views[1][name]) / 2 for name in CLASSES}
        assert dict(found.top) == pytest.approx(mean, abs=1e-6)
        assert found.label == max(mean, key=mean.get)


def test_an_unknown_image_says_so_beside_a_class_of_that_name():
    predictor = Predictor(folder_of(classes=("unknown", "bee", "cat", "dog")), device="cpu")
    predictor.decision = DecisionOptions(threshold=1.0)
    one = predictor(pixels())
    assert (one.label, one.unknown, len(one.top)) == ("unknown-2", True, 4)
    assert one.top[0][1] == one.score == one.certainty < 1


def test_a_threshold_says_which_of_several_classes_are_there():
    folder = replace(folder_of(), multilabel=True)
    scores = dict(Predictor(folder, device="cpu")(pixels()).top)
    middle = sorted(scores.values())[1]
    predictor = Predictor(folder, device="cpu", top=1)
    predictor.decision = DecisionOptions(threshold=middle)
    one = predictor(pixels())
    assert set(one.labels) == {name for name, score in scores.items() if score >= middle}
    assert not one.unknown and one.certainty == 0


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("threshold", [None, 0.9])
def test_outputs_that_are_no_numbers_are_no_prediction(multilabel, threshold, monkeypatch):
    """As a model in 16 bits gives them for an image in which it overflows: neither a class nor unknown."""
    predictor = Predictor(replace(folder_of(), multilabel=multilabel), device="cpu")
    predictor.decision = DecisionOptions(threshold=threshold)
    images = [np.full((16, 16, 3), value, np.uint8) for value in (0, 255, 128)]
    right = predictor(images)
    compute = predictor.engine.probabilities

    def overflow(pixels):
        found = compute(pixels)
        found[[int(one.mean()) == 255 for one in pixels]] = np.nan
        return found

    monkeypatch.setattr(predictor.engine, "probabilities", overflow)
    first, wrong, last = predictor(images)
    assert (first, last) == (right[0], right[2])
    assert (wrong.label, wrong.score, wrong.top, wrong.unknown) == (None, None, (), False)
    assert "not finite numbers" in wrong.error
    assert json.loads(json.dumps(wrong.to_dict(), allow_nan=False))["error"] == wrong.error


def test_predictions_as_a_pandas_frame(predictor, monkeypatch):
    images = [pixels(0), b"no image", pixels(1)]
    frame, found = predictor.table(images), predictor(images)
    names = [f"{kind}{place}" for place in ("", 2, 3, 4) for kind in ("label", "score")]
    assert list(frame.columns) == ["name", *names, "unknown", "error"]
    assert list(frame["name"]) == ["image 1", "image 2", "image 3"]
    assert list(frame["label"].dropna()) == [found[0].label, found[2].label]
    assert list(frame["score2"].dropna()) == [found[0].top[1][1], found[2].top[1][1]]
    assert frame["error"][1] == found[1].error and frame["error"].count() == 1
    assert len(predictor.table(pixels(0))) == 1
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match=r"data frames need pandas: pip install 'vitreous\[data\]'"):
        predictor.table(images)


PASSED = {"JPEG": 14, "JPEG with EXIF": 15, "PNG": 15}
"""Modules of ours that one image passes through; docs/architecture.md says which, and why not fewer."""


@pytest.mark.parametrize("kind", PASSED)
def test_an_image_passes_through_few_modules(tmp_path, kind):
    predictor = Predictor(folder_of(), device="cpu", batch=4)
    path, passed, exif = tmp_path / f"image.{kind.split()[0].lower()}", set(), Image.Exif()
    if kind.endswith("EXIF"):
        exif[0x0112] = 6
    Image.fromarray(pixels()).save(path, exif=exif.tobytes() if exif else b"")

    def note(frame, event, _):
        if event == "call" and PACKAGE in Path(frame.f_code.co_filename).parents:
            passed.add(Path(frame.f_code.co_filename).relative_to(PACKAGE).as_posix())

    assert predictor(path).label in CLASSES
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        predictor(path)
    finally:
        sys.setprofile(before)
    assert len(passed) == PASSED[kind], sorted(passed)
    named = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert {name for name in passed if f"`{name}`" not in named} == set()
