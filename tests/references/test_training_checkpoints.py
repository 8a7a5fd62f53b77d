"""Training checkpoints as the tools themselves write them: their owner's outputs, and the settings beside them as data."""

import argparse
import json
import pickle
from collections import defaultdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file
from tests.support.twins import CLOSE, difference, randomise
from timm.utils import ModelEmaV3
from timm.utils.checkpoint_saver import CheckpointSaver
from torch import nn
from torch.optim.swa_utils import AveragedModel

from vitreous.errors import CheckpointError
from vitreous.weights.files import read_weights
from vitreous.weights.foreign import load_foreign
from vitreous.weights.options import LoadOptions


@cache
def vit(seed: int = 1) -> nn.Module:
    settings = {"embed_dim": 64, "depth": 2, "num_heads": 1, "img_size": 64, "num_classes": 7}
    return randomise(timm.create_model("vit_tiny_patch16_224", **settings), seed)


class Unheard(dict):
    """A class of whoever trained: a dict with attributes, as OmegaConf's and Lightning's are."""

    def __init__(self, **values: Any) -> None:
        super().__init__(values)
        self.__dict__["kept"] = values

    def __setstate__(self, state: Any) -> None:
        raise AssertionError("nobody's code may run")


def test_timms_own_saver(tmp_path: Path) -> None:
    """A namespace with paths, NumPy's scalars, a defaultdict, optimizer and average: `last.pth.tar`."""
    model = vit()
    average = ModelEmaV3(vit(5))
    args = argparse.Namespace(model="vit_tiny_patch16_224", output=tmp_path / "out", lr=np.float64(1e-3), mean=None)
    args.counts, args.layer = defaultdict(list, {"a": [1]}), partial(nn.LayerNorm, eps=1e-6)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    sum(parameter.sum() for parameter in model.parameters()).backward()
    optimizer.step()
    saver = CheckpointSaver(model, optimizer, args=args, model_ema=average, checkpoint_dir=str(tmp_path))
    saver.extension = ".pth.tar"
    saver.save_checkpoint(3, metric=np.float32(71.5))
    folder, report = load_foreign(tmp_path / "last.pth.tar")
    assert any("took 'state_dict_ema' of the file's" in note for note in report.notes)
    assert (report.unused, report.new, report.ignored) == ((), (), 0)
    assert difference(folder.model, average.module.eval()) < CLOSE
    vit.cache_clear()


KEYS = ("params", "net", "weights", "model_state_dict", "model_state", "state_dict", "ema", "module", "my_own_key")


@pytest.mark.parametrize(("key", "old"), [*((key, False) for key in KEYS), ("params", True)])
def test_weights_under_any_key(key: str, old: bool, tmp_path: Path) -> None:
    content = {"epoch": 3, key: vit().state_dict(), "best": torch.tensor(0.3), "optimizer": {"state": {}}}
    torch.save(content, tmp_path / "a.ckpt", _use_new_zipfile_serialization=not old)
    folder, report = load_foreign(tmp_path / "a.ckpt")
    assert f"took {key!r} of the file's epoch, {key}, best, optimizer" in report.notes
    assert difference(folder.model, vit()) < CLOSE


@pytest.mark.parametrize(
    ("count", "said"), [(3.0, "of 3 models"), (float("inf"), "of models"), (float("nan"), "of models")]
)
def test_an_average_says_of_how_many_models_if_it_knows(count: float, said: str, tmp_path: Path) -> None:
    tensors = {f"module.{name}": one for name, one in vit().state_dict().items()}
    torch.save({**tensors, "n_averaged": torch.tensor(count)}, tmp_path / "a.pth")
    folder, report = load_foreign(tmp_path / "a.pth")
    assert any(f"an average {said} (AveragedModel)" in note for note in report.notes)
    assert difference(folder.model, vit()) < CLOSE


def test_a_vit_is_no_vit_with_relative_positions(tmp_path: Path) -> None:
    torch.save(vit().state_dict(), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"has no relative positions .* leave out --as"):
        load_foreign(tmp_path / "a.pth", LoadOptions(family="timm-relpos"))


def split(model: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the tensors of the trunk and of the head, under the names that each module gives them."""
    state = model.state_dict()
    trunk = {name: one for name, one in state.items() if not name.startswith("head.")}
    return trunk, {name.removeprefix("head."): one for name, one in state.items() if name.startswith("head.")}


BESIDE: dict[str, Any] = {
    "backbone and head": lambda trunk, head: {"backbone": trunk, "head": head},
    "model and classifier": lambda trunk, head: {"epoch": 3, "model": trunk, "classifier": head},
    "DDP and a sequence": lambda trunk, head: {
        "encoder": {f"module.{name}": one for name, one in trunk.items()},
        "fc": {f"0.{name}": one for name, one in head.items()},
    },
    "tensors": lambda trunk, head: {
        "state_dict": trunk,
        **{f"classifier.{name}": one for name, one in head.items()},
        "best": torch.tensor(0.5),
    },
}


@pytest.mark.parametrize("name", BESIDE)
def test_a_head_under_a_key_of_its_own_is_the_head(name: str, tmp_path: Path) -> None:
    torch.save(BESIDE[name](*split(vit())), tmp_path / "a.pth")
    folder, report = load_foreign(tmp_path / "a.pth")
    assert (report.head, report.unused, report.ignored) == ("kept", (), 0)
    assert any(note.startswith("took the head that lies beside it: ") for note in report.notes)
    assert difference(folder.model, vit()) < CLOSE


def test_heads_under_keys_of_their_own_that_do_not_fit_are_not_dropped(tmp_path: Path) -> None:
    """A second one, one of several layers, one without bias: refused by name."""
    trunk, head = split(vit())
    deep = {f"2.{name}": one for name, one in head.items()} | {"0.weight": torch.ones(64, 64), "0.bias": torch.ones(64)}
    refused = {
        "2 tensors have no place .* outside head.weight": {"model": vit().state_dict(), "head": head},
        "a head would be lost, and with it the labels": {"backbone": trunk, "head": deep},
        "with --allow missing it is zero, which is the same function": {
            "backbone": trunk,
            "head": {"weight": head["weight"]},
        },
    }
    for message, content in refused.items():
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(CheckpointError, match=message):
            load_foreign(tmp_path / "a.pth")
    folder, report = load_foreign(tmp_path / "a.pth", LoadOptions(allow=("missing",)))
    assert (report.head, report.new) == ("kept", ("head.bias",))
    assert torch.equal(folder.model.head.weight, head["weight"]) and not folder.model.head.bias.any()


AVERAGES: dict[str, Any] = {
    "callbacks.EMA.ema_state_dict": lambda state: {"callbacks": {"EMA": {"ema_state_dict": state, "step": 3}}},
    "ema.shadow_params": lambda state: {"ema": {"decay": 0.9, "shadow_params": list(state.values())}},
    "shadow": lambda state: {"shadow": state},
}


@pytest.mark.parametrize("place", AVERAGES)
def test_averages_that_are_not_taken_are_told(place: str, tmp_path: Path) -> None:
    torch.save({"state_dict": vit().state_dict(), **AVERAGES[place](vit(5).state_dict())}, tmp_path / "a.ckpt")
    folder, report = load_foreign(tmp_path / "a.ckpt")
    assert f"left an average of the weights in the file: {place}" in report.notes
    assert difference(folder.model, vit()) < CLOSE
    vit.cache_clear()


@pytest.mark.parametrize(
    "content",
    [
        lambda state: {"checkpoint": {"model": {"state_dict": state}}},
        lambda state: {"my_net": state, "stats": {"mean": torch.ones(3), "std": torch.ones(3)}},
        lambda state: {"my_net": state, "opt": state, "opt_state": {"mu": state}},
    ],
)
def test_weights_deep_in_a_file_or_beside_what_is_no_model(content: Any, tmp_path: Path) -> None:
    torch.save(content(vit().state_dict()), tmp_path / "a.pt")
    folder, _ = load_foreign(tmp_path / "a.pt")
    assert difference(folder.model, vit()) < CLOSE


@pytest.mark.parametrize("old", [False, True])
def test_classes_that_nobody_has_are_data(old: bool, tmp_path: Path) -> None:
    content = {
        "state_dict": {f"model.{name}": one for name, one in vit().state_dict().items()},
        "hyper_parameters": Unheard(lr=0.1, path=Path("data")),
        "callbacks": {"ModelCheckpoint{'monitor': 'loss'}": {"best": torch.tensor(0.1)}},
        "loops": {"fit_loop": {"state_dict": {}}},
        "pytorch-lightning_version": "2.5.0",
    }
    torch.save(content, tmp_path / "a.ckpt", _use_new_zipfile_serialization=not old)
    folder, report = load_foreign(tmp_path / "a.ckpt")
    assert any("took 'state_dict'" in note for note in report.notes)
    assert difference(folder.model, vit()) < CLOSE


@pytest.mark.parametrize(("wrapped", "old"), [(False, False), (True, False), (False, True)])
def test_whole_modules_are_read_without_their_classes(wrapped: bool, old: bool, tmp_path: Path) -> None:
    model = AveragedModel(vit()) if wrapped else vit()
    torch.save({"model": model} if wrapped else model, tmp_path / "a.pt", _use_new_zipfile_serialization=not old)
    folder, report = load_foreign(tmp_path / "a.pt")
    kind = "torch.optim.swa_utils.AveragedModel" if wrapped else "timm.models.vision_transformer.VisionTransformer"
    assert f"took the tensors of a pickled {kind}; its code was not run" in report.notes
    assert difference(folder.model, vit()) < CLOSE


def test_transformers_shards_pickled_or_not(tmp_path: Path) -> None:
    """save_pretrained with a small shard size; and the same shards as pytorch_model-*.bin with its index."""
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, image_size=32)
    model = randomise(ViTForImageClassification(config))
    model.save_pretrained(tmp_path / "safe", max_shard_size="60KB")
    index = json.loads((tmp_path / "safe" / "model.safetensors.index.json").read_text())
    shards = sorted(set(index["weight_map"].values()))
    assert len(shards) > 2
    (tmp_path / "pickled").mkdir()
    names = {shard: shard.replace("model-", "pytorch_model-").replace(".safetensors", ".bin") for shard in shards}
    for shard, name in names.items():
        torch.save(load_file(tmp_path / "safe" / shard), tmp_path / "pickled" / name)
    index["weight_map"] = {key: names[shard] for key, shard in index["weight_map"].items()}
    (tmp_path / "pickled" / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (tmp_path / "pickled" / "config.json").write_bytes((tmp_path / "safe" / "config.json").read_bytes())
    for folder in ("safe", "pickled"):
        found, report = load_foreign(tmp_path / folder)
        assert (report.unused, report.new) == ((), ())
        assert difference(found.model, lambda images: model(images).logits) < CLOSE
    with pytest.raises(CheckpointError, match=rf"is shard 1 of {len(shards)}; name their folder, or the .index.json"):
        read_weights(tmp_path / "pickled" / names[shards[0]])


def test_pieces_say_what_they_are(tmp_path: Path) -> None:
    """What FSDP and DCP leave, as torch pickles it (a DTensor's rebuilding, by name) and as it names its files."""
    (tmp_path / "dcp").mkdir()
    for name in (".metadata", "__0_0.distcp", "__1_0.distcp"):
        (tmp_path / "dcp" / name).write_bytes(b"")
    for path in (tmp_path / "dcp", tmp_path / "dcp" / "__0_0.distcp"):
        with pytest.raises(CheckpointError, match=rf"dcp_to_torch {tmp_path / 'dcp'} weights.pth"):
            load_foreign(path)
    torch.save({"_flat_param": torch.zeros(100), "layer._flat_param": torch.zeros(9)}, tmp_path / "flat.pt")
    with pytest.raises(CheckpointError, match="FSDP's flattened parameters, one shard of them; gather it"):
        load_foreign(tmp_path / "flat.pt")
    torch.save(
        {"module": {name: torch.zeros(0) for name in vit().state_dict()}}, tmp_path / "mp_rank_00_model_states.pt"
    )
    with pytest.raises(
        CheckpointError, match=r"ZeRO-3 leaves them; put the weights together with its zero_to_fp32\.py"
    ):
        load_foreign(tmp_path / "mp_rank_00_model_states.pt")


def test_tensors_in_pieces_say_so(tmp_path: Path) -> None:
    import torch.distributed as dist
    from torch.distributed.tensor import DTensor, Shard, init_device_mesh

    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        piece = DTensor.from_local(torch.ones(4, 3), init_device_mesh("cpu", (1,)), [Shard(0)])
        torch.save({"head.weight": piece, "head.bias": torch.ones(4)}, tmp_path / "a.pth")
    finally:
        dist.destroy_process_group()
    with pytest.raises(
        CheckpointError, match=r"holds one shard of a model that was saved in pieces \(head.weight is a part\)"
    ):
        load_foreign(tmp_path / "a.pth")


def test_an_unheard_class_is_one_that_python_would_run(tmp_path: Path) -> None:
    """Else nothing is shown."""
    with pytest.raises(AssertionError, match="nobody's code may run"):
        pickle.loads(pickle.dumps(Unheard(lr=0.1)))
