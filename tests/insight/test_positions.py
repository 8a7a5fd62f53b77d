"""Position similarity against the definition."""

import numpy as np
import pytest
import torch

from vitreous.errors import ConfigError
from vitreous.insight.positions import compute_similarity
from vitreous.model.config import ViTConfig
from vitreous.model.factory import create


def model(positions, pool="class"):
    config = ViTConfig(
        image=(6, 8), patch=(2, 2), channels=1, width=16, depth=1, heads=2, mlp_width=16, positions=positions, pool=pool,
        class_token=pool == "class",
    )  # fmt: skip
    return create(config, seed=3)


@pytest.mark.parametrize("pool", ["class", "mean"])
@pytest.mark.parametrize("positions", ["learned", "sincos2d"])
def test_cosine_of_every_pair(positions, pool):
    made = model(positions, pool)
    found = compute_similarity(made)
    assert found.shape == (3, 4, 3, 4)
    vectors = made.positions.embedding.detach().double().numpy()[int(pool == "class") :]
    for a in range(12):
        for b in range(12):
            u, v = vectors[a], vectors[b]
            cosine = u @ v / np.sqrt((u @ u) * (v @ v))
            assert found[a // 4, a % 4, b // 4, b % 4] == pytest.approx(cosine, abs=1e-9)


def test_a_place_is_itself():
    found = compute_similarity(model("learned")).flatten(2).flatten(0, 1)
    torch.testing.assert_close(found.diagonal(), torch.ones(12, dtype=torch.float64))
    torch.testing.assert_close(found, found.T)


def test_none_says_so():
    with pytest.raises(ConfigError, match="adds no vectors"):
        compute_similarity(model("none"))
