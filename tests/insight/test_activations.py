"""Grad-CAM against its closed form and against one graph; activation maps against the definition."""

import pytest
import torch
from tests.model.test_variants import images, random_model

from vitreous.errors import ConfigError
from vitreous.insight.activations import compute_activation_map, grad_cam
from vitreous.model.factory import create
from vitreous.model.resnet_config import ResNetConfig, StemConfig


@pytest.fixture(scope="module")
def resnet():
    model = create(ResNetConfig(image=(32, 48), units=(1, 2), classes=5)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def hybrid():
    return random_model(stem=StemConfig("resnet", (1,)), patch=(4, 4)).eval()


def test_of_the_last_map_it_is_the_heads_own_weights(resnet):
    """The head is linear in the maps' means, so each gradient is the head's weight over the number of places."""
    pixels = images(2, 32, 48)
    maps = resnet.last_maps(pixels)
    weights = resnet.head.weight[[4, 1]] / maps[0, 0].numel()
    expected = torch.einsum("bk,bkrc->brc", weights, maps).clamp(min=0)
    found = grad_cam(resnet, pixels, [4, 1])
    assert found.shape == (2, 4, 6)
    torch.testing.assert_close(found, expected.detach())


def test_of_an_earlier_stage_it_is_one_graphs(resnet):
    pixels, kept = images(2, 32, 48), []
    handle = resnet.stages[0].register_forward_hook(lambda _m, _i, output: kept.append(output))
    logits = resnet(pixels)
    handle.remove()
    (gradient,) = torch.autograd.grad(logits[:, 2].sum(), kept)
    expected = (gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1).clamp(min=0)
    torch.testing.assert_close(grad_cam(resnet, pixels, 2, layer=0), expected.detach())


def test_of_a_hybrid_it_is_the_stems_map():
    model, pixels = hybrid(), images(2)
    maps = model.patches.stem(pixels).detach().requires_grad_()
    z = model.patches.embed(maps.flatten(2).mT)
    z = model.positions(torch.cat([model.class_token.expand(2, 1, -1), z], dim=1))
    for block in model.blocks:
        z = block(z)
    (gradient,) = torch.autograd.grad(model.head(model.norm(z)[:, 0])[:, 1].sum(), maps)
    expected = (gradient.mean((2, 3), keepdim=True) * maps).sum(1).clamp(min=0)
    torch.testing.assert_close(grad_cam(model, pixels, 1), expected.detach(), rtol=1e-4, atol=1e-6)


def test_activation_maps(resnet):
    pixels = images(2, 32, 48)
    expected = resnet.last_maps(pixels).square().mean(1).sqrt()
    torch.testing.assert_close(compute_activation_map(resnet, pixels), expected.detach())
    assert compute_activation_map(resnet, pixels, 0).shape == (2, 8, 12)
    model = random_model(registers=2).eval()
    block = model.intermediates(images(), ["block.1"])["block.1"][:, 3:]
    expected = block.square().mean(2).sqrt().view(2, 4, 6)
    torch.testing.assert_close(compute_activation_map(model, images(), 1), expected.detach())


def test_frozen_models_too(resnet):
    expected = grad_cam(resnet, images(1, 32, 48), 0)
    resnet.requires_grad_(False)
    torch.testing.assert_close(grad_cam(resnet, images(1, 32, 48), 0), expected)
    resnet.requires_grad_(True)


def test_mistakes(resnet):
    with pytest.raises(ConfigError, match="no convolutions for grad-cam; use attention"):
        grad_cam(random_model(), images())
    with pytest.raises(ConfigError, match="layer 2 is outside"):
        grad_cam(resnet, images(1, 32, 48), layer=2)
    with pytest.raises(ConfigError, match="the one map"):
        grad_cam(hybrid(), images(), layer=1)
    with pytest.raises(ConfigError, match="has no head"):
        grad_cam(create(ResNetConfig(units=(1,), classes=0)), images(1, 32, 48))
