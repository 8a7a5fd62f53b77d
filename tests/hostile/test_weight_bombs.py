"""Small files that claim much, and things that are no files: one line, before any work, and nobody's code runs."""

import argparse
import array
import collections
import cProfile
import datetime
import decimal
import fractions
import functools
import io
import itertools
import json
import logging
import operator
import os
import pickle
import random
import re
import shutil
import time
import timeit
import types
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.fuzz.weights import model_folder
from torch import Tensor

from vitreous.errors import CheckpointError, UserError
from vitreous.runtime.memory import read_memory
from vitreous.storage.limits import check_claims
from vitreous.weights.conversion import convert
from vitreous.weights.files import read_weights
from vitreous.weights.loading import open_model
from vitreous.weights.model_folder import load_model, save_model

SECONDS = 5.0
"""Far above what a refusal takes, so that a busy machine doesn't fail it; far below what the work would take."""


def refused(path: Path, words: str, read: Callable[..., Any] = open_model) -> None:
    """Hold a refusal to one line of the right words, at once."""
    began = time.process_time()
    with pytest.raises(UserError) as caught:
        read(path)
    assert time.process_time() - began < SECONDS
    message = str(caught.value)
    assert re.search(words, message), message
    assert "\n" not in message
    assert message.isprintable()
    assert len(message) < 2 * len(str(path)) + 500


def pth(content: Any, path: Path, old: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    return path


@pytest.mark.parametrize("old", [False, True])
def test_strides_of_zero_claim_no_memory(old: bool, tmp_path: Path) -> None:
    """81 KB that would be 12 GB: one value seen three thousand million times; many tensors of one storage."""
    one = {"blocks.0.attn.qkv.weight": torch.zeros(20_000).expand(150_000, 20_000), "a": torch.ones(1)}
    path = pth(one, tmp_path / "a.pth", old)
    assert path.stat().st_size < 100_000
    refused(path, r"claims 12.0 GB of tensors in a file of 8\d.\d KB, more than 16 times its size")
    shared = torch.zeros(1000)
    many = {f"a.{number}": shared.expand(100, 1000) for number in range(1000)}
    refused(pth(many, tmp_path / "b.pth", old), r"claims 400.0 MB of tensors in a file of .* KB")


def test_tied_and_expanded_tensors_are_read(tmp_path: Path) -> None:
    shared = torch.randn(10, 4)
    path = pth({"a": shared, "b": shared, "c": torch.ones(1, 1).expand(3, 1), "d": shared.t()}, tmp_path / "a.pth")
    found = read_weights(path).tensors
    assert torch.equal(found["a"], found["b"])
    assert torch.equal(found["d"], shared.t())
    assert found["c"].shape == (3, 1)


@pytest.mark.parametrize("old", [False, True])
def test_a_storage_is_read_once_however_many_tensors_it_has(old: bool, tmp_path: Path) -> None:
    """Old files aren't aligned: each tensor had a copy of the whole storage."""
    values = torch.randn(300)
    content: dict[str, Any] = {"odd": torch.ones(1, dtype=torch.uint8)}
    content |= {f"a.{number}": values[number : number + 1] for number in range(300)}
    found = read_weights(pth(content, tmp_path / "a.pth", old)).tensors
    assert torch.equal(torch.cat([found[f"a.{number}"] for number in range(300)]), values)
    assert len({one.untyped_storage().data_ptr() for name, one in found.items() if name != "odd"}) == 1


def test_mappings_that_name_each_other_are_not_walked(tmp_path: Path) -> None:
    """Some kilobytes that are a hundred million entries: five levels of mappings, each with the same one forty times."""
    content: dict[str, Any] = {"x": 1}
    for _ in range(5):
        content = {f"k{number}": content for number in range(40)}
    path = pth(content, tmp_path / "a.pth")
    assert path.stat().st_size < 10_000
    refused(path, "holds more than 300,000 entries in mappings inside each other; save the state_dict alone")


def test_an_npz_that_would_be_gigabytes(tmp_path: Path) -> None:
    """Zeros compress a thousand times; the headers of the archive tell before anything is unpacked."""
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(80 * 2**18, np.float32))
    refused(tmp_path / "a.npz", r"claims 83.9 MB of tensors in a file of 8\d.\d KB")


def test_the_share_of_memory_is_stated() -> None:
    with pytest.raises(
        CheckpointError, match=r"more than 50% of this machine's memory \(.*\); open it on a larger one"
    ):
        check_claims("a.pth", read_memory(), read_memory())
    check_claims("a.pth", read_memory() // 3, read_memory() // 3)


def npy(header: str) -> bytes:
    text = header.encode("latin-1").ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(64)


NPY = {
    "a side of 400 digits": (
        f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**400},)}}",
        "claims the shape|no sound",
    ),
    "nested without end": ("(" * 5000 + ")" * 5000, "no sound npz|nested without end"),
    "no literal": ("{'descr': __import__('os').system('true')}", "no sound npz"),
    "an end in the middle": (
        "{'descr': '<f4', 'fortran_orde\u00bd {",
        "no sound npz file: a header that makes no sense",
    ),
    "no key": ("{[]: 1}", "no sound npz file: a header that makes no sense"),
    "many axes": (f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({'1,' * 40})}}", "claims the shape"),
    "wide numbers": ("{'descr': '<f16', 'fortran_order': False, 'shape': (1,)}", "no number"),
    "records": ("{'descr': [('a', '<u1'), ('b', '<u1')], 'fortran_order': False, 'shape': (1,)}", "no number"),
    "arrays of arrays": ("{'descr': ('<u1', (2,)), 'fortran_order': False, 'shape': (1,)}", "no number|no sound"),
}


@pytest.mark.parametrize("name", list(NPY))
def test_headers_of_npy(name: str, tmp_path: Path) -> None:
    header, words = NPY[name]
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", npy(header))
    refused(tmp_path / "a.npz", words)


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_compressions_that_numpy_does_not_write(method: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as archive:
        archive.writestr("a.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}"))
    refused(tmp_path / "a.npz", "which NumPy doesn't use")


def test_a_deflated_member_that_is_damaged(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", a=np.random.default_rng(0).normal(size=2000))
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[500:520] = bytes(20)
    (tmp_path / "a.npz").write_bytes(data)
    refused(tmp_path / "a.npz", "no sound npz file")


STRANGE: dict[str, tuple[Callable[[], Tensor], str]] = {
    "sparse": (lambda: torch.eye(3).to_sparse(), "head.weight is a sparse tensor; make it dense"),
    "sparse by rows": (lambda: torch.eye(3).to_sparse_csr(), "head.weight is a sparse tensor; make it dense"),
    "without values": (
        lambda: torch.empty(3, 3, device="meta"),
        "on torch's meta device: it has a shape, but no values",
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", list(STRANGE))
def test_tensors_that_are_not_plain(name: str, tmp_path: Path) -> None:
    make, words = STRANGE[name]
    refused(pth({"head.weight": make(), "head.bias": torch.ones(3)}, tmp_path / "a.pth"), words)


class Call:
    """Pickled, it calls a function when others open it."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


def chained() -> bytes:
    """getattr(os, "system")("...") as pickle's instructions, by a dotted name and by a call of what a call returned."""
    return (
        b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93\x8c\x05torch\x8c\x02os\x93\x8c\x06system\x86R\x8c\x04true\x85R."
    )


CALLS = {
    "os.system": Call(os.system, ("true",)),
    "eval": Call(eval, ("1",)),
    "torch.load": Call(torch.load, ("a.pth",)),
    "nested pickles": Call(pickle.loads, (pickle.dumps(1),)),
    "bytes of storages": Call(torch.storage._load_from_bytes, (b"",)),
    "a profile of it": Call(cProfile.run, ("1",)),
    "its time": Call(timeit.timeit, ("1",)),
    "a reduction by it": Call(functools.reduce, (os.system, ("true", "true"))),
    "a call by its operator": Call(operator.call, (os.system, "true")),
    "a file": Call(open, ("a.txt", "w")),
    "a partial of it": Call(functools.partial, (os.system, "true")),
}
HONEST: dict[str, Any] = {
    "paths": Path("/somewhere/else"),
    "times": [datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), datetime.timedelta(3), time.localtime()],
    "collections": [collections.deque([1]), collections.Counter("aab"), collections.defaultdict(list)],
    "numbers": [decimal.Decimal("1.5"), fractions.Fraction(1, 3), uuid.UUID(int=3), random.Random(1)],
    "patterns": [re.compile("a"), logging.getLogger("a"), itertools.count(3), operator.itemgetter(1)],
    "spaces": [argparse.Namespace(a=1), types.SimpleNamespace(a=1), functools.partial(print, 1)],
    "arrays": [np.zeros(2), np.float64(3), array.array("d", [1.0]), np.random.RandomState(0)],
    "torch's": [torch.device("cpu"), torch.Size([1]), torch.float16, torch.nn.Linear(1, 1)],
}
"""What training scripts save beside their weights."""


@pytest.mark.parametrize("name", list(HONEST))
def test_what_makes_data_is_data(name: str, tmp_path: Path) -> None:
    path = pth({"model": {"a": torch.zeros(2)}, "settings": HONEST[name]}, tmp_path / "a.pth")
    assert list(read_weights(path).tensors) == ["a"]


@pytest.mark.parametrize("name", list(CALLS))
def test_nothing_is_called(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pth({"a": torch.zeros(2), "b": CALLS[name]}, tmp_path / "a.pth")
    monkeypatch.setattr(os, "system", lambda *_: pytest.fail("it ran"))
    if name == "a partial of it":  # a name alone is data
        assert list(read_weights(path).tensors) == ["a"]
    else:
        refused(path, r"it holds more than tensors \(", read_weights)


def test_chains_of_calls_are_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, file)
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(tmp_path / "a.pth", "w") as new:
        for name in old.namelist():
            new.writestr(name, chained() if name.endswith("data.pkl") else old.read(name))
    refused(tmp_path / "a.pth", r"it holds more than tensors \(", read_weights)


def test_names_that_no_terminal_prints(tmp_path: Path) -> None:
    for name in ("a\n\x1b[31mb", "a\ud800", "a" * 1000):
        refused(pth({name: torch.zeros(2)}, tmp_path / "a.pth"), "a tensor of the impossible name 'a")
    header = b'{"\\ud800": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    refused(tmp_path / "a.safetensors", r"impossible name '\\ud800'")


@pytest.mark.parametrize("ending", ["pth", "npz", "safetensors", "pt", "ckpt"])
def test_pipes_and_folders_are_no_files(ending: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"pipe.{ending}")
    refused(tmp_path / f"pipe.{ending}", "is a named pipe, not a file")
    inner = tmp_path / "inner"
    (inner / f"model.{ending}").mkdir(parents=True)
    refused(inner, "is not a model folder: it has no config.json")


def test_pipes_and_folders_beside_weights(tmp_path: Path) -> None:
    for name, make in (("pipe", os.mkfifo), ("folder", os.mkdir)):
        convert(model_folder(), tmp_path / name, "timm")
        (tmp_path / name / "config.json").unlink()
        make(tmp_path / name / "config.json")
        refused(tmp_path / name, f"config.json is a {'named ' * (name == 'pipe')}{name}, not a file")
    save_model(tmp_path / "ours", model_folder())
    (tmp_path / "ours" / "model.safetensors").unlink()
    os.mkfifo(tmp_path / "ours" / "model.safetensors")
    refused(tmp_path / "ours", "is damaged|is a named pipe")
    index = tmp_path / "shards"
    index.mkdir()
    os.mkfifo(index / "a.safetensors")
    (index / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "a.safetensors"}}))
    refused(index, "a.safetensors is a named pipe")


NUMBERS = {
    "a width of 400 digits": ("width", 10**400, "architecture.width is 1000"),
    "a huge width": ("width", 2 * 10**9, "width is 2000000000; it must be a finite number of at most 131,072"),
    "a huge depth": ("depth", 10**12, "depth is 1000000000000; it must be a finite number of at most 10,000"),
    "a huge image": (
        "image",
        [4 * 10**9, 4 * 10**9],
        "image is 4000000000; it must be a finite number of at most 131,072",
    ),
    "an infinite epsilon": ("norm_eps", float("inf"), "Infinity is not a finite number"),
    "no number": ("norm_eps", float("nan"), "NaN is not a finite number"),
    "an epsilon of 400 digits": ("norm_eps", 10**400, "architecture.norm_eps is 1000"),
}


@pytest.mark.parametrize("name", list(NUMBERS))
def test_configurations_of_ours_that_would_take_all_memory(name: str, tmp_path: Path) -> None:
    key, value, words = NUMBERS[name]
    save_model(tmp_path / "a", model_folder())
    document = json.loads((tmp_path / "a" / "config.json").read_text())
    document["architecture"][key] = value
    (tmp_path / "a" / "config.json").write_text(json.dumps(document))
    refused(tmp_path / "a", words, load_model)


@pytest.fixture(scope="module")
def hugging(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hugging") / "a"
    convert(model_folder(), folder, "huggingface")
    return folder


@pytest.mark.parametrize("value", ["1e400", "NaN", "-Infinity", str(10**400), str(10**9), "9" * 5000, "[" * 100_000])
@pytest.mark.parametrize("key", ["image_size", "layer_norm_eps", "num_attention_heads", "patch_size"])
def test_configurations_of_others(key: str, value: str, hugging: Path, tmp_path: Path) -> None:
    shutil.copytree(hugging, tmp_path / "a")
    config = json.loads((tmp_path / "a" / "config.json").read_text()) | {key: 0}
    text = re.sub(rf'"{key}": 0\b', f'"{key}": {value}', json.dumps(config))
    (tmp_path / "a" / "config.json").write_text(text)
    try:
        open_model(tmp_path / "a")
    except UserError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < len(str(tmp_path)) + 600
    else:
        assert key == "patch_size" or value == str(10**9)  # the shapes tell; a large epsilon is one


def test_too_many_tensors(tmp_path: Path) -> None:
    header = json.dumps({f"a{number}": {} for number in range(50_001)}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    refused(tmp_path / "a.safetensors", "holds 50,001 tensors, more than the limit of 50,000")
