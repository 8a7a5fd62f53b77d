"""Data is listed and looked at once for a run, and anew for the next."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import vitreous
from vitreous.data import scanned_splits
from vitreous.data.config import DataConfig
from vitreous.data.dataset import OpenedData, open_dataset
from vitreous.errors import DataError
from vitreous.images.config import DecodeConfig


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


def open_data(config, decode=DecodeConfig()):
    return OpenedData(open_dataset(config, decode), config, decode)


def test_what_a_plan_has_opened_serves_the_run_whatever_it_does_about_broken_files(photos):
    config = DataConfig(str(photos))
    opened = open_data(replace(config, broken="skip"))
    assert opened.serves(config, DecodeConfig())
    assert opened.dataset.train.fingerprint == open_dataset(config).train.fingerprint


@pytest.mark.parametrize("change", [{"scan": "later"}, {"holdout": 0.3}, {"split_seed": 1}, {"tuning_holdout": 0.2}])
def test_other_settings_of_the_data_are_opened_anew(photos, change):
    opened = open_data(DataConfig(str(photos), broken="skip"))
    assert not opened.serves(DataConfig(str(photos), **change), DecodeConfig())
    assert not opened.serves(DataConfig(str(photos)), DecodeConfig(max_pixels=100))


def test_broken_files_are_judged_by_the_run(photos):
    (photos / "cat" / "broken.png").write_bytes(b"no image")
    config = DataConfig(str(photos))
    opened = open_data(replace(config, broken="skip"))
    assert len(opened.dataset.train.skipped) == 1
    assert not opened.serves(config, DecodeConfig())
    with pytest.raises(DataError, match="1 of 13 images can't be read"):
        vitreous.train(photos, recipe="small-vit", image=(8, 8), model="mu/4", progress=False)
