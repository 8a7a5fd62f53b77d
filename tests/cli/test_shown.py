"""What a notebook and an interactive session show of each thing that vitreous returns: escaped, in a line, never arrays."""

import inspect
from dataclasses import fields, is_dataclass

import numpy as np
import pytest
from tests.support.pictures import encoded, picture, write
from tests.support.videos import video

import vitreous
from vitreous.runtime.display import Abbreviation, Shown

OTHERS = {
    "Callback",
    "EfficientNet",
    "EfficientNetConfig",
    "ResNet",
    "ResNetConfig",
    "RunConfig",
    "Swin",
    "SwinConfig",
    "ViT",
    "ViTConfig",
    "VitreousError",
}
"""Modules of torch, settings and errors: shown as such are."""


def test_every_public_class_is_shown():
    classes = {name for name in vitreous.__all__ if inspect.isclass(getattr(vitreous, name))}
    assert {name for name in classes - OTHERS if not issubclass(getattr(vitreous, name), Shown)} == set()
    made = [name for name in classes - OTHERS if "__create_fn__" in getattr(vitreous, name).__repr__.__qualname__]
    assert made == [], "their repr is the dataclass's, with every array in it"


@pytest.fixture(scope="module")
def found(trained, tmp_path_factory):
    """Everything that a trained model leads to, by its name."""
    place = tmp_path_factory.mktemp("shown")
    image = write(place / "<i>" / "a&b.png", encoded(picture(0, 9, 9, 1)))
    predictor = vitreous.load(trained)
    evaluation = vitreous.evaluate(predictor, compare=trained, speed=False)
    embedding = vitreous.embed(predictor, [image])
    every = [
        predictor,
        predictor(image),
        predictor(place / "nothing<b>.png"),
        evaluation,
        evaluation.comparison,
        evaluation.metrics,
        evaluation.details,
        embedding,
        vitreous.explain(predictor, image),
        vitreous.similar(image, embedding, predictor),
        vitreous.sort_into(predictor, image, place / "<sorted>"),
        vitreous.inspect(trained),
        vitreous.models("S/*"),
        vitreous.models(pretrained=True),
        vitreous.models("Ti/32", compare=True, batch=1),
        vitreous.report(trained),
        vitreous.train("digits", model="mu/4", settings={"workers": 0, "batch": 8, "duration": "1st"}, dry_run=True),
        next(vitreous.frames(video(place / "clip.mkv", frames=4))),
        next(vitreous.frames(place / "no.mkv")),
    ]
    return {f"{number} {type(one).__name__}": one for number, one in enumerate(every)}


def test_what_a_session_shows(found):
    for name, one in found.items():
        line, drawn = repr(one), one._repr_html_()
        assert "\n" not in line and len(line) < 1000, name
        assert line.startswith((type(one).__name__, f"<{type(one).__name__}")), name
        assert "array(" not in line, name
        assert "<i>" not in drawn and "nothing<b>" not in drawn and "<sorted>" not in drawn, name
        assert "#fff" not in drawn.partition("<iframe")[0] and "color: black" not in drawn, name
        assert str(one) != line or name.endswith("Explanation"), name


def test_a_prediction_is_drawn_with_its_classes(found):
    one = found["1 Prediction"]
    assert repr(one) == f"Prediction(name={one.name!r}, label={one.label!r}, score={one.score:.4g})"
    drawn = one._repr_html_()
    assert all(f"{label}</td><td>{score:.1%}" in drawn for label, score in one.top)
    assert "a&amp;b.png" in drawn and f"<b>{one.label}</b>" in drawn
    assert "nothing&lt;b&gt;.png" in found["2 Prediction"]._repr_html_()
    several = vitreous.Prediction("x", "cat", 0.9, (("cat", 0.9), ("dog", 0.6), ("cow", 0.1)), labels=("cat", "dog"))
    assert str(several) == "x: cat, dog   (cat 90.0%   dog 60.0%   cow 10.0%)"
    assert repr(several) == "Prediction(name='x', labels=('cat', 'dog'), score=0.9)"
    assert str(vitreous.Prediction("x", "cat", 0.2, (("cat", 0.2),), labels=())) == "x: none   (cat 20.0%)"


def test_abbreviations(found):
    evaluation = found["3 EvaluationResult"]
    shape = evaluation.logits.shape
    assert f"logits=<{shape} float32>" in repr(evaluation) and "metrics=Metrics(...)" in repr(evaluation)
    hidden = {one.name for one in fields(evaluation) if not one.repr}
    assert hidden and not any(f"{name}=" in repr(evaluation) for name in hidden)
    assert all(is_dataclass(one) for name, one in found.items() if "Predictor" not in name)
    assert (
        Abbreviation().repr1({"a": (1.5, None), "b": np.zeros((2, 3))}, 3)
        == "{'a': (1.5, None), 'b': <(2, 3) float64>}"
    )


def test_what_a_training_came_to_is_printed_as_the_command_prints_it(command, run):
    import pandas

    result = vitreous.resume(run)
    text = str(result)
    assert text.startswith("finished: validation top-1 ") and f"  run     {run}" in text
    assert f"\n{text}\nnext: vitreous predict" in command("resume", run).out
    table = result.to_pandas()
    assert list(table["step"][table["kind"] == "evaluation"]) == [3, 6]
    assert table["top1"].iloc[-1] == result.metrics["top1"] and pandas.isna(table["top1"].iloc[0])
    assert repr(result).startswith(f"TrainResult(run={run!r}, model={run / 'model'!r}, ")
    assert "\n" not in repr(result) and len(repr(result)) < 1000
