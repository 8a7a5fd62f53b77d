"""Which of a teacher's labels are kept, and how often each: above a confidence, and balanced by class (1911.04252, section 3).

The paper keeps images above a confidence of 0.3, of each class the 130,000 surest, and repeats images of classes with fewer until
all have 130,000; which images, it draws at random, while here they take turns, the surest first.
"""

import numpy as np

from vitreous.errors import DataError
from vitreous.self_training.options import Amount, SelfTrainingOptions
from vitreous.shapes import Float32, Int64


def select(
    confidence: Float32[np.ndarray, " image"],
    labels: Int64[np.ndarray, " image"],
    classes: int,
    options: SelfTrainingOptions,
) -> Int64[np.ndarray, " image"]:
    """Return how often each image is used; 0: not at all.

    Args:
        confidence: the probability of each image's label, 0 to 1.
        labels: the labels, 0 to classes - 1.
        classes: number of classes.
        options: the threshold, and how many examples a class has at most and at least. Of equally sure images the first is
            surer. A class without an image above the threshold stays without.

    Raises:
        DataError: no image reaches the threshold.
    """
    above = confidence >= options.threshold
    if not above.any():
        surest = f"the surest has {confidence.max():.3g}" if len(confidence) else "there is none"
        raise DataError(
            f"none of the {len(confidence):,} unlabelled images reaches a confidence of {options.threshold:g} ({surest}); "
            "begin again in another folder with a lower --self-training.threshold, or with a better teacher"
        )
    mean = -(-int(above.sum()) // classes)
    most, least = (resolve_amount(amount, mean) for amount in (options.at_most, options.at_least))
    if options.at_least == "auto" and most:
        least = most
    order = np.argsort(-confidence, kind="stable")
    copies = np.zeros(len(labels), np.int64)
    for label in range(classes):
        members = order[(labels[order] == label) & above[order]]
        members = members[: most or None]
        if len(members):
            copies[members] = share_out(len(members), max(least, len(members)))
    return copies


def resolve_amount(amount: Amount, mean: int) -> int:
    """Return a number of images a class, for auto the mean."""
    return mean if amount == "auto" else int(amount)


def share_out(members: int, total: int) -> Int64[np.ndarray, " member"]:
    """Divide a total among members as evenly as possible, the first getting the rest.

    >>> share_out(3, 8)
    array([3, 3, 2])
    """
    each, rest = divmod(total, members)
    return each + (np.arange(members) < rest).astype(np.int64)
