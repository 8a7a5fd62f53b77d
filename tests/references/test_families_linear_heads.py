"""The hub's linear heads on DINOv2 and DINOv3, by their authors' formula on timm's reading of the backbone."""

from pathlib import Path

import pytest
import torch
from tests.references.test_families_originals import (
    dinov2_tensors,
    dinov3_tensors,
    dinov3_twin,
    like_timm,
    written,
)
from tests.support.twins import CLOSE, difference
from torch import Tensor
from torch.nn import functional as F

from vitreous.errors import CheckpointError
from vitreous.weights.foreign import load_foreign
from vitreous.weights.options import LoadOptions


def headed(tensors: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """A file of the hub's classifier: the backbone and a linear layer over `layers` [class] tokens and a mean."""
    generator = torch.Generator().manual_seed(4)
    inputs = (1 + layers) * 64
    head = {"linear_head.weight": torch.randn(7, inputs, generator=generator) * inputs**-0.5}
    head["linear_head.bias"] = torch.randn(7, generator=generator)
    return {f"backbone.{name}": tensor for name, tensor in tensors.items()} | head


def authors(twin: torch.nn.Module, saved: dict[str, Tensor], layers: int, pixels: Tensor) -> Tensor:
    """hub/classifiers.py: the last blocks' [class], each normalised, then the mean of the last block's patches."""
    found = twin.forward_intermediates(
        pixels, indices=layers, return_prefix_tokens=True, norm=True, output_fmt="NLC", intermediates_only=True
    )
    tokens = [prefix[:, 0] for _, prefix in found] + [found[-1][0].mean(dim=1)]
    return F.linear(torch.cat(tokens, dim=1), saved["linear_head.weight"], saved["linear_head.bias"])


@pytest.mark.parametrize("name", ["vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2"])
@pytest.mark.parametrize("layers", [1, 3])
def test_dinov2_with_a_linear_head_equals_its_formula(name: str, layers: int, tmp_path: Path) -> None:
    tensors = dinov2_tensors(name)
    saved = headed(tensors, layers)
    twin = like_timm(name, tensors, img_size=84, num_classes=0)
    folder, report = load_foreign(written(saved, tmp_path))
    assert (report.origin.split(":")[0], report.unused, report.new) == ("dinov2-linear", (), ())
    assert difference(folder.model, lambda pixels: authors(twin, saved, layers, pixels)) < CLOSE
    if "reg4" in name:  # timm's resize is this one's rule
        folder, _ = load_foreign(written(saved, tmp_path), LoadOptions(image=(56, 126)))
        twin.set_input_size(img_size=(56, 126))
        assert difference(folder.model, lambda pixels: authors(twin, saved, layers, pixels)) < CLOSE


def test_dinov3_with_a_linear_head_equals_its_formula(tmp_path: Path) -> None:
    name = "vit_small_plus_patch16_dinov3"
    tensors = dinov3_tensors(name, rounded=True)
    saved = headed(tensors, 1)
    for size in ((224, 224), (96, 160)):
        folder, report = load_foreign(written(saved, tmp_path), LoadOptions(image=size))
        assert (report.origin.split(":")[0], report.unused, report.new) == ("dinov3-linear", (), ())
        twin = dinov3_twin(name, tensors, size, rounded=True)
        assert difference(folder.model, lambda pixels, twin=twin: authors(twin, saved, 1, pixels)) < CLOSE


def test_a_head_of_another_width_is_refused(tmp_path: Path) -> None:
    saved = headed(dinov2_tensors("vit_small_patch14_dinov2"), 1)
    saved["linear_head.weight"] = torch.zeros(7, 100)
    with pytest.raises(CheckpointError, match="its linear head reads 100 values"):
        load_foreign(written(saved, tmp_path))
