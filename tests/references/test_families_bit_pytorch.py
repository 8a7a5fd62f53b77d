"""big_transfer's own PyTorch models, by the formulas of its bit_pytorch/models.py, and its npz-to-torch names."""

from pathlib import Path

import pytest
import torch
from tests.references.test_families_bit import CLOSE, SIZES, difference
from tests.support.twins import randomise
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.weights.foreign import load_foreign
from vitreous.weights.options import LoadOptions


class Standardised(nn.Conv2d):
    """A convolution whose kernels are standardised over their inputs; 1e-10 is added to the variance."""

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, dim=[1, 2, 3], keepdim=True, unbiased=False)
        kernel = (self.weight - mean) / torch.sqrt(variance + 1e-10)
        return F.conv2d(x, kernel, None, self.stride, self.padding)


class Unit(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        inner = outputs // 4
        self.gn1, self.conv1 = nn.GroupNorm(32, inputs), Standardised(inputs, inner, 1, bias=False)
        self.gn2, self.conv2 = nn.GroupNorm(32, inner), Standardised(inner, inner, 3, stride, 1, bias=False)
        self.gn3, self.conv3 = nn.GroupNorm(32, inner), Standardised(inner, outputs, 1, bias=False)
        if stride != 1 or inputs != outputs:
            self.downsample = Standardised(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.gn1(x))
        residual = self.downsample(out) if hasattr(self, "downsample") else x
        out = self.conv1(out)
        out = self.conv2(F.relu(self.gn2(out)))
        return self.conv3(F.relu(self.gn3(out))) + residual


class BiT(nn.Module):
    def __init__(self, units: tuple[int, ...], factor: int, classes: int) -> None:
        super().__init__()
        width = 64 * factor
        self.root, self.body, self.head = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        self.root["conv"] = Standardised(3, width, 7, 2, 3, bias=False)
        inputs = width
        for stage, count in enumerate(units):
            outputs, block = 4 * width * 2**stage, nn.ModuleDict()
            for unit in range(count):
                block[f"unit{unit + 1:02d}"] = Unit(inputs, outputs, 2 if unit == 0 and stage else 1)
                inputs = outputs
            self.body[f"block{stage + 1}"] = block
        self.head["gn"], self.head["conv"] = nn.GroupNorm(32, inputs), nn.Conv2d(inputs, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.pad(self.root["conv"](x), (1, 1, 1, 1)), 3, 2)
        for block in self.body.values():
            for unit in block.values():
                x = unit(x)
        x = F.relu(self.head["gn"](x)).mean(dim=(2, 3), keepdim=True)
        return self.head["conv"](x)[..., 0, 0]


@pytest.mark.parametrize(("units", "factor"), [((1, 2), 1), ((2, 1, 1), 2)])
def test_its_numbers_are_those_of_the_authors_formulas(units: tuple[int, ...], factor: int, tmp_path: Path) -> None:
    model = randomise(BiT(units, factor, 7))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, Standardised):
                module.weight.mul_(0.003 / module.weight.std())  # as small as trained kernels are
    torch.save(
        {"model": {f"module.{name}": one for name, one in model.state_dict().items()}}, tmp_path / "bit.pth.tar.pt"
    )
    for size in SIZES:
        folder, report = load_foreign(tmp_path / "bit.pth.tar.pt", LoadOptions(image=size))
        assert (report.origin.split(":")[0], report.unused, report.new) == ("bit-pytorch", (), ())
        assert difference(folder.model, model, size) < CLOSE
