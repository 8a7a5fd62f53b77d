"""Data that can't be trained on: one clear line, exit code 2, nothing written. Odd data that can: it trains."""

import os

import pytest
from tests.cli.conftest import TINY
from tests.support.pictures import BROKEN, ODD, tree, write


def empty(root):
    root.mkdir()


REFUSED = {
    "no such folder": (
        lambda root: tree(root.parent / "daat", a=2),
        "no such file or folder: data; did you mean daat?",
    ),
    "empty folder": (empty, "is empty; it should hold one folder of images for each class"),
    "a single class": (lambda root: tree(root, cat=3), "has a single class, 'cat'"),
    "a class called \\n": (
        lambda root: tree(root, **{"a\nb": 3}),
        "the class folder 'a\\nb' has a line break or another control",
    ),
    "a class with one image": (lambda root: tree(root, cat=3, dog=1), "class 'dog' has a single image"),
    "images without folders": (lambda root: write(root / "a.png"), "no class folders"),
    "a text file": (lambda root: write(root, b"dear grandmother"), "is a file, but not a manifest"),
    "classes of one part": (lambda root: tree(root, train__a=2, train__b=2, val__c=1), "a class not trained on: 'c'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_data_that_can_not_be_trained_on(vitreous, here, case):
    make, words = REFUSED[case]
    make(here / "data")
    before = sorted(here.rglob("*"))
    vitreous("train", "data", *TINY).refused(words)
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_image(vitreous, here, name):
    data, words = BROKEN[name]
    write(tree(here / "data", cat=3, dog=3) / "cat" / name, data)
    vitreous("train", "data", *TINY).refused(f"cat/{name}", words, "1 of 7 images can't be read", "--broken skip")
    assert not (here / "runs").exists()
    vitreous("train", "data", *TINY, "--broken", "skip", "--dry-run").worked("1 left out")


def test_nothing_but_broken_images(vitreous, here):
    for name, (data, _) in BROKEN.items():
        write(here / "data" / "cat" / name, data)
    vitreous("train", "data", "--data.broken=skip").refused("none of the 5 images in data can be read")


def test_odd_and_nested_images_train_and_broken_ones_are_left_out(vitreous, here):
    tree(here / "data", cat=4, dog__big=2, dog__small__brown=2)
    for name, data in ODD.items():
        write(here / "data" / "cat" / name, data)
    write(here / "data" / "dog" / "broken.jpg", b"no image")
    done = vitreous("train", "data", "--image", "8", "8", "--data.broken", "skip", "--out", "run", *TINY)
    done.worked("finished: validation top-1")
    assert (here / "run" / "model" / "config.json").is_file()


def test_images_of_one_pixel_train(vitreous, here):
    for number in range(6):
        write(here / "data" / "ab"[number % 2] / f"{number}.png", ODD["one.png"])
    vitreous("train", "data", "--duration=2st", "--workers=0", "--dry-run").worked("nothing was written")


def test_settings_of_the_data_hold_from_the_start(vitreous, here):
    """A class with one image is no mistake where the validation is elsewhere, nor a large image with a higher limit."""
    tree(here / "data", cat=3, dog=1)
    tree(here / "held", cat=1, dog=1)
    dry = ("train", "data", "--duration=2st", "--workers=0", "--dry-run")
    vitreous(*dry, "--data.validation", "held").worked("nothing was written")
    vitreous(*dry, "--data.validation", "held", "--decode.max-pixels", "79").refused("more than the limit of 79")
    vitreous(*dry, "--data.holdout", "2").refused("data.holdout is 2.0; it must be above 0 and below 1")


def test_a_manifest_with_a_wrong_line(vitreous, here):
    write(here / "list.csv", b"path,label\na.png,cat\na.png,dog\n")
    vitreous("train", "list.csv").refused("list.csv, line 3: a.png is already listed in line 2")


def test_a_folder_whose_name_is_no_text(vitreous, here):
    tree(here / os.fsdecode(b"\xff\n"), cat=3, dog=3)
    vitreous("train", os.fsdecode(b"\xff\n"), "--duration=1st", "--dry-run").worked("nothing was written")
    vitreous("train", os.fsdecode(b"\xfe")).refused("no such file or folder: \\udcfe")


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "~no-such-user/photos", "--dry-run"),
        ("train", "digits", "--config=~no-such-user/c.toml", "--dry-run"),
        ("shard", "~no-such-user/photos", "out"),
        ("evaluate", "starter", "~no-such-user/x"),
    ],
)
def test_a_home_of_nobody_is_a_path_like_any_other(vitreous, arguments):
    vitreous(*arguments).refused("no such file or folder: ~no-such-user/")


def test_images_from_formulas_train_and_are_evaluated_in_folders_with_plain_names(vitreous, here):
    name = "formula:atoms?classes=3&images=10&size=16"
    vitreous("inspect", name).worked("24 for training, 6 for validation", "16x16", f"next: vitreous train '{name}'")
    vitreous("train", name, *TINY).worked()
    assert [run.name for run in (here / "runs").iterdir()] == ["formula-atoms-small-1"]
    vitreous("inspect", "runs/formula-atoms-small-1").worked(name)
    vitreous("evaluate", "runs/formula-atoms-small-1", name).worked("atoms-00002")
    assert [page.name for page in (here / "evaluations").iterdir()] == [
        "formula-atoms-small-1-formula-atoms-accuracy-1"
    ]


@pytest.mark.parametrize("command", ["train", "inspect"])
def test_formulas_that_there_are_not(vitreous, here, command):
    vitreous(command, "formula:atom").refused("unknown kind of formula 'atom'; did you mean 'atoms'?")
    vitreous(command, "formula:atoms?size=7").refused("it must be from 8 to 1,024")
    assert list(here.iterdir()) == []
