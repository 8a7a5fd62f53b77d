"""What can be had without a network, on images whose answer is known."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vitreous.data.sources.base import ArraySource
from vitreous.errors import DataError
from vitreous.evaluation import baselines
from vitreous.evaluation.baselines import MOST, Baselines, count_colours, measure_baselines, sample
from vitreous.images.config import DecodeConfig
from vitreous.training.results import TrainResult


def pictures(count, seed, classes=("blue", "red", "yellow"), noise=30, sizes=(40, 64)):
    """Draw noise around one colour for each class, the first class as often as the others together."""
    rng = np.random.default_rng(seed)
    colours = np.array([[60, 60, 160], [160, 60, 60], [150, 150, 60]])
    labels = np.where(rng.random(count) < 0.5, 0, rng.integers(0, len(classes), count))
    pixels = np.clip(
        colours[labels][:, None, None]
        + rng.normal(0, noise, (count, *sizes, 3))
        + rng.normal(0, noise, (count, 1, 1, 3)),
        0,
        255,
    )
    return ArraySource(pixels.astype(np.uint8), tuple(f"{one}" for one in range(count)), labels, tuple(classes), "x")


def test_a_histogram_is_what_numpy_counts():
    source = pictures(3, 0, sizes=(64, 64))
    found = count_colours(source, DecodeConfig())
    for vector, image in zip(found, source.pixels, strict=True):
        counts, _ = np.histogramdd(image.reshape(-1, 3), bins=6, range=[(0, 256)] * 3)
        np.testing.assert_allclose(vector**2, counts.ravel() / counts.sum(), atol=1e-6)


def test_colours_tell_classes_apart_that_differ_in_colour():
    train, held = pictures(120, 1), pictures(80, 2)
    found = measure_baselines(train, held, DecodeConfig())
    assert (found.train, found.validation) == (120, 80)
    assert found.majority == pytest.approx((held.labels == 0).mean())
    inputs, new = (count_colours(one, DecodeConfig()) for one in (train, held))
    reference = make_pipeline(StandardScaler(), LogisticRegressionCV(max_iter=2000, scoring="neg_log_loss"))
    assert found.histogram == pytest.approx(
        (reference.fit(inputs, train.labels).predict(new) == held.labels).mean(), abs=0.05
    )
    assert found.histogram > 0.9
    assert str(found) == f"colour histogram {found.histogram:.1%}, commonest class {found.majority:.1%}"


def test_of_many_images_an_even_sample_is_looked_at():
    source = pictures(2 * MOST, 3, sizes=(2, 2))
    few = sample(source)
    assert len(few) == MOST
    assert few.names[0] == "0" and few.names[-1] == str(2 * MOST - 1)
    assert sample(few) is few


def test_of_more_classes_than_are_looked_at_some_are_measured(monkeypatch):
    monkeypatch.setattr(baselines, "MOST", 12)
    labels, pixels = np.arange(40) // 2, np.zeros((40, 1, 1, 3), np.uint8)
    pixels[:, 0, 0] = labels[:, None] // (6, 1, 40) % 6 * 40 + 5
    names, classes = tuple(map(str, range(40))), tuple(f"{label:02}" for label in range(20))
    train, held = (ArraySource(pixels[at::2], names[at::2], labels[at::2], classes, "x") for at in (0, 1))
    found = measure_baselines(train, held, DecodeConfig())
    assert (found.train, found.validation) == (12, 12) and found.histogram > 0.5
    lacking = ArraySource(train.pixels[1:], train.names[1:], train.labels[1:], classes, "x")
    with pytest.raises(DataError, match="classes without training images: '00'"):
        measure_baselines(lacking, held, DecodeConfig())


def test_one_class_alone_is_refused():
    one = pictures(10, 4)
    alone = ArraySource(one.pixels, one.names, np.zeros(10, np.int64), one.classes, "x")
    with pytest.raises(DataError, match="a single class, 'blue'"):
        measure_baselines(alone, one, DecodeConfig())


@pytest.mark.parametrize(
    ("top1", "stopped", "noted"),
    [
        (0.5, "finished", True),
        (0.51, "finished", False),
        (0.2, "early", True),
        (0.2, "interrupted", False),
        (None, "finished", False),
    ],
)
def test_a_model_that_is_no_better_is_told(top1, stopped, noted):
    metrics = {} if top1 is None else {"top1": top1, "loss": 1.0, "step": 3}
    result = TrainResult(Path("runs/a"), None, None, metrics, stopped, baselines=Baselines(0.3, 0.5, 10, 10))
    assert ("note: the model is no better than these; try a lower rate" in str(result)) == noted
