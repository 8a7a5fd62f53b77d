"""What a file is by its first bytes, where it isn't what its name says: told in refusals."""

import zipfile
from pathlib import Path

from vitreous.storage.presence import is_file
from vitreous.weights.torch_files import OLD

TORCH = (".pth", ".pt", ".bin", ".ckpt", ".pyth", ".tar", ".pkl")
START = 1024
"""Bytes that are looked at."""
SIGNS = (
    (
        b"version https://git-lfs",
        "it is a pointer of Git LFS, and what it points at was not fetched: run `git lfs pull`",
    ),
    (b"\x89HDF\r\n", "it is an HDF5 file, as Keras writes them"),
    (b"GGUF", "it is a GGUF file"),
    (b"\x1f\x8b", "it is compressed by gzip; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "it is compressed by zstd; unpack it first"),
    (b"\xfd7zXZ", "it is compressed by xz; unpack it first"),
    (b"Rar!", "it is a RAR archive; unpack it first"),
    (b"7z\xbc\xaf", "it is a 7z archive; unpack it first"),
)
"""What files begin with, and what they then are."""


def explain_contents(path: Path) -> str:
    """Say what a file is by its first bytes; empty where they don't tell. Nothing is unpacked, and no code is run."""
    if not is_file(path):
        return ""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(START)
        names = zipfile.ZipFile(path).namelist() if start[:4] == b"PK\3\4" else []
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError):
        return ""
    if not size:
        return "it is empty"
    if found := next((said for sign, said in SIGNS if start.startswith(sign)), ""):
        return found
    if start.lstrip()[:1] == b"<" and b"html" in start.lower():
        return "it is a web page, as servers send them in place of a file"
    if start[257:262] == b"ustar":
        return "it is a tar archive; unpack it first"
    return explain_kind(path.suffix.lower(), start, size, names)


def explain_kind(suffix: str, start: bytes, size: int, names: list[str]) -> str:
    """Say which kind of weights a file holds that has another kind's extension; `names` are a ZIP archive's members."""
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < size:
        return "" if suffix == ".safetensors" else "by its contents it is a safetensors file; name it .safetensors"
    if start[:16].find(OLD[2:]) == 2 or any(name.endswith("/data.pkl") for name in names):
        return "by its contents it is a file of torch's; name it .pth" if suffix not in TORCH else ""
    if names and all(name.endswith(".npy") for name in names):
        return "" if suffix == ".npz" else "by its contents it is an npz file; name it .npz"
    return "it is a ZIP archive; unpack it first" if names else ""
