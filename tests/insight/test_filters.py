"""Principal components of the first layer's filters, against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from tests.model.test_variants import random_model

from vitreous.insight.filters import find_components, read_filters
from vitreous.model.factory import create
from vitreous.model.resnet_config import ResNetConfig, StemConfig

MODELS = {
    "patches": lambda: random_model(),
    "more channels": lambda: random_model(channels=5, patch=(2, 4)),
    "hybrid": lambda: random_model(stem=StemConfig("resnet", (1,)), patch=(4, 4)),
    "convolutions": lambda: random_model(stem=StemConfig("conv", convolutions=(32, 32)), patch=(4, 4)),
    "resnet": lambda: create(ResNetConfig(image=(32, 32), units=(1,), channels=1)),
}


@pytest.mark.parametrize("name", MODELS)
def test_equal_scikit_learns(name):
    kernel, of = read_filters(MODELS[name]())
    found = find_components(MODELS[name](), 6)
    fitted = PCA(6).fit(kernel.flatten(1).numpy())
    assert found.components.shape == (6, *kernel.shape[1:])
    assert found.of == of
    np.testing.assert_allclose(found.explained.numpy(), fitted.explained_variance_ratio_, atol=1e-9)
    likeness = np.abs((found.components.flatten(1).numpy() * fitted.components_).sum(1))
    np.testing.assert_allclose(likeness, 1, atol=1e-6)
    assert (found.components.flatten(1).max(1).values == found.components.flatten(1).abs().max(1).values).all()


def test_standardised_convolutions_are_taken_as_they_act():
    kernel, _ = read_filters(MODELS["hybrid"]())
    torch.testing.assert_close(kernel.flatten(1).mean(1), torch.zeros(64, dtype=torch.float64))
    torch.testing.assert_close(
        kernel.flatten(1).var(1, correction=0), torch.ones(64, dtype=torch.float64), rtol=1e-4, atol=0
    )


def test_no_more_than_there_are():
    assert find_components(random_model()).components.shape == (28, 3, 4, 4)
    assert len(find_components(random_model(channels=1)).components) == 16
