"""The contents of a data set, in plain text."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from vitreous.characters import escape
from vitreous.data.listing.ignored_files import describe_ignored
from vitreous.runtime.display import Shown

WIDTH = 12
"""Width of the titles, in characters."""


@dataclass(frozen=True)
class ScanReport(Shown):
    """The contents of a data set, for people and for the report page."""

    path: str
    train: int = 0
    validation: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    """Training images of each class."""
    validation_counts: dict[str, int] = field(default_factory=dict)
    test: int = 0
    """Images of a test split, which is measured once, at the end."""
    test_counts: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    """The most common sizes as "rows x cols", with their counts."""
    smallest: str = ""
    median: str = ""
    largest: str = ""
    modes: dict[str, int] = field(default_factory=dict)
    test_modes: dict[str, int] = field(default_factory=dict)
    formats: dict[str, int] = field(default_factory=dict)
    broken: tuple[tuple[str, str], ...] = ()
    """Files that can't be read and were left out: (name, reason)."""
    duplicates: tuple[tuple[str, str], ...] = ()
    """Files with the same bytes in both parts: (training name, validation name)."""
    leaks: tuple[tuple[str, str], ...] = ()
    """Files with the same bytes in the test split and in another: (name there, name in the test split)."""
    conflicts: tuple[tuple[str, str], ...] = ()
    """Files with the same bytes and different labels."""
    ignored: dict[str, int] = field(default_factory=dict)
    """Files that are not images, by extension; hidden and system files under ignored.SYSTEM."""
    notes: tuple[str, ...] = ()

    @property
    def all_modes(self) -> dict[str, int]:
        """The number of images of each mode, with those of the test split."""
        return dict(Counter(self.modes) + Counter(self.test_modes))

    def __str__(self) -> str:
        test = f", {self.test:,} for one test at the end" if self.test else ""
        lines = [
            _format_line("data", self.path),
            _format_line("images", f"{self.train:,} for training, {self.validation:,} for validation{test}"),
            _format_line("classes", f"{len(self.counts):,} to train on: {_format_spread(self.counts)}"),
        ]
        if self.median:
            span = "all of them" if self.smallest == self.largest else f"median; {self.smallest} to {self.largest}"
            lines.append(_format_line("sizes", f"{self.median} ({span}), rows x cols"))
            if len(self.sizes) > 1:
                lines.append(_format_line("", f"most common: {_format_counts(self.sizes)}"))
            lines.append(
                _format_line("formats", f"{_format_counts(self.formats)}; modes: {_format_counts(self.modes)}")
            )
        return "\n".join([*map(escape, lines), *self.remarks()])

    def remarks(self) -> list[str]:
        """Return what the user should know before training: files left out, duplicates, conflicting labels, how the
        data was read."""
        reasons = [(reason if name in reason else f"{name}: {reason}", "") for name, reason in self.broken]
        lines = _format_pairs("broken", "left out", reasons, "")
        lines += _format_pairs("duplicates", "in training and in validation", self.duplicates, " = ")
        lines += _format_pairs("leaks", "test images in training or in validation too", self.leaks, " = ")
        lines += _format_pairs("conflicts", "same image, different labels", self.conflicts, " = ")
        if self.ignored:
            lines.append(_format_line("ignored", describe_ignored(self.ignored)))
        lines += [_format_line("note", note) for note in self.notes]
        return list(map(escape, lines))


def _format_line(title: str, text: str) -> str:
    return f"{title:{WIDTH}}{text}"


def _format_spread(counts: dict[str, int], most: int = 10) -> str:
    """List a few classes with their counts; of many, only the least and the most common."""
    if len(set(counts.values())) == 1 and len(counts) > 1:
        names = list(counts)
        each = "1 image" if counts[names[0]] == 1 else f"{counts[names[0]]:,} images"
        return f"{', '.join(names[:most])}{', ...' if len(names) > most else ''} ({each} each)"
    if len(counts) <= most:
        return _format_counts(counts)
    least, largest = min(counts, key=lambda label: counts[label]), max(counts, key=lambda label: counts[label])
    return f"from {counts[least]:,} images ({least}) to {counts[largest]:,} ({largest})"


def _format_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _format_pairs(title: str, meaning: str, pairs: Sequence[tuple[str, str]], between: str, most: int = 5) -> list[str]:
    if not pairs:
        return []
    head = f"{len(pairs):,} {meaning}" + (f"; the first {most}:" if len(pairs) > most else ":")
    return [
        _format_line(title, head),
        *(_format_line("", f"{first}{between}{second}") for first, second in pairs[:most]),
    ]
