"""A seeded, stratified split: a pure function of (seed, class names, image names)."""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from vitreous.errors import DataError


def hold_out(names: Sequence[str], labels: Sequence[str], share: float, seed: int) -> list[bool]:
    """Return for each example whether it is held out.

    Within a class the examples are ranked by a hash of (seed, class, name), and the first are held out: the class's
    share, rounded down or up so that the total is right (see `count_held_out`). So adding a class moves at most one
    example of another class, and the order in which examples are listed doesn't matter.

    Raises:
        DataError: the share is out of range, or a class has a single example.
    """
    check_share(share)
    members: dict[str, list[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        members[label].append(index)
    counts = count_held_out(Counter(labels), share)
    held = [False] * len(names)
    for label, indices in members.items():
        ranked = sorted(indices, key=lambda index: hash_rank(seed, labels[index], names[index]))
        for index in ranked[: counts[label]]:
            held[index] = True
    return held


def hold_out_multilabel(
    names: Sequence[str], label_lists: Sequence[Sequence[str]], share: float, seed: int
) -> list[bool]:
    """Return for each example whether it is held out, where an example may have several labels, or none.

    Iterative stratification (Sechidis et al., ECML PKDD 2011): label by label, the rarest first, hold out about the
    share of each; then the share of the examples without labels. Hashes choose the examples, as in `hold_out`. At least
    one example of every label is left, and one example of every label that two examples have is held out if possible.

    Raises:
        DataError: the share is out of range, or there are fewer than two examples.
    """
    check_share(share)
    if len(names) < 2:
        raise DataError("a single image can't be in both training and validation; add images")
    members: dict[str, list[int]] = defaultdict(list)
    for index, labels in enumerate(label_lists):
        for label in labels or ("",):
            members[label].append(index)
    left = Counter({label: len(indices) for label, indices in members.items()})
    held: dict[int, bool] = {}
    for label in sorted(members, key=lambda label: (not label, len(members[label]), label)):
        ranked = sorted(members[label], key=lambda index: hash_rank(seed, label, names[index]))
        lacking = max(1, round(share * len(ranked))) - sum(held.get(index, False) for index in ranked)
        for index in ranked:
            if index not in held:
                every = label_lists[index] or ("",)
                held[index] = lacking > 0 and all(left[one] > 1 for one in every)
                lacking -= held[index]
                left.subtract(every if held[index] else ())
    return [held[index] for index in range(len(names))]


def check_share(share: float) -> None:
    """Raise DataError for a share that holds out nothing, or everything."""
    if not 0 < share < 1:
        raise DataError(f"data.holdout is {share}; it must be above 0 and below 1")


def count_held_out(sizes: dict[str, int], share: float) -> dict[str, int]:
    """Return how many examples of each class are held out, at least 1 and at most all but 1 of each.

    Each class gives its share rounded down; what is missing from the rounded-up total then comes from the classes with
    the largest fractions, one each (the method of largest remainders).
    """
    single = sorted(label for label, size in sizes.items() if size < 2)
    if single:
        more = f" (and so have {len(single) - 1:,} more classes)" if len(single) > 1 else ""
        raise DataError(
            f"class {single[0]!r} has a single image{more}, so it can't be in both training and validation; "
            "add images, or give validation data of its own (--data.validation, or a val/ folder)"
        )
    exact = {label: size * share for label, size in sizes.items()}
    counts = {label: min(max(1, int(value)), sizes[label] - 1) for label, value in exact.items()}
    lacking = math.ceil(sum(sizes.values()) * share - 1e-9) - sum(counts.values())
    able = [label for label in exact if counts[label] < min(exact[label], sizes[label] - 1)]
    by_fraction = sorted(able, key=lambda label: (counts[label] - exact[label], label))
    for label in by_fraction[: max(0, lacking)]:
        counts[label] += 1
    return counts


def hash_rank(seed: int, label: str, name: str) -> bytes:
    """Return the hash that orders a class's examples."""
    return hashlib.blake2b(f"{seed}\0{label}\0{name}".encode(errors="surrogateescape"), digest_size=16).digest()
