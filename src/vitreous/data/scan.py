"""Look at every image once: can it be read, how large is it, does it stand twice? The answer is cached."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from vitreous.data.listing import Listing
from vitreous.errors import ImageError
from vitreous.images.config import DecodeConfig
from vitreous.images.decode import decode, probe, read
from vitreous.shapes import Size

CACHE_FORMAT = 1
CHUNK = 64
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Record:
    """What one file turned out to be."""

    rows: int = 0
    cols: int = 0
    mode: str = ""
    format: str = ""
    digest: str = ""
    """Hash of the file's bytes."""
    error: str = ""
    """Why it can't be read; empty if it can."""


@dataclass(frozen=True)
class ScanReport:
    """What a data set holds, for people and for the report page."""

    path: str
    train: int = 0
    validation: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    """Training images of each class."""
    validation_counts: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    """The most common sizes as "rows x cols", with how often."""
    smallest: str = ""
    median: str = ""
    largest: str = ""
    modes: dict[str, int] = field(default_factory=dict)
    formats: dict[str, int] = field(default_factory=dict)
    broken: tuple[tuple[str, str], ...] = ()
    """Files that can't be read and were left out: (name, reason)."""
    duplicates: tuple[tuple[str, str], ...] = ()
    """Files of the same bytes in both parts: (training name, validation name)."""
    conflicts: tuple[tuple[str, str], ...] = ()
    """Training files of the same bytes with different labels."""
    ignored: int = 0
    """Files that are no images by their ending."""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [
            f"data        {self.path}",
            f"images      {self.train:,} for training, {self.validation:,} for validation",
            f"classes     {len(self.counts)}: {_spread(self.counts)}",
        ]
        if self.median:
            lines.append(
                f"sizes       {self.median} in the middle, from {self.smallest} to {self.largest} (rows x cols)"
            )
            lines.append(f"modes       {_listed(self.modes)}; formats {_listed(self.formats)}")
        lines += _named("broken", self.broken, ": ")
        lines += _named("in both", self.duplicates, " = ")
        lines += _named("two labels", self.conflicts, " = ")
        if self.ignored:
            lines.append(f"ignored     {self.ignored:,} files that are no images")
        lines += [f"note        {note}" for note in self.notes]
        return "\n".join(lines)


def _spread(counts: dict[str, int], most: int = 10) -> str:
    if len(counts) <= most:
        return _listed(counts)
    least, largest = min(counts, key=lambda label: counts[label]), max(counts, key=lambda label: counts[label])
    return f"from {counts[least]:,} images ({least}) to {counts[largest]:,} ({largest})"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _named(title: str, pairs: Sequence[tuple[str, str]], between: str, most: int = 5) -> list[str]:
    if not pairs:
        return []
    lines = [f"{title:11} {len(pairs):,}" + (f", the first {most}" if len(pairs) > most else "")]
    return lines + [f"            {first}{between}{second}" for first, second in pairs[:most]]


def scan(listing: Listing, config: DecodeConfig, verify: str, progress: Progress | None = None) -> list[Record]:
    """Return a record for each file of the listing, from the cache where no file has changed since.

    Args:
        listing: the files.
        config: limits of decoding.
        verify: "full" decodes every image, "header" reads headers (and bytes, for their hash).
        progress: called with (files done, files in all).
    """
    stats = [_stat(listing.root / name) for name in listing.names]
    setting = json.dumps([CACHE_FORMAT, str(listing.root.resolve()), verify, asdict(config)])
    key = hashlib.blake2b(setting.encode(), digest_size=16)
    for name, stat in zip(listing.names, stats, strict=True):
        key.update(f"{name}\0{stat}\n".encode())
    cache = cache_folder() / f"{key.hexdigest()}.json"
    cached = _load(cache, len(listing))
    if cached is not None:
        return cached
    records: list[Record] = []
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        chunks = [range(start, min(start + CHUNK, len(listing))) for start in range(0, len(listing), CHUNK)]
        look = lambda chunk: [_look(listing.root / listing.names[index], config, verify) for index in chunk]  # noqa: E731
        for found in pool.map(look, chunks):
            records += found
            if progress is not None:
                progress(len(records), len(listing))
    _store(cache, records)
    return records


def cache_folder() -> Path:
    """Return where scans are cached: $XDG_CACHE_HOME/vitreous/scans."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vitreous" / "scans"


def _stat(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        return (-1, -1)
    return (stat.st_size, stat.st_mtime_ns)


def _look(path: Path, config: DecodeConfig, verify: str) -> Record:
    """Read one file."""
    try:
        data = read(path, config)
        info = probe(data, config, path.name)
        if verify == "full":
            decode(data, config, name=path.name)
    except ImageError as error:
        return Record(error=str(error))
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    return Record(info.size.rows, info.size.cols, info.mode, info.format, digest)


def _load(cache: Path, expected: int) -> list[Record] | None:
    """Return the cached records; anything odd about the cache means there are none."""
    try:
        records = [Record(*row) for row in json.loads(cache.read_bytes())]
    except (OSError, ValueError, TypeError):
        return None
    return records if len(records) == expected else None


def _store(cache: Path, records: list[Record]) -> None:
    """Write the cache; a cache that can't be written costs time, nothing else."""
    rows = [[r.rows, r.cols, r.mode, r.format, r.digest, r.error] for r in records]
    partial = cache.with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(rows))
        partial.replace(cache)


def summarize_sizes(records: Sequence[Record]) -> tuple[dict[str, int], str, Size, str]:
    """Return the most common sizes, the smallest (by area), the median of rows and of cols, and the largest."""
    sizes = sorted((Size(r.rows, r.cols) for r in records), key=lambda size: (size.rows * size.cols, size))
    rows, cols = sorted(size.rows for size in sizes), sorted(size.cols for size in sizes)
    median = Size(rows[len(rows) // 2], cols[len(cols) // 2])
    common = {str(size): count for size, count in Counter(sizes).most_common(5)}
    return common, str(sizes[0]), median, str(sizes[-1])
