"""Files and folders of weights: ours, timm's, Hugging Face's and Google's; safetensors, npz, pickles old and new, shards."""

import argparse
import json
import struct
import zlib
from pathlib import Path
from random import Random

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from vitreous.api.inspection import inspect
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.model.config import ViTConfig
from vitreous.model.factory import create
from vitreous.weights.conversion import convert
from vitreous.weights.model_folder import ModelFolder, save_model

COUNT = 4_000
LABELS = ("cat", "dog", "emu")
LOCAL, CENTRAL = b"PK\3\4", b"PK\1\2"


def model_folder() -> ModelFolder:
    """Make a model of a few hundred weights."""
    config = ViTConfig(image=(8, 8), patch=(4, 4), width=16, depth=1, heads=2, mlp_width=8, classes=3)
    return ModelFolder(create(config).eval(), PreprocessConfig(size=(8, 8)), DecodeConfig(), LABELS)


def seeds(folder: Path) -> list[Path]:
    """Write one small model in every container."""
    save_model(folder / "ours", model_folder())
    convert(model_folder(), folder / "timm", "timm")
    convert(model_folder(), folder / "hugging", "huggingface")
    convert(model_folder(), folder / "google", "google")
    tensors = tensors_of(folder / "timm")
    training = {"model": tensors, "epoch": 3, "args": argparse.Namespace(lr=np.float64(0.1), path=Path("a"))}
    torch.save(tensors, folder / "plain.pth")
    torch.save(training, folder / "training.ckpt")
    torch.save(training, folder / "old.pt", _use_new_zipfile_serialization=False)
    torch.save({f"module._orig_mod.{name}": one for name, one in tensors.items()}, folder / "wrapped.pth")
    np.savez_compressed(folder / "packed.npz", **dict(np.load(folder / "google" / "model.npz")))
    shards(folder / "sharded", tensors, (folder / "timm" / "config.json").read_bytes())
    names = (
        "ours",
        "timm",
        "hugging",
        "google",
        "plain.pth",
        "training.ckpt",
        "old.pt",
        "wrapped.pth",
        "packed.npz",
        "sharded",
    )
    return [folder / name for name in names]


def tensors_of(folder: Path) -> dict[str, Tensor]:
    """Return copies of the tensors in a folder."""
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def shards(folder: Path, tensors: dict[str, Tensor], config: bytes) -> None:
    """Write two shards, their index and a config.json."""
    folder.mkdir()
    places = {name: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, name in enumerate(tensors)}
    for shard in set(places.values()):
        save_file({name: one for name, one in tensors.items() if places[name] == shard}, folder / shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (folder / "config.json").write_bytes(config)


def attempt(path: Path) -> None:
    """Open it and inspect it, as `inspect` does."""
    inspect(str(path))


def mend(name: str, data: bytes, chance: Random) -> bytes:
    """Correct the checksums of the stored members of a zip archive; or a safetensors' length of its header."""
    if data[:4] == LOCAL:
        return mended_zip(data)
    if name.endswith(".safetensors") and len(data) > 16:
        end = data.rfind(b"}}", 0, 20_000)
        return (end + 2 - 8).to_bytes(8, "little") + data[8:] if end > 8 else data
    return data


def mended_zip(data: bytes) -> bytes:
    """Write the right CRC-32 wherever the central directory leads to a member that is stored as it is."""
    made, place = bytearray(data), data.find(CENTRAL)
    while place >= 0 and place + 46 <= len(made):
        method, size = struct.unpack_from("<H", made, place + 10)[0], struct.unpack_from("<I", made, place + 20)[0]
        begin = struct.unpack_from("<I", made, place + 42)[0]
        if method == 0 and made[begin : begin + 4] == LOCAL and begin + 30 <= len(made):
            start = begin + 30 + sum(struct.unpack_from("<HH", made, begin + 26))
            check = zlib.crc32(made[start : start + size]).to_bytes(4, "little")
            made[place + 16 : place + 20] = made[begin + 14 : begin + 18] = check
        place = made.find(CENTRAL, place + 46)
    return bytes(made)
