"""Values of another kind than a function takes: one line, as on the command line, whose options have kinds of their own."""

from typing import Any

import numpy as np
import pytest
import torch

import vitreous
from vitreous.data.listing.listing import Listing
from vitreous.data.sources.files import ScannedListing, keep_readable
from vitreous.errors import ConfigError, UnknownName

LOADED: dict[str, tuple[Any, str]] = {
    "top": ("3", "top is '3'; it must be a whole number, at least 1"),
    "batch": (2.5, "batch is 2.5; it must be a whole number, at least 1"),
    "threshold": ("0.5", "threshold is '0.5'; it must be above 0 and at most 1"),
    "merge": ("x", "merge is 'x', the pairs of patches to merge in each block; it must be a whole number, 0 or more"),
    "compile": ("no", "compile is 'no'; it must be True or False"),
    "precision": (32, "unknown precision '32'; did you mean 'fp32'?"),
    "tta": (None, "unknown test-time augmentation 'None'; did you mean 'none'?"),
    "engine": (None, "unknown engine 'None'"),
}
TRAINED: dict[str, tuple[Any, str]] = {
    "image": (8, r"image is 8; it must be \(rows, cols\), such as \(224, 224\)"),
    "minutes": ("15", "minutes is '15'; it must be a finite number above 0"),
    "folds": (2.5, "--folds is 2.5; it must be a whole number"),
    "settings": (5, "settings is 5; it must be a mapping"),
    "model": (5, "model is 5; it must be a name, such as 'S/16'"),
    "rates": (["a"], "the rates are a; they must be numbers above 0 that differ"),
    "recipe": (5, "unknown recipe '5'"),
}


@pytest.mark.parametrize("name", LOADED)
def test_load(name, run):
    value, said = LOADED[name]
    with pytest.raises(ConfigError, match=f"^{said}"):
        vitreous.load(run, **{name: value})


MEASURED = {
    "evaluate": lambda run, broken: vitreous.evaluate(run, "digits", broken=broken),
    "probe": lambda run, broken: vitreous.probe(run, "digits", broken=broken),
    "embed": lambda run, broken: vitreous.embed(run, data="digits", broken=broken),
    "cka": lambda run, broken: vitreous.cka(run, run, "digits", broken=broken),
    "benchmark": lambda run, broken: vitreous.benchmark(run, "vtab", ".", protocol="knn", broken=broken),
    "quantise": lambda run, broken: vitreous.quantise(run, "digits", "new", broken=broken),
    "keep_readable": lambda run, broken: keep_readable(ScannedListing(Listing(run, ()), []), broken),
}


@pytest.mark.parametrize("name", MEASURED)
@pytest.mark.parametrize("broken", ["Skip", "error", False])
def test_what_to_do_about_broken_files(name, broken, run):
    """Anything but raise was taken for skip, so that images were left out that the caller wanted to hear of."""
    with pytest.raises(UnknownName, match=rf"^unknown value of broken '{broken}'; .*Known: raise, skip$"):
        MEASURED[name](run, broken)


@pytest.mark.parametrize("model", [None, 5, "", torch.nn.Linear(2, 2)])
def test_what_is_no_path(model):
    with pytest.raises(ConfigError, match=r"^the model to load is .*; give a path or a name, as str or Path"):
        vitreous.load(model)


@pytest.mark.parametrize("name", TRAINED)
def test_train(name):
    value, said = TRAINED[name]
    with pytest.raises(ConfigError, match=f"^{said}"):
        vitreous.train("digits", dry_run=True, **{name: value})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"corruptions": "fog", "severities": 1.5}, "severities is 1.5; it must be a whole number"),
        ({"corruptions": "fog", "severities": (True,)}, "severities is True"),
        ({"packed": (8.5,)}, "packed is 8.5"),
        ({"merge_curve": "1"}, "merge_curve is '1'"),
    ],
)
def test_numbers_for_evaluate(given, said, run):
    with pytest.raises(ConfigError, match=f"^{said}"):
        vitreous.evaluate(run, "digits", speed=False, **given)


def test_a_single_number_is_one_of_several(run):
    found = vitreous.evaluate(run, "digits", speed=False, corruptions="fog", severities=3, packed=8, merge_curve=1)
    assert found.corruptions.severities == (3,)
    assert [one.side for one in found.packing.points] == [8]
    assert [one.merge for one in found.merging.points] == [0, 1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"target": 1.0}, "class is 1.0; it must be a whole number, 0 to 9"),
        ({"target": True}, "class is True"),
        ({"head": "0", "method": "attention"}, "head is '0'"),
        ({"layer": 1.0, "method": "attention"}, "layer is 1.0"),
        ({"out": "new", "page": 1.5}, "page is 1.5; it must be a whole number, at least 1"),
        ({"out": "new", "faithful": 0.5}, "faithful is 0.5; it must be a whole number, at least 0"),
    ],
)
def test_numbers_for_explain(given, said, run):
    with pytest.raises(ConfigError, match=f"^{said}"):
        vitreous.explain(run, [np.zeros((8, 8, 3), np.uint8)], **given)


def test_a_batch_for_measuring_is_a_whole_number(run):
    with pytest.raises(ConfigError, match=r"^batch is '4'; it must be a whole number, at least 1$"):
        vitreous.evaluate(run, "digits", batch="4")


def test_a_batch_for_a_review_is_checked_before_any_image_is_opened(run):
    with pytest.raises(ConfigError, match=r"^batch is 0"):
        vitreous.review("nowhere", run, batch=0)


def test_what_is_no_data_nor_images(run):
    for call, said in (
        (lambda: vitreous.inspect(5), "the path to inspect is 5; give a path, as str or Path"),
        (lambda: vitreous.evaluate(run, 5), "the data is 5; give a path, as str or Path"),
        (lambda: vitreous.embed(run, 5), "the images argument is 5; give a path, as str or Path"),
        (lambda: vitreous.embed(run, data="digits", layer=5), "unknown layer '5'"),
    ):
        with pytest.raises(ConfigError, match=f"^{said}"):
            call()
