"""Read NumPy's archives of arrays without pickle, after checking every claim against the file."""

import io
import math
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitreous.errors import CheckpointError
from vitreous.storage.hashing import translate_read_errors
from vitreous.storage.limits import check_claims, check_count, check_file

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""NumPy's compression methods."""
MOST_AXES = 16
BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
    ValueError,
    MemoryError,
)
"""Errors of zipfile, zlib and NumPy on damaged files."""
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npz(path: Path) -> dict[str, Tensor]:
    """Read a NumPy archive without pickle; bfloat16, which NumPy writes as two raw bytes, is supported.

    Raises:
        CheckpointError: no archive, or a member that claims more than it holds, or of a non-numeric type.
    """
    tensors = {}
    with translate_read_errors(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, about headers that Python 2 wrote
        check_file(path)
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
                check_count(str(path), len(members))
                check_claims(str(path), sum(member.file_size for member in members), path.stat().st_size)
                for member in members:
                    tensors[member.filename.removesuffix(".npy")] = _read_array(path, archive, member)
        except (OSError, CheckpointError):
            raise
        except BROKEN as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
            raise CheckpointError(f"{path} is no sound npz file: {reason}") from error
    return tensors


def _read_array(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Tensor:
    """Read one member, after checking its header against its size."""
    name = ascii(member.filename)[1:-1][:80]
    if member.compress_type not in METHODS:
        raise CheckpointError(f"{path}: {name} is compressed by method {member.compress_type}, which NumPy doesn't use")
    with archive.open(member) as file:
        shape, fortran, dtype = read_header(file, f"{path}: {name}", member.file_size)
        needed = math.prod(shape) * dtype.itemsize
        data = file.read(needed)
    if len(data) != needed:
        raise CheckpointError(f"{path}: {name} was cut short")
    raw = np.frombuffer(bytearray(data), dtype=np.uint16 if dtype.kind == "V" else dtype.newbyteorder("="))
    if dtype.byteorder == ">":
        raw = raw.byteswap()
    if dtype.kind == "u" and dtype.itemsize > 1:
        raw = raw.astype(np.int64)
    values = torch.from_numpy(
        raw.reshape(shape, order="F" if fortran else "C").copy() if fortran else raw.reshape(shape)
    )
    return values.view(torch.bfloat16) if dtype.kind == "V" else values


def read_header(
    file: zipfile.ZipExtFile | io.BufferedReader, where: str, held: int, text: bool = False
) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return an array's shape, whether it is stored column by column, and its type, of numbers or of text.

    Args:
        file: at the array's beginning; left at the start of its values.
        where: its name in messages.
        held: bytes available for it.
        text: whether it must be text rather than numbers.

    Raises:
        CheckpointError: another type, or a shape that takes more than `held`. ValueError: not a header of NumPy's.
    """
    version = np.lib.format.read_magic(file)
    if version not in HEADERS:
        raise CheckpointError(
            f"{where} is written in NumPy format {version}, which is not supported; write it with numpy.savez"
        )
    try:
        shape, fortran, dtype = HEADERS[version](file)
    except RecursionError as error:
        raise CheckpointError(f"{where} has a header that is nested without end") from error
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, MemoryError):
        raise
    except Exception as error:  # Python's own parser and tokenizer read it, and raise almost anything
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise ValueError(f"a header that makes no sense: {reason}") from error
    brain = dtype.kind == "V" and dtype.itemsize == 2 and dtype.names is None and dtype.subdtype is None
    number = brain or (dtype.kind in "fiu" and dtype.itemsize <= 8)
    if dtype.hasobject or not (dtype.kind == "U" if text else number):
        raise CheckpointError(f"{where} is of type {str(dtype)[:80]}, which is no {'text' if text else 'number'}")
    if (
        len(shape) > MOST_AXES
        or any(not 0 <= side < 2**62 for side in shape)
        or math.prod(shape) * dtype.itemsize > held
    ):
        claimed = "x".join(str(min(side, 2**62)) for side in shape[:MOST_AXES])
        raise CheckpointError(f"{where} claims the shape {claimed}, but holds {held:,} bytes")
    return shape, fortran, dtype
