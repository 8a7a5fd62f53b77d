"""Train and resume: what is refused writes nothing; what is broken off goes on; what is damaged is said."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.cli.conftest import TINY
from tests.support import forked
from tests.support.pictures import tree, write

from vitreous.run_folder import Run, list_checkpoint_steps, read_run
from vitreous.weights.auto_weights import STARTER, find_licence

FOREVER = (*(option for option in TINY if "duration" not in option), "--duration=100000st")


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_dry_run_tells_what_matters_and_writes_nothing(vitreous, here):
    shown = vitreous("train", "digits", *TINY, "--dry-run", "--optimizer.lr=0.25").worked("nothing was written")
    words = {line[:12].rstrip(): line[13:] for line in shown.splitlines() if not line.startswith(" ")}
    assert words["data"] == "digits: 1,437 images to train on, 360 for validation"
    assert words["steps"].startswith("6 of 16 images, 0.06681 epochs (6st); muon, learning rate to 0.25")
    assert words["recipe"] == "small, from scratch"
    assert words["run folder"] == "runs/digits-small-1"
    assert int(words["parameters"].partition(";")[0].replace(",", "")) > 1000
    for change in ("optimizer.lr 0.003 -> 0.25", "duration 200ep -> 6st", "batch 128 -> 16"):
        assert change in words["changed"]
    assert re.match(r"about \d+s on this machine \(cpu, \d+ thread", words["time"])
    assert list(here.iterdir()) == []


def test_the_json_of_a_dry_run_goes_in_again(vitreous, here):
    printed = vitreous("train", "digits", *TINY, "--seed=5", "--dry-run", "--json")
    assert printed.code == 0
    assert json.loads(printed.out)["seed"] == 5
    (here / "my.json").write_text(printed.out)
    again = vitreous("train", "--config", "my.json", "--dry-run", "--json")
    assert (again.code, again.out) == (0, printed.out)
    vitreous("train", "digits", "--json").refused("add --dry-run")


def test_runs_are_numbered(vitreous, here):
    for number in (1, 2):
        shown = vitreous("train", "digits", *TINY, "--duration=1st", "--schedule.warmup=0st").worked("finished")
        assert f"run folder: runs/digits-small-{number}" in shown
        assert f"next: vitreous predict runs/digits-small-{number}" in shown
    assert read_run("runs/digits-small-2").checkpoints == [1]


def test_what_to_run_next_can_be_pasted_when_names_have_spaces(vitreous, here):
    vitreous("train", "digits", *TINY, "--duration=1st", "--schedule.warmup=0st", "--out", "mein Lauf ü").worked(
        "next: vitreous predict 'mein Lauf ü' IMAGES...   or   vitreous evaluate 'mein Lauf ü'"
    )
    vitreous("inspect", "mein Lauf ü").worked("next: vitreous evaluate 'mein Lauf ü'")
    vitreous("inspect", "mein Lauf ü/model").worked("next: vitreous predict 'mein Lauf ü/model' IMAGES...")
    vitreous("evaluate", "mein Lauf ü", "--no-speed").worked("next: vitreous predict 'mein Lauf ü' IMAGES...")


def test_a_finished_run_holds_everything(trained):
    record = read_run(trained)
    evaluations = [entry for entry in record.metrics if entry["kind"] == "evaluation"]
    kept = [] if evaluations[-1]["best"] else ["best"]
    assert sorted(path.name for path in trained.iterdir()) == [
        ".lock", *kept, "checkpoints", "config.json", "metrics.jsonl", "model", "report.html",
    ]  # fmt: skip
    assert record.checkpoints[-1] == 6
    assert [entry["step"] for entry in record.metrics if entry["kind"] == "evaluation"] == [3, 6]


@pytest.mark.parametrize("name", ["a.txt", "config.json", "sub/b.txt"])
def test_a_folder_in_use_is_left_alone(vitreous, here, name):
    write(here / "out" / name, b"mine")
    vitreous("train", "digits", *TINY, "--out", "out").refused("out is not empty", "--out")
    assert snapshot(here) == {f"out/{name}": b"mine"}


def test_a_run_is_not_trained_over(vitreous, trained):
    before = snapshot(trained)
    vitreous("train", "digits", *TINY, "--out", trained).refused("is not empty", f"`vitreous resume {trained}`")
    assert snapshot(trained) == before


def test_a_file_is_no_run_folder(vitreous, here):
    write(here / "out", b"mine")
    vitreous("train", "digits", *TINY, "--out", "out").refused("out is a file; --out must name a new or empty folder")


@pytest.mark.parametrize("out", ["file/run", "file/deep/run", "/proc/nowhere"])
def test_a_run_folder_that_can_not_be_made(vitreous, here, out):
    write(here / "file", b"mine")
    done = vitreous("train", "digits", *TINY, "--out", out)
    done.refused(f"no folder can be made at {out}", "choose another folder with --out")
    assert done.out == ""
    assert snapshot(here) == {"file": b"mine"}


@pytest.mark.parametrize("more", [("--duration", "2x"), ("--model", "nope"), ("--model", "Z/16")])
def test_what_is_mistyped_is_refused_before_the_images_are_looked_at(vitreous, here, more):
    done = vitreous("train", "no such folder", *more)
    done.refused("2x" if "2x" in more else "R50+B/16, R50x1")
    assert done.out == ""


def test_resume_of_a_finished_run_changes_nothing_but_its_report(vitreous, run):
    before = snapshot(run)
    (run / "report.html").unlink()
    vitreous("resume", run).worked("resuming at step 6 of 6", "finished: validation top-1")
    after = snapshot(run)
    assert set(after) == set(before)
    assert {name for name in before if before[name] != after[name]} <= {"report.html", ".lock"}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda here: None, "is not a run folder: there is no such folder"),
        (lambda here: write(here / "run", b""), "is not a run folder: it is a file"),
        (lambda here: tree(here / "run", a=1), "is not a run folder: it has no config.json"),
        (lambda here: write(here / "run" / "config.json", b"{"), "is damaged: it is not JSON"),
        (
            lambda here: write(here / "run" / "config.json", b'{"vitreous_run": 99}'),
            "of format 99; this vitreous reads",
        ),
        (lambda here: write(here / "run" / "config.json", b'{"vitreous_run": "1"}'), "of format '1'"),
    ],
)
def test_what_can_not_be_resumed(vitreous, here, make, words):
    make(here)
    for name in ("resume", "report"):
        vitreous(name, "run").refused(words)


def test_a_model_folder_is_no_run(vitreous, trained):
    vitreous("resume", trained / "model").refused("is a model folder and not a run folder; did you mean", str(trained))


def test_a_damaged_checkpoint_is_passed_over_and_said(vitreous, run):
    newest, before = list_checkpoint_steps(run)[::-1]
    damage(run / "checkpoints" / f"step-{newest}" / "tensors.safetensors")
    whole = snapshot(run / "model")
    vitreous("resume", run).worked(
        f"skipped a damaged checkpoint and resumed from step {before}", f"resuming at step {before} of 6", "finished"
    )
    assert list_checkpoint_steps(run)[-1] == newest
    assert snapshot(run / "model")["model.safetensors"] == whole["model.safetensors"]


def test_all_checkpoints_damaged(vitreous, run):
    for step in list_checkpoint_steps(run):
        damage(run / "checkpoints" / f"step-{step}" / "tensors.safetensors")
    vitreous("resume", run).refused("all its checkpoints are damaged", "config.json")


def test_a_run_in_use(vitreous, run):
    held, holding = os.pipe()

    def hold():
        with Run.open(run):
            os.write(holding, b"1")
            time.sleep(99)
        return 0

    process = forked.Forked(hold)
    try:
        assert os.read(held, 1) == b"1"
        before = snapshot(run)
        vitreous("resume", run).refused(f"is in use by process {process.pid}", f"kill {process.pid}")
        assert snapshot(run) == before
    finally:
        process.kill()
        process.communicate()
    os.close(held)
    os.close(holding)
    vitreous("resume", run).worked("finished")


def test_data_that_has_changed_since(vitreous, here):
    tree(here / "data", a=6, b=6)
    vitreous("train", "data", "--image", "8", "8", "--out", "run", *TINY).worked()
    write(here / "data" / "a" / "0.png", seed=99)
    vitreous("resume", "run").refused("the data has changed since this run began", "--weights")


def test_a_config_that_was_edited(vitreous, run):
    document = json.loads((run / "config.json").read_text())
    document["config"]["model"]["width"] = 64
    (run / "config.json").write_text(json.dumps(document))
    vitreous("resume", run).refused("changed by hand", "model.width 32 -> 64", "--accept-changes")
    vitreous("resume", run, "--accept-changes").refused("the checkpoint doesn't fit this run's config.json")
    document["config"]["modle"] = document["config"].pop("model")
    (run / "config.json").write_text(json.dumps(document))
    vitreous("resume", run).refused("unknown setting 'modle'; did you mean 'model'?")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--model", "Ti/4"), "holds another architecture: width 32 there, 192 here, depth 1 there, 12 here"),
        (("--model", "mu/2"), "holds another architecture: patch (4, 4) there, (2, 2) here"),
        (("--model", "mu/4", "--recipe", "finetune"), "recipe 'finetune' uses the model of its weights"),
    ],
)
def test_weights_of_another_architecture(vitreous, trained, here, more, words):
    options = [option for option in TINY if "--model" not in option]
    vitreous("train", "digits", *options, "--weights", trained, *more, "--out", "out").refused(words)
    assert list(here.iterdir()) == []


def test_weights_that_are_no_model(vitreous, here, run):
    (here / "empty").mkdir()
    for path, words in ((here / "nowhere", "no such model folder"), (here / "empty", "it has no config.json")):
        vitreous("train", "digits", *TINY, "--weights", path).refused(words)
    damage(run / "model" / "model.safetensors")
    vitreous("train", "digits", *TINY, "--weights", run).refused("model.safetensors is damaged")
    shutil.rmtree(run / "model")
    vitreous("train", "digits", *TINY, "--weights", run).refused("has exported no model yet (it is at step 6)")


def small_files() -> None:
    """Let no file grow beyond 30 kB: as a full disk, but for one process."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))


def test_no_room_for_a_checkpoint(vitreous, here):
    done = forked.run(forked.vitreous("train", "digits", *TINY, "--out", "run"), small_files)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert done.stderr.startswith("vitreous: error: can't write run/checkpoints/.step-2.")
    assert "the file would be larger than is allowed here. What was saved before is untouched" in done.stderr
    assert list_checkpoint_steps(Path("run")) == []
    assert not list(Path("run").rglob("*.partial"))
    vitreous("resume", "run").worked("no checkpoint yet: starting from the beginning", "finished")


@pytest.fixture
def tiny_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting needs root")
    yield place
    subprocess.run(["umount", place], check=True)


def test_no_space_left(vitreous, tiny_disk):
    run = tiny_disk / "run"
    vitreous("train", "digits", *TINY, "--out", run).refused("the disk is full", "free some space", code=1)
    assert not list(run.rglob("*.partial"))
    steps = list_checkpoint_steps(run)
    subprocess.run(["mount", "-o", "remount,size=20m", tiny_disk], check=True)
    said = f"resuming at step {steps[-1]} of 6" if steps else "starting from the beginning"
    vitreous("resume", run).worked(said, "finished")


def test_nothing_is_left_where_nothing_fits(vitreous, tiny_disk):
    (tiny_disk / "filler").write_bytes(b"\0" * os.statvfs(tiny_disk).f_bavail * os.statvfs(tiny_disk).f_bsize)
    vitreous("train", "digits", *TINY, "--out", tiny_disk / "run").refused("the disk is full", code=1)
    assert [path.name for path in tiny_disk.iterdir()] == ["filler"]


def wait_for_checkpoint(process: forked.Forked, run: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if list_checkpoint_steps(run):
            return
        time.sleep(0.05)
    pytest.fail(f"no checkpoint was written: {process.communicate()}")


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 0), (signal.SIGTERM, 2), (signal.SIGHUP, 0)])
def test_a_signal_saves_and_says_how_to_go_on(vitreous, here, number, workers):
    """The run is made shorter as it is resumed, so that the test ends soon."""
    run = here / "run"
    work = forked.vitreous("train", "digits", *FOREVER, f"--workers={workers}", "--out", run)
    process = forked.Forked(work, os.setsid)
    wait_for_checkpoint(process, run)
    os.killpg(process.pid, number)  # as a terminal, `timeout` and schedulers do: the workers fall first
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (128 + number, "")
    assert out.splitlines()[-1] == f"interrupted; everything so far is saved. Continue with: vitreous resume {run}"
    step = list_checkpoint_steps(run)[-1]
    assert not (run / "report.html").exists()
    vitreous("inspect", run).worked(f"step {step:,} of 100,000", "next: vitreous resume")
    vitreous("resume", run, "--duration", f"{step + 5}st", "--workers", 0).worked(
        f"resuming at step {step:,} of {step + 5:,}", "finished"
    )
    with Run.open(run) as opened:
        assert opened.find_latest_checkpoint().step == step + 5


def test_a_run_that_stopped_early_is_done(vitreous, here):
    stop = ("--duration=60st", "--optimizer.lr=0", "--early-stop.patience=2", "--evaluate-every=3st", "--out=run")
    vitreous("train", "digits", *TINY, *stop).worked("stopped early: validation top-1")
    assert list_checkpoint_steps(Path("run"))[-1] == 9
    vitreous("inspect", "run").worked("step 9 of 60", "stopped early", "next: vitreous evaluate")
    vitreous("resume", "run").worked("resuming at step 9 of 60", "stopped early")


def test_a_run_that_diverges_says_so_and_keeps_its_checkpoint(vitreous, here):
    done = vitreous("train", "digits", *TINY, "--out", "run", "--optimizer.lr", "1e30", "--schedule.warmup", "6st")
    done.refused("the last good checkpoint is kept", "--optimizer.lr", code=1)
    assert read_run("run").config["config"]["optimizer"]["lr"] == 1e30
    for step in list_checkpoint_steps(Path("run")):
        with Run.open("run") as opened:
            assert all(tensor.isfinite().all() for tensor in opened.find_latest_checkpoint().tensors.values()), step


def test_a_licence_is_known_without_a_network():
    card = (STARTER / "README.md").read_text(encoding="utf-8")
    assert f"license: {find_licence('starter@0123456789ab')}\n" in card
    assert find_licence("timm/vit_small_patch14_reg4_dinov2.lvd142m@0123456789ab") == "apache-2.0"
    assert find_licence("runs/photos-small-1") == ""


def test_a_teacher_and_how_it_teaches(vitreous, here, trained):
    how = ("--distillation", "soft", "--distillation-temperature", "2", "--distillation-weight", "0.3")
    vitreous("train", "digits", "--teacher", trained, *how, "--out", here / "run", *TINY, "--duration=2st").worked()
    objective = read_run(here / "run").config["config"]["objective"]
    assert {name: value for name, value in objective.items() if name.startswith("distillation")} == {
        "distillation": "soft", "distillation_temperature": 2.0, "distillation_weight": 0.3,
    }  # fmt: skip
    vitreous("evaluate", here / "run", "--no-speed").worked()


def test_a_teacher_that_is_not_there_is_one_line(vitreous, here):
    vitreous("train", "digits", "--teacher", here / "none", "--out", here / "run").refused("no such model folder")
    vitreous("train", "digits", "--distillation", "soft", "--out", here / "run").refused("give --teacher")
    assert not (here / "run").exists()
