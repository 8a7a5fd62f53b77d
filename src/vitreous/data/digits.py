"""scikit-learn's handwritten digits: the data set that is always there."""

import hashlib

import numpy as np
from jaxtyping import Int64

from vitreous.data.examples import ArraySource, fingerprint
from vitreous.data.split import held_out

DIGITS = "digits"
CLASSES = tuple("0123456789")


def load_digits(holdout: float, seed: int) -> tuple[ArraySource, ArraySource]:
    """Return the 1,797 digits (E. Alpaydin and C. Kaynak, 1998), 8x8 and grey, in two parts: training and held out.

    Their values 0 to 16 become 0 to 255, rounded to the nearest. With the default share and seed 1,437 and 360 digits.
    """
    from sklearn.datasets import load_digits as load

    found = load()
    pixels = np.round(np.asarray(found.images) * (255 / 16)).astype(np.uint8)[..., None]
    labels = np.asarray(found.target, dtype=np.int64)
    names = np.array([f"digit-{index:04}" for index in range(len(pixels))])
    held = np.array(held_out(names.tolist(), [CLASSES[label] for label in labels], holdout, seed))
    train, validation = (_part(pixels, names, labels, np.flatnonzero(part)) for part in (~held, held))
    return train, validation


def _part(
    pixels: np.ndarray, names: np.ndarray, labels: np.ndarray, chosen: Int64[np.ndarray, " example"]
) -> ArraySource:
    own = tuple(names[chosen].tolist())
    digests = [hashlib.blake2b(pixels[index].tobytes(), digest_size=16).hexdigest() for index in chosen]
    return ArraySource(pixels[chosen], own, labels[chosen], CLASSES, fingerprint(own, labels[chosen], digests))
