"""Evaluation over a source: every example once, classes matched by name."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_digits
from vitreous.errors import DataError
from vitreous.evaluation import accuracy as room
from vitreous.evaluation.accuracy import evaluate
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.images.tensors import normalize
from vitreous.model.config import ViTConfig
from vitreous.model.factory import create
from vitreous.predictor import Predictor
from vitreous.weights.model_folder import ModelFolder

PREPROCESS = PreprocessConfig(size=(8, 8), mode="L", crop=1.0, mean=(0.5,), std=(0.5,))
CLASSES = tuple(str(number) for number in range(10))


@pytest.fixture
def predictor():
    config = ViTConfig(image=(8, 8), patch=(4, 4), channels=1, width=16, depth=1, heads=2, mlp_width=16, classes=10)
    model = create(config)
    torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(5))
    return Predictor(ModelFolder(model, PREPROCESS, DecodeConfig(), CLASSES, {}), device="cpu")


@pytest.fixture
def source():
    part = open_digits(DataConfig()).validation
    keep = slice(0, 37)
    return replace(part, pixels=part.pixels[keep], names=part.names[keep], labels=part.labels[keep])


def test_every_example_once_in_order(predictor, source):
    told = []
    metrics, logits, labels = evaluate(predictor, source, batch=10, progress=lambda *now: told.append(now))
    pixels = torch.from_numpy(source.pixels).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = predictor.model(normalize(pixels, PREPROCESS)).numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    np.testing.assert_array_equal(labels, source.labels)
    assert metrics.examples == 37
    assert metrics.top1 == pytest.approx(float((expected.argmax(1) == source.labels).mean()))
    assert told == [(10, 37), (20, 37), (30, 37), (37, 37)]


def test_classes_in_another_order_are_matched_by_name(predictor, source):
    straight = evaluate(predictor, source)
    turned = replace(source, classes=CLASSES[::-1], labels=9 - source.labels)
    again = evaluate(predictor, turned)
    np.testing.assert_array_equal(again[2], straight[2])
    assert again[0] == straight[0]


def test_a_part_of_the_classes_is_enough(predictor, source):
    keep = source.labels < 3
    part = replace(
        source,
        pixels=source.pixels[keep],
        names=tuple(np.array(source.names)[keep]),
        labels=source.labels[keep],
        classes=CLASSES[:3],
    )
    assert evaluate(predictor, part)[0].examples == int(keep.sum())


def test_unknown_classes_are_named(predictor, source):
    with pytest.raises(DataError, match=r"doesn't know: 'seven'.*it knows '0'"):
        evaluate(predictor, replace(source, classes=(*CLASSES[:7], "seven", *CLASSES[8:])))


def test_no_examples(predictor, source):
    empty = replace(source, pixels=source.pixels[:0], names=(), labels=source.labels[:0])
    with pytest.raises(DataError, match="no examples"):
        evaluate(predictor, empty)


def test_an_example_that_comes_twice_is_noticed(predictor, source, monkeypatch):
    honest = room.load_evaluation_batches

    def doubling(*arguments):
        for batch in honest(*arguments):
            yield batch
            yield batch

    monkeypatch.setattr(room, "load_evaluation_batches", doubling)
    with pytest.raises(AssertionError, match="exactly once"):
        evaluate(predictor, source)
