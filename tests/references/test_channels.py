"""First layers taken to other numbers of channels, against timm's."""

import pytest
import torch

from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.model.config import ViTConfig
from vitreous.model.factory import create
from vitreous.weights.channels import change_channels
from vitreous.weights.model_folder import ModelFolder


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_sum_and_tile_are_what_timm_does(channels: int) -> None:
    from timm.models._manipulate import adapt_input_conv

    model = create(ViTConfig(image=(8, 12), patch=(4, 4), width=16, depth=1, heads=2, mlp_width=8, classes=0))
    theirs = adapt_input_conv(channels, model.patches.kernel.detach().clone())
    folder = ModelFolder(model, PreprocessConfig(size=(8, 12)), DecodeConfig(), ())
    ours, _ = change_channels(folder, channels, "sum" if channels == 1 else "tile")
    assert (ours.model.patches.kernel - theirs).abs().max() < 1e-6  # type: ignore[union-attr]
    assert torch.equal(ours.model.norm.weight, model.norm.weight)
