"""`vitreous evaluate --protocol ...`: frozen features measured from the command line, and what it says of mistakes."""

import json

import numpy as np
import pytest
from tests.support.pictures import encoded, tree, write

import vitreous as package
from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_digits
from vitreous.evaluation.probes.features import features
from vitreous.evaluation.probes.few_shot import few_shot
from vitreous.evaluation.probes.knn import KNNOptions, knn
from vitreous.evaluation.probes.linear import LinearOptions, linear_probe
from vitreous.reports.blocks import render_markdown
from vitreous.weights.model_folder import load_model, save_model


@pytest.fixture(scope="module")
def parts(trained):
    """Return the features of the digits' two parts."""
    folder, digits = load_model(trained), open_digits(DataConfig())
    return features(folder, digits.train), features(folder, digits.validation)


def stored(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json", "report.md"]
    return json.loads((folder / "report.json").read_text())


def test_few_shot(vitreous, trained, here, parts):
    shown = vitreous("evaluate", trained, "--protocol", "few-shot", "--shots", "1", "5", "all", "--seeds", "2")
    found = few_shot(*parts, shots=(1, 5, "all"), seeds=2)
    shown.worked("report: evaluations/run-validation-few-shot-1/report.html", "next: vitreous embed", "seed 1")
    document = stored(here / "evaluations" / "run-validation-few-shot-1")
    assert document["results"]["shots"] == [
        {"shots": one.shots, "mean": one.mean, "interval": list(one.interval), "accuracies": list(one.accuracies),
         "l2": list(one.l2)} for one in found.shots
    ]  # fmt: skip
    assert (document["protocol"], document["layer"], document["train_images"]) == ("few-shot", "features", 1437)
    assert f"{found.at(5).mean:.2%}" in shown.out
    assert f"{found.at(5).mean:.1%}" in (here / "evaluations/run-validation-few-shot-1/report.md").read_text()


def test_l2_by_a_grid(vitreous, trained, here, parts):
    shown = vitreous("evaluate", trained, "--protocol=few-shot", "--shots=5", "--l2=grid", "--out=o", "--json=j.json")
    shown.worked("report: o/report.html", "all numbers are in j.json")
    found = few_shot(*parts, shots=(5,), l2=tuple(2.0**power for power in range(-10, 21)))
    assert json.loads((here / "j.json").read_text())["shots"][0]["l2"] == list(found.at(5).l2)


def test_linear(vitreous, trained, here, parts):
    found = linear_probe(*parts, LinearOptions(grid=(0.01, 1.0)))
    shown = vitreous("evaluate", trained, "--protocol", "linear", "--l2", "0.01", "1").worked(f"{found.accuracy:.2%}")
    assert f"l2 {found.chosen:g}" in shown
    assert stored(here / "evaluations" / "run-validation-linear-1")["results"]["accuracy"] == found.accuracy
    vitreous("evaluate", trained, "--protocol=linear", "--solver=sgd", "--rates", "0.1").worked("rate 0.1")
    assert stored(here / "evaluations" / "run-validation-linear-2")["results"]["chosen"] == 0.1


def test_knn(vitreous, trained, here, parts):
    found = knn(*parts, KNNOptions(ks=(3,), metric="euclid", votes="uniform"))
    vitreous("evaluate", trained, "--protocol=knn", "--k=3", "--metric=euclid").worked(
        f"{found.accuracy:.2%}", "note: the model was trained on the labels of the images that the probe learns from"
    )
    results = stored(here / "evaluations" / "run-validation-knn-1")["results"]
    assert (results["accuracy"], results["chosen"]) == (found.accuracy, 3)


@pytest.fixture
def digit_folders(here):
    """Write digits of two classes as class folders with parts: 6 and 4 images of each."""
    digits = open_digits(DataConfig()).train
    for label in (3, 7):
        for number, index in enumerate(np.flatnonzero(digits.labels == label)[:10]):
            part = "train" if number < 6 else "val"
            write(here / "two" / part / str(label) / f"{number}.png", encoded(digits.pixels[index]))
    return here / "two"


def test_other_data_and_other_training_images(vitreous, trained, here, digit_folders):
    def run(*options):
        name = f"out{len(list(here.glob('out*')))}"
        vitreous("evaluate", trained, *options, "--protocol=few-shot", "--shots=2", "--out", name).worked()
        document = stored(here / name)
        return document["train_images"], document["results"]["test_images"]

    assert run("two") == (12, 8)
    assert run("two/val") == (6, 2)
    assert run("two", "--train", "two/val") == (8, 8)
    assert run("two/val", "--train", "two") == (12, 8)
    same = vitreous("evaluate", trained, "two/val", "--train", "two/val", "--protocol=knn", "--k=1").worked("100.00%")
    assert "note: all of the 8 test images are also among the training images" in same
    twin = here / "two" / "val" / "7" / "twin.png"
    twin.write_bytes((here / "two" / "train" / "7" / "0.png").read_bytes())
    vitreous("evaluate", trained, "two", "--protocol=knn", "--k=1").worked(
        "note: 1 of the 9 test images are also among the training images"
    )
    shown = vitreous("evaluate", trained, "two/val", "--train", "two/train", "--protocol=knn", "--k=1", "--out=leak")
    shown.worked("note: 1 of the 9 test images are also among the training images; the accuracy flatters the model")
    assert stored(here / "leak")["results"]["also_learned_from"] == 1
    assert "**Not held out:** 1 of the 9 test images" in (here / "leak/report.md").read_text()
    twin.unlink()
    assert run("--train", "digits") == (1437, 360)


def test_a_model_without_a_head(vitreous, trained, here):
    folder = load_model(trained)
    from dataclasses import replace

    from vitreous.model.factory import create

    trunk = create(replace(folder.model.config, classes=0))
    save_model(here / "trunk", replace(folder, model=trunk, classes=()))
    vitreous("evaluate", "trunk", "digits", "--protocol=knn").worked(
        "report: evaluations/trunk-digits-knn-1", "next: vitreous embed trunk IMAGES..."
    )
    vitreous("evaluate", "trunk", "digits").refused(
        "trunk has no head", "vitreous embed trunk IMAGES", "--protocol knn"
    )
    vitreous("predict", "trunk", "a.png").refused("trunk has no head", "--recipe finetune --weights trunk")
    vitreous("evaluate", trained, "--compare", "trunk", "--no-speed", "--out=e").refused("has no head")
    vitreous("evaluate", "trunk", "--protocol=knn").refused(
        "trunk doesn't belong to a run, so name the labelled images"
    )


def test_a_layer_and_no_cache(vitreous, trained, here, monkeypatch, tmp_path):
    monkeypatch.setenv("VITREOUS_CACHE", str(tmp_path / "cache"))
    options = ("evaluate", trained, "--protocol=knn", "--k=1", "--layer=block.0:mean")
    first = vitreous(*options, "--no-cache", "--out=a").worked("layer block.0:mean")
    assert not (tmp_path / "cache").exists()
    again = vitreous(*options, "--out=b").worked()
    assert len(list((tmp_path / "cache" / "features").iterdir())) == 2
    mapped = vitreous(*options, "--out=c").worked()
    ends = [
        shown.replace(f"{out}/", "").splitlines()[-8:] for out, shown in (("a", first), ("b", again), ("c", mapped))
    ]
    assert ends[0] == ends[1] == ends[2]


MISTAKES = {
    "protocol": (("--protocol", "fewshot"), "--protocol is 'fewshot'; it must be one of 'accuracy', 'few-shot'"),
    "shots of accuracy": (("--shots", "5"), "--shots is for --protocol few-shot, not for accuracy"),
    "cache of accuracy": (("--no-cache",), "--no-cache is for --protocol few-shot or linear or knn"),
    "corruptions of knn": (("--protocol=knn", "--corruptions", "fog"), "--corruptions is for --protocol accuracy, not for knn"),
    "speed of knn": (("--protocol=knn", "--no-speed"), "--no-speed is for --protocol accuracy, not for knn"),
    "k of linear": (("--protocol=linear", "--k", "5"), "--k is for --protocol knn, not for linear"),
    "l2 of sgd": (("--protocol=linear", "--solver=sgd", "--l2", "1"), "with sgd give rates"),
    "rates of lbfgs": (("--protocol=linear", "--rates", "1"), "with lbfgs give l2"),
    "shots": (("--protocol=few-shot", "--shots", "0"), "shots are 0"),
    "many shots": (("--protocol=few-shot", "--shots", "500"), "500 shots need 500 training images of each class, but '0' has 14"),
    "seeds": (("--protocol=few-shot", "--seeds", "0"), "seeds 0"),
    "l2": (("--protocol=few-shot", "--l2", "-1"), "l2 is -1; every value must be above 0"),
    "l2 of nothing": (("--protocol=linear", "--l2", "0"), "l2 is 0; every value must be above 0"),
    "k": (("--protocol=knn", "--k", "2000"), "k is 2000; each must be at least 1 and at most the 1,437 training images"),
    "votes": (("--protocol=knn", "--metric=euclid", "--votes=temperature"), "with euclid choose uniform votes"),
    "layer": (("--protocol=knn", "--layer", "blok.0"), "unknown layer 'blok.0'; did you mean 'block.0'"),
    "batch": (("--protocol=knn", "--batch", "0"), "batch is 0"),
    "other classes": (("cats", "--train", "digits", "--protocol=knn"), "classes without training images: 'cat', 'dog'"),
    "one class": (("cats", "--train", "cats/one", "--protocol=knn"), "single class"),
    "no data": (("nowhere", "--protocol=knn"), "no such file or folder: nowhere"),
    "no training data": (("--train", "nowhere", "--protocol=knn"), "no such file or folder: nowhere"),
    "nothing": (("empty", "--protocol=knn"), "empty is empty"),
    "folder in use": (("--out", "cats"), "cats is not empty; choose another folder with --out"),
    "file in use": (("--out", "list.txt"), "list.txt is a file; --out must name a new or empty folder"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(vitreous, trained, here, mistake):
    arguments, words = MISTAKES[mistake]
    tree(here / "cats", cat=2, dog=2)
    tree(here / "ones" / "one", cat=2)
    write(here / "list.txt", b"")
    (here / "empty").mkdir()
    given = [argument.replace("cats/one", "ones/one") for argument in arguments]
    vitreous("evaluate", trained, *given).refused(words)
    assert not (here / "evaluations").exists()


def test_a_layer_that_there_is_not_is_told_before_the_data_is_opened(vitreous, trained, here):
    done = vitreous("evaluate", trained, "nowhere", "--protocol", "knn", "--layer", "blok.0")
    assert "opening the data" not in done.out
    done.refused("unknown layer 'blok.0'; did you mean 'block.0'")


def test_reports_claim_no_choice_that_was_not_made(trained):
    """A value that is given is not chosen on any images; images that are all taken are not drawn."""
    given = {
        "linear": {"l2": (0.1,)},
        "knn": {"k": (5,)},
    }
    for kind, options in given.items():
        report = render_markdown(package.probe(trained, "digits", kind=kind, **options).report)
        assert "held-out fifth" not in report and "is best on the training images" not in report
    tried = render_markdown(package.probe(trained, "digits", kind="knn", k=(1, 5)).report)
    assert "k is the one that is best on the training images" in tried
    beside = package.probe(trained, "digits", kind="few-shot", shots=(1, "all"), seeds=2, compare=trained)
    assert "\nWith all images.\n" in str(beside) and "as seed 0 draws" not in str(beside)
    beside = package.probe(trained, "digits", kind="few-shot", shots=(1, 2), seeds=2, compare=trained)
    assert "\nWith 2 shots, as seed 0 draws them.\n" in str(beside)
