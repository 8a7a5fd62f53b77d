"""Recognise by its first bytes a file that isn't what its name says, for error messages."""

import zipfile
from pathlib import Path

from vitreous.storage.presence import is_file
from vitreous.storage.signatures import explain_start
from vitreous.weights.torch_files import OLD

TORCH = (".pth", ".pt", ".bin", ".ckpt", ".pyth", ".tar", ".pkl")
START = 1024
"""Number of bytes that are examined."""


def explain_contents(path: Path) -> str:
    """Describe a file by its first bytes; empty if they don't tell. Nothing is unpacked, and no code is run."""
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
    return (not names and explain_start(start)) or explain_kind(path.suffix.lower(), start, size, names)


def explain_kind(suffix: str, start: bytes, size: int, names: list[str]) -> str:
    """Describe which kind of weights a file holds if it has another kind's extension; `names` are a ZIP archive's
    members."""
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < size:
        return "" if suffix == ".safetensors" else "by its contents it is a safetensors file; name it .safetensors"
    if start[:16].find(OLD[2:]) == 2 or any(name.endswith("/data.pkl") for name in names):
        return "by its contents it is a file of torch's; name it .pth" if suffix not in TORCH else ""
    if names and all(name.endswith(".npy") for name in names):
        return "" if suffix == ".npz" else "by its contents it is an npz file; name it .npz"
    return "it is a ZIP archive; unpack it first" if names else ""
