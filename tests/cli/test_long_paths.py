"""Paths that no file system takes, wherever a command takes a path: one clear line, as for any other that isn't there."""

import pytest
from tests.support.pictures import encoded, picture, write

import vitreous as library
from vitreous.errors import CheckpointError, UserError
from vitreous.storage.presence import is_link, path_exists

LONG = {"name": "n" * 5000, "path": "ab/" * 2000 + "c", "like a model's name": "owner/" + "n" * 300}
"""Longer than a name (255 bytes) or a path (4,096) may be."""

COMMANDS = {
    "train": ("train", "{}"),
    "train --out": ("train", "digits", "--out", "{}"),
    "train --weights": ("train", "digits", "--recipe", "finetune", "--weights", "{}"),
    "train --dry-run": ("train", "{}", "--dry-run"),
    "resume": ("resume", "{}"),
    "report": ("report", "{}"),
    "inspect": ("inspect", "{}"),
    "convert": ("convert", "{}", "out"),
    "convert to": ("convert", "RUN", "{}"),
    "convert to timm": ("convert", "RUN", "{}", "--to", "timm"),
    "predict with": ("predict", "{}", "a.png"),
    "predict": ("predict", "RUN", "{}"),
    "predict --out": ("predict", "RUN", "a.png", "--out", "{}"),
    "explain with": ("explain", "{}", "a.png"),
    "explain": ("explain", "RUN", "{}"),
    "explain --out": ("explain", "RUN", "a.png", "--out", "{}"),
    "embed with": ("embed", "{}", "a.png"),
    "embed": ("embed", "RUN", "{}"),
    "embed --data": ("embed", "RUN", "--data", "{}"),
    "embed --out": ("embed", "RUN", "digits", "--out", "{}.npz"),
    "embed --labels": ("embed", "RUN", "digits", "--labels", "{}"),
    "cka": ("cka", "{}", "RUN", "digits"),
    "cka with": ("cka", "RUN", "{}", "digits"),
    "cka on": ("cka", "RUN", "RUN", "{}"),
    "cka --out": ("cka", "RUN", "RUN", "digits", "--out", "{}", "--images", "8"),
    "evaluate with": ("evaluate", "{}", "digits"),
    "evaluate": ("evaluate", "RUN", "{}"),
    "evaluate --out": ("evaluate", "RUN", "digits", "--out", "{}", "--no-speed"),
    "evaluate --json": ("evaluate", "RUN", "digits", "--json", "{}", "--no-speed"),
    "evaluate --compare": ("evaluate", "RUN", "digits", "--compare", "{}"),
    "evaluate --train": ("evaluate", "RUN", "digits", "--protocol", "knn", "--train", "{}"),
    "evaluate --benchmark": ("evaluate", "RUN", "{}", "--benchmark", "imagenet-v2"),
    "evaluate --benchmark imagenet-c": ("evaluate", "RUN", "{}", "--benchmark", "imagenet-c"),
    "evaluate --benchmark vtab": ("evaluate", "RUN", "{}", "--benchmark", "vtab", "--protocol", "knn"),
    "study --data": ("study", "positions", "--scale", "smoke", "--data", "{}"),
    "study --out": ("study", "positions", "--scale", "smoke", "--out", "{}"),
}


@pytest.mark.parametrize("long", LONG)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_path_too_long_is_one_line(vitreous, trained, here, command, long):
    write(here / "a.png", encoded(picture(0, 9, 9, 1)))
    words = [word.format(LONG[long]).replace("RUN", str(trained)) for word in COMMANDS[command]]
    done = vitreous(*words)
    assert done.code == 2, done
    lines = [line for line in done.err.splitlines() if "error: " in line]
    assert len(lines) == 1, done.err
    assert lines[0].startswith("vitreous: error: "), done.err
    assert "Traceback" not in done.err
    assert sorted(path.name for path in here.iterdir()) == ["a.png"]


def test_a_long_list_of_labels_is_no_path(vitreous, trained, here):
    classes = ",".join(f"class {number}" for number in range(1000))
    vitreous("inspect", trained / "model", "--labels", classes).refused("class 0")


@pytest.mark.parametrize("command", ["train", "resume", "report", "inspect", "convert", "predict", "evaluate", "study"])
def test_a_name_with_a_nul_is_nothing(vitreous, here, command):
    more = {"convert": ["out"], "predict": ["a.png"], "study": ["--out=a\0b", "--scale=smoke"]}
    vitreous(command, "positions" if command == "study" else "a\0b", *more.get(command, [])).refused()
    assert not list(here.iterdir())


def test_a_name_with_a_nul_among_images_is_named(vitreous, trained, here):
    write(here / "a.png", encoded(picture(0, 9, 9, 1)))
    done = vitreous("predict", trained, "-", stdin="a.png\na\0b.png\n")
    assert done.code == 1
    assert "a\\x00b.png" in done.out
    assert "can't read a\\x00b.png" in done.err
    vitreous("embed", trained, "-", "--out=o.npz", stdin="a.png\na\0b.png\n").refused("a\\x00b.png")


def test_nothing_is_where_nothing_can_be(tmp_path):
    for path in (*LONG.values(), "a\0b", tmp_path / "none"):
        assert not path_exists(path)
        with pytest.raises(CheckpointError):
            library.load(path)
    (tmp_path / "round").symlink_to("round")
    assert path_exists(tmp_path)
    assert is_link(tmp_path / "round")
    assert not path_exists(tmp_path / "round")
    with pytest.raises(UserError):
        library.train("digits", out="a\0b")
