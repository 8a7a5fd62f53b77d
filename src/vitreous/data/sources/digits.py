"""scikit-learn's handwritten digits: the data set that is always available."""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from vitreous.data.listing.split import hold_out
from vitreous.data.sources.base import ArraySource, hash_source
from vitreous.shapes import Float64, Int64
from vitreous.storage.hashing import hash_bytes

DIGITS = "digits"
CLASSES = tuple("0123456789")


@lru_cache(maxsize=4)
def load_digits(holdout: float, seed: int) -> tuple[ArraySource, ArraySource]:
    """Return the 1,797 digits (E. Alpaydin and C. Kaynak, 1998), 8x8 and grey, in two parts: training and held out.

    Their values 0 to 16 become 0 to 255, rounded to the nearest. The default share and seed give 1,437 and 360 digits.
    """
    table = _load_table()
    pixels = np.round(table[:, :-1].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    labels = table[:, -1].astype(np.int64)
    names = np.array([f"digit-{index:04}" for index in range(len(pixels))])
    held = np.array(hold_out(names.tolist(), [CLASSES[label] for label in labels], holdout, seed))
    train, validation = (_select_part(pixels, names, labels, np.flatnonzero(part)) for part in (~held, held))
    return train, validation


def _load_table() -> Float64[np.ndarray, "example column"]:
    """Return scikit-learn's table: 64 values and the label of each digit.

    The file is read directly from the package: importing scikit-learn, and SciPy with it, takes two seconds.
    """
    package = find_spec("sklearn")
    assert package is not None and package.origin is not None, "scikit-learn is a dependency"
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if path.is_file():
        return np.loadtxt(path, delimiter=",")
    from sklearn.datasets import load_digits as load

    found = load()
    return np.column_stack([found.data, found.target])


def _select_part(
    pixels: np.ndarray, names: np.ndarray, labels: np.ndarray, chosen: Int64[np.ndarray, " example"]
) -> ArraySource:
    own = tuple(names[chosen].tolist())
    digests = [hash_bytes(pixels[index].tobytes()) for index in chosen]
    return ArraySource(pixels[chosen], own, labels[chosen], CLASSES, hash_source(own, labels[chosen], digests))
