"""Relevance against one graph through the whole model, and against the equations written out for the paper's model."""

import numpy as np
import pytest
import torch
from tests.model.test_variants import VARIANTS, images, random_model
from torch.nn import functional as F

from vitreous.errors import ConfigError
from vitreous.insight import attention_weights
from vitreous.insight.relevance import compute_gradient_attention, compute_relevance, watch_attention
from vitreous.model.attention import Attention
from vitreous.model.axial import AxialAttention
from vitreous.model.config import RegularisationConfig

CLASSES = [3, 0]
CHOSEN = (
    "learned at input",
    "relative at layers",
    "bias at shared",
    "rotary centred",
    "rotary cells",
    "distilled",
    "attention pooling",
    "class and mean",
    "mean, normed after",
    "max",
    "parallel",
    "eva",
    "qk norm",
    "learned2d at layers",
    "axial",
    "axial, rotary",
)


@pytest.mark.parametrize("name", VARIANTS)
def test_gathering_in_view_is_the_same_function(name):
    model = random_model(**VARIANTS[name]).eval()
    fused, seen = model(images()), []
    with watch_attention(model, lambda layer, heads, gathered: seen.append((layer, heads.q.shape == gathered.shape))):
        watched = model(images())
    assert (watched - fused).abs().max() < 1e-5
    assert all(alike for _, alike in seen)
    assert [layer for layer, _ in seen] == list(range(model.config.depth + (model.config.pool == "map")))
    assert torch.equal(model(images()), fused)
    assert not any(module._forward_hooks for module in model.modules())


def one_graph(model, pixels, classes, monkeypatch):
    """Every layer's weights and gradients from one backward pass, with torch's kernel replaced for the time."""
    kept = []

    def eager(q, k, v, mask=None):
        logits = q @ k.mT / q.shape[-1] ** 0.5
        kept.append(torch.softmax(logits if mask is None else logits + mask, -1))
        kept[-1].retain_grad()
        return kept[-1] @ v

    model.eval()
    with monkeypatch.context() as patch:
        patch.setattr(F, "scaled_dot_product_attention", eager)
        patch.setattr("vitreous.model.attention.prefers_products", lambda _q, _tokens: False)  # after `tune_cpu`
        patch.setattr(AxialAttention, "gather", Attention.gather)  # all tokens at once, those off the line masked out
        tokens = []
        handle = model.pool.register_forward_pre_hook(lambda _m, given: tokens.append(given[0].detach()))
        model(pixels)[range(len(classes)), classes].sum().backward()
        handle.remove()
    model.zero_grad()
    return [(weights.detach().double(), weights.grad.double()) for weights in kept], tokens[0].double()


def start(model, tokens):
    """The row of the identity that is read, as figure 1 and section 3 of each pooling's paper say."""
    config, row = model.config, torch.zeros(len(tokens), model.config.tokens, dtype=torch.float64)
    patches = slice(config.prefix, config.tokens)
    if config.pool in ("class", "class+mean"):
        row[:, : 1 + config.distillation_token] = 1 / (1 + config.distillation_token)
    if config.pool in ("mean", "class+mean"):
        row[:, patches] = 1 / config.grid.rows / config.grid.cols
        if config.pool == "class+mean":
            row[:, 0] *= config.pool_layers
            row /= 1 + config.pool_layers
    if config.pool == "max":
        for image, feature in np.ndindex(len(row), config.width):
            row[image, config.prefix + tokens[image, patches, feature].argmax()] += 1 / config.width
    return row


SEVERAL = {
    "class of two layers": {"pool": "class+mean", "pool_layers": 2},
    "class of all layers": {"pool": "class+mean", "pool_layers": 4, "depth": 4, "final_norm": "none", "registers": 2},
    "class of three layers": {"pool": "class+mean", "pool_layers": 3, "depth": 5, "position_placement": "layers"},
}
"""Heads that read [class] of several blocks, as DINOv2's linear ones do."""


@pytest.mark.parametrize("name", [*CHOSEN, *SEVERAL])
def test_equals_one_graph_through_the_model(name, monkeypatch):
    model = random_model(**{**VARIANTS, **SEVERAL}[name])
    steps, tokens = one_graph(model, images(), CLASSES, monkeypatch)
    layers = steps[: model.config.depth]
    whole = torch.eye(model.config.tokens, dtype=torch.float64).expand(2, -1, -1)
    for weights, gradient in layers:
        whole = whole + (weights * gradient).clamp(min=0).mean(1) @ whole
    read = start(model, tokens)
    if model.config.pool == "map":
        weights, gradient = steps[-1]
        read[:, model.config.prefix :] = (weights * gradient).clamp(min=0).mean(1)[:, 0]
    expected = torch.einsum("bq,bqk->bk", read, whole)[:, model.config.prefix :]
    found = compute_relevance(model, images(), CLASSES)
    np.testing.assert_allclose(found.flatten(1).double().numpy(), expected.numpy(), atol=1e-6, rtol=1e-4)
    assert float(expected.std()) > 0


def test_gradient_attention_is_one_layers_product(monkeypatch):
    model = random_model()
    steps, _ = one_graph(model, images(), CLASSES, monkeypatch)
    weights, gradient = steps[1]
    expected = (weights * gradient).clamp(min=0)[:, :, 0, 1:].unflatten(2, (4, 6))
    torch.testing.assert_close(compute_gradient_attention(model, images(), CLASSES, layer=1).double(), expected)


def test_targets():
    model = random_model()
    best = model.eval()(images()).argmax(1).tolist()
    torch.testing.assert_close(compute_relevance(model, images()), compute_relevance(model, images(), best))
    torch.testing.assert_close(compute_relevance(model, images(), 2), compute_relevance(model, images(), [2, 2]))
    torch.testing.assert_close(compute_relevance(model, images(), -1), compute_relevance(model, images(), 4))
    for wrong, words in ((5, "class 5 is outside"), ([1], "1 targets were given for 2 images")):
        with pytest.raises(ConfigError, match=words):
            compute_relevance(model, images(), wrong)
    with pytest.raises(ConfigError, match="has no head"):
        compute_relevance(random_model(classes=0), images())


def test_looking_changes_nothing(monkeypatch):
    model = random_model().train()
    model.regularise(RegularisationConfig(dropout=0.3))
    model.blocks[1].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    every = compute_relevance(model, images(4), 1)
    monkeypatch.setattr(attention_weights, "CHUNK_WEIGHTS", 1)
    torch.testing.assert_close(compute_relevance(model, images(4), 1), every)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert model.training and not model.blocks[1].training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_frozen_models_and_no_grad():
    model = random_model()
    expected = compute_relevance(model, images(), 1)
    model.requires_grad_(False)
    with torch.no_grad():
        torch.testing.assert_close(compute_relevance(model, images(), 1), expected)
