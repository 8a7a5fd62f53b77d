"""The README's commands, executed as a reader would, in order, in a folder with small images of the test's own.

What stands in for the real thing, and all that does:
- `vitreous train` gets SHORT in place of --minutes or a recipe's own length, except with --dry-run and where it takes no steps;
  `minutes=15` in Python becomes the same settings, and the recipe that it stands for.
- Setting up (venv, activate, pip) is left out: what this test runs on has been set up that way. tests/test_house.py
  checks that constraints.txt pins every dependency.
- `make` is asked what it would do (make --dry-run); the commands of `make demo` are then executed, its training of photographs
  without augmented views.
- The commands of vitreous, but for `vitreous inspect photos`, are forked from the test's process, which has imported torch already; what
  stands before the bar of a pipe is executed first.
- `photos`, `flowers` and `unsorted` are made here: JPEGs of noise around one colour for each class.
"""

import os
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.support import forked

from vitreous.model import count
from vitreous.model.names import build_vit_config

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
README = ROOT / "README.md"
FENCE = re.compile(r"^```(?P<language>[a-z]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
SHORT = "--duration 2st --evaluate-every 2st"
SHORT_IN_PYTHON = 'settings={"duration": "2st", "evaluate_every": "2st"}'
FORKED = "vitreous (?!inspect photos$)"
SET_UP = ("python3 -m venv .venv", "source .venv/bin/activate", "pip install -c constraints.txt -e .")
CLASSES = {
    "photos": {"cat": (200, 120, 60), "dog": (60, 90, 180)},
    "flowers": {"rose": (200, 30, 60), "tulip": (220, 200, 40)},
}


def blocks(document):
    """Return (language, code) of the fenced blocks."""
    return [(match["language"], match["code"]) for match in FENCE.finditer(document.read_text(encoding="utf-8"))]


def commands():
    return [line for language, code in blocks(README) if language == "bash" for line in code.splitlines()]


def draw(folder, colour, count, rng):
    folder.mkdir(parents=True)
    for number in range(1, count + 1):
        pixels = np.clip(rng.normal(colour, 40, (96, 80, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg")


def draw_all(place):
    """Fill the folder that a reader would be in."""
    rng = np.random.default_rng(0)
    for name, classes in CLASSES.items():
        for label, colour in classes.items():
            draw(place / name / label, colour, 10, rng)
    draw(place / "unsorted", CLASSES["photos"]["cat"], 3, rng)
    return place


def execute(command, folder):
    """Run one line as bash would, the parts of a pipe one after the other; return what it printed."""
    printed = ""
    for part in command.split(" | "):
        printed = forked_command(part, folder, printed) if re.match(FORKED, part) else in_bash(part, folder)
    return printed


def forked_command(command, folder, given):
    """Run a command of vitreous in a process that is forked from this one; return what it printed."""
    work = forked.vitreous(*shlex.split(command, comments=True)[1:])
    done = forked.run(work, lambda: os.chdir(folder), given.encode())
    return checked(command, done)


def in_bash(command, folder):
    """Run one line in bash with the virtual environment's commands first; return what it printed."""
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    line = ["bash", "-o", "pipefail", "-c", command]
    return checked(
        command, subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    )


def checked(command, done):
    assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr, f"$ {command}\n{done.stderr}"
    return done.stdout


def shortened(command):
    command = command.replace("--weights starter", "--weights starter --head-views 0")
    trains = (
        re.search(r"vitreous train .*(--minutes 15|--recipe finetune|digits)", command) and "--dry-run" not in command
    )
    return f"{command.replace(' --minutes 15', '').replace(' --duration 60ep', '')} {SHORT}" if trains else command


def run_commands(folder):
    """Execute the README's command lines; return (folder, what each printed)."""
    ran = [command for command in commands() if "vitreous" in command]
    return folder, [execute(shortened(command), folder) for command in ran]


def run_python(folder):
    """Execute the README's Python."""
    code = "".join(code for language, code in blocks(README) if language == "python")
    assert "minutes=15" in code
    script = code.replace("minutes=15", f'recipe="lp-ft", {SHORT_IN_PYTHON}')
    return folder, execute(f"python - <<'END'\n{script}\nEND", folder).splitlines()


def run_demo(folder):
    """Execute what `make demo` would, once it is set up."""
    planned = execute("make demo --dry-run --old-file=.venv/.ready", ROOT).splitlines()
    lines = [line.removeprefix(".venv/bin/") for line in planned if line.startswith(".venv/bin/")]
    script, digits, photographs = "examples/write_{}.py", "digits", "photographs"
    assert [shlex.split(line)[1] for line in lines] == [
        "train",
        script.format(digits),
        "predict",
        script.format(photographs),
        "train",
        "predict",
    ]
    return folder, [execute(shortened(line.replace("examples/", f"{ROOT}/examples/")), folder) for line in lines]


@pytest.fixture(scope="module")
def commands_ran(tmp_path_factory):
    return run_commands(draw_all(tmp_path_factory.mktemp("commands")))


def test_the_commands_do_what_they_say(commands_ran):
    folder, printed = commands_ran
    train, inspect, dry_run, predict, _, _, evaluate, _, _, review, explain, resume, finetune = printed
    run = folder / "runs" / "photos-probe-1"
    for name in re.findall(r"^\| `([\w./]+)` \|", README.read_text(encoding="utf-8"), re.MULTILINE):
        assert (run / name).exists(), f"the README says that a run folder holds {name}"
    assert (run / "report.html").stat().st_size > 10_000
    assert "finished: validation top-1" in train
    assert "16 for training, 4 for validation" in inspect
    assert "seen as 160x160" in dry_run
    assert "nothing was written" in dry_run
    assert [line.split()[0] for line in predict.splitlines()] == [f"unsorted/{number}.jpg" for number in (1, 2, 3)]
    assert len(list((folder / "sorted").glob("*/*.jpg"))) == 3
    assert len((folder / "labels.csv").read_text().splitlines()) == 1 + 3
    assert re.search(r"examples +4\n", evaluate)
    assert "20 images of photos" in review and "review.csv" not in review
    assert "explanations/photos-probe-1-1/index.html" in explain
    assert "resuming at step 0 of 0" in resume
    assert "the head is new" in finetune
    assert (folder / "runs" / "flowers-finetune-1" / "model" / "model.safetensors").exists()
    assert sorted(path.name for path in (folder / "runs").iterdir()) == ["flowers-finetune-1", "photos-probe-1"]


class Fetched(HTMLParser):
    """Collects what a browser would fetch or run."""

    def __init__(self):
        super().__init__()
        self.found, self.pictures = [], 0

    def handle_starttag(self, tag, attrs):
        self.pictures += tag in ("img", "svg")
        addresses = [value for name, value in attrs if name in ("src", "srcset", "data", "poster", "action")]
        self.found += [value[:80] for value in addresses if not value.startswith("data:")]
        self.found += [tag] if tag in ("script", "link", "iframe", "object", "base") else []


def test_the_report_needs_nothing_but_itself(commands_ran):
    """docs/decisions/0005."""
    folder, _ = commands_ran
    page = (folder / "runs" / "flowers-finetune-1" / "report.html").read_text(encoding="utf-8")
    parser = Fetched()
    parser.feed(page)
    assert parser.found == []
    assert parser.pictures > 5
    assert "@import" not in page and not re.search(r"url\((?!['\"]?(data:|#))", page)


@pytest.mark.slow
def test_the_python_runs(tmp_path):
    _, printed = run_python(draw_all(tmp_path))
    label, top1 = printed[0].split()
    assert label in CLASSES["photos"]
    assert 0 <= float(top1) <= 1
    expected = count.count_parameters(build_vit_config("S/16", classes=10, image=(256, 192)))
    assert printed[-1] == f"{expected:,} parameters"
    assert any(line.startswith("top-1 ") for line in printed)


@pytest.mark.slow  # .ci/wheel does the same with the wheel
def test_the_demo_runs(tmp_path):
    folder, (_, _, digits, _, train, photographs) = run_demo(tmp_path)
    demo, names = folder / "runs" / "demo", ["cat", "coffee", "flower", "rocket", "stars", "temple", "tissue"]
    assert len(digits.splitlines()) == 10
    assert "starter@" in train or "finished: validation top-1" in train
    assert len(photographs.splitlines()) == 35
    assert sorted(path.name for path in (demo / "photos").iterdir()) == names
    sorted_right = [path for path in (demo / "sorted").glob("*/*.jpg") if path.name.startswith(path.parent.name)]
    assert len(sorted_right) > 20
    assert len(list((demo / "sorted").glob("*/*.jpg"))) == 35
    for run in ("digits", "photos-run"):
        assert (demo / run / "report.html").exists()


def test_photographs_are_cut_without_a_common_pixel_and_written_once(tmp_path):
    """The left part of each is learned from; a second time is one line, and changes nothing."""
    line = f"python {ROOT}/examples/write_photographs.py FOLDER"
    execute(line, tmp_path)
    assert len(list((tmp_path / "FOLDER" / "photos").glob("*/*.jpg"))) == 7 * 30
    again = subprocess.run([sys.executable, *line.split()[1:]], cwd=tmp_path, capture_output=True, text=True)
    assert (again.returncode, again.stderr) == (1, "FOLDER/unsorted is there already; name another folder\n")
    without = "import sys; sys.modules['sklearn'] = None; sys.argv[1:] = ['OTHER']; import runpy; runpy.run_path(%r, run_name='__main__')"
    lacking = subprocess.run(
        [sys.executable, "-c", without % line.split()[1]], cwd=tmp_path, capture_output=True, text=True
    )
    assert lacking.returncode == 1 and len(lacking.stderr.splitlines()) == 1 and "is not installed" in lacking.stderr
    assert not (tmp_path / "OTHER").exists()


def test_what_a_user_needs_is_set_up_without_the_developers_tools():
    """`make demo` installs the demo's extra, and `make test` and `make check` the tools on top of it; a .venv that is there is kept."""
    demo, check, test = (
        execute(f"make {target} --dry-run --always-make", ROOT) for target in ("demo", "check", "test")
    )
    assert "-e '.[demo]'" in demo and "[dev]" not in demo
    for planned in (check, test):
        assert planned.index("-e '.[demo]'") < planned.index("-e '.[dev]'")
    assert "rm -rf .venv" not in demo + check + test


def test_make_knows_its_targets():
    targets = [command for command in commands() if command.startswith("make ")]
    assert [target.split()[1] for target in targets] == ["demo", "test", "check", "docs", "fuzz"]
    for target in targets:
        execute(f"{target} --dry-run", ROOT)


def test_nothing_is_left_unexecuted():
    for command in commands():
        assert command in SET_UP or command.startswith("make ") or "vitreous" in command, command
