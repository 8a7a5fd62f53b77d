"""Large JPEGs decoded at a fraction of their size: on request alone, the same in every command, and said of each image."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from tests.support.pictures import encoded, picture, write

import vitreous as package
from vitreous.errors import UnknownName
from vitreous.images.decode import decode


@pytest.fixture
def photographs(here):
    """Write two large JPEGs, one that is too small to be reduced for an input of 8x8, and a large PNG, in class folders."""
    for name, side, kind in (
        ("3/a.jpg", 64, "JPEG"),
        ("3/b.jpg", 128, "JPEG"),
        ("7/c.jpg", 31, "JPEG"),
        ("7/d.png", 64, "PNG"),
    ):
        noise = Image.fromarray(picture(side, 4, 4, 3)).resize((side, side))
        write(here / "photographs" / name, encoded(np.asarray(noise), kind))
    return here / "photographs"


def test_each_prediction_says_its_reduction(vitreous, trained, photographs, here):
    how = ("predict", trained, "photographs", "--decode=reduced")
    lines = [json.loads(line) for line in vitreous(*how, "--format=jsonl").worked().splitlines()]
    assert [one.get("reduction", 1) for one in lines] == [4, 8, 1, 1]
    rows = list(csv.DictReader(vitreous(*how, "--format=csv").worked().splitlines()))
    assert [row["reduction"] for row in rows] == ["4", "8", "1", "1"]
    exact = vitreous("predict", trained, "photographs", "--format=jsonl").worked()
    assert "reduction" not in exact
    assert exact == vitreous("predict", trained, "photographs", "--format=jsonl", "--decode=exact").worked()


def test_it_is_the_reduced_image_that_the_model_sees(trained, photographs):
    predictor = package.load(trained, decode="reduced")
    assert predictor.folder.decode.at_least == (16, 16)
    data = (photographs / "3" / "b.jpg").read_bytes()
    small = decode(data, mode="L", at_least=(16, 16))
    assert small.shape == (16, 16, 1)
    found, expected, exact = predictor(data), package.load(trained)(small), package.load(trained)(data)
    assert found.top == expected.top != exact.top
    assert [predictor(kind(data)).reduction for kind in (bytes, bytearray, memoryview)] == [8, 8, 8]
    assert predictor.load_options == {"decode": "reduced"}


def test_evaluate_and_embed_take_it_too(vitreous, trained, photographs, here):
    said = "decoded at reduced scale: large JPEGs at 1/2, 1/4 or 1/8, but at least 16x16 pixels"
    how = ("--no-speed", "--out")
    assert said in vitreous("evaluate", trained, photographs, "--decode=reduced", *how, "reduced").worked()
    assert said not in vitreous("evaluate", trained, photographs, *how, "exact").worked()
    reports = [json.loads((here / name / "report.json").read_text()) for name in ("reduced", "exact")]
    assert [one.get("taken") for one in reports] == [{"decode": "reduced"}, None]
    vectors = {}
    for name in ("reduced", "exact", None):
        vitreous("embed", trained, "photographs", f"--out={name}.npz", *([f"--decode={name}"] if name else [])).worked()
        vectors[name] = np.load(here / f"{name}.npz")["vector"]
    np.testing.assert_array_equal(vectors["exact"], vectors[None])
    changed = np.abs(vectors["reduced"] - vectors["exact"]).max(axis=1) > 0
    assert changed.tolist() == [True, True, False, False]
    vitreous("similar", "photographs/3/b.jpg", "--in=reduced.npz").worked("3/a.jpg")


def test_an_unknown_decoding_is_one_line(trained):
    with pytest.raises(UnknownName, match="unknown decoding 'half'"):
        package.load(trained, decode="half")
