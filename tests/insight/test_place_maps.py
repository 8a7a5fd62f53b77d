"""Maps of places of every kind of positions, against the definitions, pair by pair."""

import numpy as np
import pytest
import torch
from tests.model.test_variants import VARIANTS, images, random_model

from vitreous.insight.positions import compute_position_maps, compute_similarity
from vitreous.model.config import RotaryConfig
from vitreous.model.positions.rotary import rotate
from vitreous.shapes import Size

COUNTS = {
    "none at input": 0,
    "learned at input": 1,
    "learned at layers": 3,
    "learned at shared": 1,
    "learned2d at layers": 3,
    "sincos2d at input": 1,
    "sincos2d-mae at shared": 1,
    "relative at layers": 3,
    "relative at shared": 1,
    "bias at layers": 6,
    "bias at shared": 2,
    "rotary centred": 2,
    "rotary cells": 1,
}


@pytest.mark.parametrize("name", COUNTS)
def test_every_kind_has_its_maps(name):
    found = compute_position_maps(random_model(**VARIANTS[name]))
    assert len(found) == COUNTS[name] == len({one.name for one in found})
    for one in found:
        assert one.values.shape == (4, 6, 4, 6)
        assert one.values.dtype == torch.float64
        if one.kind == "cosine":
            assert float(one.values.abs().max()) <= 1
            itself = one.values.flatten(2).flatten(0, 1).diagonal()
            torch.testing.assert_close(itself, torch.ones_like(itself))


def test_each_layer_has_its_own_vectors():
    model = random_model(**VARIANTS["learned at layers"])
    vectors = model.layer_positions[1].embedding.detach().double().numpy()[1:]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(compute_similarity(model, 2).numpy().reshape(24, 24), unit @ unit.T, atol=1e-9)
    assert torch.equal(compute_position_maps(model)[2].values, compute_similarity(model, -1))


def test_relative_embeddings_of_offsets():
    model = random_model(**VARIANTS["relative at shared"])
    table = model.relative.table.detach().double().numpy()
    (found,) = compute_position_maps(model)
    middle = table[24]
    for query, key in np.ndindex(24, 24):
        offset = table[key - query + 24]
        cosine = offset @ middle / np.linalg.norm(offset) / np.linalg.norm(middle)
        assert found.values[query // 6, query % 6, key // 6, key % 6] == pytest.approx(cosine, abs=1e-9)


def test_biases_are_what_is_added_to_the_logits():
    model = random_model(**VARIANTS["bias at layers"])
    for cells in (Size(4, 6), Size(2, 3)):
        model.set_resolution(Size(4 * cells.rows, 4 * cells.cols))
        relative = model.blocks[2].attention.relative
        bias = relative(torch.zeros(1, 2, cells.rows * cells.cols + 1, 16))[0, 1, 1:, 1:]
        found = next(one for one in compute_position_maps(model) if one.name == "layer 2, head 1")
        assert found.kind == "logit"
        expected = bias.detach().double().view(*cells, *cells)
        torch.testing.assert_close(found.values, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["rotary centred", "rotary cells"])
def test_rotary_likeness_is_that_of_one_vector_turned_to_both(name):
    """A vector with the same length in every plane of rotation."""
    model = random_model(**VARIANTS[name])
    ones = torch.ones(1, 1, 24, 16)
    turned = rotate(ones, model.rotary(), model.config.rotary.kind)[0, 0].double()
    found = compute_position_maps(model)[-1]
    expected = (turned @ turned.T / 16).view(4, 6, 4, 6)
    torch.testing.assert_close(found.values, expected, atol=1e-6, rtol=0)


def test_mixed_rotary_has_a_map_for_each_head_of_each_layer():
    model = random_model(positions="none", rotary=RotaryConfig("mixed", 10.0))
    found = compute_position_maps(model)
    assert [one.name for one in found] == [
        f"rotary, layer {layer}, head {head}" for layer in range(3) for head in range(2)
    ]
    turned = rotate(torch.ones(1, 2, 24, 16), model.blocks[1].attention.rotary(), "mixed")[0].double()
    for head in range(2):
        expected = (turned[head] @ turned[head].T / 16).view(4, 6, 4, 6)
        torch.testing.assert_close(found[2 + head].values, expected, atol=1e-6, rtol=0)


def test_looking_needs_no_gradient():
    model = random_model()
    assert not compute_position_maps(model)[0].values.requires_grad
    assert model(images()).requires_grad
