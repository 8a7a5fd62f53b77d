"""A sweep: ordinary runs, a row for each variant, gone on with after a kill, in this process or in others."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.pictures import tree
from tests.support.training import TINY, Listener, digest

import vitreous
import vitreous.training.run_group as running
from vitreous.cli.main import run_to_code
from vitreous.errors import ConfigError, FailedError, NonFiniteLoss, RunError
from vitreous.metrics.seeds import find_interval
from vitreous.run_folder import read_run
from vitreous.settings import to_dict
from vitreous.sweeps.plan import SweepCell, SweepPlan
from vitreous.sweeps.processes import Job, Sharing
from vitreous.sweeps.result import SweepResult

SHORT = replace(TINY, duration="20st", evaluate_every="20st")
RATES = {"optimizer.lr": [1e-5, 1e-2]}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Return a finished sweep of two rates and two seeds, and what was said."""
    listener = Listener()
    out = tmp_path_factory.mktemp("sweep") / "out"
    return vitreous.sweep(grid=RATES, seeds=2, config=to_dict(SHORT), out=out, reporter=listener), listener.messages


def test_runs_are_those_of_train(swept, tmp_path):
    found, said = swept
    assert sorted(path.name for path in found.folder.iterdir() if path.is_dir()) == [
        f"lr={rate},seed={seed}" for rate in ("0.01", "1e-05") for seed in (3, 4)
    ]
    alone = vitreous.train(
        config=to_dict(replace(SHORT, seed=4)), settings={"optimizer": {"lr": 0.01}}, out=tmp_path / "run"
    )
    assert digest(found.folder / "lr=0.01,seed=4") == digest(alone.run)
    assert said[0].startswith("2 settings, 2 seeds: 4 of 4 runs to do")


def test_a_row_has_the_mean_over_seeds_and_its_interval(swept):
    found, _ = swept
    _, best = found.variants
    values = [one["top1"] for one in best.runs.values()]
    assert values == [read_run(found.folder / f"lr=0.01,seed={seed}").metrics[-1]["top1"] for seed in (3, 4)]
    assert found.best is best
    assert found.columns["mean"][1] == pytest.approx(sum(values) / 2)
    interval = find_interval(values)
    assert found.columns["high"][1] == pytest.approx(min(1, interval.high))
    assert (found.columns["best"], found.columns["seeds"], found.figure) == ([False, True], [2, 2], "top1")
    text = str(found)
    assert "*  0.01" in text
    assert "chosen on the validation images, among 2 settings: its figure there flatters." in text
    assert json.loads(json.dumps(found.to_dict()))["best"] == {"optimizer.lr": 0.01}


def test_the_same_command_does_nothing_anew_and_more_seeds_and_values_add_runs(swept, monkeypatch):
    found, _ = swept
    begun, whole = [], running.train
    monkeypatch.setattr(
        running, "train", lambda config, path, *rest: begun.append(path.name) or whole(config, path, *rest)
    )
    again = vitreous.sweep(grid=RATES, seeds=2, config=to_dict(SHORT), out=found.folder)
    assert (begun, again.to_dict()) == ([], found.to_dict())
    grid = {"optimizer": {"lr": [1e-2, 1e-3]}}
    more = vitreous.sweep(grid=grid, seeds=3, config=to_dict(SHORT), out=found.folder)
    assert begun == ["lr=0.01,seed=5", "lr=0.001,seed=3", "lr=0.001,seed=4", "lr=0.001,seed=5"]
    assert more.variants[0].runs.keys() == {3, 4, 5}
    assert vitreous.sweep(grid=RATES, seeds=2, config=to_dict(SHORT), out=found.folder).to_dict() == found.to_dict()


def test_an_interrupted_run_goes_on_to_the_same_bits(swept, tmp_path):
    found, _ = swept

    class Stop(vitreous.Callback):
        def on_step(self, step, numbers, model):
            if step == 2 and len(list((tmp_path / "out").glob("lr=*"))) == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    how = {"grid": RATES, "seeds": 2, "config": to_dict(SHORT), "out": tmp_path / "out"}
    cut = vitreous.sweep(**how, callbacks=[Stop()])
    assert (cut.signal, cut.done, cut.best) == (signal.SIGTERM, 1, None)
    assert "3 of 4 runs are left" in str(cut)
    again = vitreous.sweep(**how)
    assert again.to_dict() == found.to_dict()
    for run in found.folder.glob("lr=*e-05*"):
        assert digest(run) == digest(tmp_path / "out" / run.name)


def test_divergence_is_a_result(tmp_path, monkeypatch):
    def fails(config, path, *rest):
        raise NonFiniteLoss("the loss became inf at step 3")

    monkeypatch.setattr(running, "train", fails)
    found = vitreous.sweep(grid=RATES, config=to_dict(SHORT), out=tmp_path / "out")
    assert [one.diverged for one in found.variants] == [1, 1]
    assert found.best is None
    assert "no setting has a figure for every seed" in str(found)


def make(reached):
    """Return the result of runs with these figures, by value and seed."""
    cells = [
        SweepCell(f"{value},{seed}", {"ema": value}, seed, SHORT) for value, each in reached.items() for seed in each
    ]
    figures = {f"{value},{seed}": one for value, each in reached.items() for seed, one in each.items()}
    return SweepResult.take(SweepPlan("out", cells, figures))


def test_differences_are_told_only_where_the_seeds_agree():
    apart = make({0.1: {0: {"top1": 0.5}, 1: {"top1": 0.7}}, 0.2: {0: {"top1": 0.6}, 1: {"top1": 0.801}}})
    assert "On these images it differs from the next, ema=0.1: +10.1 (" in str(apart)
    steps = make({value: {seed: {"top1": (value + seed) / 36} for seed in (0, 1)} for value in (31, 32)})
    assert "On these images it can't be told apart from the next, ema=31: +2.78 (+2.78 to +2.78) points" in str(steps)
    alike = make({0.1: {0: {"top1": 0.5}, 1: {"top1": 0.7}}, 0.2: {0: {"top1": 0.7}, 1: {"top1": 0.6}}})
    assert "On these images it can't be told apart from the next, ema=0.1" in str(alike)
    lossy = make({0.1: {0: {"loss": 0.5}}, 0.2: {0: {"loss": 0.4}}, 0.3: {0: {}}})
    assert (lossy.best.variant, lossy.columns["diverged"], lossy.figure) == ({"ema": 0.2}, [0, 0, 1], "loss")
    assert "one seed has no interval" in str(lossy)
    tested = make({0.1: {s: {"top1": 0.5, "test": {"top1": 0.4 + s / 10}} for s in (0, 1)}})
    assert "on the test images, which chose nothing: 45.00% (0.00% to 100.00%)" in str(tested)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"seeds": 0}, "--seeds is 0; it must be 1"),
        ({"seeds": "2"}, "--seeds is '2'; it must be 1"),
        ({"jobs": 0}, "--jobs is 0; it must be 1"),
        ({"jobs": 1.5}, "--jobs is 1.5; it must be 1"),
        ({"processes": 2000}, "--processes is 2000"),
        ({"grid": {"optimizer.lr": ["fast"]}}, "lr is 'fast'; it must be a number"),
        ({"grid": {"optimizer.lr": [-1.0]}}, "lr is -1"),
        ({"grid": {"model": ["mu/4", "huge"]}}, "huge"),
        (
            {"grid": RATES, "jobs": 2, "callbacks": [vitreous.Callback()]},
            "callbacks and objects can't be passed to other processes",
        ),
    ],
)
def test_bad_input_trains_nothing(how, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        vitreous.sweep(**{"grid": RATES, "config": to_dict(SHORT), "out": tmp_path / "out", **how})
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_refused(swept, tmp_path):
    found, _ = swept
    with pytest.raises(RunError, match=r"holds another sweep, whose lr=1e-05,seed=3 differs: batch 32 -> 16"):
        vitreous.sweep(grid=RATES, config=to_dict(replace(SHORT, batch=16)), out=found.folder)
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(RunError, match="can't be read"):
        vitreous.sweep(grid=RATES, config=to_dict(SHORT), out=tmp_path)
    (tmp_path / "sweep.json").unlink()
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(RunError, match="is not empty, and no sweep"):
        vitreous.sweep(grid=RATES, config=to_dict(SHORT), out=tmp_path)
    with pytest.raises(RunError, match=r"is a sweep; continue it with the command that began it"):
        vitreous.resume(found.folder)


def test_other_images_are_noticed(tmp_path):
    folder = tree(tmp_path / "photos", a=10, b=10)
    how = {
        "recipe": "small",
        "model": "mu/4",
        "image": (8, 8),
        "settings": {"duration": "2st", "batch": 4, "workers": 0},
    }
    vitreous.sweep(folder, {"optimizer.lr": [1e-3]}, **how, out=tmp_path / "out")
    assert vitreous.sweep(folder, {"optimizer.lr": [1e-3, 3e-3]}, **how, out=tmp_path / "out").done == 2
    (folder / "a" / "0.png").rename(folder / "b" / "new.png")
    with pytest.raises(
        RunError, match=r"the images have changed since lr=0.001,seed=0 in .* was trained; restore them, or"
    ):
        vitreous.sweep(folder, {"optimizer.lr": [1e-3]}, **how, seeds=2, out=tmp_path / "out")
    assert not (tmp_path / "out" / "lr=0.001,seed=1").exists()


def test_the_command_prints_the_table(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.toml").write_text("batch = [16, 32]\n")
    arguments = [
        "sweep",
        "digits",
        "--set",
        "optimizer.lr=1e-3",
        "--grid",
        "grid.toml",
        "--model",
        "mu/4",
        "--duration",
        "2st",
        "--json",
    ]
    assert run_to_code(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["variant"] for one in found["variants"]] == [
        {"batch": size, "optimizer.lr": 0.001} for size in (16, 32)
    ]
    assert run_to_code(arguments[:-1]) == 0
    (folder,) = (tmp_path / "sweeps").iterdir()
    assert f"next: vitreous runs sweeps/{folder.name} --sort best" in capsys.readouterr().out
    assert run_to_code(["sweep", "digits"]) == 2
    assert "a sweep needs something to vary" in capsys.readouterr().err


def test_runs_share_the_machine(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert Sharing(2, 2).list_variables(1, 4) == {"OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": "2,3"}
    assert Sharing(4, 4).list_variables(3, 8) == {"OMP_NUM_THREADS": "1"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,GPU-8c,7")  # as SLURM sets it
    assert [Sharing(4).list_variables(slot, 4)["CUDA_VISIBLE_DEVICES"] for slot in range(4)] == [
        "4",
        "5",
        "GPU-8c",
        "7",
    ]
    assert Sharing(2, 2).list_variables(1, 4)["CUDA_VISIBLE_DEVICES"] == "GPU-8c,7"
    assert "CUDA_VISIBLE_DEVICES" not in Sharing(4).list_variables(0, 2)


@pytest.mark.parametrize("texts", ["image=8,16", "image=[8],[16,16]", "image=a,b", "model=1,2", "channels=a,b"])
def test_values_of_another_kind_are_one_line(texts, tmp_path, capfd):
    assert run_to_code(["sweep", "digits", "--set", texts, "--out", str(tmp_path / "out")]) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()[-1:]
    assert line.startswith(f"vitreous: error: {texts.partition('=')[0]} is ") and "it must be" in line


def test_a_run_that_is_killed_has_failed(tmp_path, monkeypatch):
    """As the kernel kills a process for want of memory: nobody has interrupted the sweep."""
    from vitreous.sweeps import run

    def kill(jobs):
        jobs[0].process.kill()
        jobs[0].process.wait()
        return jobs[0]

    monkeypatch.setattr(run, "wait_for_one", kill)
    with pytest.raises(
        FailedError, match=r"lr=1e-05,seed=3: it was ended by SIGKILL; perhaps the machine has no more memory"
    ):
        vitreous.sweep(grid={"optimizer.lr": [1e-5]}, config=to_dict(SHORT), out=tmp_path / "out", jobs=2)


def test_a_table_of_many_settings_is_counted_once(monkeypatch):
    from vitreous.sweeps import result

    calls = []
    monkeypatch.setattr(result, "find_interval", lambda values: calls.append(1) or find_interval(values))
    found = make({n / 1000: {0: {"top1": 0.5}, 1: {"top1": n / 1000}} for n in range(200)})
    assert len(found.to_dict()["variants"]) == 200 and len(str(found).splitlines()) > 200
    assert len(calls) < 3 * 200


def test_a_run_that_fails_in_a_process_of_its_own_is_named(tmp_path):
    plan = SweepPlan(tmp_path, [SweepCell("one", {}, 3, replace(SHORT, device="cuda"))])
    from vitreous.sweeps.run import run_jobs

    with pytest.raises((ConfigError, FailedError, ValueError), match=r"one: .*cuda.*the same command goes on"):
        run_jobs(plan, Sharing(2), Listener())


@pytest.mark.slow
def test_killed_with_several_jobs_it_goes_on(swept, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(to_dict(replace(SHORT, duration="60st", evaluate_every="60st"))))
    command = [
        sys.executable,
        "-m",
        "vitreous",
        "sweep",
        "--config",
        str(tmp_path / "config.json"),
        "--out",
        str(tmp_path / "out"),
    ]
    command += ["--set", "optimizer.lr=1e-5,1e-2", "--seeds", "2"]
    first = subprocess.Popen([*command, "--jobs", "2"])
    while not list((tmp_path / "out").glob("lr=*/config.json")):
        time.sleep(0.1)
    first.kill()
    first.wait()
    second = subprocess.Popen([*command, "--jobs", "2"])
    time.sleep(4)
    second.terminate()
    assert second.wait() == 128 + signal.SIGTERM
    subprocess.run([*command, "--processes", "2"], check=True)
    found = vitreous.sweep(grid=RATES, seeds=2, config=tmp_path / "config.json", out=tmp_path / "out")
    assert (found.done, found.best.variant) == (4, {"optimizer.lr": 0.01})
    for seed in (3, 4):
        assert read_run(tmp_path / "out" / f"lr=0.01,seed={seed}").metrics[-1]["step"] == 60


@pytest.mark.slow
def test_under_torchrun_a_killed_process_ends_nothing(tmp_path):
    config, out, last = replace(SHORT, duration="30st", evaluate_every="10st"), tmp_path / "out", "lr=0.01,seed=3"
    (tmp_path / "config.json").write_text(json.dumps(to_dict(config)))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command = [
        "-m",
        "vitreous",
        "sweep",
        "--config",
        str(tmp_path / "config.json"),
        "--set",
        "optimizer.lr=1e30,1e-5,1e-2",
    ]

    def wait_for(process, run):
        end = time.monotonic() + 120
        while not any(out.glob(f"{run}/checkpoints/step-*")):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.1)

    def find_child(process, rank):
        for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
                return int(child)
        raise AssertionError

    first = subprocess.Popen([*torchrun, "--max-restarts", "2", *command, "--out", str(out)])
    wait_for(first, "lr=1e-05,seed=3")
    os.kill(find_child(first, rank=1), signal.SIGKILL)
    wait_for(first, last)
    first.terminate()
    assert first.wait() != 0
    subprocess.run([*torchrun, *command, "--out", str(out)], check=True)
    undisturbed = subprocess.run(
        [*torchrun, *command, "--out", str(tmp_path / "whole"), "--json"], check=True, capture_output=True
    )
    found = vitreous.sweep(grid={"optimizer.lr": [1e30, 1e-5, 1e-2]}, config=tmp_path / "config.json", out=out)
    assert json.loads(undisturbed.stdout) == json.loads(json.dumps(found.to_dict()))
    assert (found.done, found.variants[0].diverged) == (3, 1)
    for run in ("lr=1e-05,seed=3", last):
        assert digest(out / run) == digest(tmp_path / "whole" / run)


def test_a_killed_sweeps_run_is_awaited_before_it_has_a_folder(tmp_path, monkeypatch):
    from vitreous.sweeps import run

    plan, listener = SweepPlan(tmp_path, [SweepCell("one", {}, 3, SHORT)]), Listener()
    (cell,), popen = plan.cells, subprocess.Popen
    says = "echo vitreous: error: no such data; echo a warning; sleep 0.1; exit 2"
    monkeypatch.setattr(subprocess, "Popen", lambda command, **how: popen(["sh", "-c", says], **how))
    monkeypatch.setattr(run, "PATIENCE", 0.01)
    plan.find_log(cell).parent.mkdir()
    plan.find_log(cell).write_text("vitreous: error: another, before\n")
    job = Job.start(plan, cell, 0, Sharing(2), 0)
    run.wait_until_free(plan, cell, listener)
    assert [text.partition(" is ")[2] for text in listener.messages] == [
        "still computed by a process of before; waiting for it"
    ]
    assert job.process.wait() == 2
    assert str(job.explain()).startswith("one: no such data (")
