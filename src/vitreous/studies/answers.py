"""Each image's contribution to a cell's number, in the form of result.json."""

import base64
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from vitreous.shapes import Float64

EACH = "each"
"""Key in a cell's numbers of the packed contributions of each image, by the number that is their mean."""


def pack_answers(each: np.ndarray, of: int = 1) -> dict[str, Any]:
    """Return each image's share as a JSON value: compressed whole numbers up to 255, to be divided by `of`.

    >>> unpack_answers(pack_answers(np.array([True, False]))), unpack_answers(pack_answers(np.array([0.0, 1.0, 2 / 3]), of=3))
    (array([1., 0.]), array([0.        , 1.        , 0.66666667]))
    """
    whole = np.rint(np.asarray(each, dtype=np.float64) * of).astype(np.uint8)
    return {"of": of, "zlib": base64.b64encode(zlib.compress(whole.tobytes())).decode()}


def unpack_answers(each: Mapping[str, Any]) -> Float64[np.ndarray, " image"]:
    """Return the shares that `pack_answers` packed."""
    return np.frombuffer(zlib.decompress(base64.b64decode(each["zlib"])), np.uint8) / float(each["of"])
