"""Weights of other code bases that were made to harm, or broke on the way: one clear line, and nobody's code runs."""

import io
import json
import pickle
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from vitreous.api.inspection import inspect
from vitreous.errors import CheckpointError, UserError
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.model.config import BlockConfig, ViTConfig
from vitreous.model.factory import create
from vitreous.weights import foreign
from vitreous.weights.conversion import convert
from vitreous.weights.files import read_npz, read_weights
from vitreous.weights.foreign import list_families, load_foreign
from vitreous.weights.hub import fetch, is_repository
from vitreous.weights.loading import open_model
from vitreous.weights.mapping import write_tensors
from vitreous.weights.model_folder import ModelFolder

CONFIG = ViTConfig(image=(8, 12), patch=(4, 4), width=16, depth=1, heads=2, mlp_width=8, classes=3)
CONFIG = replace(CONFIG, block=BlockConfig(activation="gelu"))


def model_folder() -> ModelFolder:
    model = create(CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return ModelFolder(model, PreprocessConfig(size=(8, 12), mean=(0.4,)), DecodeConfig(), ("cat", "dog", "emu"))


def timms(folder: Path) -> dict[str, Tensor]:
    """Write timm's config.json for a small model, and return the tensors that belong beside it."""
    convert(model_folder(), folder, "timm")
    (folder / "model.safetensors").unlink()
    model = model_folder().model
    return write_tensors(list_families()["timm"].table(CONFIG), model.state_dict(), 1)[0]


def refused(path: Path, words: str) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_foreign(path)
    message = str(caught.value)
    assert re.search(words, message), message
    assert "\n" not in message
    assert len(message) < len(str(path)) + 400
    return message


def sharded(folder: Path, tensors: dict[str, Tensor], **changed: str) -> Path:
    """Write two shards and their index, in which some tensors are said to lie elsewhere."""
    places = {name: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, name in enumerate(tensors)}
    for shard in set(places.values()):
        save_file({name: tensor for name, tensor in tensors.items() if places[name] == shard}, folder / shard)
    index = {"metadata": {"total_size": 1}, "weight_map": places | changed}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def test_shards_are_put_together(tmp_path: Path) -> None:
    path = sharded(tmp_path / "a", timms(tmp_path / "a"))
    folder, report = load_foreign(path)
    assert report.origin.startswith("timm:")
    expected = model_folder()
    assert all(torch.equal(one, expected.model.state_dict()[name]) for name, one in folder.model.state_dict().items())
    assert (folder.classes, folder.preprocess.mean) == (expected.classes, (0.4,))


INDICES = {
    "a path above": ("../secret.safetensors", "names the shard '../secret.safetensors'; shards must be"),
    "a path below": ("deep/a.safetensors", "names the shard 'deep/a.safetensors'"),
    "an absolute path": ("/etc/passwd", "names the shard '/etc/passwd'"),
    "a path of another system": ("..\\a.safetensors", r"names the shard"),
    "a name with a zero": ("a\0.safetensors", "names the shard 'a"),
    "a pickle": ("a.bin", "names the shard 'a.bin'"),
    "a shard that isn't there": ("b.safetensors", "can't read .*b.safetensors: No such file"),
    "another shard": (
        "model-00002-of-00002.safetensors",
        "lists 1 tensors that its shards don't hold, such as cls_token",
    ),
}


@pytest.mark.parametrize("name", list(INDICES))
def test_an_index_names_only_files_beside_it(name: str, tmp_path: Path) -> None:
    place, words = INDICES[name]
    tensors = timms(tmp_path / "a")
    tensors = {"cls_token": tensors.pop("cls_token"), **tensors}
    refused(sharded(tmp_path / "a", tensors, cls_token=place), words)


@pytest.mark.parametrize("text", ["[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}', "{", "null"])
def test_an_index_of_another_form_is_refused(text: str, tmp_path: Path) -> None:
    tensors = timms(tmp_path / "a")
    path = sharded(tmp_path / "a", tensors)
    (path / "model.safetensors.index.json").write_text(text)
    refused(path, "index.json")


ALONE = {
    "a path above": ("../secret.safetensors", "names the shard '../secret.safetensors'; shards must be"),
    "itself": ("model.safetensors.index.json", "names the shard 'model.safetensors.index.json'; shards must be"),
    "a shard that isn't there": ("b.safetensors", "can't read .*b.safetensors: No such file"),
}


@pytest.mark.parametrize("index", ["model.safetensors.index.json", "other.safetensors.index.json"])
@pytest.mark.parametrize("name", list(ALONE))
def test_an_index_alone_is_taken_for_weights(name: str, index: str, tmp_path: Path) -> None:
    """By the folder's name or its own, so that what is wrong with it is said."""
    shard, words = ALONE[name]
    shard = index if name == "itself" else shard
    (tmp_path / index).write_text(json.dumps({"weight_map": {"cls_token": shard}}))
    for path in (tmp_path, tmp_path / index):
        for use in (open_model, inspect):
            with pytest.raises(CheckpointError, match=words.replace("model.safetensors.index.json", index)):
                use(str(path))


CHANGES: dict[str, tuple[str, Callable[[Tensor], Tensor], str]] = {
    "NaN": ("norm.weight", lambda one: one.fill_(float("nan")), "norm.weight has 16 of 16 values NaN"),
    "infinity": ("head.bias", lambda one: one - float("inf"), "head.bias has 3 of 3 values NaN or infinite"),
    "NaN in a copy": (
        "patch_embed.proj.weight",
        lambda one: (one * float("nan")).half(),
        "patches.embed.weight has 768",
    ),
    "whole numbers": ("head.weight", lambda one: one.to(torch.int8), r"weights of torch.int8 \(shape 3x16\)"),
    "truths": ("head.weight", lambda one: one > 0, "weights of torch.bool"),
    "complex numbers": ("head.weight", lambda one: one.to(torch.complex64), "weights of torch.complex64"),
    "another shape": ("head.weight", lambda one: one[:, 1:].contiguous(), "head.weight is 3x15, expected 3x16"),
}


@pytest.mark.parametrize("name", list(CHANGES))
def test_tensors_that_cannot_be_weights(name: str, tmp_path: Path) -> None:
    which, change, words = CHANGES[name]
    tensors = timms(tmp_path / "a")
    save_file(tensors | {which: change(tensors[which].clone())}, tmp_path / "a" / "model.safetensors")
    refused(tmp_path / "a", words)


def test_other_floats_are_widened(tmp_path: Path) -> None:
    tensors = timms(tmp_path / "a")
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        save_file({name: one.to(dtype) for name, one in tensors.items()}, tmp_path / "a" / "model.safetensors")
        folder, _ = load_foreign(tmp_path / "a")
        assert torch.equal(folder.model.head.weight, tensors["head.weight"].to(dtype).float())


def member(header: str, data: bytes = b"\0" * 8) -> bytes:
    """Return a .npy file with a header of one's own."""
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def described(shape: str, kind: str = "'<f4'") -> str:
    return f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}}}"


class Bomb:
    def __reduce__(self) -> Any:
        return (print, ("the code was run",))


NPZ = {
    "a pickle inside": (member(described("()", "'|O'"), pickle.dumps(Bomb())), "is of type object"),
    "2^60 values": (member(described(f"({2**60},)")), "claims the shape"),
    "a negative shape": (member(described("(-2,)")), "a.npy claims the shape|no sound npz"),
    "more than it holds": (member(described("(3,)")), r"a.npz: a.npy was cut short"),
    "text": (member(described("(2,)", "'<U1'")), "is of type <U1"),
    "code for a header": (member("__import__('os').system('true')"), "no sound npz"),
    "no array": (b"hello", "no sound npz"),
    "a later format": (b"\x93NUMPY\x09\x00" + b"\0" * 40, "no sound npz|NumPy format"),
}


@pytest.mark.parametrize("name", list(NPZ))
def test_npz_members_are_held_against_their_size(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content, words = NPZ[name]
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", content)
    refused(tmp_path / "a.npz", words)
    assert capfd.readouterr().out == ""


def test_an_npz_cut_short_or_of_other_content(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.zeros(1000))
    whole = (tmp_path / "a.npz").read_bytes()
    for size in (10, 500, len(whole) - 5):
        (tmp_path / "b.npz").write_bytes(whole[:size])
        refused(tmp_path / "b.npz", "no sound npz")


def test_npz_types_and_orders_are_understood(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    half = torch.from_numpy(values).bfloat16().view(torch.uint16).numpy().view("V2")
    np.savez(tmp_path / "a.npz", turned=np.asfortranarray(values), big=values.astype(">f4"), brain=half)
    found = read_npz(tmp_path / "a.npz")
    assert all(torch.equal(one.float(), torch.from_numpy(values)) for one in found.values())
    assert found["brain"].dtype == torch.bfloat16


PICKLED: dict[str, tuple[Any, str]] = {
    "a bomb": (Bomb(), r"weights only: it holds more than tensors \(print\)"),
    "a bomb among tensors": ({"a": torch.zeros(2), "b": Bomb()}, r"weights only: it holds more than tensors \("),
    "a list": ([torch.zeros(2)], "holds no state_dict"),
    "nothing": ({}, "holds no state_dict"),
    "numbers": ({"epoch": 3}, "holds no state_dict"),
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", list(PICKLED))
def test_pickles_run_nothing(name: str, legacy: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content, words = PICKLED[name]
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    refused(tmp_path / "a.pth", words)
    assert capfd.readouterr().out == ""


def test_pickles_cut_short_or_bare(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = io.BytesIO()
    torch.save({"a": torch.zeros(100)}, file)
    for content in (b"\x80", file.getvalue()[:200], pickle.dumps(Bomb()), b"PK\3\4" + b"\0" * 50, b"hello world"):
        (tmp_path / "a.pth").write_bytes(content)
        refused(tmp_path / "a.pth", "can't be read as weights only: it is no pth file as torch writes them, was cut")
    assert capfd.readouterr().out == ""


def test_two_families_that_fit_equally_well_are_asked_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file(timms(tmp_path / "a"), tmp_path / "a" / "model.safetensors")
    known = list_families()
    twin = replace(known["timm"], name="twin")
    monkeypatch.setattr(foreign, "list_families", lambda: known | {"twin": twin})
    refused(tmp_path / "a", "fits timm and twin equally well; say which with --as timm")
    folder, report = load_foreign(tmp_path / "a", foreign.LoadOptions(family="twin"))
    assert report.origin.startswith("twin:")
    assert folder.classes == ("cat", "dog", "emu")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the Hub's cache, in which one repository lies as the Hub's own library lays it; there is no network."""
    from huggingface_hub import constants

    repository = tmp_path / "hub" / "models--somebody--vit"
    revision = "0123456789abcdef0123456789abcdef01234567"
    snapshot = repository / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    (repository / "blobs").mkdir()
    convert(model_folder(), tmp_path / "timm", "timm")
    for file in (tmp_path / "timm").iterdir():
        blob = repository / "blobs" / file.name.replace(".", "-")
        blob.write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(blob)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    return snapshot


def test_a_repository_is_read_from_the_cache_without_a_network(cache: Path) -> None:
    assert fetch("somebody/vit").folder == cache
    for name in ("somebody/vit", "hf-hub:somebody/vit", f"somebody/vit@{cache.name}"):
        folder, report = open_model(name)
        assert report is not None
        assert report.origin.startswith("timm:")
        assert (folder.classes, folder.preprocess.mean) == (("cat", "dog", "emu"), (0.4,))


def test_a_repository_that_is_nowhere_is_one_line(cache: Path) -> None:
    for name in ("somebody/else", "somebody/vit@v2"):
        with pytest.raises(CheckpointError, match="can't be reached for it") as caught:
            open_model(name)
        assert "\n" not in str(caught.value)
    (cache.parents[3] / "runs").mkdir()
    assert not is_repository("runs/demo")
    with pytest.raises(CheckpointError, match="no such model folder, run folder or file of weights: runs/demo"):
        open_model("runs/demo")


def test_a_folder_with_two_files_of_weights_asks_for_one(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_file({"x": torch.zeros(1)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(
        CheckpointError, match=r"no single file of weights \(found: a.safetensors, b.safetensors\); name the"
    ):
        read_weights(tmp_path)


@pytest.mark.parametrize("target", ["a.pth", "gone.pth"])
def test_a_link_that_leads_nowhere_is_called_one(target: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.symlink_to(target)
    for use in (open_model, inspect, read_weights):
        with pytest.raises(UserError, match=rf"a.pth is a link that leads nowhere \(to {target}\)"):
            use(str(path))


@pytest.mark.parametrize("settings", [
    {"std": [1e-320] * 3}, {"std": [-1, 1, 1]}, {"mean": [True, False, True]}, {"crop_pct": 1e-300}, {"crop_pct": 1e-6},
])  # fmt: skip
def test_absurd_images_are_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    convert(model_folder(), tmp_path / "a", "timm")
    document = json.loads((tmp_path / "a" / "config.json").read_text())
    document["pretrained_cfg"] |= settings
    (tmp_path / "a" / "config.json").write_text(json.dumps(document))
    refused(tmp_path / "a", "; expected ")


def test_a_negative_size_is_refused(tmp_path: Path) -> None:
    convert(model_folder(), tmp_path / "a", "timm")
    document = json.loads((tmp_path / "a" / "config.json").read_text())
    document["model_args"] |= {"img_size": [-8, -12]}
    (tmp_path / "a" / "config.json").write_text(json.dumps(document))
    refused(tmp_path / "a", "names a size of -8x-12; rows and columns are at least 1 each")


LABELS = {
    "twice": (["a", "a", "b"], ("a", "a (1)", "b")),
    "twice and once numbered": (["a", "a (1)", "a"], ("a", "a (1)", "a (2)")),
    "control characters": (["a\nb\x1b[31m", "\u200cc", "\ud800d"], ("a b [31m", "\u200cc", "d")),
    "nothing": (["", "b", "c"], None),
    "lists": ([["a"], "b", "c"], None),
    "a text": ("abc", None),
}


@pytest.mark.parametrize("to", ["timm", "huggingface"])
@pytest.mark.parametrize("case", list(LABELS))
def test_labels_of_others_are_cleaned(case: str, to: str, tmp_path: Path) -> None:
    names, expected = LABELS[case]
    convert(model_folder(), tmp_path / "a", to)
    document = json.loads((tmp_path / "a" / "config.json").read_text())
    document["label_names"] = names
    document["id2label"] = dict(enumerate(names if isinstance(names, list) else [""] * 3))
    (tmp_path / "a" / "config.json").write_text(json.dumps(document))
    assert load_foreign(tmp_path / "a")[0].classes == (expected or ("class 0", "class 1", "class 2"))
