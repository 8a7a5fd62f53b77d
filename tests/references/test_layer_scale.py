"""LayerScale under every spelling gives the owner's outputs, and no message offers to leave a part of the function out."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from tests.support.twins import CLOSE, difference, randomise
from torch import Tensor, nn

from vitreous.errors import CheckpointError
from vitreous.weights.foreign import load_foreign
from vitreous.weights.options import LoadOptions

SMALL: dict[str, Any] = {"embed_dim": 64, "depth": 3, "num_heads": 1, "num_classes": 10, "img_size": 96}


def model(name: str = "deit3_small_patch16_224", **given: Any) -> nn.Module:
    """Return timm's model with scales as small and as different as trained ones are."""
    made = randomise(timm.create_model(name, **SMALL | given))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if ".ls" in name:
                parameter.copy_(0.05 + 0.3 * torch.rand(parameter.shape, generator=generator))
    return made


def spelled(made: nn.Module, first: str, second: str) -> dict[str, Tensor]:
    tensors = made.state_dict()
    return {name.replace("ls1.gamma", first).replace("ls2.gamma", second): one for name, one in tensors.items()}


SPELLINGS = {
    "ls1.gamma": "timm:",
    "gamma_1": "deit:",
    "lambda_1": "timm:",
    "layer_scale_1": "timm:",
    "layer_scale1.lambda1": "timm:",
    "layer_scale_1.scale": "timm:",
    "ls1": "timm:",
    "gamma1.weight": "timm:",
}


@pytest.mark.parametrize("spelling", list(SPELLINGS))
def test_every_spelling_gives_the_owners_outputs(spelling: str, tmp_path: Path) -> None:
    made = model()
    second = spelling.replace("1", "2", 1)
    torch.save({"model": spelled(made, spelling, second)}, tmp_path / "weights.pth")
    folder, report = load_foreign(tmp_path / "weights.pth")
    assert report.origin.startswith(SPELLINGS[spelling])
    assert (report.new, report.unused, report.ignored) == ((), (), 0)
    assert difference(folder.model, made) < CLOSE


def test_deit3_as_its_authors_wrote_it(tmp_path: Path) -> None:
    """No position for [class], gamma_1 and gamma_2, the key model; ImageNet's constants and the whole image."""
    made = model(img_size=64)
    assert made.pos_embed.shape[1] == 16
    torch.save({"model": spelled(made, "gamma_1", "gamma_2"), "epoch": 3}, tmp_path / "deit_3_small_224_1k.pth")
    folder, report = load_foreign(tmp_path / "deit_3_small_224_1k.pth")
    assert folder.model.config.positioned_tokens == "patches"
    assert (folder.preprocess.mean[0], folder.preprocess.crop, folder.resize) == (0.485, 1.0, "bicubic")
    assert any("DeiT-III" in note for note in report.assumed)
    assert difference(folder.model, made) < CLOSE


STRANGE = {
    "talking heads": ("blocks.{}.attn.proj_l.weight", "talking heads of 3 blocks"),
    "relative positions": ("blocks.{}.attn.rel_pos_h", "relative positions of 3 blocks"),
    "a third scale": ("blocks.{}.gamma_3", "LayerScale of 3 blocks"),
    "another branch": ("blocks.{}.attn1.qkv.weight", "further branches of 3 blocks"),
    "something unheard of": ("blocks.{}.wonder", "3 of them lie in layers that are used"),
}


@pytest.mark.parametrize("name", list(STRANGE))
def test_a_part_of_the_function_is_never_offered_for_dropping(name: str, tmp_path: Path) -> None:
    pattern, words = STRANGE[name]
    tensors = model().state_dict() | {pattern.format(index): torch.ones(64) for index in range(3)}
    torch.save(tensors, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError) as caught:
        load_foreign(tmp_path / "weights.pth")
    message = str(caught.value)
    assert words in message
    assert pattern.format("N") + " (3)" in message
    assert "--allow" not in message
    assert "its outputs would differ" in message
    _, report = load_foreign(tmp_path / "weights.pth", LoadOptions(allow=("unused",)))
    assert any("the outputs differ from the original's" in note for note in report.notes)


def test_missing_parts_are_offered_for_a_head_alone(tmp_path: Path) -> None:
    tensors = model().state_dict()
    torch.save({name: one for name, one in tensors.items() if name != "head.bias"}, tmp_path / "head.pth")
    with pytest.raises(CheckpointError, match="with --allow missing it is zero, which is the same function"):
        load_foreign(tmp_path / "head.pth")
    torch.save({name: one for name, one in tensors.items() if name != "blocks.1.norm1.bias"}, tmp_path / "block.pth")
    with pytest.raises(CheckpointError, match="drawn at random they would spoil every output") as caught:
        load_foreign(tmp_path / "block.pth")
    assert "--allow" not in str(caught.value)
    _, report = load_foreign(tmp_path / "block.pth", LoadOptions(allow=("missing",)))
    assert "the outputs are not the original's: drawn at random were blocks.N.attention_norm.bias" in str(report)
