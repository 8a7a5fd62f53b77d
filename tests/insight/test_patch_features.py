"""Patch features: colours against scikit-learn, nearest patches against loops, lengths against the intermediates."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from tests.model.test_variants import images, random_model

from vitreous.errors import ConfigError
from vitreous.insight import patch_features as room
from vitreous.insight.patch_features import (
    colour_features,
    compute_patch_features,
    compute_token_norms,
    find_nearest_patches,
)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_features_are_the_models_maps():
    model = random_model(registers=2)
    expected = model.eval().maps(images(), [1])[0]
    assert torch.equal(compute_patch_features(model.train(), images(), 1), expected)
    assert model.training


def test_colours_are_the_principal_components():
    features = drawn(2, 3, 4, 8) * torch.arange(1, 9)
    rows = features.flatten(0, 2).double().numpy()
    places = PCA(3).fit_transform(rows)
    found = colour_features(features).values.flatten(0, 2).numpy()
    for colour in range(3):
        low, high = np.quantile(places[:, colour], [0.01, 0.99])
        stretched = np.clip((places[:, colour] - low) / (high - low), 0, 1)
        own = found[:, colour]
        assert min(np.abs(own - stretched).max(), np.abs(own - (1 - stretched)).max()) < 1e-5


def test_the_foreground_is_what_the_border_is_not():
    features = drawn(2, 6, 6, 8) * 0.1
    inside = torch.zeros(2, 6, 6, dtype=torch.bool)
    inside[0, 1:4, 2:5] = inside[1, 2:5, 1:4] = True
    features[inside] += 3
    found = colour_features(features, foreground=True)
    assert torch.equal(found.foreground, inside)
    assert not found.values[~inside].any()
    assert found.values[inside].std() > 0.1


def test_fewer_patches_than_colours():
    found = colour_features(drawn(1, 1, 2, 2)).values
    assert found.shape == (1, 1, 2, 3)
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("own", [False, True])
def test_nearest_patches(own, monkeypatch):
    monkeypatch.setattr(room, "CHUNK_WEIGHTS", 60)
    features = drawn(3, 2, 3, 5)
    found = find_nearest_patches(features, 2, own)
    unit = (features / features.norm(dim=3, keepdim=True)).numpy()
    for place in np.ndindex(3, 2, 3):
        others = [
            (float(unit[place] @ unit[other]), other)
            for other in np.ndindex(3, 2, 3)
            if (other != place if own else other[0] != place[0])
        ]
        best = sorted(others, reverse=True)[:2]
        assert [tuple(one) for one in found.places[place].tolist()] == [other for _, other in best]
        np.testing.assert_allclose(found.likeness[place].numpy(), [score for score, _ in best], atol=1e-6)


def test_lengths_of_tokens():
    model = random_model(registers=2).eval()
    kept = model.intermediates(images(3), ["block.0", "block.2"])
    found = compute_token_norms(model, images(3))
    assert found.shape == (3, 3, 27)
    for layer in (0, 2):
        torch.testing.assert_close(found[layer], kept[f"block.{layer}"].norm(dim=2).detach())


def test_no_such_layer():
    with pytest.raises(ConfigError, match="block"):
        compute_patch_features(random_model(), images(), 3)
