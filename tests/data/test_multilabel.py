"""Manifests with several labels an image: read, checked, split, and kept away from what needs one label."""

import json

import numpy as np
import pytest
from tests.support.pictures import tree, write
from tests.support.quadrants import QUARTERS, quadrants

from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.data.labelled_images import open_source, open_splits, open_training
from vitreous.data.listing.manifest import is_multilabel
from vitreous.data.multilabel import convert_to_label_matrix, open_multilabel
from vitreous.data.sources.base import MULTILABEL
from vitreous.errors import DataError
from vitreous.storage import scratch

CLASSES = ("cat", "dog", "tree")
WANTED = [[1, 1, 0], [0, 0, 1], [0, 0, 0], [0, 1, 1]]


@pytest.fixture
def images(tmp_path):
    tree(tmp_path, a=4)
    return tmp_path


def manifest(folder, text, name="sets.csv"):
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sets.csv", "path,labels\na/0.png,cat;dog\na/1.png,tree\na/2.png,\na/3.png,dog | tree;dog\n"),
        ("sets.csv", 'labels;file\n"cat;dog";a/0.png\ntree;a/1.png\n;a/2.png\ntree|dog;a/3.png\n'),
        ("sets.jsonl", "\n".join(json.dumps({"path": f"a/{number}.png", "labels": labels}) for number, labels in enumerate(
            (["cat", "dog"], "tree", [], ["tree", "dog"])))),
    ],
)  # fmt: skip
def test_every_way_of_writing_gives_the_same(images, name, text):
    path = manifest(images, text, name)
    assert is_multilabel(path)
    source, targets = open_multilabel(path, CLASSES)
    np.testing.assert_array_equal(targets, WANTED)
    assert (source.names, source.classes) == (tuple(f"a/{number}.png" for number in range(4)), CLASSES)
    other = open_multilabel(path, CLASSES[::-1])[1]
    np.testing.assert_array_equal(other[:, ::-1], targets)


def test_labels_are_part_of_the_fingerprint(images):
    one = open_multilabel(manifest(images, "path,labels\na/0.png,cat\n"), CLASSES)[0]
    other = open_multilabel(manifest(images, "path,labels\na/0.png,dog\n"), CLASSES)[0]
    assert one.fingerprint != other.fingerprint


def test_the_labels_of_very_many_images_are_in_a_file(images, monkeypatch):
    path = manifest(images, "path,labels\na/0.png,cat;dog\na/1.png,tree\na/2.png,\na/3.png,dog;tree\n")
    here, targets = open_multilabel(path, CLASSES)
    monkeypatch.setattr(scratch, "MOST_IN_MEMORY", 5)
    monkeypatch.setattr(scratch, "BLOCK", 6)  # two rows
    there, in_file = open_multilabel(path, CLASSES)
    assert isinstance(in_file, np.memmap)
    assert not isinstance(targets, np.memmap)
    np.testing.assert_array_equal(in_file, WANTED)
    assert there.fingerprint == here.fingerprint


def test_the_validation_part_is_taken(images):
    text = "path,labels,split\na/0.png,cat,train\na/1.png,dog,val\n"
    source, targets = open_multilabel(manifest(images, text), CLASSES)
    assert (source.names, targets.tolist()) == (("a/1.png",), [[False, True, False]])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,labels\na/0.png,cat;lion\n", "not trained on: 'lion'; known: cat, dog, tree"),
        ("path,labels\na/0.png,\na/1.png,\n", "none of the 2 images in"),
        ("path,labels\na/0.png,cat\na/0.png,dog\n", "line 3: a/0.png is already listed in line 2"),
        ("path,labels\na/9.png,cat\na/0.png,cat\n", "line 2: a/9.png: no such file"),
    ],
)
def test_what_is_wrong_is_said(images, text, words):
    with pytest.raises(DataError, match=words):
        open_multilabel(manifest(images, text), CLASSES)


def test_a_list_of_numbers(images):
    path = manifest(images, '{"path": "a/0.png", "labels": [1]}', "sets.jsonl")
    with pytest.raises(DataError, match=r"line 1: labels is \[1\]; it must be a text such as cat;dog"):
        open_multilabel(path, CLASSES)
    path = manifest(images, '{"path": "a/0.png", "labels": ["cat", "\\u001b[1m"]}', "sets.jsonl")
    with pytest.raises(DataError, match=r"line 1: labels is '\\x1b\[1m'; it must be without line breaks"):
        open_multilabel(path, CLASSES)
    path = manifest(images, '{"path": "a/0.png", "labels": "cat"}\n{"path": "a/1.png"}', "sets.jsonl")
    with pytest.raises(DataError, match="line 2: no column 'labels'"):
        open_multilabel(path, CLASSES)


def test_broken_files_can_be_left_out(images):
    path = manifest(images, "path,labels\na/9.png,cat\na/0.png,dog\n")
    source, targets = open_multilabel(path, CLASSES, broken="skip")
    assert (len(source), targets.tolist()) == (1, [[False, True, False]])
    assert source.skipped[0][0] == "a/9.png"


def test_what_is_not_multilabel(images):
    assert not is_multilabel(images)
    assert not is_multilabel(images / "none.csv")
    assert not is_multilabel(manifest(images, "path,label\na/0.png,cat\n"))
    assert not is_multilabel(manifest(images, "path,label,labels\na/0.png,cat,cat;dog\n"))
    assert not is_multilabel(manifest(images, "", "empty.csv"))
    assert not is_multilabel(manifest(images, "{", "damaged.jsonl"))


def test_training_gets_which_labels_each_image_has(tmp_path):
    dataset = open_dataset(DataConfig(str(quadrants(tmp_path, split=True))))
    facts, train, held = dataset.facts, dataset.train, dataset.validation
    assert (facts.classes, facts.multilabel, facts.train, facts.validation) == (QUARTERS, True, 48, 16)
    assert facts.counts == tuple(train.label_matrix.sum(0)) == tuple(dataset.report.counts.values())
    assert tuple(held.label_matrix.sum(0)) == tuple(dataset.report.validation_counts.values())
    assert (train.label_matrix[0].any(), held.label_matrix[0].all()) == (False, True)
    assert set(train.labels) == {MULTILABEL}
    bare = int((~train.label_matrix.any(1)).sum())
    mean = train.label_matrix.sum(1).mean()
    note = f"several labels an image: {mean:.2f} on average in training, {bare} images without any"
    assert note in dataset.report.notes


def test_a_split_of_its_own_needs_no_column(tmp_path):
    dataset = open_dataset(DataConfig(str(quadrants(tmp_path, 100))))
    assert dataset.facts.train + dataset.facts.validation == 100
    assert 15 <= dataset.facts.validation <= 25
    assert not set(dataset.train.names) & set(dataset.validation.names)
    again = open_dataset(DataConfig(str(tmp_path / "sets.csv")))
    assert again.train.fingerprint == dataset.train.fingerprint
    tuned = open_dataset(DataConfig(str(tmp_path / "sets.csv"), tuning_holdout=0.25))
    assert set(tuned.train.names) | set(tuned.validation.names) == set(dataset.train.names)
    assert tuned.facts.counts == tuple(tuned.train.label_matrix.sum(0))


def test_the_order_of_labels_means_nothing(images):
    write(images / "a/0.png", (images / "a/1.png").read_bytes())
    path = manifest(images, "path,labels\na/0.png,cat;dog\na/1.png,dog|cat\na/2.png,cat\na/3.png,dog\n")
    assert not open_dataset(DataConfig(str(path))).report.conflicts
    path = manifest(images, "path,labels\na/0.png,cat;dog\na/1.png,dog\na/2.png,cat\na/3.png,dog\n")
    assert [set(pair) for pair in open_dataset(DataConfig(str(path))).report.conflicts] == [{"a/0.png", "a/1.png"}]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,labels,split\na/0.png,cat,train\na/1.png,lion;cat,val\n", "not trained on: 'lion'; known: cat"),
        ("path,labels,split\na/0.png,,train\na/1.png,cat,val\n", "none of the 1 training images in"),
        ("path,labels,split\na/0.png,cat,train\na/1.png,,val\n", "none of the 1 validation images of"),
        ("path,labels\na/0.png,cat\n", "a single image can't be in both training and validation"),
        ("path,labels,split\na/0.png,cat,val\n", "lists no images for training"),
        (
            "path,labels\na/0.png,cat\na/1.png,lion\n",
            "no image of .* can be held out, since each is the only one of some class",
        ),
    ],
)
def test_what_can_not_be_trained_on(images, text, words):
    with pytest.raises(DataError, match=words) as caught:
        open_dataset(DataConfig(str(manifest(images, text))))
    assert "\n" not in str(caught.value)


def test_without_labels_too_something_must_be_held_out(images):
    text = "path,labels\na/0.png,cat\na/1.png,lion\n"
    with pytest.raises(DataError, match="can be held out"):
        open_dataset(DataConfig(str(manifest(images, text)), labels="optional"))


def test_both_parts_must_be_of_one_kind(images):
    sets = manifest(images, "path,labels\na/0.png,cat;dog\na/1.png,\n")
    one = manifest(images, "path,label\na/2.png,cat\na/3.png,dog\n", "one.csv")
    for path, validation in ((sets, one), (one, sets)):
        with pytest.raises(DataError, match=r"sets.csv has several labels an image and .*one.csv has one; both"):
            open_dataset(DataConfig(str(path), validation=str(validation)))
    lines = '{"path": "a/0.png", "labels": ["cat"]}\n{"path": "a/1.png", "label": "cat"}'
    with pytest.raises(DataError, match="line 2: no column 'labels'"):
        open_dataset(DataConfig(str(manifest(images, lines, "mixed.jsonl"))))


def test_one_label_will_do_where_an_image_may_lack_it(images):
    text = "path,labels,split\na/0.png,cat,train\na/1.png,,train\na/2.png,cat,val\na/3.png,,val\n"
    assert open_dataset(DataConfig(str(manifest(images, text)))).facts.classes == ("cat",)


def test_what_needs_one_label_refuses(images):
    path = manifest(images, "path,labels\na/0.png,cat;dog\na/1.png,dog\n")
    for opening in (open_source, open_training, open_splits):
        with pytest.raises(
            DataError, match="line 1: the column labels gives several labels an image, but one is needed"
        ):
            opening(str(path))


def test_under_a_models_classes(images):
    source, targets = open_multilabel(manifest(images, "path,labels\na/0.png,dog\na/1.png,tree;dog\n"), CLASSES)
    np.testing.assert_array_equal(convert_to_label_matrix(source, CLASSES[::-1]), targets[:, ::-1])
    np.testing.assert_array_equal(convert_to_label_matrix(source, ("dog", "tree")), targets[:, 1:])
    with pytest.raises(DataError, match="not trained on: 'tree'; known: dog, cat"):
        convert_to_label_matrix(source, ("dog", "cat"))
    tree(images / "folders", dog=1, tree=2)
    single = open_source(str(images / "folders"))
    np.testing.assert_array_equal(convert_to_label_matrix(single, CLASSES), [[0, 1, 0], [0, 0, 1], [0, 0, 1]])
