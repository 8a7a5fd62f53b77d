"""Manifests with several labels an image: read, checked, and kept away from training."""

import json

import numpy as np
import pytest
from tests.data.pictures import tree

from vitreous.data.config import DataConfig
from vitreous.data.label_sets import open_label_sets
from vitreous.data.manifest import has_label_sets
from vitreous.data.sources import open_dataset
from vitreous.errors import DataError

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
    assert has_label_sets(path)
    source, targets = open_label_sets(path, CLASSES)
    np.testing.assert_array_equal(targets, WANTED)
    assert (source.names, source.classes) == (tuple(f"a/{number}.png" for number in range(4)), CLASSES)
    other = open_label_sets(path, CLASSES[::-1])[1]
    np.testing.assert_array_equal(other[:, ::-1], targets)


def test_labels_are_part_of_the_fingerprint(images):
    one = open_label_sets(manifest(images, "path,labels\na/0.png,cat\n"), CLASSES)[0]
    other = open_label_sets(manifest(images, "path,labels\na/0.png,dog\n"), CLASSES)[0]
    assert one.fingerprint != other.fingerprint


def test_the_validation_part_is_taken(images):
    text = "path,labels,split\na/0.png,cat,train\na/1.png,dog,val\n"
    source, targets = open_label_sets(manifest(images, text), CLASSES)
    assert (source.names, targets.tolist()) == (("a/1.png",), [[False, True, False]])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,labels\na/0.png,cat;lion\n", "not trained on: 'lion'; known: cat, dog, tree"),
        ("path,labels\na/0.png,\na/1.png,\n", "not one of its 2 images has a label"),
        ("path,labels\na/0.png,cat\na/0.png,dog\n", "line 3: a/0.png is listed in line 2 already"),
        ("path,labels\na/9.png,cat\na/0.png,cat\n", "line 2: a/9.png: no such file"),
    ],
)
def test_what_is_wrong_is_said(images, text, words):
    with pytest.raises(DataError, match=words):
        open_label_sets(manifest(images, text), CLASSES)


def test_a_list_of_numbers(images):
    path = manifest(images, '{"path": "a/0.png", "labels": [1]}', "sets.jsonl")
    with pytest.raises(DataError, match=r"line 1: labels is \[1\]; it must be a text such as cat;dog"):
        open_label_sets(path, CLASSES)
    path = manifest(images, '{"path": "a/0.png", "labels": "cat"}\n{"path": "a/1.png"}', "sets.jsonl")
    with pytest.raises(DataError, match="line 2: no column 'labels'"):
        open_label_sets(path, CLASSES)


def test_broken_files_can_be_left_out(images):
    path = manifest(images, "path,labels\na/9.png,cat\na/0.png,dog\n")
    source, targets = open_label_sets(path, CLASSES, broken="skip")
    assert (len(source), targets.tolist()) == (1, [[False, True, False]])
    assert source.skipped[0][0] == "a/9.png"


def test_what_has_no_label_sets(images):
    assert not has_label_sets(images)
    assert not has_label_sets(images / "none.csv")
    assert not has_label_sets(manifest(images, "path,label\na/0.png,cat\n"))
    assert not has_label_sets(manifest(images, "path,label,labels\na/0.png,cat,cat;dog\n"))
    assert not has_label_sets(manifest(images, "", "empty.csv"))
    assert not has_label_sets(manifest(images, "{", "damaged.jsonl"))


def test_training_takes_one_label(images):
    path = manifest(images, "path,labels\na/0.png,cat;dog\na/1.png,tree\n")
    with pytest.raises(DataError, match="labels are several an image, which `vitreous evaluate` measures"):
        open_dataset(DataConfig(str(path)))
