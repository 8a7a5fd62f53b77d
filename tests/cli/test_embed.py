"""`vitreous embed` and `vitreous cka`: vectors of images in files, and models compared by them."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from tests.support.pictures import encoded, picture, tree, write

from vitreous.cli.embed import suggest_reading
from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_digits
from vitreous.evaluation.probes.features import FeatureOptions, features
from vitreous.weights.model_folder import load_model


def read(path):
    with np.load(path, allow_pickle=False) as found:
        return dict(found)


def test_digits_with_labels_and_parts(vitreous, trained, here):
    vitreous("embed", trained, "digits", "--out", "f.npz", "--layer", "mean").worked(
        "1,797 vectors of length 32 are in f.npz"
    )
    found, digits = read(here / "f.npz"), open_digits(DataConfig())
    expected = [
        features(load_model(trained), part, FeatureOptions("mean")) for part in (digits.train, digits.validation)
    ]
    np.testing.assert_array_equal(found["vector"], np.concatenate([one.vectors for one in expected]))
    np.testing.assert_array_equal(found["label"], np.concatenate([one.labels for one in expected]))
    assert (found["part"] == "validation").sum() == 360
    assert found["name"].tolist() == [*digits.train.names, *digits.validation.names]
    assert (str(found["layer"]), str(found["model"])) == ("mean", str(trained))


def test_what_was_written_before_stays(vitreous, trained, here):
    write(here / "a.png", encoded(picture(0, 9, 9, 1)))
    vitreous("embed", trained, "a.png").worked("are in features.parquet")
    vitreous("embed", trained, "a.png").worked("are in features-2.parquet")
    before = (here / "features.parquet").read_bytes()
    vitreous("embed", trained, "a.png", "--out=features.parquet").refused("already exists", "add --overwrite")
    assert (here / "features.parquet").read_bytes() == before
    vitreous("embed", trained, "a.png", "--layer=mean", "--out=features.parquet", "--overwrite").worked()
    assert (here / "features.parquet").read_bytes() != before


def test_the_command_that_reads_the_file_is_quoted(here, capsys):
    name = 'it\'s $(id) "x".npz'
    np.savez(name, vector=np.zeros((2, 3)))
    program, _, code = shlex.split(suggest_reading(Path(name)))
    exec(code)
    assert (program, capsys.readouterr().out) == ("python", "(2, 3)\n")


def test_images_in_their_order_without_labels(vitreous, trained, here):
    for number, name in enumerate(["b.png", "a.png", "deep/c.png"]):
        write(here / "images" / name, encoded(picture(number, 9, 9, 1)))
    done = vitreous("embed", trained, "images/deep", "-", "--out=f.npz", stdin="images/b.png\nimages/a.png\n")
    done.worked("3 vectors of length 32", "next: python -c")
    found = read(here / "f.npz")
    assert found["name"].tolist() == ["images/deep/c.png", "images/b.png", "images/a.png"]
    assert sorted(found) == ["layer", "model", "model_hash", "name", "precision", "vector"]
    vitreous("embed", trained, "images/a.png", "--out=g.npz").worked()
    np.testing.assert_allclose(read(here / "g.npz")["vector"][0], found["vector"][2], atol=1e-5)


def test_class_folders_and_manifests(vitreous, trained, here):
    tree(here / "photos", cat=3, dog=2)
    names = [path.relative_to(here).as_posix() for path in sorted((here / "photos").rglob("*.*"))]
    write(here / "list.csv", ("path,label\n" + "".join(f"{name},{name[7:10]}\n" for name in names)).encode())
    vitreous("embed", trained, "--data", "photos", "--out=f.npz").worked("5 vectors")
    vitreous("embed", trained, "list.csv", "--out=g.npz").worked("5 vectors")
    for found in (read(here / "f.npz"), read(here / "g.npz")):
        assert found["classes"][found["label"]].tolist() == ["cat", "cat", "cat", "dog", "dog"]
        assert "part" not in found


def test_weights_are_taken_as_wished(vitreous, trained, here):
    done = vitreous("embed", trained, "digits", "--out=f.npz", "--image", "16", "16")
    assert done.code == 0
    assert "2x2 -> 4x4" in done.err
    vitreous("embed", trained, "digits", "--out=g.npz").worked()
    assert not np.allclose(read(here / "f.npz")["vector"], read(here / "g.npz")["vector"], atol=1e-3)


def test_broken_images_are_said_or_left_out(vitreous, trained, here):
    tree(here / "photos", cat=2)
    write(here / "photos" / "cat" / "broken.png", b"no image")
    vitreous("embed", trained, "photos", "--out=f.npz").refused("1 of 3 images can't be read")
    vitreous("embed", trained, "photos", "gone.png", "--out=f.npz", "--broken=skip").worked(
        "2 vectors", "2 images can't be read and were left out"
    )


MISTAKES = {
    "nothing": ((), "name either images"),
    "both": (("a.png", "--data", "digits"), "name either images"),
    "ending": (("digits", "--out", "f.csv"), "f.csv ends in .csv; name a file that ends in .parquet or .npz"),
    "layer": (("digits", "--layer", "blok.0", "--out", "f.npz"), "unknown layer 'blok.0'; did you mean 'block.0'"),
    "no images": (("nowhere", "--out", "f.npz"), "no images found: nowhere does not exist"),
    "no data": (("--data", "nowhere", "--out", "f.npz"), "no such file or folder: nowhere"),
    "batch": (("digits", "--batch", "0", "--out", "f.npz"), "batch is 0"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(vitreous, trained, here, mistake):
    arguments, words = MISTAKES[mistake]
    vitreous("embed", trained, *arguments).refused(words)
    assert list(here.iterdir()) == []


def test_cka_of_two_models(vitreous, trained, here):
    shown = vitreous("cka", trained, trained / "model", "digits", "--images", "50").worked("CKA on 50 images", "1.000")
    (folder,) = (here / "evaluations").iterdir()
    assert folder.name == "run-run-digits-cka-1"
    assert f"report: evaluations/{folder.name}/report.html" in shown
    document = json.loads((folder / "report.json").read_text())
    assert document["rows"] == document["cols"] == ["embedded:mean", "block.0:mean"]
    np.testing.assert_allclose(np.diag(document["matrix"]), 1)
    assert "<svg" in (folder / "report.html").read_text()
    vitreous("cka", trained, trained, "digits", "--images=50", "--unbiased", "--batch=10", "--out=o").worked(
        "o/report.html"
    )
    assert json.loads((here / "o" / "report.json").read_text())["unbiased"] is True


CKA_MISTAKES = {
    "images": (("digits", "--images", "0"), "images is 0; it must be at least 4"),
    "too few images": (("digits", "--images", "3"), "images is 3; it must be at least 4"),
    "data": (("nowhere",), "no such file or folder: nowhere"),
    "batch": (("digits", "--batch", "0"), "batch is 0"),
}


@pytest.mark.parametrize("mistake", CKA_MISTAKES)
def test_cka_mistakes(vitreous, trained, here, mistake):
    arguments, words = CKA_MISTAKES[mistake]
    vitreous("cka", trained, trained, *arguments).refused(words)
    vitreous("cka", trained, "gone", "digits").refused("gone")
    assert list(here.iterdir()) == []
