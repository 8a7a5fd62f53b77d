"""A seeded, stratified split: a pure function of (seed, class names, image names)."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence

from vitreous.errors import DataError


def held_out(names: Sequence[str], labels: Sequence[str], share: float, seed: int) -> list[bool]:
    """Tell for each example whether it is held out.

    Within a class the examples are ranked by a hash of (seed, class, name), and the first are held out, so a class's
    split doesn't depend on other classes. How many: the share of each class rounded down, and the remainder, up to the
    share of the whole rounded up, to the classes with the largest fractions. Every class keeps at least one example in each part.

    Raises:
        DataError: the share is out of range, or a class has a single example.
    """
    if not 0 < share < 1:
        raise DataError(f"data.holdout is {share}; it must be above 0 and below 1")
    members: dict[str, list[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        members[label].append(index)
    counts = quotas({label: len(indices) for label, indices in members.items()}, share)
    held = [False] * len(names)
    for label, indices in members.items():
        ranked = sorted(indices, key=lambda index: rank(seed, labels[index], names[index]))
        for index in ranked[: counts[label]]:
            held[index] = True
    return held


def quotas(sizes: dict[str, int], share: float) -> dict[str, int]:
    """Return how many examples of each class are held out: largest remainders, 1 to size - 1 of each class."""
    single = sorted(label for label, size in sizes.items() if size < 2)
    if single:
        raise DataError(
            f"class {single[0]!r} has a single image"
            + (f" (and {len(single) - 1} more classes)" if len(single) > 1 else "")
            + ", so it can't be split into training and validation; add images, or give validation data of its own"
        )
    exact = {label: size * share for label, size in sizes.items()}
    counts = {label: min(max(1, int(value)), sizes[label] - 1) for label, value in exact.items()}
    missing = math.ceil(sum(sizes.values()) * share - 1e-9) - sum(counts.values())
    by_fraction = sorted(exact, key=lambda label: (counts[label] - exact[label], label))
    for label in by_fraction[: max(0, missing)]:
        counts[label] = min(counts[label] + 1, sizes[label] - 1)
    return counts


def rank(seed: int, label: str, name: str) -> bytes:
    """Return the hash that orders a class's examples."""
    return hashlib.blake2b(f"{seed}\0{label}\0{name}".encode(), digest_size=16).digest()
