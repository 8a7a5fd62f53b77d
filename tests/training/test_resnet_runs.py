"""ResNets and hybrids go through training as ViTs do, or are refused in one line."""

import shutil
from dataclasses import replace

import pytest
import torch
from tests.support.training import TINY, Listener, digest, exported

import vitreous
from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.errors import CheckpointError, ConfigError, UserError
from vitreous.model.names import build_vit_config
from vitreous.model.resnet import ResNet
from vitreous.model.resnet_config import ResNetConfig, StemConfig
from vitreous.predictor import Predictor
from vitreous.run_folder import list_checkpoint_steps
from vitreous.training.assembly import build_job
from vitreous.training.config import OptimizerConfig, ScheduleConfig
from vitreous.training.run import resume, train
from vitreous.training.trial_run import dry_run
from vitreous.weights.model_folder import load_model

SMALL = ResNetConfig(image=(8, 8), channels=1, units=(1, 2), classes=10, root="3x3", root_channels=32)
HYBRID = build_vit_config("mu/4", image=(8, 8), channels=1, classes=10, stem=StemConfig("resnet"))
RESNET = replace(TINY, model=SMALL)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Return a ResNet's run that others start from."""
    return train(replace(RESNET, duration="8st", evaluate_every="8st"), tmp_path_factory.mktemp("base") / "run").run


@pytest.mark.parametrize(
    ("model", "steps"),
    [(SMALL, "20st"), pytest.param(HYBRID, "50st", marks=pytest.mark.slow)],
    ids=["resnet", "hybrid"],
)
def test_a_run_learns_and_is_reported(go, model, steps, reported):
    learning = {"data": DataConfig("digits"), "optimizer": OptimizerConfig(lr=1e-2)}
    result = go(model=model, duration=steps, evaluate_every=steps, **learning)
    assert result.metrics["top1"] > 0.2, "chance is 0.1, with a deviation of 0.016"
    page = result.report.read_text()
    assert ("A ResNet trained on" in page) == (model is SMALL)
    for anchor in ("attention", "positions"):
        assert (f'id="{anchor}"' in page) == (model is HYBRID)
    assert Predictor.load(result.run).folder.model.config == model


@pytest.mark.parametrize("model", [SMALL, pytest.param(HYBRID, marks=pytest.mark.slow)], ids=["resnet", "hybrid"])
def test_a_cut_run_comes_to_the_same_bits(tmp_path, model):
    config = replace(
        TINY, model=model, ema=0.9, checkpoint_every="3st", optimizer=OptimizerConfig(name="sgd", lr=0.03), batch=16,
        low_resolution=0.5, low_resolution_duration="50%",
    )  # fmt: skip
    whole = train(config, tmp_path / "whole")
    cut = tmp_path / "cut"
    shutil.copytree(whole.run, cut)
    shutil.rmtree(cut / "model")
    for step in list_checkpoint_steps(cut)[-1:]:
        shutil.rmtree(cut / "checkpoints" / f"step-{step}")
    assert list_checkpoint_steps(cut)
    assert digest(resume(cut).run) == digest(whole.run)


def test_accumulated_parts_are_the_whole_batch():
    losses = [dry_run(replace(RESNET, micro_batch=micro)).loss for micro in (0, 5)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def start(base, **changed):
    """Return a job that starts from the weights, and what was said."""
    listener = Listener()
    config = replace(RESNET, weights=str(base), **changed)
    return build_job(config, open_dataset(config.data), listener), listener.messages


def test_a_resnet_starts_from_weights_at_another_size(base):
    larger = {"model": replace(SMALL, image=(12, 16)), "preprocess": replace(TINY.preprocess, size=(12, 16))}
    job, said = start(base, head="new", **larger)
    assert said == ["the head is new, zero-initialised, for 10 classes"]
    trunk = {name: tensor for name, tensor in job.model.state_dict().items() if not name.startswith("head.")}
    assert all(torch.equal(exported(base)[name], tensor) for name, tensor in trunk.items())
    assert not job.model.head.weight.any()


def test_weights_of_another_kind_or_shape_are_refused(base):
    with pytest.raises(CheckpointError, match=r"holds a ResNet, but this run trains a ViT$"):
        start(base, model=TINY.model)
    with pytest.raises(CheckpointError, match=r"another architecture: units \(1, 2\) there, \(1, 1\) here, root 3x3"):
        start(base, model=replace(SMALL, units=(1, 1), root="7x7"))


@pytest.mark.parametrize(
    ("freeze", "fixed"),
    [
        ("patches", ("root.",)),
        (2, ("root.", "stages.0.0.", "stages.1.0.")),
        ("trunk", ("root.", "stages.", "norm.")),
    ],
)
def test_frozen_parts_stay_to_the_bit(base, go, freeze, fixed):
    before, after = exported(base), exported(go(RESNET, weights=str(base), freeze=freeze, duration="2st").run)
    for name, tensor in after.items():
        assert torch.equal(tensor, before[name]) == name.startswith(fixed), name


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"lora": 2}, "lora is 2, but LoRA needs a ViT's dense layers"),
        ({"freeze": "positions"}, "a ResNet has no positions to freeze"),
        ({"freeze": 4}, "freeze is 4, but the model has 3 blocks"),
    ],
)
def test_what_is_for_vits_alone_is_refused(tmp_path, changed, words):
    with pytest.raises(ConfigError, match=words) as caught:
        train(replace(RESNET, **changed), tmp_path / "run")
    assert caught.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_resnet_from_python_and_onwards_by_fine_tuning(tmp_path):
    settings = {
        "duration": "2st",
        "schedule": {"warmup": "0st"},
        "model": {"units": [1, 1], "root_channels": 32},
        "workers": 0,
    }
    first = vitreous.train("digits", model="R50x1", settings=settings, out=tmp_path / "first")
    config = load_model(first.run).model.config
    assert (config.units, config.root, config.channels, config.classes) == ((1, 1), "3x3", 1, 10)
    small = {"duration": "1st", "schedule": {"warmup": "0st"}, "workers": 0}
    second = vitreous.train("digits", recipe="finetune", weights=first.run, settings=small, out=tmp_path / "second")
    assert load_model(second.run).model.config == replace(config, image=(14, 14))


def test_a_kind_can_be_chosen_by_settings(tmp_path):
    model = {"kind": "resnet", "units": [1], "image": [8, 8], "channels": 1, "classes": 10, "root_channels": 32}
    settings = {"model": model, "optimizer": {"name": "adamw"}, "duration": "1st", "low_resolution": 1.0, "workers": 0}
    settings["schedule"] = {"warmup": "0st"}
    run = vitreous.train("digits", settings=settings, out=tmp_path / "run").run
    assert isinstance(load_model(run).model, ResNet)
    with pytest.raises(UserError, match="unknown kind of model 'resnte'; did you mean 'resnet'"):
        vitreous.train("digits", settings={"model": {"kind": "resnte"}}, out=tmp_path / "other")


def test_a_drop_of_the_rate_is_in_the_records(go):
    result = go(RESNET, schedule=ScheduleConfig(kind="steps", warmup="0st", milestones=("50%",)), evaluate_every="12st")
    rates = [line.split('"lr": ')[1].split(",")[0] for line in (result.run / "metrics.jsonl").open() if '"lr"' in line]
    assert [float(rate) / 3e-3 for rate in rates] == pytest.approx([1.0] * 6 + [0.1] * 6)
