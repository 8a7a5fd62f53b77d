"""Data is listed and looked at once for a run, and anew for the next."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import vitreous
from vitreous.data import scanned_splits
from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.data.scanned_splits import scanning_once
from vitreous.errors import DataError


@pytest.fixture
def photos(tmp_path):
    for number in range(12):
        folder = tmp_path / "photos" / ("cat" if number % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), number * 20, np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def listed(monkeypatch):
    """Return a list that grows by a path whenever data is listed."""
    found, whole = [], scanned_splits.list_splits
    monkeypatch.setattr(
        scanned_splits, "list_splits", lambda path, *rest, **more: found.append(path) or whole(path, *rest, **more)
    )
    return found


def test_a_run_lists_its_data_once_and_sees_what_was_added_since_the_last(photos, listed, tmp_path):
    def train(name):
        return vitreous.train(
            photos, out=tmp_path / name, recipe="small-vit", image=(8, 8), model="mu/4", progress=False,
            settings={"duration": "1st", "batch": 4, "workers": 0, "device": "cpu", "data": {"scan": "later"}},
        )  # fmt: skip

    train("first")
    assert len(listed) == 2  # once for planning and training, once for the report at its end
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(photos / "cat" / "new.png")
    found = train("second")
    assert len(listed) == 4
    known = json.loads((found.run / "config.json").read_text())["data"]
    assert known["train"] + known["validation"] == 13


def test_the_second_opening_is_the_same_the_third_looks_again(photos, listed):
    config = DataConfig(str(photos))
    alone = open_dataset(config)
    with scanning_once():
        first, second = open_dataset(replace(config, broken="skip")), open_dataset(config)
        assert len(listed) == 2
        assert [one.train.fingerprint for one in (first, second)] == [alone.train.fingerprint] * 2
        (photos / "cat" / "broken.png").write_bytes(b"no image")
        with pytest.raises(DataError, match="1 of 13 images can't be read"):
            open_dataset(config)


def test_other_data_is_not_taken_over(photos, listed):
    with scanning_once():
        whole = open_dataset(DataConfig(str(photos)))
        later = open_dataset(DataConfig(str(photos), scan="later"))
    assert len(listed) == 2
    assert whole.train.fingerprint != later.train.fingerprint


def test_broken_files_are_judged_by_the_opening_that_takes_over(photos):
    (photos / "cat" / "broken.png").write_bytes(b"no image")
    config = DataConfig(str(photos))
    with scanning_once():
        assert len(open_dataset(replace(config, broken="skip")).train.skipped) == 1
        with pytest.raises(DataError, match="1 of 13 images can't be read"):
            open_dataset(config)
