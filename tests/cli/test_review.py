"""`inspect --review`: a page, a CSV and a cleaned manifest, and no image is touched."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from tests.support.pictures import encoded, write

import vitreous as package
from vitreous.api.review import ReviewResult
from vitreous.evaluation.review.checks import WRONG, Finding, Review


def scene(seed):
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC)


@pytest.fixture
def photos(here):
    """Write two classes in two splits, with a near-duplicate across them, one of one colour and a broken one."""
    for number in range(12):
        write(here / "photos/train" / ("cat", "dog")[number % 2] / f"{number}.png", encoded(scene(number)))
    for number in range(12, 16):
        write(here / "photos/val" / ("cat", "dog")[number % 2] / f"{number}.png", encoded(scene(number)))
    write(here / "photos/val/cat/again.jpg", encoded(scene(4), "JPEG", quality=40))
    write(here / "photos/train/dog/plain.png", encoded(Image.new("RGB", (64, 48), (9, 90, 200))))
    write(here / "photos/train/dog/broken.png", b"no image")
    return {str(path): path.read_bytes() for path in sorted((here / "photos").rglob("*.*"))}


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_without_a_model_what_pixels_tell_is_told(vitreous, photos, here):
    done = vitreous("inspect", "photos", "--review", "--out", "o", "--apply", "clean.csv")
    shown = done.out
    assert done.code == 0, done
    for words in (
        "Near-duplicates: 1", "like cat/again.jpg", "Of one colour: 1", "1 files can't be read", "need features: name a model",
        "16 of 18 images are in clean.csv, 2 were left out; no file was touched", "next: vitreous train clean.csv",
    ):  # fmt: skip
        assert words in shown, shown
    rows = {row["finding"]: row for row in rows_of(here / "o/review.csv")}
    assert (rows["near-duplicate"]["path"], rows["near-duplicate"]["other"]) == ("cat/4.png", "cat/again.jpg")
    assert (rows["one colour"]["path"], rows["unreadable"]["path"]) == ("dog/plain.png", "dog/broken.png")
    assert all(rows[name]["left_out"] == "True" for name in rows if name != "blurred")
    assert len(json.loads((here / "o/report.json").read_text())["results"]["findings"]) == len(
        rows_of(here / "o/review.csv")
    )
    assert (here / "o/report.html").read_text().count("<img") >= 3
    listed = rows_of(here / "clean.csv")
    gone = ("broken.png", "plain.png", "cat/4.png")
    assert {str(here / row["path"]) for row in listed} == {name for name in photos if not name.endswith(gone)}
    assert sum(row["split"] == "val" for row in listed) == 5
    vitreous("inspect", "clean.csv").worked("11 for training, 5 for validation")
    assert {str(path): path.read_bytes() for path in sorted((here / "photos").rglob("*.*"))} == photos


def test_a_class_that_is_left_out_whole_is_told(photos, here):
    write(here / "photos/train/elk/copy.jpg", encoded(scene(0), "JPEG", quality=40))
    found = package.review("photos")
    assert found.apply(here / "clean.csv").endswith("; classes without an image left: elk")


def test_a_test_split_stays_one_in_the_cleaned_manifest(vitreous, photos, here):
    write(here / "photos/test/cat/again.png", encoded(scene(4)))
    write(here / "photos/test/dog/other.png", encoded(scene(31)))
    done = vitreous("inspect", "photos", "--review", "--apply", "clean.csv")
    assert done.code == 0 and "like cat/again.png" in done.out
    splits = {row["path"]: row["split"] for row in rows_of(here / "clean.csv")}
    assert splits["photos/test/cat/again.png"] == splits["photos/test/dog/other.png"] == "test"
    assert "photos/train/cat/4.png" not in splits and "photos/val/cat/again.jpg" not in splits
    vitreous("inspect", "clean.csv").worked("4 for validation, 2 for one test at the end")


def test_with_a_model_labels_are_asked_too(vitreous, trained, photos, here):
    done = vitreous("inspect", "photos", "--review", "--weights", trained, "--out", "o")
    assert done.code == 0 and "need features" not in done.out
    found = package.review("photos", trained)
    assert found.left_out == () and len(found.review.names) == 18
    kinds = {one.kind for one in found.review.findings}
    assert "near-duplicate" in kinds
    assert list(found.to_pandas()["finding"]) == found.columns["finding"]
    assert "_repr_html_" in dir(found) and str(found) in done.out
    assert f"--review --weights {trained} --apply cleaned.csv" in done.out


@pytest.mark.parametrize(("wrong", "doubted"), [(0, False), (2, False), (3, True), (20, True)])
def test_features_that_miss_many_labels_are_doubted(wrong, doubted):
    """Those of a digits model, say, of photographs: whoever drops what they doubt loses good images."""
    names, classes = tuple(map(str, range(20))), ("a", "b")
    findings = tuple(Finding(WRONG, index, 0.1, 1) for index in range(wrong))
    found = ReviewResult("photos", Review(names, ("",) * 20, ("a",) * 20, classes, findings, (), None), (), (), {})
    said = f"these features predict {1 - wrong / 20:.0%} of all labels from the other images, so many of these labels may be right"
    assert (said in str(found)) == doubted


def test_what_can_not_be_reviewed(vitreous, photos, here):
    write(here / "there.csv", b"mine")
    inspect = ("inspect", "photos")
    vitreous(*inspect, "--review", "--apply", "there.csv").refused("there.csv already exists; name a new file")
    vitreous(*inspect, "--review", "--apply", "a.txt").refused("a.txt ends in .txt", ".csv")
    vitreous(*inspect, "--review", "--apply", "no/a.csv").refused("there is no folder no")
    for option in (("--apply", "a.csv"), ("--weights", "x"), ("--out", "o")):
        vitreous(*inspect, *option).refused(f"{option[0]} is for --review")
    for data in ("digits", "formula:atoms?classes=2&images=4"):
        done = vitreous("inspect", data, "--review")
        assert done.code == 2 and "has no image files to review" in done.err
    assert (here / "there.csv").read_bytes() == b"mine" and not (here / "a.csv").exists()
