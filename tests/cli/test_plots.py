"""Plots show the pages' figures, in the axes that they are given, and say in a line what can't be drawn."""

import inspect
import sys
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from tests.support.pictures import encoded, picture, write

import vitreous
from vitreous.api import plots
from vitreous.api.features import EmbeddingResult
from vitreous.cross_validation import CrossValidation, write_plan
from vitreous.drawing.images import draw_overlay
from vitreous.errors import ConfigError, RunError, UnknownName
from vitreous.evaluation.probes.cka import CKA
from vitreous.evaluation.probes.features import Features
from vitreous.insight.attention_distance import measure_attention_distance
from vitreous.insight.explanation import open_inside
from vitreous.run_folder import read_run
from vitreous.training.config import RunConfig

matplotlib.use("Agg")


@pytest.fixture
def ax():
    from matplotlib import pyplot

    figure, axes = pyplot.subplots()
    yield axes
    pyplot.close(figure)


@pytest.fixture(scope="module")
def evaluation(trained):
    return vitreous.evaluate(trained, speed=False)


def test_layers_that_are_alike_have_their_values_in_rows_and_columns(ax):
    found = CKA(("a", "b"), ("c", "d", "e"), np.array([[1.0, 0.25, 0.5], [0.125, -1e-9, 0.75]]), 10, False)
    assert vitreous.plot_cka(vitreous.CKAResult(("runs/one", "runs/two"), "digits", found), ax=ax) is ax
    shown = {text.get_position(): text.get_text() for text in ax.texts}
    assert shown == {(0, 0): "1.00", (1, 0): "0.25", (2, 0): "0.50", (0, 1): "0.12", (1, 1): "0.00", (2, 1): "0.75"}
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "b"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["c", "d", "e"]
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("one", "two")
    vitreous.plot_cka(vitreous.CKAResult((r"runs/a$\foo$", r"runs/$\b"), "digits", found), ax=ax)
    ax.figure.canvas.draw()  # names of models are no mathematics


def test_every_plot_takes_axes_and_returns_them():
    every = [name for name in vitreous.__all__ if name.startswith("plot_")]
    assert len(every) == 9
    for name in every:
        told = inspect.signature(getattr(vitreous, name))
        assert told.parameters["ax"].kind is inspect.Parameter.KEYWORD_ONLY and told.return_annotation == "Axes"
        assert ">>> " in getattr(vitreous, name).__doc__


def test_curves_are_the_records(trained, ax):
    records = read_run(trained).metrics
    held = [(one["epoch"], one["top1"]) for one in records if one["kind"] == "evaluation"]
    train = [(one["epoch"], one["accuracy"]) for one in records if one["kind"] == "train"]
    assert vitreous.plot_curves(trained, "accuracy", ax=ax) is ax
    noisy, _, validation = (list(zip(*line.get_data(), strict=True)) for line in ax.lines)
    assert validation == held and noisy == train
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "accuracy")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["training", "validation"]
    ax.clear()
    vitreous.plot_curves(trained, "lr", ax=ax)
    assert list(ax.lines[0].get_ydata()) == [one["lr"] for one in records if one["kind"] == "train"]
    with pytest.raises(UnknownName, match="accuracy"):
        vitreous.plot_curves(trained, "acuracy")
    with pytest.raises(ConfigError, match="has no records of map; it has records of loss, accuracy, lr"):
        vitreous.plot_curves(trained, "map")


def test_colours_are_the_pages_in_light_and_dark(trained, ax):
    vitreous.plot_curves(trained, ax=ax)
    assert to_hex(ax.lines[-1].get_color()) == "#b4540a"
    ax.set_facecolor("#131518")
    vitreous.plot_curves(trained, ax=ax)
    assert to_hex(ax.lines[-1].get_color()) == "#f0a35e"


def test_confusions_and_reliability_are_those_of_the_evaluation(evaluation, ax):
    predicted = evaluation.logits.argmax(1)
    vitreous.plot_confusions(evaluation, ax=ax)
    shown = np.zeros((10, 10), int)
    for text in ax.texts:
        shown[text.get_position()[1], text.get_position()[0]] = int(text.get_text())
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (evaluation.targets, predicted), 1)
    np.testing.assert_array_equal(shown, counts)
    ax.clear()
    vitreous.plot_reliability(evaluation, ax=ax)
    bins = [one for one in evaluation.metrics.reliability if one.count]
    assert [bar.get_height() for bar in ax.patches[::2]] == [one.accuracy for one in bins]
    np.testing.assert_allclose(
        [bar.get_height() for bar in ax.patches[1::2]], [abs(one.accuracy - one.confidence) for one in bins]
    )


def test_names_of_classes_are_no_mathematics_and_none_is_left_out(evaluation, ax):
    names = ["$5 bill $x^$", "$10 {$", "_hidden", *(f"class {place}" for place in range(7))]
    classes = tuple(replace(one, name=name) for one, name in zip(evaluation.metrics.per_class, names, strict=True))
    vitreous.plot_confusions(replace(evaluation, metrics=replace(evaluation.metrics, per_class=classes)), ax=ax)
    ax.figure.canvas.draw()
    assert [label.get_text() for label in ax.get_yticklabels()] == names
    ax.clear()
    vectors = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)
    found = Features(vectors, np.arange(10), tuple(f"{place}.png" for place in range(10)), tuple(names))
    vitreous.plot_embedding(EmbeddingResult("model", "features", {"": found}, None, (), {}), ax=ax)
    ax.figure.canvas.draw()
    assert sorted(text.get_text() for text in ax.get_legend().get_texts()) == sorted(names)


def test_explanations_distances_and_positions(trained, tmp_path, ax):
    paths = [write(tmp_path / f"$a_{number}$.png", encoded(picture(number, 9, 9, 1))) for number in range(3)]
    predictor = vitreous.load(trained)
    found = vitreous.explain(predictor, paths, "attention")
    vitreous.plot_explanation(found, 1, ax=ax)
    np.testing.assert_array_equal(ax.images[0].get_array(), draw_overlay(found.pixels[1].repeat(3, -1), found.maps[1]))
    assert ax.get_title().startswith("$a_1$.png: ")
    ax.figure.canvas.draw()  # dollars are no mathematics
    ax.clear()
    vitreous.plot_explanation(found, -1, head=1, ax=ax)
    np.testing.assert_array_equal(
        ax.images[0].get_array(), draw_overlay(found.pixels[2].repeat(3, -1), found.by_head[2, 1])
    )
    for index, head, words in ((3, None, "index is 3, but there are 3 images"), (0, 9, "head is 9")):
        with pytest.raises(ConfigError, match=words):
            vitreous.plot_explanation(found, index, head)
    ax.clear()
    vitreous.plot_attention_distance(predictor, paths, ax=ax)
    ready = open_inside(predictor)
    distance = measure_attention_distance(ready.model, ready.images(found.pixels)).distance
    np.testing.assert_allclose(ax.lines[0].get_ydata(), distance.flatten(), rtol=1e-5)
    np.testing.assert_allclose(ax.lines[1].get_ydata(), distance.mean(1), rtol=1e-5)
    ax.clear()
    vitreous.plot_positions(predictor, ax=ax)
    assert ax.get_title() == "input: learned vectors" and ax.images[0].get_array().shape[2] == 4
    with pytest.raises(ConfigError, match="index is 5, but the model has 1 maps"):
        vitreous.plot_positions(predictor, 5)


def test_folds(tmp_path, trained, ax):
    plan = CrossValidation(RunConfig(), 3, {"1": {"top1": 0.5, "loss": 1.0}, "2": {"top1": 0.75, "loss": 1.0}})
    write_plan(plan, tmp_path)
    vitreous.plot_folds(tmp_path, ax=ax)
    assert list(ax.lines[1].get_ydata()) == [0.5, 0.75] and ax.lines[0].get_label() == "mean 62.5%"
    with pytest.raises(RunError, match="is not a cross-validation"):
        vitreous.plot_folds(trained)


def test_the_plane_of_an_embedding_is_that_of_the_covariance():
    vectors = np.random.default_rng(0).normal(size=(40, 7)) * (5, 3, 1, 1, 1, 0.5, 0.1)
    points, explained = plots.find_plane(vectors)
    sizes, axes = np.linalg.eigh(np.cov(vectors.T))
    projected = (vectors - vectors.mean(0)) @ axes[:, :-3:-1]
    np.testing.assert_allclose(np.abs(points), np.abs(projected), atol=1e-9)
    np.testing.assert_allclose(explained, sizes[:-3:-1] / sizes.sum())
    assert (points[np.abs(points).argmax(0), [0, 1]] > 0).all()
    np.testing.assert_array_equal(plots.find_plane(np.ones((3, 1)))[0], np.zeros((3, 2)))


def test_without_matplotlib(trained, evaluation, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for draw in (lambda: vitreous.plot_curves(trained), lambda: vitreous.plot_confusions(evaluation)):
        with pytest.raises(ConfigError) as raised:
            draw()
        assert str(raised.value) == "plots need matplotlib: pip install 'vitreous[notebook]'"
