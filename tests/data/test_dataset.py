"""From settings to two scanned splits: splits, classes, facts, fingerprints."""

import os
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from tests.support.pictures import ODD, encoded, picture, tree, write

from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.data.labelled_images import open_images, open_source
from vitreous.data.sources import digits
from vitreous.errors import DataError, ImageError
from vitreous.images.config import DecodeConfig


def parts(found):
    return set(found.train.names), set(found.validation.names)


def test_one_tree_is_split_by_class(tmp_path):
    found = open_dataset(DataConfig(str(tree(tmp_path, a=20, b=10, c=5)), holdout=0.2))
    train, validation = parts(found)
    assert not train & validation
    assert len(train | validation) == 35
    assert Counter(found.validation.labels.tolist()) == {0: 4, 1: 2, 2: 1}
    assert found.facts.counts == (16, 8, 4)
    assert found.facts.classes == found.train.classes == found.validation.classes == ("a", "b", "c")


def test_the_split_is_the_seeds_alone(tmp_path):
    path = str(tree(tmp_path, a=20, b=20))
    one, again, other = (parts(open_dataset(DataConfig(path, split_seed=seed))) for seed in (0, 0, 1))
    assert one == again
    assert one != other


def test_labels_and_bytes_belong_to_their_names(tmp_path):
    found = open_dataset(DataConfig(str(tree(tmp_path, a=4, b=4))))
    for part in (found.train, found.validation):
        for index, name in enumerate(part.names):
            assert name.split("/")[0] == part.classes[part.labels[index]]
            assert part.read(index) == (tmp_path / name).read_bytes()


def test_validation_of_its_own(tmp_path):
    tree(tmp_path / "all", a=3, b=3)
    tree(tmp_path / "held", a=2, b=1)
    found = open_dataset(DataConfig(str(tmp_path / "all"), validation=str(tmp_path / "held")))
    assert (len(found.train), len(found.validation)) == (6, 3)
    assert found.validation.root == tmp_path / "held"


def test_a_split_beside_a_validation_of_its_own_is_noted(tmp_path):
    tree(tmp_path / "data", train__a=2, train__b=2, val__a=1, val__b=1)
    tree(tmp_path / "held", a=1, b=1)
    found = open_dataset(DataConfig(str(tmp_path / "data"), validation=str(tmp_path / "held")))
    assert (len(found.train), len(found.validation)) == (4, 2)
    assert any("2 validation images of" in note and "were left out" in note for note in found.report.notes)
    with pytest.raises(DataError, match="has splits of its own; give one of them"):
        open_dataset(DataConfig(str(tmp_path / "held"), validation=str(tmp_path / "data")))


def test_a_validation_class_that_is_not_trained_on(tmp_path):
    tree(tmp_path, train__a=2, train__b=2, val__a=1, val__c=1)
    with pytest.raises(DataError, match=r"validation data in .*val has a class not trained on: 'c'; known: a, b"):
        open_dataset(DataConfig(str(tmp_path)))


def test_a_class_without_validation_images_is_noted(tmp_path):
    tree(tmp_path, train__a=2, train__b=2, val__a=1)
    assert "1 classes have no validation images: b" in open_dataset(DataConfig(str(tmp_path))).report.notes


@pytest.mark.parametrize("counts", [{"a": 5}, {"train__a": 3, "val__a": 3}])
def test_a_single_class(tmp_path, counts):
    with pytest.raises(DataError, match="has a single class, 'a'; a classifier needs at least two"):
        open_dataset(DataConfig(str(tree(tmp_path, **counts))))


def test_a_class_with_one_image(tmp_path):
    tree(tmp_path / "split", train__a=1, train__b=4, val__b=1)
    assert open_dataset(DataConfig(str(tmp_path / "split"))).facts.counts == (1, 4)
    with pytest.raises(DataError, match="class 'a' has a single image"):
        open_dataset(DataConfig(str(tree(tmp_path / "whole", a=1, b=4))))


@pytest.mark.parametrize("path", ["", "nothing/here", "nothing", "."])
def test_no_data_there(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        open_dataset(DataConfig(path))
    assert "\n" not in str(caught.value)


def test_facts_for_recipes(tmp_path):
    tree(tmp_path / "colour", a=4, b=4)
    for number in range(3):
        write(tmp_path / "grey" / "a" / f"{number}.png", encoded(picture(number, 20, 30, 1)))
        write(tmp_path / "grey" / "b" / f"{number}.png", encoded(picture(number + 9, 40 + number, 50, 1)))
    write(tmp_path / "grey" / "b" / "deep.png", ODD["deep.png"])
    colour, grey = (open_dataset(DataConfig(str(tmp_path / name))).facts for name in ("colour", "grey"))
    assert (colour.channels, colour.size) == (3, (8, 10))
    assert (grey.channels, grey.size) == (1, (20, 30))
    write(tmp_path / "grey" / "b" / "colour.png", seed=99)
    assert open_dataset(DataConfig(str(tmp_path / "grey"))).facts.channels == 3


def test_odd_images_train_like_any_other(tmp_path):
    tree(tmp_path, a=3, b=3)
    for name, data in ODD.items():
        write(tmp_path / "b" / name, data)
    found = open_dataset(DataConfig(str(tmp_path)))
    assert len(found.train) + len(found.validation) == 6 + len(ODD)
    assert found.report.broken == ()


def test_the_fingerprint_is_of_names_labels_and_contents(tmp_path):
    prints = set()

    def now():
        found = open_dataset(DataConfig(str(tmp_path)))
        return f"{found.train.fingerprint}:{found.validation.fingerprint}"

    tree(tmp_path, a=3, b=3)
    prints.add(now())
    assert now() in prints
    for number, change in enumerate(
        [
            lambda: write(tmp_path / "a" / "0.png", seed=77),
            lambda: (tmp_path / "a" / "1.png").rename(tmp_path / "a" / "9.png"),
            lambda: (tmp_path / "a").rename(tmp_path / "c"),
            lambda: write(tmp_path / "b" / "new.png", seed=78),
        ],
        start=2,
    ):
        change()
        prints.add(now())
        assert len(prints) == number


def test_a_file_that_vanishes_later_is_an_error_not_another_example(tmp_path):
    found = open_dataset(DataConfig(str(tree(tmp_path, a=3, b=3))))
    (tmp_path / found.train.names[0]).unlink()
    with pytest.raises(ImageError, match="No such file"):
        found.train.read(0)


def test_one_labelled_set_whole(tmp_path):
    tree(tmp_path, b=2, a=3)
    source = open_source(str(tmp_path))
    assert (len(source), source.classes) == (5, ("a", "b"))
    known = open_source(str(tmp_path), ("b", "x", "a"))
    assert known.classes == ("b", "x", "a")
    assert known.labels.tolist() == [2, 2, 2, 0, 0]
    with pytest.raises(DataError, match="has a class not trained on: 'b'; known: a, c"):
        open_source(str(tmp_path), ("a", "c"))


def test_broken_files_of_a_labelled_set(tmp_path):
    tree(tmp_path, b=2, a=3)
    write(tmp_path / "a" / "empty.png", b"")
    with pytest.raises(DataError, match="1 of 6 images can't be read"):
        open_source(str(tmp_path))
    source = open_source(str(tmp_path), broken="skip")
    assert len(source) == 5
    assert [name for name, _ in source.skipped] == ["a/empty.png"]


def test_the_digits():
    found = open_dataset(DataConfig("digits"))
    assert (len(found.train), len(found.validation)) == (1437, 360)
    assert found.facts.classes == tuple("0123456789")
    assert (found.facts.channels, found.facts.size, sum(found.facts.counts)) == (1, (8, 8), 1437)
    pixels = np.concatenate([found.train.pixels, found.validation.pixels])
    assert (pixels.shape, pixels.dtype) == ((1797, 8, 8, 1), np.uint8)
    assert set(np.unique(pixels)) == {round(value * 255 / 16) for value in range(17)}
    assert len(set(found.train.names) | set(found.validation.names)) == 1797


def test_every_digit_is_what_scikit_learn_says():
    from sklearn.datasets import load_digits

    truth, found = load_digits(), open_dataset(DataConfig("digits", holdout=0.5, split_seed=3))
    for part in (found.train, found.validation):
        for name, label, pixels in zip(part.names, part.labels, part.pixels, strict=True):
            number = int(name.removeprefix("digit-"))
            assert label == truth.target[number]
            assert np.abs(pixels[..., 0] / 255 * 16 - truth.images[number]).max() < 0.04


def test_digits_take_no_other_validation(tmp_path):
    with pytest.raises(DataError, match=r"digits holds out its own validation .*--data.validation"):
        open_dataset(DataConfig("digits", validation=str(tmp_path)))


def test_the_held_out_digits_for_any_order_of_classes():
    usual = open_source("digits")
    turned = open_source("digits", tuple("9876543210"))
    assert (turned.labels == 9 - usual.labels).all()
    with pytest.raises(DataError, match=r"^digits has classes not trained on"):
        open_source("digits", ("0", "1"))


def test_digits_are_the_same_where_scikit_learn_keeps_its_file_elsewhere(monkeypatch, tmp_path):
    file = digits._load_table()
    monkeypatch.setattr(digits, "Path", lambda origin: tmp_path / "nowhere")
    assert np.array_equal(digits._load_table(), file)


def test_in_the_last_run_of_folds_no_image_is_a_duplicate_of_itself(tmp_path):
    tree(tmp_path, a=4, b=4)
    assert open_dataset(DataConfig(str(tmp_path), folds=2, fold=-1)).report.duplicates == ()
    write(tmp_path / "a" / "copy.png", (tmp_path / "a" / "0.png").read_bytes())
    duplicates = open_dataset(DataConfig(str(tmp_path), folds=2, fold=-1)).report.duplicates
    assert duplicates and set(duplicates) <= {("a/0.png", "a/copy.png"), ("a/copy.png", "a/0.png")}


def test_floats_of_grey_are_grey(tmp_path):
    for number in range(4):
        path = write(tmp_path / "ab"[number % 2] / f"{number}.tif", b"")
        Image.fromarray(np.random.default_rng(number).random((8, 8), np.float32)).save(path)
    assert open_dataset(DataConfig(str(tmp_path)), DecodeConfig(levels=(0, 1))).facts.channels == 1


def test_an_image_that_is_written_anew_with_its_old_time_is_noticed(tmp_path):
    path = write(tmp_path / "x.bmp", encoded(picture(0), "BMP"))
    first, before = open_images([path]).fingerprint, path.stat()
    path.write_bytes(encoded(picture(1), "BMP"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert open_images([path]).fingerprint != first
