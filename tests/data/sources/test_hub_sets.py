"""Data sets by their names on the Hub: loaded by `datasets`, the same images, in a later process too."""

import sys

import huggingface_hub.constants
import numpy as np
import pytest

import vitreous
from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.data.sources import objects
from vitreous.data.sources.digits import load_digits
from vitreous.errors import ConfigError, DataError

datasets = pytest.importorskip("datasets")
SETTINGS = {"duration": "4st", "batch": 8, "workers": 1, "device": "cpu", "precision": "fp32"}
HOW = {"recipe": "small-vit", "model": "mu/4", "image": (8, 8), "progress": False}


@pytest.fixture
def digits(tmp_path, monkeypatch):
    """Lay a data set into the working folder, where `datasets` looks for a name first; return its splits' pixels and labels."""
    monkeypatch.chdir(tmp_path)
    found = {}
    for split, part in zip(("train", "test"), load_digits(0.2, 0), strict=True):
        chosen = np.flatnonzero(part.labels < 3)[:40]
        found[split] = [(part.pixels[index], f"digit {part.labels[index]}") for index in chosen]
        rows = {
            "image": [np.repeat(part.pixels[index], 3, 2) for index in chosen],
            "label": part.labels[chosen].tolist(),
        }
        names = datasets.ClassLabel(names=["digit 0", "digit 1", "digit 2"])
        table = datasets.Dataset.from_dict(rows, datasets.Features(image=datasets.Image(), label=names))
        (tmp_path / "someone" / "digits").mkdir(parents=True, exist_ok=True)
        table.to_parquet(tmp_path / "someone" / "digits" / f"{split}-00000-of-00001.parquet")
    monkeypatch.setattr(objects, "_HELD", {})
    return found


def test_the_images_and_splits_are_those_of_the_set(digits):
    found = open_dataset(DataConfig("hf:someone/digits", test_split="once"))
    assert found.facts.classes == ("digit 0", "digit 1", "digit 2")
    assert (len(found.train), len(found.validation), len(found.test)) == (32, 8, 40)
    labels = [found.test.classes[label] for label in found.test.labels]
    assert labels == [label for _, label in digits["test"]]
    local = open_dataset(DataConfig("someone/digits", test_split="once")).test
    assert [found.test.read(index) for index in range(40)] == [local.read(index) for index in range(40)]


def test_splits_of_other_names_are_left_out_with_a_note(digits, tmp_path):
    folder = tmp_path / "someone" / "digits"
    (folder / "extra-00000-of-00001.parquet").write_bytes((folder / "test-00000-of-00001.parquet").read_bytes())
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n"
        + "".join(f"  - split: {name}\n    path: {name}-*\n" for name in ("train", "test", "extra"))
        + "---\n"
    )
    for _ in range(2):  # the second time from memory
        found = open_dataset(DataConfig("hf:someone/digits", test_split="once"))
        assert (len(found.train), len(found.test)) == (32, 40)
        assert "splits that are none of train, validation and test were left out: extra" in found.report.notes


@pytest.mark.slow
def test_a_run_goes_on_and_is_measured_by_the_name_alone(digits, tmp_path, monkeypatch):
    done = vitreous.train("hf:someone/digits", out=tmp_path / "run", settings=SETTINGS, **HOW)
    monkeypatch.setattr(objects, "_HELD", {})  # as in another process
    vitreous.resume(done.run, duration="6st", progress=False)
    measured = vitreous.evaluate(done.run, data="hf:someone/digits", split="test", progress=False)
    assert len(measured.columns["right"]) == 40
    assert vitreous.inspect("hf:someone/digits").kind == "data"


def test_what_is_not_there_is_said_in_one_line(digits, monkeypatch):
    monkeypatch.setattr(
        huggingface_hub.constants, "HF_HUB_OFFLINE", True
    )  # else it is asked for 10 s whether there is a Hub
    for data in ("hf:someone/nothing", "hf:someone/digits:nothing"):
        with pytest.raises(DataError, match=rf"{data} can't be loaded: ") as raised:
            vitreous.train(data, **HOW)
        assert "\n" not in str(raised.value)


def test_without_the_package_a_line_says_what_to_install(digits, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"pip install 'vitreous\[data\]'"):
        open_dataset(DataConfig("hf:someone/digits"))
