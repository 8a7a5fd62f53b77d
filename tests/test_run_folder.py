"""The run folder: whatever instant its writer dies, it opens, and the newest whole checkpoint is right."""

import json
import os
import random
import signal
import time
from contextlib import suppress

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vitreous.errors import RunError, RunLocked, StorageError
from vitreous.run_folder import Run, is_run, read_run

CONFIG = {"config": {"model": {"width": 8}}, "steps": 10}


def tensors(step):
    return {
        "model.weight": torch.full((300,), float(step)),
        "optimizer.exp_avg.weight": torch.full((7, 3), -float(step)),
    }


@pytest.fixture
def run(tmp_path):
    with Run.create(tmp_path / "run", CONFIG) as run:
        yield run


def hidden(folder):
    return [path.name for path in folder.rglob(".*") if path.name != ".lock"]


def test_what_is_saved_comes_back(run):
    run.save_checkpoint(3, tensors(3), {"best": 0.1 + 0.2, "none": None})
    checkpoint = run.find_latest_checkpoint()
    assert checkpoint.step == 3
    assert checkpoint.state == {"best": 0.1 + 0.2, "none": None}
    assert all(torch.equal(checkpoint.tensors[name], tensor) for name, tensor in tensors(3).items())
    assert run.notices == []


def test_a_fresh_run_is_empty(run):
    assert run.find_latest_checkpoint() is None
    record = read_run(run.path)
    assert (record.config, record.metrics, record.model, record.checkpoints) == (CONFIG, [], None, [])
    assert json.loads((run.path / "config.json").read_text())["vitreous_run"] == 2
    assert is_run(run.path)
    assert not is_run(run.path.parent)


def test_configuration_keeps_any_text(tmp_path):
    with Run.create(tmp_path / "猫 and\ndogs", {"classes": ["猫", "\udcff"]}) as run:
        assert read_run(run.path).config == {"classes": ["猫", "\udcff"]} == run.config


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.dictionaries(
            st.text(max_size=5), st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
        )
    ),
    st.binary(max_size=8),
)
def test_records_survive_and_a_torn_one_is_dropped(tmp_path_factory, records, torn):
    path = tmp_path_factory.mktemp("runs") / "run"
    with Run.create(path, CONFIG) as run:
        for record in records:
            run.log(record)
    with (path / "metrics.jsonl").open("ab") as file:
        file.write(torn.replace(b"\n", b"x"))
    assert read_run(path).metrics == records
    with Run.open(path) as run:
        run.log({"step": 1})
    assert read_run(path).metrics == [*records, {"step": 1}]


def test_a_tail_of_zeros_is_a_torn_record(run):
    run.log({"step": 1})
    with (run.path / "metrics.jsonl").open("ab") as file:
        file.write(b"\0\0\0\n\0\n")
    assert read_run(run.path).metrics == [{"step": 1}]


def test_a_damaged_record_in_the_middle_is_an_error(run):
    run.log({"step": 1})
    with (run.path / "metrics.jsonl").open("ab") as file:
        file.write(b"oops\n")
    run.log({"step": 2})
    with pytest.raises(RunError, match="line 2"):
        read_run(run.path)


def test_numbers_without_a_word_in_json_become_null(run):
    run.log({"step": 1, "loss": float("nan"), "all": [float("inf"), 1.5]})
    assert read_run(run.path).metrics == [{"step": 1, "loss": None, "all": [None, 1.5]}]


def test_metrics_are_cut_back_to_the_checkpoint(run):
    for step in (1, 2):
        run.log({"step": step})
    run.save_checkpoint(2, tensors(2), {})
    run.log({"step": 2, "kind": "evaluation, after the checkpoint"})
    run.log({"step": 3})
    run.cut_metrics(2)
    assert read_run(run.path).metrics == [{"step": 1}, {"step": 2}]
    run.log({"step": 3})
    assert read_run(run.path).metrics[-1] == {"step": 3}
    run.cut_metrics(0)
    assert read_run(run.path).metrics == []
    run.log({"step": 0, "kind": "evaluation"})
    run.cut_metrics(0)
    assert read_run(run.path).metrics == []


def test_the_newest_checkpoints_are_kept(run):
    for step in range(1, 6):
        run.save_checkpoint(step, tensors(step), {})
        assert read_run(run.path).checkpoints == list(range(max(1, step - 1), step + 1))
    run.keep = 3
    run.save_checkpoint(6, tensors(6), {})
    assert read_run(run.path).checkpoints == [4, 5, 6]


def test_a_checkpoint_of_the_same_step_is_replaced(run):
    run.save_checkpoint(1, tensors(1), {"n": 1})
    run.save_checkpoint(1, tensors(1), {"n": 2})
    assert run.find_latest_checkpoint().state == {"n": 2}


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "SHA256SUMS"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone"])
def test_a_damaged_checkpoint_is_passed_over_and_said(run, name, damage):
    run.save_checkpoint(1, tensors(1), {"at": 1})
    run.save_checkpoint(2, tensors(2), {"at": 2})
    hurt(run.path / "checkpoints" / "step-2" / name, damage)
    checkpoint = run.find_latest_checkpoint()
    assert checkpoint.step == 1
    assert checkpoint.state == {"at": 1}
    assert torch.equal(checkpoint.tensors["model.weight"], tensors(1)["model.weight"])
    assert len(run.notices) == 1
    assert "resumed from step 1" in run.notices[0]
    assert "step-2" in run.notices[0]
    run.cut_metrics(1)
    run.save_checkpoint(3, tensors(3), {})
    assert run.find_latest_checkpoint().step == 3


def test_a_damaged_checkpoint_takes_no_whole_ones_place(run):
    for step in (10, 20):
        run.save_checkpoint(step, tensors(step), {})
    hurt(run.path / "checkpoints" / "step-20" / "tensors.safetensors", "flip")
    assert run.find_latest_checkpoint().step == 10
    run.save_checkpoint(25, tensors(25), {})
    assert read_run(run.path).checkpoints == [10, 25]


def hurt(path, damage):
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "flip":
        middle = len(data) // 2
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    else:
        path.write_bytes(data[: len(data) // 2] if damage == "cut" else b"")


def test_an_abandoned_future_is_removed(run):
    run.save_checkpoint(1, tensors(1), {})
    run.save_checkpoint(9, tensors(9), {})
    hurt(run.path / "checkpoints" / "step-9" / "state.json", "flip")
    assert run.find_latest_checkpoint().step == 1
    run.save_checkpoint(2, tensors(2), {})
    assert read_run(run.path).checkpoints == [1, 2]


def test_all_damaged_is_one_clear_line(run):
    for step in (1, 2):
        run.save_checkpoint(step, tensors(step), {})
        hurt(run.path / "checkpoints" / f"step-{step}" / "state.json", "flip")
    with pytest.raises(RunError, match="all its checkpoints are damaged") as caught:
        run.find_latest_checkpoint()
    assert "\n" not in str(caught.value)


def test_two_writers_are_kept_apart(run):
    with pytest.raises(RunLocked, match=rf"already open in this process \({os.getpid()}\)"):
        Run.open(run.path)
    run.close()
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            Run.open(run.path)
            time.sleep(30)
        os._exit(1)
    try:
        wait_until(lambda: locked_by(run.path) == child)
        with pytest.raises(RunLocked, match=rf"in use by process {child} on "):
            Run.open(run.path)
        assert read_run(run.path).config == CONFIG
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    Run.open(run.path).close()


def locked_by(path):
    with suppress(ValueError):
        return json.loads((path / ".lock").read_text())["pid"]


def wait_until(done):
    for _ in range(1000):
        if done():
            return
        time.sleep(0.01)
    raise TimeoutError


def test_a_worker_that_outlives_its_parent_holds_nothing(tmp_path):
    ready, tell = os.pipe()
    path = tmp_path / "run"
    parent = os.fork()
    if parent == 0:
        with suppress(BaseException):
            Run.create(path, CONFIG)
            worker = os.fork()
            if worker == 0:
                time.sleep(30)
            os.write(tell, str(worker).encode())
            time.sleep(30)
        os._exit(1)
    worker = int(os.read(ready, 20))
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    try:
        Run.open(path).close()
    finally:
        os.kill(worker, signal.SIGKILL)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'{"vitreous_run": 99}', "is a run folder of format 99; this vitreous reads formats 1 to 2"),
        (b'{"vitreous_run": null}', "format None"),
        (b'{"vitreous_model": 1}', "is a model folder and not a run folder"),
        (b'{"model_type": "vit"}', "is not a run folder"),
        (b"[1]", "is not a run folder"),
        (b"{", "is damaged: it is not JSON"),
        (b"\xff\xfe\x00", "is damaged: it is not JSON"),
        (b"[" * 100_000, "is damaged: it is not JSON"),
        (b'{"vitreous_run": 1, "config": {"seed": 1, "seed": 2}}', "config.json: 'seed' is given twice"),
        (None, "it has no config.json"),
    ],
)
def test_what_is_no_run_folder_is_one_clear_line(tmp_path, text, words):
    if text is not None:
        (tmp_path / "config.json").write_bytes(text)
    for opening in (read_run, Run.open):
        with pytest.raises(RunError, match=words) as caught:
            opening(tmp_path)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / ".lock").exists()


def test_a_folder_inside_a_run_points_to_it(run):
    run.save_checkpoint(1, tensors(1), {})
    with pytest.raises(RunError, match=f"did you mean {run.path}"):
        read_run(run.path / "checkpoints" / "step-1")
    with pytest.raises(RunError, match="there is no such folder"):
        read_run(run.path / "nowhere")


def test_leftovers_are_cleared_and_never_taken_for_real(run):
    run.save_checkpoint(1, tensors(1), {})
    partial = run.path / "checkpoints" / ".step-2.12345678.partial"
    partial.mkdir()
    (run.path / ".config.json.12345678.partial").write_text("{")
    (run.path / "checkpoints" / "step-1").rename(run.path / "checkpoints" / ".step-1.previous")
    assert read_run(run.path).checkpoints == []
    run.close()
    with Run.open(run.path) as run:
        assert run.find_latest_checkpoint().step == 1
        assert hidden(run.path) == []


def test_a_file_too_large_loses_nothing(run):
    resource = pytest.importorskip("resource")
    run.save_checkpoint(1, tensors(1), {})
    run.log({"step": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(StorageError, match="step-2"):
            run.save_checkpoint(2, {"x": torch.zeros(10_000)}, {})
        with pytest.raises(StorageError, match=r"metrics\.jsonl"):
            run.log({"step": 2, "text": "x" * 30_000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert run.find_latest_checkpoint().step == 1
    assert hidden(run.path) == []
    run.log({"step": 2})
    assert read_run(run.path).metrics == [{"step": 1}, {"step": 2}]


def write_until_killed(path, acknowledged):
    """Do what a training run does: go on from the newest checkpoint, log every step, checkpoint every third."""
    with Run.open(path) as run:
        checkpoint = run.find_latest_checkpoint()
        step = checkpoint.step if checkpoint else 0
        run.cut_metrics(step)
        while True:
            step += 1
            run.log({"step": step, "filler": "x" * (step % 50)})
            if step % 3 == 0:
                run.save_checkpoint(step, tensors(step), {"step": step})
                os.write(acknowledged, step.to_bytes(4, "big"))


def test_killed_at_any_instant_it_opens_and_goes_on(tmp_path):
    path, chance, promised = tmp_path / "run", random.Random(0), 0
    Run.create(path, CONFIG).close()
    rounds = 0
    while rounds < 30 or (not promised and rounds < 300):  # on a busy machine the first ones save nothing
        rounds += 1
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                write_until_killed(path, write)
            os._exit(1)
        os.close(write)
        time.sleep(chance.uniform(0.01, 0.08) * (1 + rounds // 30))
        while_written = read_run(path)
        assert [record["step"] for record in while_written.metrics] == list(range(1, len(while_written.metrics) + 1))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        with os.fdopen(read, "rb") as pipe:
            promised = max([promised, *(int.from_bytes(part, "big") for part in chunks(pipe.read(), 4))])
        with Run.open(path) as run:
            checkpoint = run.find_latest_checkpoint()
            assert not any("damaged" in notice for notice in run.notices)
            step = checkpoint.step if checkpoint else 0
            assert step >= promised
            if checkpoint:
                assert checkpoint.state == {"step": step}
                assert all(torch.equal(checkpoint.tensors[name], tensor) for name, tensor in tensors(step).items())
            run.cut_metrics(step)
            assert [record["step"] for record in read_run(path).metrics] == list(range(1, step + 1))
            assert hidden(path) == []
    assert promised > 0


def chunks(data, size):
    return [data[start : start + size] for start in range(0, len(data), size)]
