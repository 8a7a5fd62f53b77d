"""Files of every family, damaged in every way that came to mind: one clear error, never a traceback of another kind."""

import json
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.twins import randomise
from torch import Tensor

from vitreous.errors import UserError
from vitreous.model.config import BlockConfig, RotaryConfig, ViTConfig
from vitreous.model.factory import create
from vitreous.weights.foreign import list_families, load_foreign
from vitreous.weights.mapping import write_tensors

BASE: dict[str, Any] = {"image": (32, 32), "patch": (16, 16), "width": 64, "depth": 2, "heads": 1, "mlp_width": 24}
BASE |= {"classes": 3}
SCALED = BlockConfig(layer_scale=1.0)
CENTRED = RotaryConfig("centred", 100.0)
VIT = {"model_type": "vit", "image_size": 32, "patch_size": 16, "num_attention_heads": 1, "layer_norm_eps": 1e-6}
TIMM = {"architecture": "vit_small_patch16_224", "global_pool": "token", "pretrained_cfg": {"input_size": [3, 32, 32]}}
OPEN_CLIP = {"model_cfg": {"vision_cfg": {"image_size": 32, "head_width": 64}}}
SOUND: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "timm": ({}, TIMM),
    "timm-eva": (
        {
            "rotary": CENTRED,
            "positions": "none",
            "registers": 4,
            "block": BlockConfig(qkv_bias="none", layer_scale=1.0),
        },
        TIMM | {"architecture": "vit_small_patch16_dinov3"},
    ),
    "google": ({}, {}),
    "big_vision": ({"pool": "map", "class_token": False}, {}),
    "huggingface": ({}, VIT),
    "hf-dinov2": ({"block": SCALED, "pool": "class+mean"}, VIT | {"model_type": "dinov2"}),
    "hf-dinov3": (
        {
            "rotary": CENTRED,
            "positions": "none",
            "registers": 4,
            "block": BlockConfig(qkv_bias="no-key", layer_scale=1.0),
        }
        | {"classes": 0, "norm_eps": 1e-5},
        VIT | {"model_type": "dinov3_vit", "num_register_tokens": 4},
    ),
    "hf-clip": (
        {"patch_bias": False, "embed_norm": True, "final_norm": "pooled", "head_bias": False},
        {"model_type": "clip", "vision_config": VIT},
    ),
    "hf-siglip": (
        {"pool": "map", "class_token": False, "classes": 0},
        {"model_type": "siglip", "vision_config": VIT},
    ),
    "clip": ({"patch_bias": False, "embed_norm": True, "head_bias": False, "norm_eps": 1e-5}, OPEN_CLIP),
    "torchvision": ({}, {}),
}
"""A small architecture of each family that has names of its own, and the config.json beside it."""
Files = tuple[dict[str, Tensor], dict[str, Any]]


@cache
def written(name: str) -> dict[str, Tensor]:
    model = create(ViTConfig(**BASE | SOUND[name][0]))
    randomise(model)
    tensors, left = write_tensors(list_families()[name].table(model.config), model.state_dict(), model.config.depth)
    assert left == []
    return tensors


def sound(name: str) -> Files:
    return {key: tensor.clone() for key, tensor in written(name).items()}, json.loads(json.dumps(SOUND[name][1]))


def saved(files: Files, name: str, folder: Path) -> Path:
    tensors, document = files
    if list_families()[name].container == "npz" or name == "big_vision":
        np.savez(folder / "weights.npz", **{key: tensor.numpy() for key, tensor in tensors.items()})
    else:
        torch.save(tensors, folder / "pytorch_model.bin")
    if document:
        (folder / "config.json").write_text(json.dumps(document))
    return folder


def drop(files: Files, choice: random.Random) -> None:
    del files[0][choice.choice(list(files[0]))]


def reshape(files: Files, choice: random.Random) -> None:
    shape = choice.choice([(), (0,), (1,), (3, 5), (2, 2, 2), (1, 1, 1, 1), (7, 0, 3, 1), (2, 3, 4, 5, 6)])
    files[0][choice.choice(list(files[0]))] = torch.zeros(shape)


def enlarge(files: Files, choice: random.Random) -> None:
    name = choice.choice([name for name, tensor in files[0].items() if tensor.ndim])
    files[0][name] = torch.cat([files[0][name]] * 2, dim=choice.randrange(files[0][name].ndim))


def ruin(files: Files, choice: random.Random) -> None:
    name = choice.choice([name for name, tensor in files[0].items() if tensor.numel()])
    files[0][name].view(-1)[0] = float("nan")


def misconfigure(files: Files, choice: random.Random) -> None:
    values = [None, "x", "", -1, 0, 10**30, 1.5, [], [1], [0, 0], ["a", "b"], {}, {"a": 1}, True, "nan"]
    places = [files[1]] + [value for value in files[1].values() if isinstance(value, dict)]
    place = choice.choice(places)
    keys = [*place, "model_args", "vision_config", "id2label", "global_pool", "num_attention_heads", "label_names"]
    place[choice.choice(keys)] = choice.choice(values)


OPTIONAL = {"visual_projection.weight", "visual.proj"}
"""Tensors without which a file is another sound file: the tower without its projection."""
DAMAGE: list[Callable[[Files, random.Random], None]] = [drop, reshape, enlarge, ruin, misconfigure]
SEEDS = [pytest.param(range(4), id="few"), pytest.param(range(4, 30), id="many", marks=pytest.mark.slow)]


@pytest.mark.parametrize("name", list(SOUND))
def test_the_sound_files_load(name: str, tmp_path: Path) -> None:
    """Else nothing is shown by the damaged ones."""
    folder, report = load_foreign(saved(sound(name), name, tmp_path))
    assert report.origin.startswith(f"{name}:")
    settings = BASE | SOUND[name][0]
    assert (folder.model.config.classes, folder.model.config.depth) == (settings["classes"], 2)


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", list(SOUND))
def test_damage_gives_one_clear_line_or_none(
    name: str, damage: Callable[..., None], seeds: range, tmp_path: Path
) -> None:
    harmless = []
    for seed in seeds:
        files, folder = sound(name), tmp_path / str(seed)
        folder.mkdir()
        damage(files, random.Random(seed))
        try:
            load_foreign(saved(files, name, folder))
        except UserError as error:
            assert str(error).strip()
            assert "\n" not in str(error)
        else:
            harmless += [key for key in written(name) if key not in files[0]] or ["changed"]
    assert damage is misconfigure or set(harmless) <= OPTIONAL
