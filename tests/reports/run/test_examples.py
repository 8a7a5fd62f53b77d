"""The report's pictures of attention and positions, for models of every kind."""

import numpy as np
import pytest
from tests.support.explanations import folder, pictures

from vitreous.images.preprocess import preprocess_image
from vitreous.model.config import ViTConfig
from vitreous.predictor import Predictor
from vitreous.reports.position_maps import build_position_maps
from vitreous.reports.run.examples import QUERIES, find_last_layer


@pytest.mark.parametrize("kind", ["plain", "registers", "pooling"])
def test_attention_is_that_of_the_patches_alone(kind):
    predictor = Predictor(folder(kind))
    pixels = [preprocess_image(one, predictor.folder.decode, predictor.folder.preprocess) for one in pictures(2)]
    found = find_last_layer(predictor, pixels)
    assert [one.shape for one in found] == [(2, 4, 6)] * 2
    total = np.array([one.sum((1, 2)) for one in found])
    prefix = predictor.model.config.prefix
    assert (total < 1).all() if prefix else np.allclose(total, 1)


def test_every_pooling_has_its_words():
    assert set(QUERIES) == set(ViTConfig.__annotations__["pool"].__args__)


@pytest.mark.parametrize(
    ("kind", "count", "words"), [("plain", 1, "learned"), ("bias", 4, "4 of 6 are shown"), ("none", 0, "no position")]
)
def test_places_of_every_kind(kind, count, words):
    page = "".join(block.html() for block in build_position_maps(folder(kind).model))
    assert page.count("<img") == count
    assert words in page
