"""`vitreous.evaluate`, `probe`, `benchmark`, `compare` and `explain` in Python: the numbers that the command shows and writes."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.support.benchmark_copies import class_tree, imagenet_model, listed
from tests.support.pictures import encoded, picture, tree, write

import vitreous
from vitreous.api.data import OwnRun
from vitreous.data.sources.digits import load_digits
from vitreous.errors import ConfigError, DataError, UnknownName
from vitreous.weights.model_folder import save_model


def same(found, path="o"):
    """Assert that a folder's report.json holds this result's report, and that it is what `save` writes."""
    document = json.loads(Path(path, "report.json").read_text())
    assert document["results"] == json.loads(json.dumps(found.to_dict()))
    found.save("python")
    assert json.loads(Path("python/report.json").read_text()) == document
    for name in ("report.md",):
        assert Path("python", name).read_text() == Path(path, name).read_text()
    assert found._repr_html_().startswith("<iframe srcdoc=")


@pytest.fixture
def photos(here):
    """Write digits as class folders with parts: 8 and 4 images of each class."""
    for part, source, each in (("train", load_digits(0.2, 0)[0], 8), ("val", load_digits(0.2, 0)[1], 4)):
        for label in range(10):
            for number, index in enumerate(np.flatnonzero(source.labels == label)[:each]):
                write(here / "photos" / part / str(label) / f"{number}.png", encoded(source.pixels[index]))
    return "photos"


def test_evaluate(command, trained, photos):
    found = vitreous.evaluate(trained, photos, batch=7, speed=False, corruptions="fog", severities=(1, 5))
    asked = ("--batch=7", "--no-speed", "--corruptions", "fog", "--severities", "1", "5", "--out=o")
    command("evaluate", trained, photos, *asked).worked(f"{found}\n\nreport: o/report.html")
    same(found)
    logits = vitreous.load(trained).logits
    assert (found.logits.shape, found.targets.tolist()) == ((40, 10), np.repeat(np.arange(10), 4).tolist())
    assert found.metrics.top1 == pytest.approx((found.logits.argmax(1) == found.targets).mean())
    assert found.corruptions.clean == found.metrics.top1 and found.cost is None and callable(logits)
    held = vitreous.evaluate(vitreous.load(trained), load_digits(0.2, 0)[1], speed=False)
    own = vitreous.evaluate(trained, speed=False)
    np.testing.assert_array_equal(held.logits, own.logits)
    assert (own.data, own.overlap, held.metrics) == (None, None, own.metrics)


def test_several_labels(command, trained, here):
    digits = load_digits(0.2, 0)[1]
    rows = ["path,labels"]
    for index in range(20):
        write(here / f"{index}.png", encoded(digits.pixels[index]))
        rows.append(f"{index}.png,{digits.labels[index]};{(digits.labels[index] + 1) % 9}")
    (here / "sets.csv").write_text("\n".join(rows))
    found = vitreous.evaluate(trained, "sets.csv", speed=False)
    command("evaluate", trained, "sets.csv", "--no-speed", "--out=o").worked(str(found))
    same(found)
    assert found.targets.shape == (20, 10) and found.targets.dtype == bool and found.details is None
    with pytest.raises(ConfigError, match=r"sets\.csv has several labels"):
        vitreous.evaluate(trained, "sets.csv", corruptions=["fog"])


def test_compare(command, trained, run, photos):
    found = vitreous.compare(trained, run / "model", photos, speed=False)
    command("evaluate", trained, photos, "--compare", run / "model", "--no-speed", "--out=o").worked(str(found))
    same(found)
    assert (found.comparison.names, found.comparison.figures.test.p) == (("run", "copy"), 1)
    again = vitreous.evaluate(trained, photos, compare=vitreous.load(run), speed=False)
    assert again.comparison.figures.differences == found.comparison.figures.differences


ASKED = {
    "few-shot": ({"shots": (1, 3), "seeds": 2, "cache": False}, ("--shots", "1", "3", "--seeds=2", "--no-cache")),
    "linear": ({"l2": (0.01, 1.0), "layer": "mean"}, ("--l2", "0.01", "1", "--layer=mean")),
    "knn": ({"k": 3, "metric": "euclid"}, ("--k=3", "--metric=euclid")),
}


@pytest.mark.parametrize("kind", ASKED)
def test_probe(command, trained, photos, kind):
    options, arguments = ASKED[kind]
    found = vitreous.probe(trained, photos, kind=kind, **options)
    command("evaluate", trained, photos, "--protocol", kind, *arguments, "--out=o").worked(str(found))
    same(found)
    apart = vitreous.probe(trained, "photos/train", "photos/val", kind=kind, **options)
    assert (apart.accuracy, apart.probe.interval if kind != "few-shot" else 0) == (
        found.accuracy,
        found.probe.interval if kind != "few-shot" else 0,
    )
    assert (len(apart.train), len(apart.test), apart.learned, apart.data) == (80, 40, "photos/train", "photos/val")


def test_probe_of_two_models_on_the_runs_images(command, trained, run, photos):
    found = vitreous.probe(trained, photos, OwnRun.VALIDATION, kind="knn", k=(1, 3), compare=run / "model")
    asked = ("--protocol=knn", "--train", photos, "--k", "1", "3", "--compare", run / "model", "--out=o")
    command("evaluate", trained, *asked).worked(str(found))
    same(found)
    assert found.comparison.figures.test.p == 1 and found.other.accuracy == found.accuracy
    other = vitreous.compare(trained, run, "photos/val", protocol="few-shot", test="photos/train", shots=1)
    assert other.kind == "few-shot" and other.comparison.figures.agreement == 1


def test_what_a_probe_can_not_be_asked(trained, photos):
    for options, words in (
        ({"kind": "nearest"}, "unknown kind of probe 'nearest'"),
        ({"kind": "linear", "k": 5}, "k is for a probe of kind knn, not for linear"),
        ({"kind": "knn", "shot": 5}, "did you mean 'shots'"),
        ({"kind": "linear", "solver": "sgd", "l2": 1.0}, "with sgd give rates"),
        ({"kind": "knn", "batch": 0}, "batch is 0"),
        ({"kind": "knn", "layer": "blok.0"}, "did you mean 'block"),
        ({"kind": "knn", "k": 2000}, "at most the 80 training images"),
    ):
        with pytest.raises(ConfigError, match=words):
            vitreous.probe(trained, photos, **options)
    with pytest.raises(ConfigError, match="name the images that the probe learns from"):
        vitreous.probe(trained, test=photos)
    with pytest.raises(DataError, match="a model from memory doesn't belong to a run"):
        vitreous.probe(vitreous.load(trained).folder, kind="knn")


def test_what_can_not_be_evaluated(trained, here):
    tree(here / "cats", cat=2, dog=2)
    with pytest.raises(DataError, match="cats has classes not trained on: 'cat', 'dog'"):
        vitreous.evaluate(trained, "cats")
    with pytest.raises(ConfigError, match="batch is 0"):
        vitreous.evaluate("nowhere", "cats", batch=0)
    with pytest.raises(UnknownName, match="did you mean 'fog'"):
        vitreous.evaluate("nowhere", "cats", corruptions="fgo")
    with pytest.raises(DataError, match="a model from memory doesn't belong to a run"):
        vitreous.evaluate(vitreous.load(trained).folder)


def test_benchmark(command, tmp_path, here):
    save_model(tmp_path / "vit", imagenet_model())
    copy = class_tree(tmp_path / "imagenet-a", [6, 11])
    found = vitreous.benchmark(tmp_path / "vit", "imagenet-a", copy)
    command("evaluate", tmp_path / "vit", copy, "--benchmark=imagenet-a", "--out=o").worked(str(found))
    same(found)
    assert (found.score.images, found.model) == (4, str(tmp_path / "vit"))
    for task in ("eurosat", "kitti"):
        listed(tmp_path / "vtab", task, 20, 12, 4)
    found = vitreous.benchmark(tmp_path / "vit", "vtab", tmp_path / "vtab", protocol="linear", l2=0.1, tasks=("kitti",))
    asked = ("--benchmark=vtab", "--protocol=linear", "--l2=0.1", "--tasks=kitti", "--out=v")
    command("evaluate", tmp_path / "vit", tmp_path / "vtab", *asked).worked(str(found))
    assert json.loads(Path("v/report.json").read_text())["results"] == json.loads(json.dumps(found.to_dict()))
    for name, options, words in (
        ("imagenet-b", {}, "unknown benchmark 'imagenet-b'"),
        ("vtab", {}, "choose the protocol linear"),
        ("vtab", {"protocol": "lineal"}, "did you mean 'linear'"),
        ("vtab", {"protocol": "fine-tune", "k": 1}, "k is for a probe"),
        ("vtab", {"protocol": "few-shot", "seeds": 5}, "nothing to draw; leave out seeds"),
        ("vtab", {"protocol": "linear", "steps": 5}, "^steps is for the protocol fine-tune"),
        ("imagenet-a", {"layer": "mean"}, "own head"),
    ):
        with pytest.raises(ConfigError, match=words):
            vitreous.benchmark("nowhere", name, copy, **options)
    with pytest.raises(ConfigError, match="takes the model as it is"):
        vitreous.benchmark(vitreous.load(tmp_path / "vit", image=(16, 16)), "vtab", copy, protocol="fine-tune")


def test_explain(command, trained, here):
    for number in range(3):
        write(here / "images" / f"{number}.png", encoded(picture(number, 9, 9, 1)))
    (here / "images" / "broken.png").write_bytes(b"no image")
    paths = sorted((here / "images").iterdir())
    found = vitreous.explain(trained, paths, "attention", layer=0, out="python", page=2, faithful=1)
    done = command(
        "explain", trained, "images", "--method=attention", "--layer=0", "--page=2", "--faithful=1", "--out=o"
    )
    assert done.code == 1 and done.out.endswith(f"{found}\n".replace("python", "o"))
    assert (found.images, found.method, len(found.broken), found.path) == (3, "attention", 1, Path("python/index.html"))
    maps = [[path.read_bytes() for path in sorted(Path(name, "maps").iterdir())] for name in ("python", "o")]
    assert maps[0] == maps[1] and len(maps[0]) == 3
    assert "random" in found.faithfulness and found._repr_html_().startswith("<iframe srcdoc=")
    arrays = vitreous.explain(vitreous.load(trained), paths[:3], "attention", layer=0)
    assert arrays.maps.shape[0] == 3 and "0.png" in arrays._repr_html_()
    with pytest.raises(ConfigError, match="page is 0"):
        vitreous.explain("nowhere", paths, out="x", page=0)
