"""Two models on the same images: differences, their intervals, and where they differ."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reports.test_blocks import Reader
from tests.support.runs import HOSTILE

from vitreous.data.sources.base import ArraySource
from vitreous.errors import DataError
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.metrics.classification import evaluate_logits
from vitreous.metrics.comparison import compare, match_classes
from vitreous.model.config import ViTConfig
from vitreous.model.factory import create
from vitreous.predictor import Predictor
from vitreous.reports.blocks import Report, render_html, render_markdown
from vitreous.reports.evaluation.comparison import build_sections, describe_mcnemar
from vitreous.weights.model_folder import ModelFolder

NAMES = ("one", "other")


def drawn(seed=0, examples=200, classes=4, better=1.5):
    """Draw labels and the logits of two models, the first the better one."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=examples)
    shared = rng.normal(size=(examples, classes))
    shared[np.arange(examples), labels] += 1
    first, second = shared + 0.3 * rng.normal(size=shared.shape), shared + rng.normal(size=shared.shape)
    first[np.arange(examples), labels] += better - 1
    return first, second, labels, tuple(f"class {index}" for index in range(classes))


def test_each_difference_is_that_of_the_metrics():
    first, second, labels, classes = drawn()
    found = compare(first, second, labels, classes)
    one, other = evaluate_logits(first, labels, classes), evaluate_logits(second, labels, classes)
    assert (found.first, found.second) == (one, other)
    assert [each.metric for each in found.differences] == ["top1", "balanced", "macro_f1", "nll", "ece"]
    for each in found.differences:
        assert each.difference == pytest.approx(getattr(one, each.metric) - getattr(other, each.metric), abs=1e-12)
        assert each.interval is None if each.metric == "ece" else each.interval[0] < each.difference < each.interval[1]
    better = {each.metric: each for each in found.differences}
    assert better["top1"].interval[0] > 0 > better["nll"].interval[1]
    assert found.agreement == pytest.approx((first.argmax(1) == second.argmax(1)).mean())
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["mcnemar"]["only_first"] == found.test.only_first


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), examples=st.integers(1, 30))
def test_the_other_way_round(seed, examples):
    first, second, labels, classes = drawn(seed, examples)
    found, turned = compare(first, second, labels, classes), compare(second, first, labels, classes)
    assert found.test.p == turned.test.p
    np.testing.assert_array_equal(found.select_only(0), turned.select_only(1))
    for one, other in zip(found.differences, turned.differences, strict=True):
        assert one.difference == pytest.approx(-other.difference)
        if one.interval is not None:
            np.testing.assert_allclose(one.interval, [-end for end in reversed(other.interval)], atol=1e-12)
    assert sum(one.only_first for one in found.per_class) == found.test.only_first == len(found.select_only(0))
    assert sum(one.support for one in found.per_class) == examples


def test_the_most_decided_come_first():
    logits = np.log(np.array([[0.6, 0.4], [0.9, 0.1], [0.7, 0.3], [0.9, 0.1]]))
    against = np.log(np.array([[0.4, 0.6], [0.2, 0.8], [0.1, 0.9], [0.9, 0.1]]))
    found = compare(logits, against, np.array([0, 0, 0, 1]), ("a", "b"))
    assert found.select_only(0).tolist() == [1, 2, 0]
    assert found.select_only(1).tolist() == []
    assert (found.test.both, found.test.neither) == (0, 1)


def test_a_model_and_itself():
    first, _, labels, classes = drawn()
    found = compare(first, first, labels, classes)
    assert (found.test.p, found.agreement) == (1.0, 1.0)
    assert all({one.difference, *(one.interval or ())} == {0} for one in found.differences)
    assert describe_mcnemar(found.test, NAMES) == "Both are right on the same images."


def test_classes_are_matched_by_name():
    assert match_classes(("a", "b", "c"), ("c", "a", "b")).tolist() == [1, 2, 0]
    _, second, _, classes = drawn()
    turn = np.array([2, 0, 3, 1])
    other = tuple(classes[place] for place in turn)
    order = match_classes(classes, other)
    np.testing.assert_array_equal(second[:, turn][:, order], second)


def test_classes_that_only_one_knows():
    with pytest.raises(DataError, match=r"the same classes, but only m has 'b'; only n has 'x', 'y'$"):
        match_classes(("a", "b"), ("a", "x", "y"), ("m", "n"))
    with pytest.raises(DataError, match=r"only the other model has '0', '1', '2', '3', '4' and 2 more$"):
        match_classes((), tuple(map(str, range(7))))


def test_outputs_that_are_no_numbers():
    first, second, labels, classes = drawn(examples=5)
    second[2, 1] = np.nan
    with pytest.raises(DataError, match="1 of 5 outputs"):
        compare(first, second, labels, classes)


@pytest.fixture
def predictor():
    config = ViTConfig(image=(8, 8), patch=(4, 4), channels=3, width=8, depth=1, heads=2, mlp_width=8, classes=3)
    folder = ModelFolder(create(config), PreprocessConfig(size=(8, 8), crop=1.0), DecodeConfig(), HOSTILE, {})
    return Predictor(folder, device="cpu")


@pytest.fixture
def source():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=60)
    pixels = rng.integers(256, size=(60, 8, 8, 3), dtype=np.uint8)
    return ArraySource(pixels, tuple(f"<i>{number}</i>.png" for number in range(60)), labels, HOSTILE, "")


def test_the_report_shows_where_they_differ(predictor, source):
    rng = np.random.default_rng(1)
    found = compare(rng.normal(size=(60, 3)), rng.normal(size=(60, 3)), source.labels, HOSTILE)
    names = ("<b>one", "other & more")
    report = Report("t", "l", build_sections(found, names, predictor.folder, source))
    reader = Reader(render_html(report).decode())
    assert not reader.open
    shown = min(24, found.test.only_first) + min(24, found.test.only_second)
    assert len([tag for tag, _ in reader.tags if tag == "img"]) == shown > 10
    assert not [tag for tag, _ in reader.tags if tag in ("script", "i", "b")]
    words = "".join(reader.words)
    assert "<i>" in words and "<b>one alone is right on" in words
    assert f"p = {found.test.p:.2g}" in words
    text = render_markdown(report)
    assert "| metric | \\<b>one | other & more | difference | 95% interval |" in text
    assert f"- \\<i>{found.select_only(0)[0]}\\</i>.png: true: " in text


def test_nothing_to_show_is_said(predictor, source):
    logits = np.eye(3)[source.labels]
    part = replace(source, pixels=source.pixels)
    text = render_markdown(
        Report("t", "l", build_sections(compare(logits, logits, source.labels, HOSTILE), NAMES, predictor.folder, part))
    )
    assert "There is no image that only one has right." in text
    assert "There is no image that only other has right." in text


def test_bare_decisions_have_no_confidence(predictor, source):
    rng = np.random.default_rng(5)
    first, second = np.eye(len(HOSTILE))[rng.integers(len(HOSTILE), size=(2, len(source.labels)))]
    found = compare(first, second, source.labels, HOSTILE, sure=False)
    assert [one.metric for one in found.differences] == ["top1", "balanced", "macro_f1"]
    assert found.select_only(0).tolist() == sorted(found.select_only(0).tolist())
    text = render_markdown(Report("t", "l", build_sections(found, NAMES, predictor.folder, source)))
    assert "loss" not in text
    assert "% (" not in text
