"""ResNets of basic units, held against timm's pre-activation ResNet built of the same parts."""

import re
from functools import partial

import pytest
import torch

from vitreous.model.factory import create
from vitreous.model.resnet_config import build_resnet_config

ROOT = 32
"""Channels of the root, half of the published: each layer is there, and a quarter as large."""


def name_in_timm(name: str) -> str:
    for pattern, there in (
        (r"^root\.conv", "stem.conv"),
        (r"^stages\.(\d)\.(\d)\.project", r"stages.\1.blocks.\2.downsample.conv"),
        (r"^stages\.(\d)\.(\d)", r"stages.\1.blocks.\2"),
        (r"^head", "head.fc"),
    ):
        name = re.sub(pattern, there, name)
    return name


@pytest.mark.parametrize(
    ("name", "units"),
    [("R18x1", (2, 2, 2, 2)), pytest.param("R34x1", (3, 4, 6, 3), marks=pytest.mark.slow), ("R10x2", (1, 1, 1, 1))],
)
def test_outputs_and_gradients_are_timms(name: str, units: tuple[int, ...]) -> None:
    from timm.layers import GroupNormAct, StdConv2d
    from timm.models.resnetv2 import ResNetV2

    config = build_resnet_config(name, image=(41, 30), classes=7, root_channels=ROOT)
    ours = create(config).double()
    theirs = ResNetV2(
        units,
        channels=tuple(ROOT * config.width * 2**stage for stage in range(4)),
        num_classes=7,
        stem_type="fixed",
        stem_chs=ROOT * config.width,
        basic=True,
        bottle_ratio=1.0,
        preact=True,
        conv_layer=partial(StdConv2d, eps=1e-8),
        norm_layer=partial(GroupNormAct, num_groups=32),
    ).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in ours.parameters():  # norms away from one and zero, kernels as small as trained ones
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64), alpha=0.02)
    weights = {name_in_timm(name): tensor for name, tensor in ours.state_dict().items()}
    weights["head.fc.weight"] = weights["head.fc.weight"][:, :, None, None]
    theirs.load_state_dict(weights)
    images = torch.randn(3, 3, 41, 30, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 6, 3])
    expected, found = theirs(images), ours(images)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    for logits in (expected, found):
        torch.nn.functional.cross_entropy(logits, labels).backward()
    gradients = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        gradient = gradients[name_in_timm(name)].grad
        assert parameter.grad is not None and gradient is not None
        torch.testing.assert_close(parameter.grad, gradient.view_as(parameter.grad), rtol=1e-7, atol=1e-9)
