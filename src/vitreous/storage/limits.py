"""Limits on the size of files and on what they claim, checked before any work; each error states its limit."""

import json
import math
from pathlib import Path
from typing import Any

from vitreous.errors import CheckpointError, ConfigError
from vitreous.runtime.memory import read_memory
from vitreous.settings import refuse_double_keys
from vitreous.storage.presence import explain_irregular

SHARE = 0.5
"""Share of the machine's memory that tensors may take ..."""
RATIO, FREE = 16, 64 * 2**20
"""... and beyond FREE bytes, at most RATIO times the size of the file: no weights compress or repeat that much."""
MOST_TENSORS = 50_000
MOST_JSON = 16 * 2**20
"""Most bytes of a configuration."""


def check_claims(where: str, claimed: int, held: int) -> None:
    """Raise an error for tensors that take more than is plausible for the file, or than the machine can hold.

    Args:
        where: the file, for the message.
        claimed: bytes of all tensors in full.
        held: bytes of the file.

    Raises:
        CheckpointError: the claim is too large; the message gives both numbers and the limit.
    """
    if claimed > FREE and claimed > RATIO * held:
        raise CheckpointError(
            f"{where} claims {format_bytes(claimed)} of tensors in a file of {format_bytes(held)}, more than "
            f"{RATIO} times its size; no weights do that, so it is damaged, or made to fill the memory"
        )
    if claimed > SHARE * read_memory():
        raise CheckpointError(
            f"{where} holds {format_bytes(claimed)} of tensors, more than {SHARE:.0%} of this machine's memory "
            f"({format_bytes(read_memory())}); open it on a larger one"
        )


def check_count(where: str, count: int) -> None:
    """Raise CheckpointError for more tensors than any model has."""
    if count > MOST_TENSORS:
        raise CheckpointError(
            f"{where} holds {count:,} tensors, more than the limit of {MOST_TENSORS:,}; no model has that many"
        )


def format_bytes(size: int) -> str:
    """Format a number of bytes: "81.2 KB", "12.0 GB"."""
    value = float(min(size, 10**30))
    for unit in ("bytes", "KB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} bytes" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:,.0f} TB"


def check_file(path: Path) -> None:
    """Refuse anything but a regular file: a folder, a pipe, a device.

    Raises:
        CheckpointError: it isn't a file; the message says what it is. OSError: it can't be examined.
    """
    if (kind := explain_irregular(path)) is not None:
        raise CheckpointError(f"{path} is {kind}, not a file; write its contents to a file and name that")


def read_json(path: Path) -> Any:
    """Read a configuration.

    Raises:
        CheckpointError: no file, too large, not JSON, a key given twice, or numbers that JSON doesn't have (NaN,
            infinities, 1e400).
        OSError: it can't be read.
    """
    check_file(path)
    size = path.stat().st_size
    if size > MOST_JSON:
        raise CheckpointError(
            f"{path} has {size:,} bytes, more than the limit of {MOST_JSON:,}, so it can't be a configuration"
        )
    try:
        return json.loads(
            path.read_bytes(), parse_constant=read_finite, parse_float=read_finite, object_pairs_hook=refuse_double_keys
        )
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: it is not JSON ({str(error)[:120]})") from error


def read_finite(text: str) -> float:
    """Return a finite number; raises ValueError for any other."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is not a finite number")
    return value
