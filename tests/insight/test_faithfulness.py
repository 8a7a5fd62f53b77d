"""Deletion and insertion where the answer is known."""

import math

import pytest
import torch

from vitreous.errors import ConfigError
from vitreous.insight import faithfulness as room
from vitreous.insight.faithfulness import draw_random_heat, make_baseline, measure_deletion, measure_insertion

IMAGE = torch.rand(3, 8, 12, generator=torch.Generator().manual_seed(0))
ZERO = torch.zeros_like(IMAGE)
WEIGHTS = torch.rand(4, 6, generator=torch.Generator().manual_seed(1))


def linear(images):
    """A share for each of 4 x 6 cells that still is as in the image: the score is their sum."""
    kept = (images == IMAGE).all(1).view(-1, 4, 2, 6, 2).float().mean((2, 4))
    return (kept * WEIGHTS / WEIGHTS.sum()).sum((1, 2))


@pytest.mark.parametrize("steps", [1, 7, 24, 100])
def test_a_score_that_adds_up_gives_the_sorted_sums(steps):
    found = measure_deletion(linear, IMAGE, WEIGHTS, ZERO, steps)
    gone = torch.cat([torch.zeros(1), WEIGHTS.flatten().sort(descending=True).values.cumsum(0)]) / WEIGHTS.sum()
    counts = (found.shares * 24).round().long()
    assert len(counts) == min(steps, 24) + 1
    torch.testing.assert_close(found.probabilities, 1 - gone[counts].double(), atol=1e-6, rtol=0)
    back = measure_insertion(linear, IMAGE, WEIGHTS, ZERO, steps)
    torch.testing.assert_close(back.probabilities, gone[counts].double(), atol=1e-6, rtol=0)
    assert back.area == pytest.approx(1 - found.area, abs=1e-6)


def test_the_true_map_beats_random_ones_and_its_opposite():
    area = {
        name: (measure_deletion(linear, IMAGE, heat, ZERO).area, measure_insertion(linear, IMAGE, heat, ZERO).area)
        for name, heat in {"true": WEIGHTS, "random": draw_random_heat(4, 6), "opposite": -WEIGHTS}.items()
    }
    assert area["true"][0] < area["random"][0] < area["opposite"][0]
    assert area["true"][1] > area["random"][1] > area["opposite"][1]


@pytest.mark.parametrize("baseline", ["mean", "blur"])
def test_curves_begin_and_end_at_the_image_and_the_baseline(baseline, monkeypatch):
    score = lambda images: torch.sigmoid((images * torch.arange(12)).mean((1, 2, 3)))  # noqa: E731
    monkeypatch.setattr(room, "CHUNK", 5)
    image, blank = score(IMAGE[None]), score(make_baseline(IMAGE, baseline)[None])
    gone, come = (
        measure_deletion(score, IMAGE, draw_random_heat(8, 12), baseline),
        measure_insertion(score, IMAGE, draw_random_heat(8, 12), baseline),
    )
    assert (gone.shares[0], gone.shares[-1]) == (0, 1)
    for curve, first, last in ((gone, image, blank), (come, blank, image)):
        torch.testing.assert_close(curve.probabilities[[0, -1]], torch.cat([first, last]).double())


def test_equal_cells_go_in_the_order_of_reading():
    seen = []
    measure_deletion(lambda images: seen.append(images) or images[:, 0, 0, 0], IMAGE, torch.zeros(2, 2), ZERO, 4)
    quarter = seen[0][1]
    assert not quarter[:, :4, :6].any()
    assert torch.equal(quarter[:, 4:], IMAGE[:, 4:])
    assert torch.equal(quarter[:, :, 6:], IMAGE[:, :, 6:])


def test_baselines():
    mean = make_baseline(IMAGE, "mean")
    torch.testing.assert_close(mean[:, 3, 5], IMAGE.mean((1, 2)))
    blurred = make_baseline(IMAGE, "blur")
    torch.testing.assert_close(blurred.mean((1, 2)), IMAGE.mean((1, 2)))
    assert blurred.std() < IMAGE.std() / 2
    flat = torch.full((1, 8, 12), 0.3)
    torch.testing.assert_close(make_baseline(flat, "blur"), flat)


def test_the_blur_is_gaussian():
    point = torch.zeros(1, 64, 64)
    point[0, 32, 32] = 1
    found = make_baseline(point, "blur")[0]
    assert float(found[32, 40] / found[32, 32]) == pytest.approx(math.exp(-0.5), abs=1e-4)
    torch.testing.assert_close(found, found.T)


def test_mistakes():
    with pytest.raises(ConfigError, match="did you mean 'blur'"):
        measure_deletion(linear, IMAGE, WEIGHTS, "blurr")
    with pytest.raises(ConfigError, match="doesn't fit an image of 8x12"):
        measure_deletion(linear, IMAGE, torch.zeros(9, 9))
    with pytest.raises(ConfigError, match="at least 1"):
        measure_insertion(linear, IMAGE, WEIGHTS, steps=0)
    with pytest.raises(ConfigError, match="the baseline's shape is"):
        measure_insertion(linear, IMAGE, WEIGHTS, torch.zeros(1, 2, 2))
