"""Examine every image once: is it readable, how large is it, is it a duplicate? The answers are cached on disk."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vitreous.data.listing.listing import Listing, Row
from vitreous.data.listing.scan_report import ScanReport
from vitreous.errors import ImageError, may_pass
from vitreous.images.config import DecodeConfig
from vitreous.images.decode import decode, probe, read
from vitreous.images.formats import list_formats
from vitreous.images.pillow import count_mode_channels
from vitreous.runtime.threads import count_cores
from vitreous.shapes import Int32, Pixels, Size
from vitreous.storage.cache import name_cached, read_cached, write_cached
from vitreous.storage.hashing import hash_bytes
from vitreous.storage.remote import find_url

__all__ = ["Progress", "Record", "ScanReport", "scan", "summarize_sizes"]

CACHE_FORMAT = 6
SAMPLE = 256
"""Files that are looked at where the others are left for later."""
CHUNK = 64
"""Files that a thread takes at a time."""
Progress = Callable[[int, int], None]


class Record(NamedTuple):
    """The facts found about one file."""

    rows: int = 0
    cols: int = 0
    mode: str = ""
    format: str = ""
    digest: str = ""
    """Hash of the file's bytes."""
    error: str = ""
    """Why it can't be read; empty if it can."""
    passing: bool = False
    """Whether that is the disk's doing, and may pass; such a record is not kept."""


Known = dict[tuple[str, int, int], Record]
"""Records by (name, bytes, time of the last change)."""
FILLED = " without its end, filled with grey"
"""Appended to the format of a JPEG that lacks its last bytes."""


def scan(listing: Listing, config: DecodeConfig, verify: str, progress: Progress | None = None) -> list[Record]:
    """Return a record for each file of the listing; files unchanged since an earlier scan are not opened.

    The work is shared by threads: decoding releases Python's lock, so large images scale with the cores. Small ones are
    bound by the lock, at about 0.1 ms each, for which processes would not pay.

    Args:
        listing: the files.
        config: limits of decoding.
        verify: "full" decodes every image, "header" reads headers (and bytes, for their hash).
        progress: called with (files done, files in all).
    """
    cache, own = cache_file(listing, config, verify), getattr(listing.reader, "scans", None)
    known = load_cache(cache) if own is None else own.get(cache, {})
    fresh: Known = {}
    records = [known.get((row.name, row.bytes, row.changed)) for row in listing.rows]
    todo = [index for index, record in enumerate(records) if record is None]
    try:
        for index, record in _look_at(listing, todo, config, verify, progress):
            row = listing.rows[index]
            records[index] = record
            if row.changed >= 0 and not record.passing:
                fresh[row.name, row.bytes, row.changed] = record
    finally:  # an interrupted scan is not lost
        if fresh and own is None:
            save_cache(cache, known, fresh, listing)
        elif own is not None:
            own[cache] = known | fresh
    if progress is not None:
        progress(len(listing), len(listing))
    return [record for record in records if record is not None]


def scan_sample(listing: Listing, config: DecodeConfig, verify: str, count: int = SAMPLE) -> list[Record]:
    """Return the records of some files, drawn at random but always the same, and blank ones for the others.

    A file that isn't there is recorded in any case. The records have no hashes: what is the same bytes isn't looked for.
    """
    chosen = np.sort(np.random.default_rng(0).permutation(len(listing))[:count]).tolist()
    blank, missing = Record(), [index for index, row in enumerate(listing.rows) if row.is_missing]
    records = [blank] * len(listing)
    for index, record in _look_at(listing, sorted({*chosen, *missing}), config, verify, None):
        records[index] = record._replace(digest="")
    return records


def _look_at(listing: Listing, todo: list[int], config: DecodeConfig, verify: str, progress: Progress | None):
    """Yield (index, record) for the files at these indices, in order, from several threads."""
    chunks = [todo[start : start + CHUNK] for start in range(0, len(todo), CHUNK)]
    done = len(listing) - len(todo)

    def look(chunk: list[int]) -> list[Record]:
        return [look_at(listing, listing.rows[index], config, verify) for index in chunk]

    pool = ThreadPoolExecutor(max_workers=min(16, count_cores()))
    try:
        for chunk, found in zip(chunks, pool.map(look, chunks), strict=True):
            yield from zip(chunk, found, strict=True)
            done += len(chunk)
            if progress is not None:
                progress(done, len(listing))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def look_at(listing: Listing, row: Row, config: DecodeConfig, verify: str) -> Record:
    """Read one file; its record notes what is wrong with it."""
    if row.is_missing:
        return Record(error=f"{row.name}: no such file")
    try:
        data = read_row(listing, row, config)
        if isinstance(data, np.ndarray):
            rows, cols, channels = data.shape
            return Record(rows, cols, "L" if channels == 1 else "RGB", "array", hash_bytes(data.tobytes()))
        info = probe(data, config, row.name)
        if verify == "full" or not info.complete:
            kept = count_mode_channels(info.mode) if info.mode[0].isdigit() and ";" in info.mode else None
            decode(data, config, kept or "RGB", name=row.name)
    except ImageError as error:
        return Record(error=str(error), passing=may_pass(error))
    kind = info.format if info.complete else f"{info.format}{FILLED}"
    return Record(info.size.rows, info.size.cols, info.mode, kind, hash_bytes(data))


def read_row(listing: Listing, row: Row, config: DecodeConfig) -> bytes | Pixels[np.ndarray, "row col channel"]:
    """Return the bytes of a listing's image, or its pixels; raises ImageError."""
    if listing.reader is None:
        return read(listing.root / row.name, config)
    try:
        return listing.reader.read(row.number, config.max_bytes)
    except ImageError as error:
        raise ImageError(f"{row.name}: {error}") from error


def cache_file(listing: Listing, config: DecodeConfig, verify: str) -> Path | None:
    """Return where the scans of a folder, or of packed files, with these settings are cached."""
    where = str(listing.root) if listing.reader is None else listing.reader.location
    where = where if find_url(where) else str(Path(where).resolve())
    return name_cached("scans", json.dumps([CACHE_FORMAT, where, verify, asdict(config), list_formats()]))


def load_cache(cache: Path | None) -> Known:
    """Return the cached records; an invalid cache counts as empty."""
    try:
        found = json.loads(read_cached(cache) or b"[]")
        return {(name, size, changed): Record(*rest) for name, size, changed, *rest in found}
    except (ValueError, TypeError):
        return {}


def save_cache(cache: Path | None, known: Known, fresh: Known, listing: Listing) -> None:
    """Write the cache, without files that the listing shows changed; if it can't be written, only time is lost."""
    current = {row.name: (row.name, row.bytes, row.changed) for row in listing.rows}
    kept = {key: record for key, record in known.items() if current.get(key[0], key) == key}
    write_cached(cache, json.dumps([[*key, *record] for key, record in (kept | fresh).items()]).encode())


def summarize_sizes(records: Sequence[Record]) -> tuple[dict[str, int], str, Size, str]:
    """Return the most common sizes, the smallest (by area), the median of rows and of cols, and the largest."""
    counts = Counter(Size(record.rows, record.cols) for record in records)
    by_area = sorted(counts, key=lambda size: (size.rows * size.cols, size))
    median = find_median(np.array([(record.rows, record.cols) for record in records], np.int32))
    common = {str(size): count for size, count in counts.most_common(5)}
    return common, str(by_area[0]), median, str(by_area[-1])


def find_median(sizes: Int32[np.ndarray, "example 2"]) -> Size:
    """Return the median of rows and of cols, the upper of two."""
    rows, cols = np.sort(sizes, axis=0)[len(sizes) // 2].tolist()
    return Size(rows, cols)
