"""Files whose names say something else than their contents: told by their first bytes, and uppercase names are names."""

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vitreous.errors import CheckpointError
from vitreous.weights.files import read_weights

STATE = {"a.weight": torch.ones(3, 2)}


def torch_bytes(old: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(STATE, file, _use_new_zipfile_serialization=not old)
    return file.getvalue()


def safetensors_bytes(folder: Path) -> bytes:
    save_file(STATE, folder / "other.safetensors")
    return (folder / "other.safetensors").read_bytes()


def npz_bytes() -> bytes:
    file = io.BytesIO()
    np.savez(file, a=np.ones(3))
    return file.getvalue()


def tar_bytes() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.pth"))
    return file.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 346293852\n"
FILES = {
    "model.safetensors": (lambda _: POINTER, "a pointer of Git LFS"),
    "pointer.pth": (lambda _: POINTER, "a pointer of Git LFS"),
    "page.npz": (lambda _: b"<!DOCTYPE html>\n<html>404", "a web page"),
    "empty.pt": (lambda _: b"", "it is empty"),
    "model.bin": (safetensors_bytes, "by its contents it is a safetensors file; name it .safetensors"),
    "torch.safetensors": (lambda _: torch_bytes(), "by its contents it is a file of torch's; name it .pth"),
    "old.model": (lambda _: torch_bytes(True), "by its contents it is a file of torch's; name it .pth"),
    "no-extension": (lambda _: torch_bytes(), "by its contents it is a file of torch's; name it .pth"),
    "array.ckpt": (lambda _: npz_bytes(), "by its contents it is an npz file; name it .npz"),
    "packed.pth.gz": (lambda _: gzip.compress(torch_bytes()), "compressed by gzip; unpack it first"),
    "real.tar": (lambda _: tar_bytes(), "a tar archive; unpack it first"),
    "keras.h5": (lambda _: b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_another_is_told(name: str, tmp_path: Path) -> None:
    made, told = FILES[name]
    (tmp_path / name).write_bytes(made(tmp_path))
    with pytest.raises(CheckpointError, match=rf"can't be read as weights: .*{told}") as caught:
        read_weights(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["MODEL.PTH", "model.Pt", "best.PTH.TAR", "A.SAFETENSORS", "b.NPZ"])
def test_the_case_of_an_extension_does_not_matter(name: str, tmp_path: Path) -> None:
    made = safetensors_bytes(tmp_path) if "SAFE" in name else npz_bytes() if "NPZ" in name else torch_bytes()
    (tmp_path / name).write_bytes(made)
    assert len(read_weights(tmp_path / name).tensors) == 1
