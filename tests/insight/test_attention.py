"""Attention maps against an independent eager attention in float64; looking changes nothing."""

import numpy as np
import pytest
import torch

from vitreous.errors import ConfigError
from vitreous.insight import attention_weights as room
from vitreous.insight.attention import compute_attention_maps
from vitreous.model.config import RegularisationConfig, ViTConfig
from vitreous.model.factory import create

CONFIG = ViTConfig(image=(8, 12), patch=(4, 4), channels=1, width=24, depth=3, heads=4, mlp_width=32, classes=5)


@pytest.fixture
def model():
    made = create(CONFIG, seed=1).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return made


@pytest.fixture
def images():
    return torch.randn(5, 1, 8, 12, generator=torch.Generator().manual_seed(2))


def norm(x, gain, shift):
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + CONFIG.norm_eps) * gain + shift


def eager(model, images):
    """The paper's equations in numpy, float64: every layer's attention, one head at a time."""
    w = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    z = model.double().embed(images.double()).detach().numpy()
    model.float()
    maps = []
    for layer in range(CONFIG.depth):
        p = f"blocks.{layer}."
        x = norm(z, w[p + "attention_norm.weight"], w[p + "attention_norm.bias"])
        q, k, v = np.split(x @ w[p + "attention.qkv.weight"].T + w[p + "attention.qkv.bias"], 3, axis=-1)
        heads, joined = [], []
        for head in range(CONFIG.heads):
            own = slice(head * 6, head * 6 + 6)
            scores = np.einsum("bqd,bkd->bqk", q[..., own], k[..., own]) / np.sqrt(6)
            exp = np.exp(scores - scores.max(-1, keepdims=True))
            heads.append(exp / exp.sum(-1, keepdims=True))
            joined.append(heads[-1] @ v[..., own])
        maps.append(np.stack(heads, axis=1))
        out = np.concatenate(joined, axis=-1)
        z = z + out @ w[p + "attention.out.weight"].T + w[p + "attention.out.bias"]
        x = torch.from_numpy(norm(z, w[p + "mlp_norm.weight"], w[p + "mlp_norm.bias"]))
        hidden = torch.nn.functional.gelu(
            x @ torch.from_numpy(w[p + "mlp.expand.weight"]).T + torch.from_numpy(w[p + "mlp.expand.bias"])
        ).numpy()
        z = z + hidden @ w[p + "mlp.contract.weight"].T + w[p + "mlp.contract.bias"]
    return maps


def test_equals_eager_attention_in_float64(model, images):
    expected = eager(model, images)
    found = compute_attention_maps(model, images)
    assert list(found) == [0, 1, 2]
    for layer, weights in found.items():
        np.testing.assert_allclose(weights.numpy(), expected[layer], atol=1e-5)
        torch.testing.assert_close(weights.sum(-1), torch.ones(5, 4, 7))


def test_layers_and_queries_choose(model, images):
    every = compute_attention_maps(model, images)
    some = compute_attention_maps(model, images, layers=[-1, 0], queries=[3, 0])
    assert list(some) == [0, 2]
    torch.testing.assert_close(some[2], every[2][:, :, [3, 0]])


def test_a_batch_larger_than_a_chunk(model, images, monkeypatch):
    every = compute_attention_maps(model, images)
    monkeypatch.setattr(room, "CHUNK_IMAGES", 2)
    torch.testing.assert_close(compute_attention_maps(model, images)[1], every[1])
    monkeypatch.setattr(room, "CHUNK_WEIGHTS", 1)
    torch.testing.assert_close(compute_attention_maps(model, images)[1], every[1])


def test_looking_changes_no_bit_and_leaves_nothing(model, images):
    before = model(images)
    seen = []
    handle = model.head.register_forward_hook(lambda _m, _i, output: seen.append(output))
    compute_attention_maps(model, images)
    handle.remove()
    assert torch.equal(seen[0], before)
    assert torch.equal(model(images), before)
    assert not any(module._forward_hooks for module in model.modules())


def test_modes_are_given_back_and_dropout_is_off(model, images):
    expected = compute_attention_maps(model, images)
    model.regularise(RegularisationConfig(dropout=0.3))
    model.train()
    model.blocks[1].eval()
    torch.testing.assert_close(compute_attention_maps(model, images), expected)
    assert model.training
    assert not model.blocks[1].training
    assert model.blocks[2].mlp.training


def test_hooks_go_after_an_error(model):
    with pytest.raises(ConfigError):
        compute_attention_maps(model, torch.zeros(1, 1, 4, 4))
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("wrong", [{"layers": [3]}, {"queries": [7]}, {"queries": [-8]}])
def test_places_that_are_not_there(model, images, wrong):
    with pytest.raises(ConfigError, match="outside the model's"):
        compute_attention_maps(model, images, **wrong)
