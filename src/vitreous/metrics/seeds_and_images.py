"""How certain a mean over a few seeds is, when all of them are measured on the same images.

Repeating a run tells how much the seed matters, but nothing about the images, which are the same each time. Results
with other seeds *and* other images of the same kind would vary by both. The number of image i under seed s is modelled
as mean + seed s + image i + rest, all random (a crossed random-effects model); the variance of the mean follows from
three mean squares in closed form (Searle, Casella and McCulloch, "Variance Components", 1992, section 4.4). A two-way
bootstrap, which resamples seeds and images (Owen, "The pigeonhole bootstrap", 2007), estimates the same by simulation,
but it treats the three or five seeds as the whole population, so its estimate is too small.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitreous.shapes import Float64


class Scores(float):
    """A mean over images that keeps each image's number, so that the difference of two means can be judged image by
    image.

    It acts as the mean wherever a float is expected. Sums, differences and multiples are computed image by image, for
    numbers on the same images in the same order.
    """

    each: Float64[np.ndarray, " image"]

    def __new__(cls, each: Sequence[float] | np.ndarray) -> "Scores":
        """Return the mean of one number per image, such as 1 where the answer is right and 0 elsewhere."""
        values = np.asarray(each, dtype=np.float64)
        made = super().__new__(cls, float(values.mean()))
        made.each = values
        return made

    def __reduce__(self) -> tuple:
        """Keep each image's number when copied or sent to another process."""
        return Scores, (self.each,)

    def __add__(self, other: float) -> "Scores":
        """Add image by image, or the same number to each."""
        return Scores(self.each + _estimate_each(other))

    def __sub__(self, other: float) -> "Scores":
        """Subtract image by image, or the same number from each."""
        return Scores(self.each - _estimate_each(other))

    def __mul__(self, other: float) -> "Scores":
        """Multiply each by the same number."""
        return Scores(self.each * float(other))

    def __truediv__(self, other: float) -> "Scores":
        """Divide each by the same number."""
        return Scores(self.each / float(other))

    def __neg__(self) -> "Scores":
        """Return each with the other sign."""
        return Scores(-self.each)

    def __rsub__(self, other: float) -> "Scores":
        """Subtract each from the same number, image by image."""
        return Scores(_estimate_each(other) - self.each)

    __radd__ = __add__
    __rmul__ = __mul__


def _estimate_each(value: float) -> np.ndarray | float:
    return value.each if isinstance(value, Scores) else float(value)


@dataclass(frozen=True)
class Estimate:
    """A mean, its standard error, and the degrees of freedom of that error (infinity: known exactly)."""

    mean: float
    error: float
    freedom: float

    def within(self, level: float = 0.95) -> tuple[float, float]:
        """Return the two-sided interval by Student's t."""
        from scipy.stats import t

        half = float(t.ppf((1 + level) / 2, self.freedom)) * self.error if self.error else 0.0
        return self.mean - half, self.mean + half

    def above(self, value: float = 0.0) -> float:
        """Return the probability of a mean at least this far above `value` if the true one were `value`.

        One-sided: small where the mean is significantly above.
        """
        from scipy.stats import t

        if self.error == 0.0:
            return 0.0 if self.mean > value else 1.0
        return float(t.sf((self.mean - value) / self.error, self.freedom))

    def below(self, value: float = 0.0) -> float:
        """Return the same for a mean below."""
        return Estimate(-self.mean, self.error, self.freedom).above(-value)


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean over seeds with its standard error.

    Args:
        values: one per seed. If all are Scores on equally many images, the error covers seeds and images; otherwise
            seeds
            alone.

    Returns:
        an infinite error for one value, and a mean of NaN for none.
    """
    if len(values) < 2:
        return Estimate(float(values[0]) if values else math.nan, math.inf, 1.0)
    of_images = [value.each for value in values if isinstance(value, Scores)]
    if len(of_images) == len(values) and len({len(each) for each in of_images}) == 1 and len(of_images[0]) > 1:
        return estimate_crossed(np.stack(of_images))
    found = np.asarray([float(value) for value in values])
    return Estimate(float(found.mean()), float(found.std(ddof=1)) / math.sqrt(len(found)), len(found) - 1)


def estimate_crossed(table: Float64[np.ndarray, "seed image"]) -> Estimate:
    """Return the mean of a table of seeds and images, both drawn at random, with its standard error.

    The variance is (seeds' + images' - rest's mean square) / (seeds x images), never less than what the seeds alone or
    the images alone give; degrees of freedom by Satterthwaite (1946).
    """
    seeds, images = table.shape
    mean = float(table.mean())
    rows, cols = table.mean(1), table.mean(0)
    rest = table - rows[:, None] - cols + mean
    squares = np.array(
        [images * rows.var(ddof=1), seeds * cols.var(ddof=1), (rest**2).sum() / (seeds - 1) / (images - 1)]
    )
    freedoms = np.array([seeds - 1, images - 1, (seeds - 1) * (images - 1)])
    both = float(squares[0] + squares[1] - squares[2])
    largest = max(both, float(squares[0]), float(squares[1]))
    if largest <= 0:
        return Estimate(mean, 0.0, math.inf)
    used = squares if largest == both else squares * (squares == largest)
    freedom = largest**2 / float((used**2 / freedoms).sum())
    return Estimate(mean, math.sqrt(largest / (seeds * images)), freedom)
