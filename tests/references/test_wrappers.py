"""Whatever wraps a model, in files as the wrappers themselves write them: the owner's outputs, and nothing dropped untold."""

import json
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from tests.support.twins import CLOSE, difference, randomise
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.optim.swa_utils import AveragedModel

from vitreous.errors import CheckpointError
from vitreous.weights.foreign import load_foreign
from vitreous.weights.options import LoadOptions

Tensors = dict[str, Tensor]


@cache
def vit(classes: int = 7, seed: int = 1) -> nn.Module:
    settings = {"embed_dim": 64, "depth": 2, "num_heads": 1, "img_size": 64, "num_classes": classes}
    return randomise(timm.create_model("vit_tiny_patch16_224", **settings), seed)


class Holder(nn.Module):
    """A module that holds a model under a name, and what else it is given."""

    def __init__(self, name: str, model: nn.Module, **others: nn.Module) -> None:
        super().__init__()
        for key, module in {name: model, **others}.items():
            self.add_module(key, module)

    def forward(self, images: Tensor) -> Tensor:
        return images


def activation_checkpointed() -> Tensors:
    """Each block is wrapped, so that the mark stands in the middle of the names; _orig_mod stands before them."""
    made = timm.create_model("vit_tiny_patch16_224", embed_dim=64, depth=2, num_heads=1, img_size=64, num_classes=7)
    made.load_state_dict(vit().state_dict())
    state = {}
    for name, tensor in made.state_dict().items():
        state[name.replace("blocks.0.", "blocks.0._checkpoint_wrapped_module.")] = tensor
    assert "_checkpoint_wrapped_module.norm1.weight" in "".join(state)
    wrapped = checkpoint_wrapper(nn.Linear(1, 1))
    assert hasattr(wrapped, "_checkpoint_wrapped_module")
    return state


def prefixed(prefix: str) -> Callable[[], Tensors]:
    return lambda: {prefix + name: tensor for name, tensor in vit().state_dict().items()}


def compiled(model: nn.Module) -> nn.Module:
    """Name tensors as torch.compile does, without the seconds that importing its compiler takes."""
    return Holder("_orig_mod", model)


@pytest.mark.slow
def test_compiled_models_are_named_so() -> None:
    assert list(compiled(vit()).state_dict()) == list(torch.compile(vit()).state_dict())


WRAPPED: dict[str, Callable[[], Any]] = {
    "torch.compile": lambda: compiled(vit()).state_dict(),
    "DDP": lambda: nn.DataParallel(vit()).state_dict(),
    "DDP of compile": lambda: nn.DataParallel(compiled(vit())).state_dict(),
    "compile of DDP": lambda: compiled(nn.DataParallel(vit())).state_dict(),
    "an average": lambda: AveragedModel(vit()).state_dict(),
    "an average of compile": lambda: AveragedModel(compiled(vit())).state_dict(),
    "Lightning": lambda: Holder("model", vit()).state_dict(),
    "Lightning of compile": lambda: Holder("net", compiled(vit())).state_dict(),
    "a module of their own": lambda: Holder("my_vit", vit()).state_dict(),
    "nested modules": lambda: Holder("task", Holder("encoder", Holder("trunk", vit()))).state_dict(),
    "a sequence": lambda: nn.Sequential(nn.Identity(), vit()).state_dict(),
    "activation checkpoints": activation_checkpointed,
    "FSDP": prefixed("_fsdp_wrapped_module."),
    "Fabric": prefixed("_forward_module."),
    "Opacus": prefixed("_module."),
}


@pytest.mark.parametrize(
    ("name", "container"), [*((name, "pth") for name in WRAPPED), ("DDP of compile", "safetensors")]
)
def test_wrapped_models_give_the_owners_outputs(name: str, container: str, tmp_path: Path) -> None:
    tensors = dict(WRAPPED[name]())
    path = tmp_path / f"weights.{container}"
    if container == "pth":
        torch.save(tensors, path)
    else:
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
    folder, report = load_foreign(path)
    assert (report.new, report.unused, report.ignored) == ((), (), 0)
    assert any("off the names" in note or "out of the names" in note for note in report.notes)
    assert any("an average of 0 models" in note for note in report.notes) == name.startswith("an average")
    assert difference(folder.model, vit()) < CLOSE


HEADS = {
    "model.* + head": ("model", "head"),
    "backbone.* + classifier": ("backbone", "classifier"),
    "encoder.* + fc": ("encoder", "fc"),
    "trunk.* + head.fc": ("trunk", "head.fc"),
    "vit.* + cls_head": ("vit", "cls_head"),
    "features.* + linear": ("features", "linear"),
}


def with_head(prefix: str, head: str, width: int = 64) -> tuple[Tensors, nn.Module]:
    """Return a model's tensors with its head somewhere else, and the model."""
    made = vit()
    tensors = {f"{prefix}.{name}": one for name, one in made.state_dict().items() if not name.startswith("head.")}
    tensors |= {f"{head}.weight": made.head.weight[:, :width].clone(), f"{head}.bias": made.head.bias}
    return tensors, made


@pytest.mark.parametrize("ddp", ["", "module."])
@pytest.mark.parametrize("name", list(HEADS))
def test_a_head_outside_is_the_head(name: str, ddp: str, tmp_path: Path) -> None:
    tensors, made = with_head(*HEADS[name])
    torch.save({ddp + key: one for key, one in tensors.items()}, tmp_path / "weights.pth")
    folder, report = load_foreign(tmp_path / "weights.pth")
    assert (report.head, report.unused) == ("kept", ())
    assert difference(folder.model, made) < CLOSE


def test_heads_of_which_one_cannot_be_sure_are_told(tmp_path: Path) -> None:
    """Of another width, of several layers, or two of them: refused by name; left out only where the user says so."""
    narrow, _ = with_head("model", "fc", width=32)
    several, _ = with_head("model", "head.2")
    two, _ = with_head("model", "classifier")
    several |= {"head.0.weight": torch.ones(64), "head.0.bias": torch.ones(64)}
    two |= {"fc.weight": torch.zeros(3, 64), "fc.bias": torch.zeros(3)}
    for tensors, names in ((narrow, "fc.weight"), (several, "head.2.weight"), (two, "fc.weight")):
        torch.save(tensors, tmp_path / "weights.pth")
        with pytest.raises(CheckpointError, match="a head would be lost, and with it the labels") as caught:
            load_foreign(tmp_path / "weights.pth")
        assert names in str(caught.value) or names.replace("2", "N") in str(caught.value)
        _, report = load_foreign(tmp_path / "weights.pth", LoadOptions(allow=("unused",)))
        assert names in report.unused
        assert report.head == "none"


def test_a_second_head_outside_is_not_dropped(tmp_path: Path) -> None:
    tensors = {f"model.{name}": one for name, one in vit().state_dict().items()}
    tensors |= {"head.weight": torch.zeros(3, 64), "head.bias": torch.zeros(3)}
    torch.save(tensors, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"outside model\.: head\.weight"):
        load_foreign(tmp_path / "weights.pth")


PAIRS = {
    "teacher": ("student.backbone.", "teacher.backbone."),
    "average": ("model.", "model_ema.module."),
    "MoCo v3": ("module.momentum_encoder.", "module.base_encoder."),
    "BYOL": ("target_encoder.net.", "online_encoder.net."),
}


@pytest.mark.parametrize("name", list(PAIRS))
def test_of_two_models_the_evaluated_one_is_taken_and_the_other_told(name: str, tmp_path: Path) -> None:
    other, chosen = PAIRS[name]
    tensors = {chosen + key: one for key, one in vit().state_dict().items()}
    tensors |= {other + key: one for key, one in vit(7, 5).state_dict().items()}
    tensors |= {"module.predictor.0.weight": torch.ones(3, 3)}
    torch.save(tensors, tmp_path / "weights.pth")
    folder, report = load_foreign(tmp_path / "weights.pth")
    assert difference(folder.model, vit()) < CLOSE
    assert report.ignored == len(vit().state_dict()) + 1
    assert f"took {chosen} off the names; left the other models in the file: {other.split('backbone')[0]}"[:60] in str(
        report
    )
    assert "module.predictor.N.weight" in str(report)


def test_the_counts_that_averages_keep_are_told(tmp_path: Path) -> None:
    """As the package ema-pytorch names them."""
    tensors = {f"ema_model.{key}": one for key, one in vit().state_dict().items()}
    tensors |= {f"online_model.{key}": one for key, one in vit(7, 5).state_dict().items()}
    torch.save(tensors | {"initted": torch.tensor(True), "step": torch.tensor(9)}, tmp_path / "weights.pt")
    folder, report = load_foreign(tmp_path / "weights.pt")
    assert "left counts of training: initted, step" in report.notes
    assert difference(folder.model, vit()) < CLOSE


def test_of_two_models_that_nothing_tells_apart_neither_is_taken(tmp_path: Path) -> None:
    tensors = {f"models.{number}.{key}": one for number in (0, 1) for key, one in vit(7, number).state_dict().items()}
    torch.save(tensors, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"several models of the same kind \(models.0., models.1.\)"):
        load_foreign(tmp_path / "weights.pth")


MMPRETRAIN = (
    ("patch_embed.proj.", "patch_embed.projection."),
    ("blocks.", "layers."),
    ("norm1", "ln1"),
    ("norm2", "ln2"),
    ("mlp.fc1", "ffn.layers.0.0"),
    ("mlp.fc2", "ffn.layers.1"),
    ("ls1.gamma", "attn.gamma1.weight"),
    ("ls2.gamma", "ffn.gamma2.weight"),
)
"""timm's names and OpenMMLab's, as its own converters pair them."""


@pytest.mark.parametrize("head", ["head.layers.head", "head.fc"])
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit3_small_patch16_224"])
def test_openmmlabs_names(name: str, head: str, tmp_path: Path) -> None:
    made = randomise(timm.create_model(name, embed_dim=64, depth=2, num_heads=1, img_size=64, num_classes=5))
    tensors = {}
    for key, tensor in made.state_dict().items():
        for timms, theirs in MMPRETRAIN:
            key = key.replace(timms, theirs)
        key = key.replace("norm.", "ln1.") if key.startswith("norm.") else key
        tensors[key.replace("head.", f"{head}.") if key.startswith("head.") else f"backbone.{key}"] = tensor
    torch.save({"meta": {"epoch": 3, "mmpretrain_version": "1.0"}, "state_dict": tensors}, tmp_path / "weights.pth")
    folder, report = load_foreign(tmp_path / "weights.pth")
    assert report.origin.startswith("mmpretrain:")
    assert (report.unused, report.head) == ((), "kept")
    assert difference(folder.model, made) < CLOSE


def test_timms_models_inside_transformers(tmp_path: Path) -> None:
    """TimmWrapper, saved by transformers itself: its prefix, its config.json, its labels."""
    from transformers import TimmWrapperConfig, TimmWrapperForImageClassification

    config = TimmWrapperConfig(
        architecture="vit_tiny_patch16_224",
        model_args={"embed_dim": 64, "depth": 2, "num_heads": 4, "img_size": [32, 64]},
        pretrained_cfg={"input_size": [3, 32, 64], "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4], "crop_pct": 0.8},
        num_labels=3,
        label_names=["cat", "dog", "emu"],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = randomise(TimmWrapperForImageClassification(config))
        made.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "timm_wrapper"
    folder, report = load_foreign(tmp_path)
    assert (report.unused, report.ignored, folder.model.config.heads) == ((), 0, 4)
    assert (folder.classes, folder.preprocess.mean, folder.preprocess.crop) == (
        ("cat", "dog", "emu"),
        (0.4, 0.5, 0.6),
        0.8,
    )
    assert difference(folder.model, lambda images: made(images).logits) < CLOSE
