"""Pseudo labels: a file that says exactly what was written, and nothing else is taken for one."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.pictures import BROKEN, tree, write

import vitreous
from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.data.sources.pseudo_labels import PseudoLabels, format_pseudo_labels, read_pseudo_labels
from vitreous.data.unlabelled import open_unlabelled
from vitreous.errors import ConfigError, DataError
from vitreous.settings import to_dict

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6)
NAMES = ("a cat", 'a "dog", large', "A cat")


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=6, unique=True), st.booleans(), st.integers(0, 99))
def test_a_file_of_pseudo_labels_says_exactly_what_was_written(tmp_path_factory, names, soft, seed):
    rng, count = np.random.default_rng(seed), len(names)
    targets = rng.dirichlet([0.1] * 3, count).astype(np.float32)
    labels = targets.argmax(1)
    found = PseudoLabels(
        tuple(names), labels, targets[np.arange(count), labels], rng.integers(0, 4, count), targets if soft else None
    )
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    path.write_bytes(format_pseudo_labels(found, NAMES))
    again = read_pseudo_labels(path, NAMES)
    assert again.names == found.names
    for name in ("labels", "confidence", "copies", "targets"):
        assert np.array_equal(getattr(again, name), getattr(found, name)) or getattr(found, name) is None
    assert (again.targets is None) == (not soft)


GOOD = "path,label,confidence,copies\nx/0.png,a,0.9,2\nx/1.png,b,0.5,0\n"
SOFT = "path,label,confidence,copies,probability of a,probability of b\nx/0.png,a,0.9,1,0.9,0.1\n"
WRONG = {
    "path,label\nx/0.png,a\n": "not the columns of pseudo labels",
    "": "not the columns of pseudo labels",
    SOFT.replace("of a,probability of b", "of b,probability of a"): "not the columns of pseudo labels",
    GOOD.replace(",b,", ",c,"): "line 3: the label 'c' is not a class",
    GOOD.replace("0.9", "1.5"): "line 2: confidence is '1.5'; it must be a number from 0 to 1",
    GOOD.replace("0.9", "nan"): "confidence is 'nan'",
    GOOD.replace("0.9,2", "0.9,-2"): "copies is '-2'",
    GOOD.replace("0.9,2", "0.9,1e3"): "copies is '1e3'",
    GOOD.replace("0.9,2", "0.9"): "line 2: 3 fields, but the first line names 4",
    GOOD.replace("x/1", "x/0"): "labels x/0.png twice",
    GOOD.replace("x/1", "x/7"): "labels x/7.png, which is not among the unlabelled images",
    GOOD.replace("0.9,2", "0.9,0"): "leaves out every image",
    SOFT.replace("0.1\n", "0.2\n"): "line 2: the probabilities are 1.1 in sum",
}


@pytest.fixture
def place(tmp_path):
    tree(tmp_path / "labelled", a=6, b=6)
    tree(tmp_path / "more", x=3)
    return tmp_path


def configure(place, text=GOOD, **changes):
    (place / "labels.csv").write_text(text)
    more, labels = str(place / "more"), str(place / "labels.csv")
    return replace(DataConfig(str(place / "labelled"), unlabelled=more, pseudo_labels=labels), **changes)


@pytest.mark.parametrize("text", WRONG, ids=WRONG.values())
def test_a_wrong_file_of_pseudo_labels_is_refused(place, text):
    with pytest.raises(DataError, match=WRONG[text].replace("(", r"\(")) as caught:
        open_dataset(configure(place, text))
    assert "\n" not in str(caught.value)


def test_pseudo_labelled_images_are_learned_from_and_change_nothing_else(place):
    plain = open_dataset(configure(place, pseudo_labels=None, unlabelled=None))
    found = open_dataset(configure(place, pseudo_ratio=1.0))
    assert found.facts == plain.facts
    assert found.train.fingerprint == plain.train.fingerprint == plain.learned.fingerprint
    assert found.learned.names == (*plain.train.names, "x/0.png", "x/0.png")
    assert "1 of 3 unlabelled images have hard pseudo labels, 2 with their copies" in str(found.report)
    others = {configure(place, pseudo_ratio=2.0), configure(place)}
    seen = {open_dataset(one).learned.fingerprint for one in others}
    seen |= {open_dataset(configure(place, text)).learned.fingerprint for text in (GOOD.replace(",a,", ",b,"), SOFT)}
    assert len(seen | {plain.learned.fingerprint}) == 5, "whatever changes an example changes the fingerprint"


@pytest.mark.parametrize("role", ["stand-in", "once", "hidden"])
@pytest.mark.parametrize("split", ["val", "test"])
def test_pseudo_labels_of_measured_images_are_refused_before_a_run(tmp_path, split, role):
    tree(tmp_path / "labelled", **{"train/a": 6, "train/b": 6, "val/a": 2, "val/b": 2, "test/a": 2, "test/b": 2})
    tree(tmp_path / "more", x=3)
    shutil.copy(tmp_path / "labelled" / split / "b" / "1.png", tmp_path / "more" / "x" / "1.png")
    for text, dry in ((GOOD.replace("0.5,0", "0.5,1"), False), (GOOD.replace("0.5,0", "0.5,1"), True)):
        data = configure(tmp_path, text, test_split=role)
        with pytest.raises(
            DataError,
            match=r"1 pseudo-labelled images are among the validation or test images: x/1\.png; take them out of",
        ):
            run_pseudo_labelled(data, tmp_path / "run", dry)
        assert not (tmp_path / "run").exists()
    run_pseudo_labelled(configure(tmp_path, test_split=role), tmp_path / "run")  # it has 0 copies


def test_pseudo_labels_of_images_held_out_to_tune_by_are_refused(place):
    held = open_dataset(DataConfig(str(place / "labelled"), tuning_holdout=0.3)).validation.names[0]
    text = GOOD.splitlines()[0] + f"\n{held},a,0.9,1\n"
    data = configure(place, text, unlabelled=str(place / "labelled"), tuning_holdout=0.3)
    with pytest.raises(DataError, match=f"are among the validation or test images: {held}"):
        run_pseudo_labelled(data, place / "run")


def run_pseudo_labelled(data, out, dry=False):
    """Train a step, or plan to."""
    settings = {
        "duration": "1st",
        "batch": 4,
        "workers": 0,
        "device": "cpu",
        "data": {name: value for name, value in to_dict(data).items() if name != "path"},
    }
    vitreous.train(data.path, recipe="small", model="mu/4", image=(8, 8), settings=settings, out=out, dry_run=dry)


def test_wrong_unlabelled_images_are_refused(place):
    with pytest.raises(ConfigError, match="give both, or neither"):
        open_dataset(configure(place, unlabelled=None))
    with pytest.raises(DataError, match="no such file or folder"):
        open_dataset(configure(place, unlabelled=str(place / "nothing")))
    for name in ("digits", "formula:fractals"):
        with pytest.raises(DataError, match="give a folder of images"):
            open_dataset(configure(place, unlabelled=name))
    with pytest.raises(DataError, match="can't read the pseudo labels"):
        open_dataset(configure(place, pseudo_labels=str(place / "none.csv")))
    write(place / "more" / "x" / "broken.png", BROKEN["text.jpg"][0])
    with pytest.raises(DataError, match="1 of 4 images can't be read"):
        open_dataset(configure(place))
    assert len(open_unlabelled(configure(place, broken="skip"))) == 3


def test_a_folder_of_images_alone_is_unlabelled_too(place):
    tree(place / "flat", **{".": 4})
    assert len(open_unlabelled(DataConfig(unlabelled=str(place / "flat")))) == 4
    tree(place / "split", **{"train/a": 3, "val/a": 2})
    assert len(open_unlabelled(DataConfig(unlabelled=str(place / "split")))) == 3
