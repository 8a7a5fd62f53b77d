"""A ResNet of pooled units, held against its formula written out with torch's functions alone."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vitreous.model.factory import create
from vitreous.model.resnet_config import ResNetConfig, UnitKind

GROUPS = 4


def compute_logits(weights: dict[str, Tensor], images: Tensor, stages: tuple[int, ...], *, post: bool) -> Tensor:
    def convolve(name: str, maps: Tensor, *, standardised: bool = True) -> Tensor:
        kernel = weights[f"{name}.weight"]
        if not standardised:
            return F.conv2d(maps, kernel, padding=1)
        mean = kernel.mean((1, 2, 3), keepdim=True)
        variance = ((kernel - mean) ** 2).mean((1, 2, 3), keepdim=True)
        return F.conv2d(maps, (kernel - mean) / (variance + 1e-8).sqrt(), padding=1)

    def activate(name: str, maps: Tensor) -> Tensor:
        return F.gelu(F.group_norm(maps, GROUPS, weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-5))

    def halve(maps: Tensor) -> Tensor:
        """Return the maximum over 2x2, of an odd row or column alone."""
        rows, cols = maps.shape[2:]
        padded = F.pad(maps, (0, cols % 2, 0, rows % 2), value=-torch.inf)
        return padded.unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5))

    if post:  # 2x2 at each pixel, the last row and column twice
        repeated = torch.cat([images, images[:, :, -1:]], 2)
        repeated = torch.cat([repeated, repeated[:, :, :, -1:]], 3)
        maps = F.gelu(F.conv2d(repeated, weights["root.conv.weight"]))
    else:
        maps = convolve("root.conv", images)
    for stage, units in enumerate(stages):
        for unit in range(units):
            name = f"stages.{stage}.{unit}"
            if post and unit == 0:
                maps = activate(f"{name}.norm1", halve(convolve(f"{name}.conv1", maps, standardised=False)))
                maps = maps + activate(f"{name}.norm2", convolve(f"{name}.conv2", maps, standardised=False))
                continue
            inner = convolve(f"{name}.conv1", activate(f"{name}.norm1", maps))
            if unit == 0:  # what the shortcut carries
                maps = inner = halve(inner)
            maps = maps + convolve(f"{name}.conv2", activate(f"{name}.norm2", inner))
    features = (activate("norm", maps) if "norm.weight" in weights else maps).mean((2, 3))
    return features @ weights["head.weight"].T + weights["head.bias"]


@pytest.mark.parametrize("unit", ["pooled", "pooled-post"])
@pytest.mark.parametrize(("image", "stages"), [((32, 32), (1, 1, 1)), ((13, 22), (2, 1))])
def test_outputs_and_gradients_are_the_formulas(
    image: tuple[int, int], stages: tuple[int, ...], unit: UnitKind
) -> None:
    post = unit == "pooled-post"
    config = ResNetConfig(
        image=image,
        units=stages,
        classes=5,
        root="haar" if post else "3x3",
        root_channels=28 if post else 8,
        stage_channels=(8, 20, 12)[: len(stages)] if post else (),
        groups=GROUPS,
        unit=unit,
        activation="gelu",
    )
    model = create(config).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():  # norms away from one and zero, kernels as small as trained ones
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64), alpha=0.02)
    images = torch.randn(3, 3, *image, generator=generator, dtype=torch.float64)
    weights = {name: value.detach().requires_grad_() for name, value in model.state_dict().items()}
    found, expected = model(images), compute_logits(weights, images, stages, post=post)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    labels = torch.tensor([0, 4, 3])
    for logits in (found, expected):
        F.cross_entropy(logits, labels).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, weights[name].grad, rtol=1e-7, atol=1e-9)
