"""Distance and entropy against loops in float64, and against closed forms."""

import math

import numpy as np
import pytest
import torch
from tests.model.test_variants import VARIANTS, images, random_model

from vitreous.errors import ConfigError
from vitreous.insight import attention_weights
from vitreous.insight.attention import compute_attention_maps, read_attention
from vitreous.insight.attention_distance import join_distances, measure_attention_distance
from vitreous.insight.rollout import compute_rollout
from vitreous.shapes import Size

NAMES = ("learned at input", "registers, positions of class", "attention pooling", "rotary centred", "bias at shared")


def brute_force(model, pixels):
    """Sum over every image, query and key."""
    config, (rows, cols) = model.config, model.config.grid
    found = np.zeros((3, config.depth, config.heads))
    for layer, maps in compute_attention_maps(model, pixels).items():
        for (_, head), weights in zip(np.ndindex(len(pixels), config.heads), maps.flatten(0, 1), strict=True):
            for query, row in enumerate(weights.double().numpy()[config.prefix :]):
                patches = row[config.prefix :]
                for key, weight in enumerate(patches):
                    down = (query // cols - key // cols) * config.patch[0]
                    across = (query % cols - key % cols) * config.patch[1]
                    found[0, layer, head] += weight / patches.sum() * math.hypot(down, across)
                found[1, layer, head] -= sum(weight * math.log(weight) for weight in row if weight)
                found[2, layer, head] += 1 - patches.sum()
    return found / (len(pixels) * rows * cols)


@pytest.mark.parametrize("name", NAMES)
def test_equals_loops_over_all_pairs(name):
    model = random_model(**VARIANTS[name], patch=(4, 8))
    pixels = images(2)
    found = measure_attention_distance(model, pixels)
    for own, expected in zip((found.distance, found.entropy, found.prefix), brute_force(model, pixels), strict=True):
        np.testing.assert_allclose(own.numpy(), expected, atol=2e-6)
    assert found.images == 2


def test_uniform_attention_has_a_closed_form():
    """The mean distance of two cells of a line of n is (n^2 - 1) / 3n; every token is looked at alike."""
    model = random_model(image=(4, 24))
    with torch.no_grad():
        for block in model.blocks:
            block.attention.qkv.weight.zero_()
            block.attention.qkv.bias.zero_()
    found = measure_attention_distance(model, images(2, 4, 24))
    n = 6
    expected = (4 * (n * n - 1) / (3 * n), math.log(n + 1), 1 / (n + 1))
    for own, value in zip((found.distance, found.entropy, found.prefix), expected, strict=True):
        np.testing.assert_allclose(own.numpy(), value, rtol=1e-6)


def test_a_stream_equals_one_batch_and_chunks_change_nothing(monkeypatch):
    model, pixels = random_model(**VARIANTS["relative at layers"]), images(5)
    whole = measure_attention_distance(model, pixels)
    parts = [measure_attention_distance(model, part) for part in pixels.split(2)]
    for other in (measure_attention_distance(model, iter(pixels.split(2))), join_distances(parts), None):
        if other is None:
            monkeypatch.setattr(attention_weights, "CHUNK_WEIGHTS", 100)
            other = measure_attention_distance(model, pixels)
        torch.testing.assert_close(other.distance, whole.distance)
        torch.testing.assert_close(other.entropy, whole.entropy)
        assert other.images == 5


@pytest.mark.parametrize("name", ["registers, positions of class", "attention pooling"])
def test_no_more_weights_at_once_than_a_chunk(name, monkeypatch):
    model, made = random_model(**VARIANTS[name]), []
    weights = attention_weights.attention_weights
    record = lambda q, k, bias: made.append(weights(q, k, bias)) or made[-1]  # noqa: E731
    monkeypatch.setattr(attention_weights, "attention_weights", record)
    monkeypatch.setattr(attention_weights, "CHUNK_WEIGHTS", 600)
    pixels = images(4)
    for look in (measure_attention_distance, compute_rollout, read_attention):
        look(model, pixels)
        assert max(one.numel() for one in made) <= 600
        assert sum(one.numel() for one in made) > 4000
        made.clear()


def test_pixels_are_those_of_the_resolution_that_is_seen():
    model = random_model()
    model.set_resolution(Size(8, 8))
    assert float(measure_attention_distance(model, images(1, 8, 8)).distance.max()) < math.hypot(8, 8)


def test_no_images():
    with pytest.raises(ConfigError, match="no images"):
        measure_attention_distance(random_model(), iter(()))
    with pytest.raises(ConfigError, match="no images"):
        join_distances([])
