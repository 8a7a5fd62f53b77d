"""Runs without labels: they learn, go on to the same bits, and leave a model without head."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tests.support.training import TINY, Listener, digest

import vitreous
from vitreous.data.dataset import open_dataset
from vitreous.errors import ConfigError, DataError
from vitreous.images.preprocess import convert_to_pixels
from vitreous.model.resnet_config import ResNetConfig
from vitreous.objectives.config import MaskedAutoencoderConfig, MaskedPatchesConfig
from vitreous.objectives.masked_patches import quantise_colours
from vitreous.run_folder import list_checkpoint_steps
from vitreous.shapes import Size
from vitreous.storage.snapshot import read_snapshot
from vitreous.training.assembly import build_job
from vitreous.training.config import EarlyStopConfig, OptimizerConfig
from vitreous.training.loop import is_better
from vitreous.training.reporter import Silent
from vitreous.training.run import resume, train
from vitreous.training.trial_run import dry_run
from vitreous.weights.model_folder import load_model

MODEL = replace(TINY.model, classes=0, patch=(2, 2))
PATCHES = replace(TINY, model=MODEL, objective=MaskedPatchesConfig(), augment=replace(TINY.augment, mixup=0.0))
AUTOENCODER = replace(PATCHES, objective=MaskedAutoencoderConfig(decoder_width=32, decoder_depth=1, decoder_heads=2))
KINDS = pytest.mark.parametrize("config", [PATCHES, AUTOENCODER], ids=["patches", "autoencoder"])
LONG = {"duration": "60st", "evaluate_every": "60st", "optimizer": OptimizerConfig(lr=1e-2), "batch": 64}


def marginal_entropy():
    """Return the loss of knowing how frequent each colour is, and nothing else."""
    dataset = open_dataset(TINY.data)
    pixels = [
        convert_to_pixels(dataset.validation.read(index), TINY.preprocess) for index in range(len(dataset.validation))
    ]
    stacked = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
    shares = (
        np.bincount(quantise_colours(stacked, Size(2, 2), Size(1, 1)).flatten().numpy(), minlength=8)
        / stacked[:, 0, ::2, ::2].numel()
    )
    return -(shares * np.log(np.maximum(shares, 1e-12))).sum()


def test_colours_are_learned_from_their_surroundings(go):
    result = go(PATCHES, **LONG)
    assert result.metrics["loss"] < 0.95 * marginal_entropy()


def test_hidden_patches_are_learned_from_visible_ones(go):
    # Each normalised patch has a mean of 0 and an unbiased variance of 1: all zeros would miss by (4 - 1) / 4.
    result = go(replace(AUTOENCODER, objective=replace(AUTOENCODER.objective, mask_ratio=0.5)), **LONG)
    assert result.metrics["loss"] < 0.8 * 0.75


@KINDS
def test_a_cut_run_comes_to_the_same_bits(config, tmp_path):
    whole = train(replace(config, checkpoint_every="3st"), tmp_path / "whole")
    cut = tmp_path / "cut"
    shutil.copytree(whole.run, cut)
    shutil.rmtree(cut / "model")
    last = list_checkpoint_steps(cut)[-1]
    shutil.rmtree(cut / "checkpoints" / f"step-{last}")
    again = resume(cut)
    assert digest(again.run) == digest(whole.run)
    ends = [read_snapshot(run / "checkpoints" / f"step-{last}") for run in (whole.run, cut)]
    extras = [name for name in ends[0][0] if name.startswith("objective.")]
    assert extras
    assert all(torch.equal(ends[0][0][name], ends[1][0][name]) for name in ends[0][0])


@KINDS
def test_parts_of_a_batch_see_the_masks_of_the_whole(config):
    losses = [dry_run(replace(config, micro_batch=micro)).loss for micro in (0, 5)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@KINDS
def test_a_model_without_head_is_left_and_reported(config, go, reported):
    listener = Listener()
    result = go(config, listener)
    folder = load_model(result.run)
    assert (folder.classes, folder.model.config) == ((), MODEL)
    records = [json.loads(line) for line in (result.run / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(record["loss"]) for record in records)
    assert not any("accuracy" in record or "top1" in record for record in records)
    page = result.report.read_text()
    assert "validation loss" in page
    assert config.objective.KIND in page
    assert "--recipe finetune --weights" in page
    for anchor in ("confusion", "classes", "calibration", "mistakes", "attention"):
        assert f'id="{anchor}"' not in page
    for anchor in ("curves", "positions", "batch"):
        assert f'id="{anchor}"' in page
    assert "This part can't be drawn" not in page
    assert "No model" not in page


def test_evaluations_hide_the_same_patches_every_time(go):
    result = go(AUTOENCODER, optimizer=OptimizerConfig(lr=0.0, weight_decay=0.0))
    losses = [json.loads(line)["loss"] for line in (result.run / "metrics.jsonl").open() if '"evaluation"' in line]
    assert len(losses) == 3
    assert len(set(losses)) == 1


def test_the_best_is_that_of_the_least_loss(go):
    assert is_better({"loss": 1.0}, None, 0.0)
    assert is_better({"loss": 0.9}, {"loss": 1.0}, 0.05)
    assert not is_better({"loss": 0.96}, {"loss": 1.0}, 0.05)
    assert is_better({"loss": 2.0, "top1": 0.6}, {"loss": 1.0, "top1": 0.5}, 0.05)
    still = OptimizerConfig(lr=0.0, weight_decay=0.0)
    stopped = go(AUTOENCODER, optimizer=still, early_stop=EarlyStopConfig(patience=1), export="best")
    assert (stopped.stopped, stopped.metrics["step"]) == ("early", 4)


def test_what_it_learned_is_where_fine_tuning_starts(go):
    first = go(AUTOENCODER)
    listener = Listener()
    config = replace(TINY, model=replace(MODEL, classes=10), weights=str(first.run))
    job = build_job(config, open_dataset(config.data), listener)
    assert listener.messages == ["the head is new, zero-initialised, for 10 classes"]
    learned = load_model(first.run).model.state_dict()
    assert all(torch.equal(job.model.state_dict()[name], tensor) for name, tensor in learned.items())
    further = build_job(replace(PATCHES, weights=str(first.run)), open_dataset(config.data), Silent())
    assert all(torch.equal(further.model.state_dict()[name], tensor) for name, tensor in learned.items())
    labelled = go(model=config.model)
    listener = Listener()
    build_job(replace(PATCHES, weights=str(labelled.run)), open_dataset(config.data), listener)
    assert listener.messages == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"model": replace(MODEL, classes=10)}, "but this one has 10 classes; set --model.classes 0"),
        ({"ema": 0.9}, "ema is 0.9, but objective masked-patches has no average"),
        ({"low_resolution": 0.5}, "low_resolution is 0.5, but objective masked-patches uses the full resolution"),
        ({"model": ResNetConfig((8, 8), 1, (1,), classes=0)}, "hides patches, which a ResNet doesn't have"),
        (
            {"objective": MaskedPatchesConfig(corrupted_share=1.5)},
            "objective.corrupted_share is 1.5; it must be above 0 and below 1",
        ),
        (
            {"objective": MaskedAutoencoderConfig(decoder_width=0)},
            "objective.decoder_width is 0; it must be at least 1",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(changed, words, tmp_path):
    with pytest.raises(ConfigError, match=words) as caught:
        train(replace(PATCHES, **changed), tmp_path / "run")
    assert caught.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_images_without_class_folders_will_do(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(12):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    settings = {"duration": "2st", "schedule": {"warmup": "0st"}, "workers": 0}
    with pytest.raises(DataError, match="holds 12 images but no class folders"):
        vitreous.train(tmp_path, settings=settings, out=tmp_path / "run")
    result = vitreous.train(tmp_path, recipe="mae", settings=settings, out=tmp_path / "run")
    record = json.loads((result.run / "config.json").read_text())
    sample = record["data"].pop("sample")
    assert {part: len(sums) for part, sums in sample.items()} == {"train": 9, "validation": 3}
    assert record["data"] | {"fingerprint": ""} == {
        "classes": ["unlabelled"],
        "train": 9,
        "validation": 3,
        "fingerprint": "",
    }
    assert load_model(result.run).classes == ()
