"""`predict --sort-into`: copies and links by class, that overwrite nothing, and what comes below the threshold."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.pictures import encoded, picture, write

from vitreous.api.loading import load
from vitreous.api.sorting import Sorter, name_folders
from vitreous.prediction import Prediction


@pytest.fixture
def images(here):
    """Write six different pictures, two of them under the same name, and return what their files held."""
    names = ("a/1.png", "a/2.png", "a/3.png", "b/1.png", "b/2.png", "b/4.png")
    for number, name in enumerate(names):
        write(here / "images" / name, encoded(picture(number, 9, 9, 1)))
    return {name: (here / "images" / name).read_bytes() for name in names}


def listed(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def said(vitreous, run, *options):
    lines = vitreous("predict", run, "images", "--format", "jsonl", *options).worked().splitlines()
    return [json.loads(line) for line in lines]


def test_each_image_is_copied_to_the_folder_of_its_class(vitreous, trained, images, here):
    wanted = Counter()
    for one in said(vitreous, trained):
        wanted[one["label"], (here / one["name"]).read_bytes()] += 1
    done = vitreous("predict", trained, "images", "--sort-into", "out", "--threshold", "0.001", "--out", "o.csv")
    done.worked("sorted into out: ")
    found = Counter((path.parent.name, path.read_bytes()) for path in (here / "out").rglob("*.png"))
    assert found == wanted
    assert {name: (here / "images" / name).read_bytes() for name in images} == images
    before = listed(here / "out")
    done = vitreous("predict", trained, "images", "--sort-into", "out", "--threshold", "0.001")
    assert done.code == 0 and "6 of them were already there" in done.err
    assert listed(here / "out") == before


def test_names_that_clash_get_a_number_and_nothing_is_overwritten(vitreous, trained, images, here):
    write(here / "out" / "unknown" / "1.png", b"mine")
    vitreous("predict", trained, "images", "--sort-into", "out", "--threshold", "1", "--out", "o.csv").worked(
        "sorted into out: unknown 6"
    )
    kept = {path.name: path.read_bytes() for path in (here / "out" / "unknown").iterdir()}
    assert kept.pop("1.png") == b"mine"
    assert sorted(kept) == ["1-2.png", "1-3.png", "2-2.png", "2.png", "3.png", "4.png"]
    assert sorted(kept.values()) == sorted(images.values())


@pytest.mark.parametrize("link", ["hard", "symbolic"])
def test_links(vitreous, trained, images, here, link):
    options = ("predict", trained, "images", "--sort-into", "out", "--threshold=1", "--link", link)
    for words in ("unknown 6", "6 of them were already there"):
        done = vitreous(*options)
        assert done.code == 0 and words in done.err
    found = sorted((here / "out" / "unknown").iterdir())
    assert len(found) == 6
    assert all(path.is_symlink() == (link == "symbolic") for path in found)
    for name in images:
        assert sum(path.samefile(here / "images" / name) for path in found) == 1


def test_what_is_sorted_already_is_not_met_again(vitreous, trained, images, here):
    for _ in range(2):
        done = vitreous("predict", trained, "images", "--sort-into", "images/sorted", "--threshold=1")
        assert len(done.out.splitlines()) == 6
    assert len(listed(here / "images" / "sorted")) == 6
    vitreous("predict", trained, "images/sorted", "--sort-into", "images/sorted").refused(
        "images/sorted is in images/sorted, into which the images are sorted"
    )


def test_what_can_not_be_sorted(vitreous, trained, images, here):
    write(here / "file", b"mine")
    predict = ("predict", trained, "images")
    vitreous(*predict, "--sort-into", "file").refused("file is a file; name a folder for the sorted images")
    vitreous(*predict, "--link", "hard").refused("--link is for --sort-into")
    vitreous(*predict, "--sort-into", "x" * 300).refused("the name is too long")
    for value in ("0", "1.5", "nan"):
        vitreous(*predict, "--threshold", value).refused("threshold is", "above 0 and at most 1")
    vitreous(*predict, "--threshold", "high").refused("--threshold", "must be a number")
    write(here / "out" / "unknown", b"a file where a folder is needed")
    vitreous(*predict, "--sort-into", "out", "--threshold=1", "--out=o").refused("out/unknown is a file")
    assert listed(here / "out") == ["unknown"]


def test_a_broken_image_is_counted_and_stops_nothing(vitreous, trained, images, here):
    write(here / "images" / "broken.png", b"no image")
    done = vitreous("predict", trained, "images", "--sort-into", "out")
    assert done.code == 1
    assert "1 images were left out; the first: images/broken.png" in done.err
    assert len(listed(here / "out")) == 6


def test_the_least_sure_come_first(vitreous, trained, images, here):
    write(here / "images" / "broken.png", b"no image")
    done = vitreous("predict", trained, "images", "--format", "jsonl", "--unsure-first")
    scores = [json.loads(line)["score"] for line in done.out.splitlines()]
    assert scores[-1] is None and scores[:-1] == sorted(scores[:-1]) and len(scores) == 7


def test_below_the_threshold_is_unknown_in_every_format(vitreous, trained, images, here):
    plain = said(vitreous, trained)
    middle = sorted(one["score"] for one in plain)[3]
    found = said(vitreous, trained, "--threshold", repr(middle))
    for one, other in zip(plain, found, strict=True):
        unsure = one["score"] < middle
        assert other == one | ({"label": "unknown", "unknown": True} if unsure else {})
    vitreous("predict", trained, "images", "--threshold", repr(middle), "--format=csv", "--out=o.csv").worked()
    rows = list(csv.DictReader((here / "o.csv").open(newline="")))
    assert [row["label"] for row in rows] == [one["label"] for one in found]
    assert [row["guess"] for row in rows] == [one["label"] for one in plain]
    table = vitreous("predict", trained, "images", "--threshold", repr(middle)).worked().splitlines()
    first = next(number for number, one in enumerate(found) if one["label"] == "unknown")
    assert table[first].endswith(f"unknown   ({plain[first]['label']} {plain[first]['score']:.1%})")


def test_folders_for_labels_that_no_folder_can_have():
    assert list(name_folders([" ..", " .", "\t../up", " a "]).values()) == ["_.", "_", "_._up", "a"]
    names = name_folders(["a/b", "a_b", "..", "A_b", ".hidden", "x" * 400, "\ud800", "", "plain"])
    assert list(names.values()) == ["a_b", "a_b-2", "_.", "A_b-3", "_hidden", "x" * 200, "_", "_-2", "plain"]


def test_several_labels_and_none(trained, images, here):
    predictor = load(trained)
    predictor.folder = replace(predictor.folder, multilabel=True)
    sorter = Sorter(predictor, Path("out"))
    sorter.put(Prediction("images/a/1.png", "3", 0.9, (("3", 0.9),), labels=("3", "7")))
    sorter.put(Prediction("images/a/2.png", "3", 0.2, (("3", 0.2),), labels=()))
    sorter.put(Prediction("images/a/gone.png", "3", 0.9, (("3", 0.9),), labels=("3",)))
    assert sorter.result.counts == {"3": 1, "7": 1, "none": 1}
    assert [name for name, _ in sorter.result.failed] == ["images/a/gone.png"]
    assert listed(here / "out") == ["3/1.png", "7/1.png", "none/2.png"]


def test_a_kill_leaves_no_half_file(here, trained, images):
    """Whatever has a name is whole; what the dead process was writing is hidden, and cleared by the next one."""
    write(here / "slow.py", (
        b"import os, signal, shutil\n"
        b"from pathlib import Path\n"
        b"from vitreous.storage import atomic\n"
        b"def half(source, target):\n"
        b"    target.write(source.read(20)); target.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        b"shutil.copyfileobj = half\n"
        b"Path('out').mkdir()\n"
        b"atomic.copy_atomically(Path('images/a/1.png'), Path('out/1.png'))\n"
    ))  # fmt: skip
    done = subprocess.run([sys.executable, "slow.py"], cwd=here, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert [path.name.startswith(".") for path in (here / "out").iterdir()] == [True]
    sorter = Sorter(load(trained), here)
    sorter.put(Prediction("images/a/1.png", "3", 1.0, (("3", 1.0),)))
    sorter.names["3"] = "out"
    sorter.put(Prediction("images/a/1.png", "3", 1.0, (("3", 1.0),)))
    assert listed(here / "out") == ["1.png"]
    assert (here / "out" / "1.png").read_bytes() == images["a/1.png"]
    assert (here / "out" / "1.png").stat().st_mtime == (here / "images/a/1.png").stat().st_mtime


def test_where_there_are_no_hard_links_a_copy_takes_its_name_all_the_same(here, images, monkeypatch):
    from vitreous.storage.atomic import copy_atomically

    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    write(here / "taken.png", b"mine")
    assert not copy_atomically(here / "images/a/1.png", here / "taken.png")
    assert copy_atomically(here / "images/a/1.png", here / "free.png")
    assert (here / "taken.png").read_bytes() == b"mine"
    assert (here / "free.png").read_bytes() == images["a/1.png"]
    assert sorted(path.name for path in here.iterdir()) == ["free.png", "images", "taken.png"]


def test_from_python(trained, images, here):
    import vitreous

    predictor = vitreous.load(trained)
    found = vitreous.sort_into(predictor, "images", "out", threshold=1)
    assert found.counts == {"unknown": 6} and str(found) == "sorted into out: unknown 6"
    assert predictor.decision.threshold is None
