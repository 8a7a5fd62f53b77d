"""What follows a loss that is not finite, and what is recorded of it, and of spikes."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from tests.support.training import TINY, Listener, digest

from vitreous.data.dataset import open_dataset
from vitreous.data.stream.loader import TrainStream
from vitreous.errors import NonFiniteLoss
from vitreous.model.batch_norm import list_statistics
from vitreous.model.resnet_config import ResNetConfig
from vitreous.run_folder import Run, read_run
from vitreous.training import loop
from vitreous.training.assembly import build_job
from vitreous.training.changes import Changes
from vitreous.training.config import RunConfig
from vitreous.training.distributed import World
from vitreous.training.interrupt import Interrupt
from vitreous.training.reporter import Silent
from vitreous.training.run import resume
from vitreous.training.validate import measure_accuracy
from vitreous.weights.model_folder import load_model

CONFIG = replace(TINY, duration="30st", evaluate_every="30st", checkpoint_every="4st")
NORMED = replace(
    CONFIG,
    duration="12st",
    evaluate_every="12st",
    model=ResNetConfig(
        image=(8, 8), channels=1, units=(1, 1), root="3x3", root_channels=8, unit="basic", norm="batch", classes=10
    ),
)


@pytest.fixture
def broken(monkeypatch):
    """Have some steps' images become NaN, as often as they come: broken(7, 8)."""
    normalize, train_step, now = loop.normalize, loop.train_step, [0]

    def begin(*steps: int) -> None:
        def step(job, batch, votes=None):
            now[0] = job.progress.step
            return train_step(job, batch, votes)

        monkeypatch.setattr(loop, "train_step", step)
        monkeypatch.setattr(
            loop, "normalize", lambda *given: normalize(*given) * (float("nan") if now[0] in steps else 1.0)
        )

    return begin


def records(run, kind):
    return [one for one in read_run(run).metrics if one["kind"] == kind]


def consumed(config: RunConfig, step: int, train) -> list[int]:
    """Return the examples of a step by the stream itself."""
    stream = TrainStream(train, config.seed, config.augment, config.preprocess, config.decode)
    return [stream.example(sample).index for sample in range(step * config.batch, (step + 1) * config.batch)]


def test_by_default_the_run_stops_and_says_which_examples(go, broken, tmp_path):
    broken(7)
    with pytest.raises(NonFiniteLoss, match="at step 7"):
        go(CONFIG)
    (found,) = records(tmp_path / "run-0", "non-finite")
    assert (found["step"], found["policy"], found["loss"]) == (7, "stop", None)
    assert found["examples"] == consumed(CONFIG, 7, open_dataset(CONFIG.data, CONFIG.decode).train)


def test_skipped_steps_leave_the_weights_alone(go, broken):
    broken(7, 8)
    done = go(CONFIG, non_finite="skip")
    assert [one["step"] for one in records(done.run, "non-finite")] == [7, 8]
    trained = [one["step"] for one in records(done.run, "train")]
    assert 8 not in trained and 9 not in trained and trained[-1] == 30
    assert done.stopped == "finished"


def test_a_skipped_step_leaves_batch_norms_statistics_alone(go, broken):
    """The forward pass of infinite images has written into them before its loss is seen."""
    broken(7)
    done = go(NORMED, non_finite="skip")
    assert [one["step"] for one in records(done.run, "non-finite")] == [7]
    found = load_model(done.model).model.state_dict()
    assert any(name.endswith("running_var") for name in found)
    assert all(bool(torch.isfinite(values).all()) for values in found.values())


def test_outputs_that_are_ruined_in_another_process_are_refused_in_this_one_too(monkeypatch):
    job = build_job(CONFIG, open_dataset(CONFIG.data), Silent())
    assert measure_accuracy(job, Interrupt())
    monkeypatch.setattr(World, "add_up", lambda world, values: values + 3)
    with pytest.raises(NonFiniteLoss, match=f"3 of {len(job.validation)} validation outputs were infinite or NaN"):
        measure_accuracy(job, Interrupt())
    with torch.no_grad():
        job.model.head.bias.fill_(float("nan"))
    with pytest.raises(NonFiniteLoss, match=f"{len(job.validation) + 3} of"):
        measure_accuracy(job, Interrupt())


def test_ruined_statistics_are_refused(go, monkeypatch):
    step = loop.train_step

    def ruin(job, batch, votes=None):
        found = step(job, batch, votes)
        if job.progress.step == 5:
            list_statistics(job.objective)[0].fill_(float("nan"))
        return found

    monkeypatch.setattr(loop, "train_step", ruin)
    with pytest.raises(NonFiniteLoss, match="the weights became infinite or NaN"):
        go(NORMED)


def test_too_many_in_a_row_stop_the_run(go, broken, tmp_path):
    broken(*range(5, 30))
    with pytest.raises(NonFiniteLoss, match="at step 15"):
        go(CONFIG, non_finite="skip")
    assert [one["step"] for one in records(tmp_path / "run-0", "non-finite")] == list(range(5, 16))


def test_a_rolled_back_run_leaves_out_what_led_there(go, broken):
    """The weights are those of a run that never took these steps, and it goes on to the same bits from any checkpoint."""
    broken(18)
    done = go(CONFIG, non_finite="roll-back", keep_checkpoints=99)
    (found,) = records(done.run, "non-finite")
    assert (found["step"], found["failed"], found["avoided"]) == (16, 18, [16, 17, 18])
    assert [one["step"] for one in records(done.run, "train")] == [*range(1, 17), *range(20, 31)]
    state = json.loads((done.run / "checkpoints" / "step-20" / "state.json").read_text())["state"]
    assert (state["rolled_back"], state["avoided"]) == (1, [16, 17, 18])
    before = digest(done.run)
    for step in (24, 28, 30):
        shutil.rmtree(done.run / "checkpoints" / f"step-{step}")
    assert digest(resume(done.run).run) == before


def test_a_damaged_checkpoint_that_is_skipped_on_the_way_back_is_told(go, broken, monkeypatch):
    broken(10)
    save, listener = Run.save_checkpoint, Listener()

    def spoil(run, step, *given):
        save(run, step, *given)
        if step == 8:
            (run.checkpoint_path(8) / "state.json").write_text("")

    monkeypatch.setattr(Run, "save_checkpoint", spoil)
    done = go(CONFIG, listener, non_finite="roll-back")
    assert records(done.run, "non-finite")[0]["step"] == 4
    assert any("skipped a damaged checkpoint" in one and "step-8" in one for one in listener.messages)


def test_a_lengthened_run_that_is_rolled_back_to_its_former_end_goes_on(go, broken):
    last = {"checkpoint_every": "100%", "evaluate_every": "100%"}
    short = go(CONFIG, **last, duration="12st", non_finite="roll-back").run
    broken(14)
    done = resume(short, changes=Changes(duration="20st"))
    assert (done.stopped, records(short, "non-finite")[0]["step"]) == ("finished", 12)


def test_ruined_weights_are_rolled_back_too(go, monkeypatch):
    step, ruined = loop.train_step, []

    def ruin(job, batch, votes=None):
        found = step(job, batch, votes)
        if job.progress.step == 10 and not ruined:
            ruined.append(True)
            with torch.no_grad():
                job.model.head.weight.fill_(float("inf"))
            monkeypatch.setattr(loop, "train_step", step)
        return found

    monkeypatch.setattr(loop, "train_step", ruin)
    done = go(CONFIG, non_finite="roll-back")
    (found,) = records(done.run, "non-finite")
    assert found["step"] == 8 and found["failed"] == 11
    assert done.stopped == "finished"


@pytest.mark.slow
def test_a_spike_is_recorded_with_its_examples(go, monkeypatch):
    config = replace(CONFIG, duration="80st", evaluate_every="80st", checkpoint_every="100%")
    plain = go(config)
    assert not records(plain.run, "spike")
    train_step = loop.train_step

    def leap(job, batch, votes=None):
        loss, numbers = train_step(job, batch, votes)
        return loss * (5 if job.progress.step == 70 else 1), numbers

    monkeypatch.setattr(loop, "train_step", leap)
    done = go(config)
    found = records(done.run, "spike")[0]
    assert found["step"] == 71 and found["loss"] > found["mean"] + 6 * found["deviation"] > found["mean"]
    assert found["examples"] == consumed(config, 70, open_dataset(config.data, config.decode).train)
    assert not records(go(config, loss_spike=0.0).run, "spike")
