"""Means over seeds measured on the same images: against scipy, the closed forms of the model, and by how often they err."""

import copy
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vitreous.metrics.seeds_and_images import Scores, estimate, estimate_crossed


def tables(seeds: int, images: int, of_seed: float, of_image: float, rest: float, count: int) -> np.ndarray:
    """Return tables (count, seed, image) of mean 0 with these standard deviations."""
    rng = np.random.default_rng(7)
    parts = ((of_seed, (count, seeds, 1)), (of_image, (count, 1, images)), (rest, (count, seeds, images)))
    return sum(deviation * rng.standard_normal(shape) for deviation, shape in parts)


@pytest.mark.parametrize(
    ("of_seed", "of_image", "rest"), [(0.03, 0.5, 0.3), (0.0, 0.5, 0.3), (0.1, 0.1, 0.5), (0.02, 0.2, 0.0)]
)
@pytest.mark.parametrize("seeds", [3, 5])
def test_the_error_is_that_of_the_model_and_intervals_err_in_a_twentieth(seeds, of_seed, of_image, rest):
    found = [estimate_crossed(table) for table in tables(seeds, 200, of_seed, of_image, rest, 600)]
    true = of_seed**2 / seeds + of_image**2 / 200 + rest**2 / seeds / 200
    squared = np.mean([one.error**2 for one in found])
    assert true * 0.9 < squared < true * 1.45  # never below seeds' or images' own share, so a little above
    missed = np.mean([not one.within()[0] <= 0 <= one.within()[1] for one in found])
    assert missed < 0.08  # a twentieth, and three deviations of 600 trials


def test_seeds_alone_err_more_often_where_images_matter():
    found = tables(5, 200, 0.0, 0.5, 0.3, 600)
    missed = {}
    for name, values in (("both", [[Scores(row) for row in one] for one in found]), ("seeds", found.mean(2).tolist())):
        missed[name] = np.mean([not estimate(one).within()[0] <= 0 <= estimate(one).within()[1] for one in values])
    assert missed["both"] < 0.075 < 0.4 < missed["seeds"]


def test_images_that_never_differ_leave_the_seeds_t_interval():
    rows = np.array([0.1, 0.3, 0.35])
    found = estimate_crossed(np.repeat(rows[:, None], 50, axis=1))
    low, high = stats.t.interval(0.95, 2, loc=rows.mean(), scale=stats.sem(rows))
    assert found.within() == pytest.approx((low, high), rel=1e-9)


def test_seeds_that_never_differ_leave_the_images_t_interval():
    images = np.random.default_rng(0).random(80)
    found = estimate_crossed(np.repeat(images[None], 4, axis=0))
    low, high = stats.t.interval(0.95, 79, loc=images.mean(), scale=stats.sem(images))
    assert found.within() == pytest.approx((low, high), rel=1e-9)


@given(st.lists(st.lists(st.integers(0, 3), min_size=6, max_size=6), min_size=2, max_size=5))
def test_scores_are_their_means_and_add_image_by_image(rows):
    one, other = Scores(rows[0]), Scores(rows[1])
    for made, plain in (
        (one - other, np.subtract(rows[0], rows[1])),
        (sum([one, other]) / 2, np.add(rows[0], rows[1]) / 2),
        (1.0 - one, 1 - np.array(rows[0])),
        (-one * 0.5, np.array(rows[0]) * -0.5),
    ):
        assert isinstance(made, Scores)
        np.testing.assert_allclose(made.each, plain)
        assert float(made) == pytest.approx(plain.mean())
        assert copy.deepcopy(made).each.tolist() == made.each.tolist()


def test_one_sided_probabilities_are_scipys():
    values = [0.1, 0.15, 0.02, 0.2]
    assert estimate(values).above(0.05) == pytest.approx(stats.ttest_1samp(values, 0.05, alternative="greater").pvalue)
    assert estimate(values).below(0.05) == pytest.approx(stats.ttest_1samp(values, 0.05, alternative="less").pvalue)


def test_one_seed_and_none_say_nothing():
    assert math.isinf(estimate([0.3]).error)
    assert math.isnan(estimate([]).mean)
    assert estimate_crossed(np.ones((3, 9))).within() == (1.0, 1.0)
