"""A file of JSON records, one per line, that survives the death of its writer. It can be appended to, cut back, and
read while it is written."""

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

from vitreous.errors import RunError
from vitreous.storage.atomic import translate_write_errors
from vitreous.storage.lock import is_same_file

Record = dict[str, Any]


class RecordWriter:
    """Appends records. The operating system has each record once `append` returns; `sync` forces them to disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with translate_write_errors(path):
            self._handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o666)

    def append(self, record: Record) -> None:
        """Write one whole record, or leave the file as it was and raise StorageError. NaN and infinities become
        null."""
        assert self._handle >= 0, "the file was closed"
        line = json.dumps(_replace_infinite(record), allow_nan=False).encode() + b"\n"
        with translate_write_errors(self.path):
            end = os.fstat(self._handle).st_size
            try:
                written = os.write(self._handle, line)
                while written < len(line):  # the next write raises the reason for the short one
                    written += os.write(self._handle, line[written:])
            except OSError:
                os.ftruncate(self._handle, end)
                raise

    def sync(self) -> int:
        """Force all records to disk and return the file's size in bytes; raises StorageError."""
        with translate_write_errors(self.path):
            os.fsync(self._handle)
            return os.fstat(self._handle).st_size

    def is_there(self) -> bool:
        """Return whether the path still leads to the file being written."""
        return is_same_file(self._handle, self.path)

    def hash(self, end: int) -> str | None:
        """Return the SHA-256 of the first `end` bytes, or None if there are fewer."""
        with translate_write_errors(self.path):
            data = os.pread(self._handle, end, 0)
        return hashlib.sha256(data).hexdigest() if len(data) == end else None

    def cut(self, end: int) -> bool:
        """Shorten the file to at most `end` bytes, in one step and durably; return whether anything was cut."""
        with translate_write_errors(self.path):
            if os.fstat(self._handle).st_size <= end:
                return False
            os.ftruncate(self._handle, end)
            os.fsync(self._handle)
            return True

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def read_records(path: Path) -> list[tuple[Record, int]]:
    """Return each whole record with the offset at which its line ends. A torn or damaged end of the file is left out.

    Raises:
        RunError: a damaged line in the middle, or the file can't be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"can't read {path}: {error.strerror}") from error
    records: list[tuple[Record, int]] = []
    end, damaged = 0, 0
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        end += len(line) + 1
        record = _parse(line)
        if record is None:
            damaged = damaged or number
        elif damaged:
            raise RunError(f"{path} is damaged: line {damaged} is not a JSON record; correct the line or remove it")
        else:
            records.append((record, end))
    return records


def _parse(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _replace_infinite(value: Any) -> Any:
    """Replace NaN and infinities, which JSON lacks, by null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _replace_infinite(item) for key, item in value.items()}
    return [_replace_infinite(item) for item in value] if isinstance(value, (list, tuple)) else value
