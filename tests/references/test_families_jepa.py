"""The authors' own files of I-JEPA and MSN: the numbers of timm's reading of the same tensors."""

from pathlib import Path

import pytest
import torch
from tests.references.test_families_originals import like_timm, random_tensors, written
from tests.support.twins import CLOSE, difference
from torch import Tensor
from torch.nn import functional as F

from vitreous.weights.foreign import load_foreign
from vitreous.weights.options import LoadOptions

NAMES = {"ijepa": "vit_base_patch16_gap_224", "msn": "vit_small_patch16_224"}
SETTINGS = {"img_size": 96, "num_classes": 0, "num_heads": 1}


def resized(positions: Tensor, prefix: int, rows: int, cols: int) -> Tensor:
    """Bicubic without antialias, which is transformers' rule for both."""
    grid = positions[:, prefix:].unflatten(1, (6, 6)).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(rows, cols), mode="bicubic")
    return torch.cat([positions[:, :prefix], grid.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def tensors_of(name: str) -> dict[str, Tensor]:
    return random_tensors(NAMES[name], **SETTINGS)


def checkpoint(name: str, tensors: dict[str, Tensor]) -> dict[str, object]:
    """A file of training: the context encoder, what trains it, and the target encoder that is evaluated."""
    target = {f"module.{key}": tensor for key, tensor in tensors.items()}
    context = {key: torch.zeros_like(tensor) for key, tensor in target.items()}
    if name == "msn":
        target |= {"module.fc.fc1.weight": torch.zeros(8, 64), "module.fc.bn1.weight": torch.zeros(8)}
        return {"encoder": context, "opt": {}, "prototypes": torch.zeros(3, 3), "target_encoder": target, "epoch": 1}
    return {"encoder": context, "predictor": {"module.x": torch.zeros(1)}, "opt": {}, "target_encoder": target}


@pytest.mark.parametrize("name", list(NAMES))
def test_the_target_encoder_equals_timms_reading(name: str, tmp_path: Path) -> None:
    tensors = tensors_of(name)
    path = written(checkpoint(name, tensors), tmp_path)
    folder, report = load_foreign(path)
    assert (report.origin.split(":")[0], report.ignored) == (name, 2 if name == "msn" else 0)
    assert (folder.preprocess.mean[0], folder.preprocess.crop) == (0.485, 0.875)
    assert difference(folder.model, like_timm(NAMES[name], tensors, **SETTINGS)) < CLOSE
    folder, report = load_foreign(path, LoadOptions(image=(64, 112)))
    assert "by bicubic" in report.resized
    placed = tensors | {"pos_embed": resized(tensors["pos_embed"], int(name == "msn"), 4, 7)}
    assert difference(folder.model, like_timm(NAMES[name], placed, **SETTINGS | {"img_size": (64, 112)})) < CLOSE


@pytest.mark.parametrize("name", list(NAMES))
def test_a_bare_encoder_is_taken_as_the_user_says(name: str, tmp_path: Path) -> None:
    tensors = tensors_of(name)
    folder, report = load_foreign(written(tensors, tmp_path), LoadOptions(family=name))
    assert report.origin.startswith(f"{name}:")
    assert folder.resize == "bicubic"
    assert difference(folder.model, like_timm(NAMES[name], tensors, **SETTINGS)) < CLOSE
