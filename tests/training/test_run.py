"""Runs from start to end: the same bits, the weights that were asked for, and every way of ending."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tests.support.processor import needs_bf16
from tests.support.training import TINY, Listener, digest, exported

import vitreous
from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.errors import ConfigError, NonFiniteLoss, OutOfMemory, RunError, VitreousError
from vitreous.evaluation.accuracy import evaluate
from vitreous.objectives.config import ClassifyConfig
from vitreous.predictor import Predictor
from vitreous.run_folder import Run, read_run
from vitreous.runtime import device
from vitreous.runtime.device import has_fast_bf16
from vitreous.settings import from_dict
from vitreous.training import loop
from vitreous.training import resolve as resolving
from vitreous.training.assembly import build_job
from vitreous.training.config import EarlyStopConfig, OptimizerConfig, RunConfig, ScheduleConfig
from vitreous.training.distributed import World
from vitreous.training.loop import is_better
from vitreous.training.reporter import Silent
from vitreous.training.resolve import resolve
from vitreous.training.run import resume, train
from vitreous.training.trial_run import dry_run
from vitreous.weights.model_folder import load_model

CPU = torch.device("cpu")


def evaluations(run):
    return [record for record in read_run(run).metrics if record["kind"] == "evaluation"]


def losses(run):
    return [record["loss"] for record in read_run(run).metrics if record["kind"] == "train"]


def test_the_same_configuration_gives_the_same_bits(go, trained_once):
    first, second, other = trained_once(TINY), go(), go(seed=4)
    assert digest(first.run) == digest(second.run) != digest(other.run)
    assert losses(first.run) == losses(second.run)


def test_a_run_on_the_cpu_leaves_gpus_alone(go, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert go(duration="1st").stopped == "finished"


@pytest.mark.parametrize("workers", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_workers_change_no_bit_of_a_run(go, trained_once, workers):
    assert digest(go(workers=workers).run) == digest(trained_once(TINY).run)


def test_evaluating_and_saving_more_often_changes_no_bit(go, trained_once):
    assert digest(go(evaluate_every="1st", checkpoint_every="1st").run) == digest(trained_once(TINY).run)


def test_the_run_folder_says_what_was_done(go, reported):
    listener = Listener()
    result = go(reporter=listener)
    document = read_run(result.run).config
    assert from_dict(RunConfig, document["config"]) == TINY
    assert document["steps"] == 12
    assert document["data"]["train"] == 1707
    assert document["data"]["classes"] == list("0123456789")
    assert result.stopped == "finished"
    assert (result.model, result.report) == (result.run / "model", result.run / "report.html")
    assert listener.best == [(record["step"], record["best"]) for record in evaluations(result.run)]
    assert [step for step, _ in listener.best] == [4, 8, 12]
    training = [done for done, total in listener.steps if total == 12]
    assert training == list(range(1, 13))


def test_the_numbers_are_those_of_the_exported_model(go):
    result = go(ema=0.9)
    source = open_dataset(TINY.data).validation
    metrics, _, _ = evaluate(Predictor.load(result.run, device="cpu"), source)
    assert result.metrics["step"] == 12
    assert result.metrics["top1"] == metrics.top1
    assert result.metrics["loss"] == pytest.approx(metrics.nll, rel=1e-5)
    assert load_model(result.run).origin["step"] == 12


def test_training_learns(go):
    result = go(
        data=DataConfig("digits"), duration="200st", evaluate_every="200st", augment=replace(TINY.augment, mixup=0.0)
    )
    assert result.metrics["top1"] > 0.5
    assert np.mean(losses(result.run)[-10:]) < 0.7 * losses(result.run)[0]


def test_parts_of_a_batch_give_the_whole_batchs_step(go):
    """With plain SGD, which doesn't divide by what is nearly nothing, as Adam's first steps do."""
    plain = {
        "optimizer": OptimizerConfig(name="sgd", lr=0.05),
        "duration": "5st",
        "schedule": ScheduleConfig(warmup="0st"),
    }
    whole, parts = go(micro_batch=0, **plain), go(micro_batch=5, **plain)
    for name, tensor in exported(whole.run).items():
        torch.testing.assert_close(exported(parts.run)[name], tensor, atol=1e-6, rtol=1e-5)
    np.testing.assert_allclose(losses(parts.run), losses(whole.run), rtol=1e-6)


def resolved(config, reporter=None):
    return resolve(config, open_dataset(config.data), reporter or Silent())


def test_the_micro_batch_that_fits(monkeypatch):
    listener = Listener()
    assert resolved(replace(TINY, micro_batch="auto"), listener).micro_batch == 32
    assert listener.messages == ["micro-batch 32: 1 part a step of 32 images"]
    everything = resolving.count.count_parameters(TINY.model) * 16
    each = resolving.count.estimate_activation_bytes(TINY.model, 1, training=True)
    for images, expected in ((31.5, 16), (10.5, 8), (1.5, 1)):
        monkeypatch.setattr(resolving, "read_free_memory", lambda n=images: int((everything + n * each) / 0.6))
        assert resolved(replace(TINY, micro_batch="auto")).micro_batch == expected
    averaged, bytes_free = replace(TINY, micro_batch="auto", ema=0.9), int((everything * 5 / 4 + 1.5 * each) / 0.6)
    monkeypatch.setattr(resolving, "read_free_memory", lambda: bytes_free)
    assert resolved(averaged).micro_batch == 1  # an average takes a quarter more
    monkeypatch.setattr(resolving, "read_free_memory", lambda: everything)
    with pytest.raises(OutOfMemory, match="choose a smaller --model or image size"):
        resolved(replace(TINY, micro_batch="auto"))


def test_processes_on_gpus_of_their_own_take_the_smallest_micro_batch(monkeypatch):
    placed = []
    monkeypatch.setattr(resolving, "choose_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(resolving, "find_cuda_micro_batch", lambda *given: len(placed) * 7)
    monkeypatch.setattr(World, "place", lambda world, device: placed.append(world.rank) or device)
    monkeypatch.setattr(World, "gather", lambda world, value: [value, 5])
    monkeypatch.setattr(World, "share", lambda world, value: value)
    dataset = open_dataset(TINY.data)
    assert resolving.find_micro_batch(TINY, dataset, Silent(), World(size=2, local_size=2)) == 4
    assert placed == [0]


def test_what_measures_in_one_process_is_not_divided(monkeypatch):
    monkeypatch.setattr(resolving, "MEASURE_SECONDS", 0.0)
    divided, dataset = replace(TINY, shard="all", duration="1min"), open_dataset(TINY.data)
    assert resolved(divided).duration.endswith("st")
    assert resolving.find_cuda_micro_batch(divided, dataset, Silent()) == TINY.batch


def test_a_micro_batch_is_tried_at_the_full_resolution(monkeypatch):
    sizes, dataset, step = [], open_dataset(TINY.data), resolving.train_step
    monkeypatch.setattr(resolving, "train_step", lambda job, batch: sizes.append(job.resolution(0)) or step(job, batch))
    resolving.find_cuda_micro_batch(replace(TINY, low_resolution=0.5), dataset, Silent())
    assert sizes == [None]


def test_minutes_become_steps(monkeypatch):
    monkeypatch.setattr(resolving, "MEASURE_SECONDS", 0.1)
    listener = Listener()
    config = resolved(replace(TINY, duration="2min"), listener)
    steps = int(config.duration.removesuffix("st"))
    assert steps > 12
    assert f"so 2 min are {steps:,} steps of 32 images" in listener.messages[0]
    low = resolved(replace(TINY, duration="2min", low_resolution=0.5, low_resolution_duration="50%"))
    assert int(low.duration.removesuffix("st")) > 12


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=needs_bf16), "auto"])
def test_the_precision_that_was_used_is_written_down(go, precision):
    result = go(precision=precision)
    used = read_run(result.run).config["config"]["precision"]
    assert used == ({True: "bf16", False: "fp32"}[has_fast_bf16(CPU)] if precision == "auto" else precision)
    assert {tensor.dtype for tensor in exported(result.run).values()} == {torch.float32}


@pytest.mark.parametrize("native", [True, False])
def test_slow_bf16_is_said(monkeypatch, native):
    monkeypatch.setattr(resolving, "has_fast_bf16", lambda device: native)
    monkeypatch.setattr(device, "computes_bf16", lambda device: True)
    listener = Listener()
    for precision, used in (("auto", "bf16" if native else "fp32"), ("fp32", "fp32"), ("bf16", "bf16")):
        assert resolved(replace(TINY, precision=precision), listener).precision == used
    assert [text for text in listener.messages if "bf16 is slower" in text] == listener.messages
    assert len(listener.messages) == (not native)


@needs_bf16
def test_bf16_is_another_arithmetic_close_by(go, trained_once):
    full, half = trained_once(TINY), go(precision="bf16")
    assert digest(full.run) != digest(half.run)
    np.testing.assert_allclose(losses(half.run), losses(full.run), rtol=0.02)


def test_the_best_or_the_last_is_exported(go):
    """A rate far too large, so that accuracy goes up and down and the last is not the best."""
    wild = {"duration": "40st", "optimizer": OptimizerConfig(name="sgd", lr=1.5, clip=1.0), "evaluate_every": "5st"}
    wild["data"] = DataConfig("digits")
    best, last = go(export="best", **wild), go(export="last", **wild)
    records = evaluations(best.run)
    top = max(records, key=lambda record: (record["top1"], -record["loss"]))
    assert [record["loss"] for record in records] == [record["loss"] for record in evaluations(last.run)]
    assert load_model(best.run).origin["step"] == best.metrics["step"] == top["step"] < 40
    assert load_model(last.run).origin["step"] == last.metrics["step"] == 40
    assert best.metrics["top1"] == top["top1"]


def test_early_stopping(go):
    stop = EarlyStopConfig(patience=2)
    result = go(duration="100st", optimizer=OptimizerConfig(lr=0.0, weight_decay=0.0), early_stop=stop, export="best")
    assert result.stopped == "early"
    assert [record["step"] for record in evaluations(result.run)] == [4, 8, 12]
    assert result.metrics["step"] == 4
    again = resume(result.run)
    assert again.stopped == "early"
    assert len(evaluations(result.run)) == 3


def test_a_gain_too_small_does_not_count(go):
    stop = EarlyStopConfig(patience=2, min_delta=0.9)
    result = go(duration="100st", early_stop=stop, export="best", evaluate_every="1st")
    records = evaluations(result.run)
    assert (result.stopped, len(records)) == ("early", 3)
    best = max(records, key=lambda record: (record["top1"], -record["loss"]))
    assert best["step"] > 1
    assert load_model(result.run).origin["step"] == result.metrics["step"] == best["step"]
    assert not is_better({"top1": 0.5, "loss": 0.5}, {"top1": 0.5, "loss": 1.0}, 0.1)


def test_small_gains_add_up_and_are_remembered(go, monkeypatch):
    """Also by a run of which an earlier version wrote the checkpoint, which knew the best alone."""
    figures = {step: {"top1": 0.1 + step / 100, "loss": 1.0} for step in range(1, 13)}
    monkeypatch.setattr(loop, "validate", lambda job, *rest: figures[job.progress.step])
    stop = EarlyStopConfig(patience=3, min_delta=0.015)
    config = replace(TINY, early_stop=stop, evaluate_every="1st", keep_checkpoints=99)
    whole = go(config)
    states = {
        step: json.loads((whole.run / "checkpoints" / f"step-{step}" / "state.json").read_text())["state"]
        for step in range(1, 13)
    }
    assert [states[step]["stale"] for step in range(1, 13)] == [0, 1] * 6
    assert {step: one["best"]["step"] for step, one in states.items()} == {step: step for step in range(1, 13)}
    job = build_job(config, open_dataset(config.data), Silent())
    with Run.open(whole.run) as run:
        checkpoint = run.find_latest_checkpoint()
    for state in (states[8], {name: value for name, value in states[7].items() if name != "reference"}):
        job.restore(checkpoint.tensors, state)
        assert job.progress.reference["step"] == 7


@pytest.mark.parametrize("low", [1.0, 0.5])
def test_the_average_is_what_is_evaluated_and_exported(go, low):
    result = go(ema=0.8, low_resolution=low, low_resolution_duration="50%", checkpoint_every="1st")
    with Run.open(result.run) as run:
        tensors = run.find_latest_checkpoint().tensors
    averages = {
        name.removeprefix("average.module."): tensor for name, tensor in tensors.items() if "average.module" in name
    }
    for name, tensor in exported(result.run).items():
        assert torch.equal(averages[name], tensor)
    moved = [name for name in averages if not torch.equal(averages[name], tensors[f"model.{name}"])]
    assert len(moved) > 10


def test_the_average_follows_its_definition(go):
    """With a decay of 0 the average is the model itself; one update of 0.5 lies halfway."""
    result = go(ema=1e-9, duration="5st")
    with Run.open(result.run) as run:
        tensors = run.find_latest_checkpoint().tensors
    for name, tensor in exported(result.run).items():
        torch.testing.assert_close(tensor, tensors[f"model.{name}"], atol=1e-7, rtol=1e-6)


def test_balanced_class_weights(tmp_path):
    for label, count in (("rare", 4), ("common", 16)):
        for number in range(count):
            pixels = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
            (tmp_path / "data" / label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "data" / label / f"{number}.png")
    data = DataConfig(str(tmp_path / "data"), holdout=0.25)
    config = replace(
        TINY, data=data, model=replace(TINY.model, classes=2), objective=ClassifyConfig(class_weights="balanced")
    )
    job = build_job(config, open_dataset(data), Silent())
    assert job.classes == ("common", "rare")
    assert job.objective.class_weights.tolist() == pytest.approx([15 / (2 * 12), 15 / (2 * 3)])
    assert train(config, tmp_path / "run").stopped == "finished"


def test_divergence_stops_before_anything_is_ruined(go, tmp_path):
    """Rates that grow until the weights overflow: every checkpoint on the way, and the exported model, stay sound."""
    wild = OptimizerConfig(name="sgd", lr=1e12, clip=0.0, weight_decay=0.0)
    settings = {"duration": "60st", "schedule": ScheduleConfig(warmup="60st"), "checkpoint_every": "1st"}
    with pytest.raises(NonFiniteLoss, match=r"at step \d+; the last good checkpoint is kept.*--optimizer.lr"):
        go(optimizer=wild, evaluate_every="1st", **settings)
    run = tmp_path / "run-0"
    ended = read_run(run).metrics[-1]
    assert (ended["kind"], ended["why"]) == ("stopped", "diverged")
    with Run.open(run) as opened:
        checkpoint = opened.find_latest_checkpoint()
    assert ended["step"] >= checkpoint.step >= 1
    assert all(tensor.isfinite().all() for tensor in checkpoint.tensors.values())
    assert all(tensor.isfinite().all() for tensor in exported(run).values())
    with pytest.raises(NonFiniteLoss):
        resume(run)


def test_a_dry_run_measures_one_batch_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = dry_run(replace(TINY, ema=0.9))
    assert (shown.steps, shown.config.batch) == (12, 32)
    assert shown.loss == pytest.approx(np.log(10), abs=0.01)
    assert shown.parameters == sum(
        tensor.numel() for tensor in build_job(TINY, open_dataset(TINY.data), Silent()).model.parameters()
    )
    assert shown.memory > 20 * shown.parameters
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_where_settings_do_not_fit(tmp_path):
    wrong = [
        ({"model": replace(TINY.model, classes=9)}, "the model has 9 classes, but the data 10; set --model.classes 10"),
        ({"model": replace(TINY.model, image=(12, 8))}, "the model sees 12x8 images, but preprocessing makes 8x8"),
        ({"preprocess": replace(TINY.preprocess, mode="RGB")}, "the model has 1 channels, but mode RGB gives 3"),
        ({"augment": replace(TINY.augment, crop_pad=8)}, "augment.crop_pad is 8; it must be below the image's shorter"),
        ({"preprocess": replace(TINY.preprocess, mean=())}, "preprocess.mean has 0 values"),
        ({"schedule": ScheduleConfig(warmup="13st")}, r"warm-up \(13 steps\) and cool-down"),
        ({"device": "mps"}, "device 'mps' is not usable here"),
        ({"duration": "5%"}, "duration is 5%, a share of the run, so it can't set the run's own length"),
        ({"evaluate_every": "5min"}, "evaluate_every is 5min; give epochs"),
        ({"workers": -1}, "workers is -1; it must be at least 0 and at most 1024"),
        ({"workers": 1_000_000}, "workers is 1000000; it must be at least 0 and at most 1024"),
        ({"batch": 10**12}, "batch is 1000000000000; it must be at least 1 and at most 1048576"),
        (
            {
                "batch": 10**6,
                "preprocess": replace(TINY.preprocess, size=(512, 512)),
                "model": replace(TINY.model, image=(512, 512)),
            },
            "batch is 1,000,000; that many images of 512x512 are 262.1 GB of pixels, more than a quarter of",
        ),
        ({"micro_batch": -1}, "micro_batch is -1; it must be at least 0"),
        ({"weights": str(tmp_path / "nowhere")}, "no such model folder"),
    ]
    for changed, words in wrong:
        with pytest.raises(VitreousError, match=words) as caught:
            train(replace(TINY, **changed), tmp_path / "run")
        assert caught.value.exit_code == 2
        assert list(tmp_path.iterdir()) == []


def test_the_python_call_takes_what_the_command_takes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = {"duration": "2st", "optimizer": {"lr": 1e-4}, "data": {"holdout": 0.5}, "schedule": {"warmup": "0st"}}
    result = vitreous.train("digits", model="mu/4", settings=settings)
    config = read_run(result.run).config
    assert str(result.run) == "runs/digits-small-1"
    assert (config["config"]["optimizer"]["lr"], config["config"]["model"]["width"]) == (1e-4, 32)
    assert config["data"]["validation"] == 899
    for wrong, words in (({"modle": "S/16"}, "did you mean 'model'"), ({"recipe": "smal"}, "did you mean 'small'")):
        with pytest.raises(ConfigError, match=words):
            vitreous.train("digits", **wrong)
    with pytest.raises(ConfigError, match=r"unknown setting in optimizer 'rate'"):
        vitreous.train("digits", settings={"optimizer": {"rate": 1}})
    with pytest.raises(RunError, match="is not empty; continue it with `vitreous resume"):
        vitreous.train("digits", model="mu/4", settings=settings, out=result.run)


def test_records_are_json_lines(trained_once):
    lines = (trained_once(TINY).run / "metrics.jsonl").read_text().splitlines()
    assert {json.loads(line)["kind"] for line in lines} == {"train", "evaluation"}
