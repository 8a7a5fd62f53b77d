"""Rollout against the definition, multiplied out in float64, for every way to represent the image."""

import numpy as np
import pytest
import torch
from tests.model.test_variants import VARIANTS, images, random_model

from vitreous.errors import ConfigError
from vitreous.insight import attention_weights
from vitreous.insight.attention import compute_attention_maps, pool_maps, read_attention
from vitreous.insight.rollout import compute_rollout, compute_rollout_matrix
from vitreous.model.factory import create
from vitreous.model.resnet_config import ResNetConfig
from vitreous.model.token_merging import Merging
from vitreous.shapes import Size

READ = {
    "learned at input": "first",
    "relative at layers": "first",
    "rotary centred": "first",
    "parallel": "first",
    "qk norm": "first",
    "distilled": "first two",
    "mean, normed after": "patches",
    "attention pooling": "pool",
    "class and mean": "half",
    "axial": "patches",
    "axial, rotary": "pool",
}


def brute_force(model, pixels, fuse=np.mean):
    """Multiply the matrices one after the other, one image at a time."""
    found = []
    for image in pixels:
        joint = np.eye(model.config.tokens)
        for weights in compute_attention_maps(model, image[None]).values():
            fused = fuse(weights[0].numpy().astype(np.float64), axis=0) + np.eye(model.config.tokens)
            joint = fused / fused.sum(1, keepdims=True) @ joint
        found.append(joint)
    return np.stack(found)


@pytest.mark.parametrize("name", READ)
def test_equals_the_product_of_the_matrices(name):
    model, pixels = random_model(**VARIANTS[name]), images(3)
    joint, prefix = brute_force(model, pixels), model.config.prefix
    matrix = compute_rollout_matrix(model, pixels)
    np.testing.assert_allclose(matrix.numpy(), joint, atol=1e-6)
    torch.testing.assert_close(matrix.sum(2), torch.ones(3, model.config.tokens))
    first, patches = joint[:, 0], joint[:, prefix:].mean(1)
    expected = {
        "first": lambda: first,
        "first two": lambda: joint[:, :2].mean(1),
        "patches": lambda: patches,
        "half": lambda: (first + patches) / 2,
        "pool": lambda: np.einsum("bq,bqk->bk", pool_maps(model, pixels).mean(1).flatten(1).numpy(), joint[:, prefix:]),
    }[READ[name]]()
    found = compute_rollout(model, pixels)
    assert found.shape == (3, 4, 6)
    np.testing.assert_allclose(found.flatten(1).numpy(), expected[:, prefix:], atol=1e-6)


@pytest.mark.parametrize("name", READ)
def test_of_one_layer_what_the_model_reads(name):
    model, pixels = random_model(**VARIANTS[name]), images(3)
    prefix, maps = model.config.prefix, compute_attention_maps(model, pixels, [1])[1]
    patches = maps[:, :, prefix:].mean(2)
    expected = {
        "first": lambda: maps[:, :, 0],
        "first two": lambda: maps[:, :, :2].mean(2),
        "patches": lambda: patches,
        "half": lambda: (maps[:, :, 0] + patches) / 2,
        "pool": lambda: torch.einsum("bq,bhqk->bhk", pool_maps(model, pixels).mean(1).flatten(1), maps[:, :, prefix:]),
    }[READ[name]]()
    torch.testing.assert_close(read_attention(model, pixels, 1).flatten(2), expected[..., prefix:])


def test_the_maximum_is_read_where_it_is():
    model, pixels = random_model(pool="max"), images(2)
    tokens = model.eval().tokens(pixels)[:, 1:]
    share = torch.stack([(tokens.argmax(1) == patch).float().mean(1) for patch in range(24)], dim=1)
    expected = torch.einsum("bq,bqk->bk", share, compute_rollout_matrix(model, pixels)[:, 1:])[:, 1:]
    torch.testing.assert_close(compute_rollout(model, pixels).flatten(1), expected)


@pytest.mark.parametrize("fuse", ["max", "min"])
def test_heads_fused_otherwise(fuse):
    model, pixels = random_model(), images(2)
    expected = brute_force(model, pixels, {"max": np.max, "min": np.min}[fuse])
    np.testing.assert_allclose(compute_rollout_matrix(model, pixels, fuse).numpy(), expected, atol=1e-6)


def test_small_weights_are_discarded():
    model, pixels = random_model(depth=1), images(2)
    weights = compute_attention_maps(model, pixels)[0].mean(1).double().numpy()
    expected = np.zeros_like(weights)
    for place in np.ndindex(weights.shape[:2]):
        kept = np.argsort(weights[place])[12:]
        expected[place][kept] = weights[place][kept]
    expected += np.eye(25)
    found = compute_rollout_matrix(model, pixels, discard=0.5)
    np.testing.assert_allclose(found.numpy(), expected / expected.sum(2, keepdims=True), atol=1e-6)


def test_chunks_change_nothing(monkeypatch):
    model, pixels = random_model(**VARIANTS["relative at layers"]), images(4)
    every = compute_rollout(model, pixels)
    monkeypatch.setattr(attention_weights, "CHUNK_WEIGHTS", 100)
    torch.testing.assert_close(compute_rollout(model, pixels), every)


def test_another_resolution_has_another_grid():
    model = random_model()
    model.set_resolution(Size(8, 12))
    assert compute_rollout(model, images(1, 8, 12)).shape == (1, 2, 3)
    assert compute_attention_maps(model, images(1, 8, 12), queries=[-1])[0].shape == (1, 2, 1, 7)


def test_what_cannot_be_looked_into():
    model = random_model()
    with pytest.raises(ConfigError, match="look into its"):
        compute_rollout(Merging(model, 2), images())
    with pytest.raises(ConfigError, match="a ResNet has no attention; use grad-cam"):
        compute_attention_maps(create(ResNetConfig(image=(32, 32), units=(1,))), images())
    with pytest.raises(ConfigError, match="did you mean 'mean'"):
        compute_rollout(model, images(), "mena")
    with pytest.raises(ConfigError, match="at least 0 and below 1"):
        compute_rollout(model, images(), discard=1.0)
    with pytest.raises(ConfigError, match="not by attention"):
        pool_maps(model, images())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
