"""Hashes of a few of a source's files, to notice files that were replaced without a change of name, size or time.

The scan's cache knows a file by its name, length and time of change, and a replacement can keep all three.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from vitreous.data.sources.base import Source
from vitreous.errors import VitreousError
from vitreous.storage.hashing import hash_bytes

COUNT = 64
"""Files of each part. If a twentieth of the data was replaced, the sample misses it once in 27 times."""


def hash_sample(source: Source, seed: int, count: int = COUNT) -> dict[str, str]:
    """Return the hashes of some files' bytes by name, drawn with a seed; none for a source without files."""
    chosen = np.random.default_rng(seed).permutation(len(source))[:count]
    return hash_files(source, sorted(int(index) for index in chosen))


def hash_files(source: Source, indices: Iterable[int]) -> dict[str, str]:
    """Return the hashes of the bytes of these files by name; "" for one that can't be read."""
    found = {}
    for index in indices:
        try:
            data = source.read(index)
        except VitreousError:
            data = b""
        if not isinstance(data, bytes):
            return {}
        found[source.names[index]] = hash_bytes(data) if data else ""
    return found


def find_changed(source: Source, known: Mapping[str, str]) -> list[str]:
    """Return the names of the files that are gone or whose contents changed."""
    places = {name: index for index, name in enumerate(source.names) if name in known}
    now = hash_files(source, places.values())
    return [name for name, digest in known.items() if now.get(name) != digest]
