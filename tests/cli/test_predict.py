"""Use what was trained: predict, evaluate, inspect and report, with whatever is on the disk."""

import csv
import io
import json
import os
import stat
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tests.support import forked
from tests.support.pictures import BROKEN, ODD, encoded, picture, tree, write

from vitreous.cli.output import is_replaceable, result_file, write_file
from vitreous.cli.prediction_formats import encode_line
from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_digits


@pytest.fixture
def images(here):
    """Write five images in two folders and return their names in order."""
    for number, name in enumerate(["a.png", "b.png", "deep/c.png", "deep/d.png", "deep/e.png"]):
        write(here / "images" / name, encoded(picture(number, 9, 9, 1)))
    return [f"images/{name}" for name in ("a.png", "b.png", "deep/c.png", "deep/d.png", "deep/e.png")]


def named(text):
    return [line.split("  ")[0] for line in text.splitlines()]


def test_a_file_a_folder_a_glob_and_standard_input(vitreous, trained, images):
    assert named(vitreous("predict", trained, images[1]).worked()) == images[1:2]
    assert named(vitreous("predict", trained, "images").worked()) == images
    assert named(vitreous("predict", trained, "images/*.png").worked()) == images[:2]
    assert named(vitreous("predict", trained, "images/**/*.png").worked()) == images
    assert named(vitreous("predict", trained, "-", stdin="\n".join(images[::-1])).worked()) == images[::-1]
    assert named(vitreous("predict", trained, "-", stdin="\0".join(images) + "\0").worked()) == images
    assert named(vitreous("predict", trained, "-", "--null", stdin=f"{images[0]}\0").worked()) == images[:1]
    mixed = vitreous("predict", trained, images[4], "-", "images/deep", stdin=images[0] + "\n").worked()
    assert named(mixed) == [images[4], images[0], *images[2:]]


def test_the_model_folder_serves_as_the_run_does(vitreous, trained, images):
    assert vitreous("predict", trained / "model", "images").worked() == vitreous("predict", trained, "images").worked()


def test_tables_csv_and_jsonl_say_the_same(vitreous, trained, images, here):
    table = vitreous("predict", trained, "images", "--top", "3").worked()
    vitreous("predict", trained, "images", "--top=3", "--format=csv", "--out=o.csv").worked(
        "5 predictions are in o.csv"
    )
    vitreous("predict", trained, "images", "--top=3", "--format=jsonl", "--out=o.jsonl").worked()
    rows = list(csv.DictReader((here / "o.csv").open(newline="")))
    lines = [json.loads(line) for line in (here / "o.jsonl").read_text().splitlines()]
    assert list(rows[0]) == ["name", "label", "score", "label2", "score2", "label3", "score3", "error"]
    for shown, row, line, name in zip(table.splitlines(), rows, lines, images, strict=True):
        assert (row["name"], row["error"], line["name"], line["error"]) == (name, "", name, None)
        top = [(row[f"label{n}"], float(row[f"score{n}"])) for n in ("", 2, 3)]
        assert [(one["label"], round(one["score"], 6)) for one in line["top"]] == top
        assert shown == f"{name}  " + "   ".join(f"{label} {score:.1%}" for label, score in top)
    assert sorted(path.name for path in here.iterdir()) == ["images", "o.csv", "o.jsonl"]


def test_more_classes_than_there_are(vitreous, trained, images):
    line = json.loads(vitreous("predict", trained, images[0], "--top=99", "--format=jsonl").worked())
    assert sorted(one["label"] for one in line["top"]) == sorted("0123456789")


def test_other_extensions_name_formats_too(vitreous, trained, images, here):
    for name in ("o.ndjson", "o.jsonl"):
        vitreous("predict", trained, "images", "--out", name).worked()
    assert (here / "o.ndjson").read_bytes() == (here / "o.jsonl").read_bytes()
    for name in ("o.txt", "o"):
        vitreous("predict", trained, images[0], "--out", name).worked()
        assert (here / name).read_text() == vitreous("predict", trained, images[0]).worked()


def test_an_image_on_standard_input_is_no_list_of_paths(vitreous, trained, images):
    said = "standard input is an image, but a list of paths is expected; name the file itself"
    Image.open(images[0]).convert("RGB").save("a.jpg")
    for name in (images[0], "a.jpg"):
        data = Path(name).read_bytes().decode(errors="surrogateescape")
        vitreous("predict", trained, "-", stdin=data).refused(said)


@pytest.mark.parametrize("format", ["table", "csv", "jsonl"])
def test_broken_images_stop_nothing(vitreous, trained, images, here, format):
    for name, (data, _) in BROKEN.items():
        write(here / "images" / name, data)
    done = vitreous("predict", trained, "images", "--format", format)
    assert done.code == 1
    *complaints, last = done.err.splitlines()
    assert len(complaints) == len(BROKEN)
    for (name, (_, words)), line in zip(sorted(BROKEN.items()), sorted(complaints), strict=False):
        assert name in done.err
        assert words in done.err
        assert line.startswith("vitreous: images/")
    assert last == "vitreous: 5 of 10 images could not be read"
    assert "Traceback" not in done.err
    assert len(done.out.splitlines()) == 10 + (format == "csv")
    assert all(name in done.out for name in images)


def test_odd_images_are_classified(vitreous, trained, here):
    for name, data in ODD.items():
        write(here / "odd" / name, data)
    assert len(vitreous("predict", trained, "odd").worked().splitlines()) == len(ODD)


def test_an_image_that_is_missing_keeps_its_place(vitreous, trained, images):
    done = vitreous("predict", trained, images[0], "gone.png", images[1])
    assert done.code == 1
    assert named(done.out) == [images[0], "gone.png", images[1]]
    assert "gone.png" in done.err


def test_names_of_any_bytes(vitreous, trained, here):
    (here / "odd").mkdir()
    for name in (b"odd/\xff.png", b"odd/a\nb\x1b[31m.png", "odd/ü \u202e.png".encode()):
        with open(name, "wb") as file:  # noqa: PTH123
            file.write(encoded(picture()))
    table = vitreous("predict", trained, "odd").worked()
    assert len(table.splitlines()) == 3
    assert "\x1b" not in table
    vitreous("predict", trained, "odd", "--format=jsonl", "--out=o.jsonl").worked()
    lines = [json.loads(line) for line in (here / "o.jsonl").read_bytes().splitlines()]
    assert [os.fsencode(line["name"]) for line in lines] == sorted(
        [b"odd/\xff.png", b"odd/a\nb\x1b[31m.png", "odd/ü \u202e.png".encode()]
    )
    vitreous("predict", trained, "odd", "--format=csv", "--out=o.csv").worked()
    assert b"odd/\xff.png" in (here / "o.csv").read_bytes()


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "cp1252", "ascii"])
def test_json_lines_are_json_in_any_encoding(encoding):
    values = {"name": os.fsdecode(b"\xff.png"), "label": "caf\xe9 \u732b"}
    stream = io.TextIOWrapper(io.BytesIO(), encoding, errors="backslashreplace")
    for one in (values, {"label": "caf\xe9"}, {"label": "\u732b"}):
        print(encode_line(one, stream), file=stream, flush=True)
        assert json.loads(stream.buffer.getvalue().decode(encoding).splitlines()[-1]) == one


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "images"], "no such model folder, run folder or file of weights: nowhere"),
        (["imagse", "images"], "run folder or file of weights: imagse; did you mean images?"),
        (["images", "images"], "is not a model folder: it has no config.json"),
        (["images/a.png", "images"], "images/a.png is not a file of weights that vitreous reads"),
        (["RUN", "nothing.png"], "no images found: nothing.png does not exist"),
        (["RUN", "*.bmp"], "no images found: *.bmp does not exist"),
        (["RUN", "-"], "standard input is empty"),
        (["RUN", "empty"], "no images in empty"),
        (["RUN", "images", "--top", "0"], "top is 0"),
        (["RUN", "images", "--batch", "0"], "batch is 0"),
    ],
)
def test_what_can_not_be_predicted(vitreous, trained, images, here, arguments, words):
    (here / "empty").mkdir()
    given = [trained if argument == "RUN" else argument for argument in arguments]
    vitreous("predict", *given, "--out", "o.csv", "--format", "csv").refused(words)
    assert not list(here.glob("o.csv*"))


def test_results_that_can_not_be_written(vitreous, trained, images, here):
    vitreous("predict", trained, "images", "--out", "nowhere/o.csv").refused(
        "can't write nowhere/o.csv: there is no folder"
    )
    vitreous("predict", trained, "images", "--out", "images").refused("images is a folder; --out must name a file")
    vitreous("evaluate", trained, "--json", "images").refused("images is a folder; --json must name a file")
    for arguments in (("predict", "no-model", "images", "--out"), ("evaluate", "no-model", "digits", "--json")):
        vitreous(*arguments, "/proc/o.csv").refused("can't write /proc/o.csv: No such file", code=1)
    vitreous("explain", "no-model", "images", "--out", "/proc/new/page").refused("can't write /proc/new/page", code=1)
    assert sorted(path.name for path in here.iterdir()) == ["images"]


def test_numbers_that_can_not_be_written_leave_the_report(vitreous, here, monkeypatch):
    saved = []
    found = SimpleNamespace(to_dict=dict, save=saved.append)
    monkeypatch.setattr("vitreous.cli.evaluate.accuracy", lambda options, display: found)
    vitreous("evaluate", "run", "--out", "page", "--json", "/dev/full").refused("/dev/full: the disk is full", code=1)
    assert saved == [Path("page")]


def test_a_device_is_written_not_replaced(vitreous, trained, images, here):
    for option in (("predict", trained, "images", "--out"), ("evaluate", trained, "--json")):
        vitreous(*option, "/dev/null").worked()
        assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    os.mkfifo(here / "pipe")
    with subprocess.Popen(["cat", "pipe"], stdout=subprocess.PIPE, text=True) as reader:
        vitreous("predict", trained, "images", "--out", "pipe").worked()
        assert reader.communicate()[0].count("images/") == 5


def test_a_link_is_written_where_it_leads(vitreous, trained, images, here):
    (here / "far").mkdir()
    links = {"o.csv": "hop", "hop": "far/o", "m.json": "far/m", "f.npz": "far/f", "lost.csv": "nowhere/o"}
    for name, target in links.items():
        (here / name).symlink_to(target)
    vitreous("predict", trained, "images", "--out", "o.csv").worked()
    vitreous("embed", trained, "images", "--out", "f.npz").worked()
    write_file("m.json", "{}")
    assert sorted(path.name for path in (here / "far").iterdir()) == ["f", "m", "o"]
    assert {name: str((here / name).readlink()) for name in links} == links
    vitreous("predict", trained, "images", "--out", "o.csv").refused("o.csv already exists")
    vitreous("predict", trained, "images", "--out", "lost.csv").refused("there is no folder nowhere")


def test_an_open_file_is_written_from_where_it_is(tmp_path):
    """`--out /dev/stdout > log` neither replaces nor empties the log."""
    for place in ("link", "loop"):
        (tmp_path / place).symlink_to("/dev/stdout" if place == "link" else place)
    with (tmp_path / "log").open("w+b") as log:
        log.write(b"before\n")
        log.flush()
        (tmp_path / "open").symlink_to(f"/dev/fd/{log.fileno()}")
        result_file(str(tmp_path / "open"), overwrite=False)
        write_file(str(tmp_path / "open"), "result\n")
        log.write(b"after\n")
        log.flush()
        assert os.path.samestat(os.fstat(log.fileno()), (tmp_path / "log").stat())
    assert (tmp_path / "log").read_text() == "before\nresult\nafter\n"
    assert not is_replaceable(tmp_path / "link") and is_replaceable(tmp_path / "loop")


def test_what_was_there_stays_until_the_new_is_whole(vitreous, trained, images, here):
    for name in ("o.csv", "o.csv.partial"):
        write(here / name, b"mine")
    vitreous("predict", trained, "nothing.png", "--out", "o.csv", "--overwrite").refused("no images found")
    assert (here / "o.csv").read_bytes() == b"mine"
    vitreous("predict", trained, "images", "--out", "o.csv").refused("o.csv already exists", "add --overwrite")
    vitreous("evaluate", trained, "--json", "o.csv").refused("o.csv already exists; name another file with --json")
    assert (here / "o.csv").read_bytes() == b"mine"
    vitreous("predict", trained, "images", "--out", "o.csv", "--overwrite").worked()
    assert (here / "o.csv").read_text().count("images/") == 5
    vitreous("evaluate", trained, "--no-speed", "--json", "o.csv", "--overwrite").worked()
    assert json.loads((here / "o.csv").read_text())["examples"] == 360
    write(here / "empty.csv", b"")
    vitreous("predict", trained, "images", "--out", "empty.csv").worked()
    assert (here / "o.csv.partial").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("place", "code", "said"), [("/dev/full", 1, "can't write the output: No space"), ("closed", 0, "")]
)
def test_output_that_nobody_takes(trained, images, place, code, said):
    """A full disk is one line; a reader who has gone, as `head` does, is the end and no mistake."""
    if place == "closed":
        read, out = os.pipe()
        os.close(read)
    else:
        out = os.open(place, os.O_WRONLY)
    done = forked.run(forked.vitreous("predict", trained, *images * 3), lambda: os.dup2(out, 1))
    os.close(out)
    assert done.returncode == code
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == bool(said)


def test_damaged_weights_are_said(vitreous, run, images):
    weights = run / "model" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    vitreous("predict", run, "images").refused("model.safetensors is damaged: its SHA-256")
    weights.write_bytes(data[:-9])
    vitreous("predict", run, "images").refused("is damaged: it has")


def test_evaluate_the_runs_own_validation(vitreous, trained, here):
    shown = vitreous("evaluate", trained, "--json", "m.json").worked("360", "all metrics are in m.json")
    metrics = json.loads((here / "m.json").read_text())
    records = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    last = [record for record in records if record["kind"] == "evaluation"][-1]
    assert metrics["examples"] == 360
    assert metrics["top1"] == pytest.approx(last["top1"], abs=1e-9)
    assert "note" not in shown
    assert vitreous("evaluate", trained / "model").worked().splitlines()[1:4] == shown.splitlines()[1:4]


@pytest.fixture
def digit_folders(here):
    """Write six digits of two classes as class folders."""
    part = open_digits(DataConfig()).validation
    for label in (3, 7):
        for number, index in enumerate(np.flatnonzero(part.labels == label)[:3]):
            write(here / "digits-3-7" / str(label) / f"{number}.png", encoded(part.pixels[index]))
    return here / "digits-3-7"


def test_evaluate_on_other_data(vitreous, trained, digit_folders, here):
    vitreous("evaluate", trained, digit_folders, "--json", "m.json").worked()
    assert json.loads((here / "m.json").read_text())["examples"] == 6


def test_evaluate_counts_what_it_leaves_out(vitreous, trained, digit_folders):
    write(digit_folders / "3" / "broken.png", b"no image")
    vitreous("evaluate", trained, digit_folders).refused("1 of 7 images can't be read", "3/broken.png")
    vitreous("evaluate", trained, digit_folders, "--broken", "skip").worked(
        "1 files of the data can't be read and were left out; the first: 3/broken.png"
    )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("photos", "has classes not trained on: 'cat', 'dog'; known: 0, 1"),
        ("nowhere", "no such file or folder: nowhere"),
        ("empty", "is empty"),
    ],
)
def test_what_can_not_be_evaluated(vitreous, trained, here, data, words):
    tree(here / "photos", cat=1, dog=1)
    (here / "empty").mkdir()
    vitreous("evaluate", trained, data, "--json", "m.json").refused(words)
    assert not (here / "m.json").exists()


def test_a_model_without_a_run_needs_data(vitreous, run, here):
    (run / "model").rename(here / "model")
    vitreous("evaluate", "model").refused("model doesn't belong to a run, so name the labelled images")


def test_evaluate_says_when_the_data_has_changed(vitreous, run, here):
    document = json.loads((run / "config.json").read_text())
    document["data"]["fingerprint"] = "0:0"
    (run / "config.json").write_text(json.dumps(document))
    vitreous("evaluate", run).worked("note: the data has changed since the run began")


def test_inspect_everything(vitreous, trained, here):
    tree(here / "photos", cat=3, dog=2)
    write(here / "photos" / "dog" / "broken.png", b"no image")
    write(here / "list.csv", b"path,label\n" + b"".join(f"photos/cat/{n}.png,{n % 2}\n".encode() * 1 for n in range(3)))
    write(
        here / "list.jsonl",
        b"".join(f'{{"path": "photos/cat/{n}.png", "label": {n % 2}}}\n'.encode() for n in range(3)),
    )
    write(here / "moving.gif", ODD["moving.gif"])
    vitreous("inspect", trained).worked(
        "recipe      small on digits", "step 6 of 6", "checkpoints", "next: vitreous evaluate"
    )
    vitreous("inspect", trained / "model").worked("width 32, depth 1", "classes     10: 0, 1, 2", "parameters")
    vitreous("inspect", "photos").worked(
        "cat", "broken      1 left out", "next: vitreous train photos --data.broken skip"
    )
    vitreous("inspect", "digits").worked("1,437 for training, 360 for validation")
    vitreous("inspect", "moving.gif").worked("GIF", "8 rows x 10 cols", "the first of 3 frames")
    for name in ("list.csv", "list.jsonl"):
        vitreous("inspect", name).refused("class '1' has a single image")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nowhere", "no such file or folder: nowhere"),
        ("empty", "empty is empty"),
        ("notes.txt", "name it .csv"),
        ("empty.png", "is empty (0 bytes)"),
        ("truncated.png", "damaged PNG"),
        ("huge.png", "2,500,000,000 pixels"),
        ("wrong.csv", "line 1: no column 'path'"),
    ],
)
def test_what_can_not_be_inspected(vitreous, here, path, words):
    (here / "empty").mkdir()
    write(here / "notes.txt", b"milk, eggs")
    write(here / "wrong.csv", b"name,label\n")
    for name in ("empty.png", "truncated.png", "huge.png"):
        write(here / name, BROKEN[name][0])
    vitreous("inspect", path).refused(words)


def test_report_again(vitreous, run):
    page = run / "report.html"
    page.unlink()
    vitreous("report", run).worked(f"report: {page}")
    assert page.read_text().startswith("<!doctype html>")
    assert "\udcff" not in page.read_text()


def test_no_report_of_what_is_no_run(vitreous, here, trained):
    vitreous("report", here).refused("is not a run folder: it has no config.json")
    vitreous("report", trained / "model").refused("is a model folder and not a run folder; did you mean")
