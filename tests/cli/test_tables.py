"""Results as pandas frames, and how far sorting and searching are."""

import numpy as np
import pandas
import pytest
from tests.support.pictures import encoded, picture, tree, write
from tests.support.training import Listener

import vitreous


@pytest.fixture
def photos(here):
    return tree(here / "photos", cat=3, dog=2)


class Watcher(Listener):
    """Keeps the phases too."""

    def __init__(self):
        super().__init__()
        self.phases = []

    def phase(self, name):
        self.phases.append(name)


def test_embeddings(trained, photos):
    found = vitreous.embed(trained, data=photos, cache=False)
    table = found.to_pandas()
    assert list(table.columns) == ["name", "label", *map(str, range(found.width))]
    assert list(table["name"]) == list(found.names) and list(table["label"]) == ["cat"] * 3 + ["dog"] * 2
    np.testing.assert_array_equal(table.iloc[:, 2:].to_numpy(), found.vectors)
    digits = vitreous.embed(trained, data="digits", cache=False).to_pandas()
    assert digits["split"].value_counts().to_dict() == {"train": 1437, "validation": 360}
    plain = vitreous.embed(trained, sorted(photos.glob("cat/*")), cache=False).to_pandas()
    assert list(plain.columns[:2]) == ["name", "0"]


def test_layers(trained):
    found = vitreous.cka(trained, trained, "digits", images=20)
    matrix = found.to_pandas().pivot(index="layer", columns="other", values="cka")
    rows, cols = list(found.cka.rows), list(found.cka.cols)
    np.testing.assert_array_equal(matrix.loc[rows, cols].to_numpy(), found.cka.matrix)


def test_lists_of_models():
    table = vitreous.models("B/*").to_pandas().set_index("name")
    assert int(table.loc["B/16", "parameters"]) == 86_567_656
    found = vitreous.models(pretrained=True)
    pretrained = found.to_pandas().set_index("name")
    assert len(pretrained) == len(found.models)
    for one in found.models:
        row = pretrained.loc[one.name]
        assert (row["repository"], row["licence"], row["bytes"]) == (one.repository, one.licence, 4 * one.parameters)
        assert pandas.isna(row["top1"]) if one.accuracy is None else row["top1"] == one.accuracy.top1


def test_sorting_tells_how_far_it_is(trained, photos, here):
    watcher = Watcher()
    vitreous.sort_into(trained, photos, here / "sorted", reporter=watcher)
    assert watcher.phases == ["listing the images", "classifying 5 files"]
    assert watcher.steps == [(number, 5) for number in range(6)]


def test_searching_tells_what_it_waits_for(trained, photos, here):
    write(here / "asked.png", encoded(picture(9, 9, 9, 1)))
    vitreous.embed(trained, photos, out=here / "f.npz", cache=False)
    watcher = Watcher()
    vitreous.similar(here / "asked.png", here / "f.npz", reporter=watcher)
    assert watcher.phases == [
        "opening the embeddings",
        "loading the model that made the embeddings",
        "comparing with 5 images",
    ]
