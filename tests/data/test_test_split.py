"""A test split of the data's own is neither trained on nor chosen by, whatever it is called."""

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.support.pictures import tree, write

from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.data.labelled_images import open_source, open_splits
from vitreous.data.listing.discovery import list_splits
from vitreous.data.listing.listing import get_split
from vitreous.errors import DataError


def once(path, **settings):
    return open_dataset(DataConfig(str(path), test_split="once", **settings))


def pixels(source):
    return {source.read(index) for index in range(len(source))}


def draw(root, **counts):
    """Write class folders of random pictures, no two of which are alike."""
    seed = 0
    for folder, count in counts.items():
        for number in range(count):
            write(root / folder.replace("__", "/") / f"{number}.png", seed=(seed := seed + 1))
    return root


THREE = {"train__a": 6, "train__b": 6, "val__a": 2, "val__b": 2, "test__a": 3, "test__b": 3}


@pytest.mark.parametrize("test", ["test", "Test", "testing", "test_set", "tst"])
@pytest.mark.parametrize("held", ["val", "valid", "Validation", "dev"])
def test_three_folders_are_three_splits(tmp_path, test, held):
    draw(tmp_path, **{name.replace("test", test).replace("val", held): count for name, count in THREE.items()})
    found = once(tmp_path)
    assert [len(one) for one in (found.train, found.validation, found.test)] == [12, 4, 6]
    assert not pixels(found.test) & (pixels(found.train) | pixels(found.validation))
    assert (found.report.test, found.report.test_counts) == (6, {"a": 3, "b": 3})
    assert "12 for training, 4 for validation, 6 for one test at the end" in str(found.report)


def test_without_a_validation_split_training_images_are_held_out_and_the_test_stays_apart(tmp_path):
    draw(tmp_path, train__a=10, train__b=10, test__a=3, test__b=3)
    found = once(tmp_path)
    assert [len(one) for one in (found.train, found.validation, found.test)] == [16, 4, 6]
    assert found.validation.root.name == "train"
    assert not pixels(found.test) & (pixels(found.train) | pixels(found.validation))
    assert any("held out for it, and the test split is kept for the end" in note for note in found.report.notes)


def test_runs_of_before_keep_their_meaning(tmp_path):
    """Their config.json says nothing of it: the test split stood in for the validation, or was left out."""
    two = open_dataset(DataConfig(str(draw(tmp_path / "two", train__a=4, train__b=4, test__a=2, test__b=2))))
    assert (len(two.train), two.validation.root.name, two.test) == (8, "test", None)
    three = open_dataset(DataConfig(str(draw(tmp_path / "three", **THREE))))
    assert (len(three.train), three.validation.root.name, three.test) == (12, "val", None)


ROWS = [("train", 6), ("VALID", 2), ("Testing", 3), ("training", 2)]


@pytest.mark.parametrize("column", ["split", "subset"])
@pytest.mark.parametrize("extension", ["csv", "jsonl"])
def test_a_column_marks_the_test_rows(tmp_path, column, extension):
    lines, number = [], 0
    for split, count in ROWS:
        for label in ("a", "b"):
            for _ in range(count):
                write(tmp_path / f"{number}.png", seed=number)
                values = (f"{number}.png", label, split)
                names = ("path", "label", column)
                pairs = zip(names, values, strict=True)
                csv = ",".join(values)
                lines.append(csv if extension == "csv" else "{" + ", ".join(f'"{n}": "{v}"' for n, v in pairs) + "}")
                number += 1
    header = [f"path,label,{column}"] if extension == "csv" else []
    path = tmp_path / f"list.{extension}"
    path.write_text("\n".join([*header, *lines]))
    found = once(path)
    assert [len(one) for one in (found.train, found.validation, found.test)] == [16, 4, 6]
    assert not set(found.test.names) & {*found.train.names, *found.validation.names}


def test_neither_folds_nor_a_trial_of_settings_see_it_and_the_last_run_does(tmp_path):
    draw(tmp_path, train__a=6, train__b=6, test__a=3, test__b=3)
    test = pixels(once(tmp_path).test)
    for settings in ({"folds": 3, "fold": 1}, {"tuning_holdout": 0.2}):
        found = once(tmp_path, **settings)
        assert found.test is None
        assert not test & (pixels(found.train) | pixels(found.validation))
    last = once(tmp_path, folds=3, fold=-1)
    assert (len(last.train), pixels(last.test)) == (12, test)
    assert not test & pixels(last.train)


def test_images_that_are_in_training_too_are_named(tmp_path):
    draw(tmp_path, **THREE)
    (tmp_path / "test" / "a" / "leak.png").write_bytes((tmp_path / "train" / "a" / "0.png").read_bytes())
    (tmp_path / "test" / "b" / "leak.png").write_bytes((tmp_path / "val" / "b" / "1.png").read_bytes())
    report = once(tmp_path).report
    assert report.leaks == (("train/a/0.png", "test/a/leak.png"), ("val/b/1.png", "test/b/leak.png"))
    assert "2 test images in training or in validation too" in str(report)


def test_what_can_not_be_measured_is_left_out_aloud(tmp_path):
    """As competitions have it: test images without labels."""
    draw(tmp_path / "loose", train__a=5, train__b=5)
    for number in range(3):
        write(tmp_path / "loose" / "test" / f"{number}.png", seed=90 + number)
    found = once(tmp_path / "loose")
    assert (found.test, len(found.validation)) == (None, 2)
    assert any(
        "test split can't be measured" in note and "3 images but no class folders" in note
        for note in found.report.notes
    )
    draw(tmp_path / "other", **THREE, test__c=1)
    found = once(tmp_path / "other")
    assert found.test is None
    assert "the test split has classes that are not in training, so it is left out: c" in found.report.notes


def test_labels_are_the_models(tmp_path):
    draw(tmp_path, train__a=3, train__b=3, train__c=3, val__a=1, test__c=2, test__a=1)
    test = once(tmp_path).test
    assert [test.classes[label] for label in test.labels] == ["a", "c", "c"]
    np.testing.assert_array_equal(test.labels, [0, 2, 2])


@pytest.mark.parametrize("split, count", [(None, 4), ("train", 12), ("validation", 4), ("test", 6)])
def test_one_split_is_opened_by_name(tmp_path, split, count):
    assert len(open_source(str(draw(tmp_path, **THREE)), split=split)) == count
    assert len(open_source(str(tmp_path), ("a", "b", "z"), split=split)) == count


def test_a_split_that_is_not_there_is_named_with_those_that_are(tmp_path):
    tree(tmp_path / "two", train__a=2, train__b=2, val__a=1)
    with pytest.raises(DataError, match="no test split: it has train and validation"):
        open_source(str(tmp_path / "two"), split="test")
    tree(tmp_path / "whole", a=2, b=2)
    with pytest.raises(DataError, match="no validation split: it has no splits of its own"):
        open_source(str(tmp_path / "whole"), split="validation")
    with pytest.raises(DataError, match="no test split: it has train and validation"):
        open_source("digits", split="test")


def test_all_splits_are_opened_to_be_reviewed_and_embedded(tmp_path):
    found = open_splits(str(draw(tmp_path, **THREE)))
    assert {name: len(source) for name, source in found.items()} == {"train": 12, "validation": 4, "test": 6}


def test_words_that_are_no_splits_stay_none():
    assert [get_split(word) for word in ("tests", "contest", "trains", "evaluation", "a")] == [None] * 5


def test_a_class_called_test_is_a_class(tmp_path):
    tree(tmp_path, test=3, plane=3)
    assert list_splits(tmp_path).test is None
    assert set(once(tmp_path).facts.classes) == {"test", "plane"}


def test_images_of_other_channels_are_refused_before_training(tmp_path):
    for split, channels in (("train", 6), ("val", 6), ("test", 5)):
        for number in range(4):
            path = write(tmp_path / split / "ab"[number % 2] / f"{number}.tif", b"")
            pixels = np.random.default_rng(number).integers(0, 255, (8, 8, channels), np.uint8)
            tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="contig")
    with pytest.raises(DataError, match=r"mixes images of different channels \(4 of 5, 8 of 6\)"):
        once(tmp_path)
    assert once(tmp_path, folds=2, fold=0).test is None  # nothing is measured on it


def test_channels_that_are_asked_for_are_those_of_the_test_too(tmp_path):
    draw(tmp_path, **THREE)
    Image.new("LA", (8, 8)).save(tmp_path / "test" / "a" / "grey.png")
    report = once(tmp_path).report
    assert "LA" not in report.modes and report.all_modes["LA"] == 1
