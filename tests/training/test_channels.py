"""Images of many channels from the folder to labels: facts, statistics, training, going on, weights of three channels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import vitreous
from vitreous.api.training import plan_config
from vitreous.data.channels import measure_channels
from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.errors import ConfigError, DataError
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.model.config import ViTConfig
from vitreous.model.factory import create
from vitreous.settings import override_settings
from vitreous.training.run import train
from vitreous.weights.model_folder import ModelFolder, load_model, save_model

SMALL = {
    "duration": "4st",
    "batch": 8,
    "evaluate_every": "2st",
    "workers": 0,
    "low_resolution": 1.0,
    "preprocess": {"colours": [3, 2, 1]},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for label, bright in (("field", 3), ("water", 4)):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(10):
            pixels = rng.integers(200, 1200, size=(16 + number % 2, 16, 5)).astype("u2")
            pixels[..., bright] += 2500
            planar = bool(number % 2)
            stored = pixels.transpose(2, 0, 1) if planar else pixels
            name = tmp_path / "data" / label / f"{number}.tif"
            tifffile.imwrite(name, stored, photometric="minisblack", planarconfig="separate" if planar else "contig")
    return tmp_path / "data"


def planned(folder: Path, recipe: str = "small", **recipe_options: object) -> "vitreous.RunConfig":
    decode = DecodeConfig(levels=(0, 4095))
    settings = {name: value for name, value in SMALL.items() if recipe == "small" or name != "low_resolution"}
    config, _ = plan_config(DataConfig(str(folder)), recipe, {"image": (16, 16), **recipe_options}, None, decode)
    return override_settings(config, settings)


def test_from_a_folder_to_labels_and_on(folder, tmp_path, reported):
    config = planned(folder)
    assert (config.preprocess.mode, config.model.channels, config.decode.levels) == (5, 5, (0, 4095))
    train(config, tmp_path / "run")
    predictor = vitreous.load(tmp_path / "run")
    path = folder / "water" / "1.tif"
    told = predictor(path)
    assert told.error is None
    pixels = tifffile.imread(path).transpose(1, 2, 0)
    assert predictor(pixels).top == told.top
    assert "channels 3, 2, 1 (counted from 0) of 5" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.slow
def test_a_run_that_was_broken_off_goes_on_to_the_same_bits(folder, tmp_path):
    config = replace(planned(folder), checkpoint_every="2st")
    train(config, tmp_path / "whole")
    train(config, tmp_path / "cut")
    for newest in sorted((tmp_path / "cut" / "checkpoints").iterdir())[-1:]:
        for file in newest.iterdir():
            file.unlink()
        newest.rmdir()
    vitreous.resume(tmp_path / "cut")
    one, other = (load_model(tmp_path / name / "model").model.state_dict() for name in ("whole", "cut"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_facts_and_statistics(folder):
    dataset = open_dataset(DataConfig(str(folder)))
    assert dataset.facts.channels == 5
    assert dataset.report.modes == {"5;16": 20}
    mean, std = measure_channels(dataset.train, DecodeConfig(levels=(0, 4095)), PreprocessConfig(mode=5))
    every = np.concatenate(
        [
            (one if one.shape[2] == 5 else one.transpose(1, 2, 0)).reshape(-1, 5)
            for one in (tifffile.imread(folder / name) for name in dataset.train.names)
        ]
    ) / np.float64(4095)
    np.testing.assert_allclose(mean, every.mean(0), rtol=1e-3)
    np.testing.assert_allclose(std, every.std(0), rtol=1e-3)


def test_mixed_channels_are_one_line(folder):
    Image.new("RGB", (16, 16)).save(folder / "water" / "rgb.png")
    with pytest.raises(DataError, match=r"mixes images of different channels \(1 of 3, 20 of 5\)"):
        planned(folder)


def test_other_channels_than_were_asked_for_are_one_line(folder):
    with pytest.raises(DataError, match="other than the model's 4 channels: 20 of 5"):
        planned(folder, channels=4)
    config = planned(folder)
    with pytest.raises(ConfigError, match="RandAugment changes colours of 8 bits"):
        train(replace(config, augment=replace(config.augment, randaugment=(2, 10.0))), folder.parent / "run")
    with pytest.raises(ConfigError, match="5 channels, but mode RGB gives 3"):
        train(
            replace(config, preprocess=replace(config.preprocess, mode="RGB", mean=(0.5,), std=(0.5,))),
            folder.parent / "run",
        )


def test_weights_of_three_channels_learn_five(folder, tmp_path):
    model = create(ViTConfig(image=(16, 16), patch=(8, 8), width=16, depth=1, heads=2, mlp_width=32, classes=3), 0)
    images = PreprocessConfig(size=(16, 16), crop=1.0, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    save_model(tmp_path / "weights", ModelFolder(model.eval(), images, DecodeConfig(), ("a", "b", "c")))
    config = planned(folder, "finetune", weights=str(tmp_path / "weights"))
    assert (config.preprocess.mode, config.model.channels) == (5, 5)
    assert config.preprocess.mean == (0.4, 0.5, 0.6, 0.5, 0.5)
    train(replace(config, optimizer=replace(config.optimizer, lr=1e-9)), tmp_path / "run")
    kernel = load_model(tmp_path / "run" / "model").model.state_dict()["patches.embed.weight"].reshape(16, 5, 64)
    old = model.state_dict()["patches.embed.weight"].reshape(16, 3, 64)
    torch.testing.assert_close(kernel[:, :3], old, atol=1e-5, rtol=0)
    assert float(kernel[:, 3:].abs().max()) < 1e-5


@pytest.mark.slow
def test_sixteen_bits_of_one_channel(tmp_path):
    rng = np.random.default_rng(0)
    for label, level in (("dark", 30_000), ("light", 30_100)):  # the same in 8 bits
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(8):
            pixels = (level + rng.integers(0, 20, size=(16, 16))).astype(np.uint16)
            Image.fromarray(pixels).save(tmp_path / "data" / label / f"{number}.png")
    config = planned(tmp_path / "data", channels=1)
    config = replace(config, preprocess=replace(config.preprocess, colours=(0, 1, 2)), duration="12st")
    assert config.preprocess.mode == 1
    result = train(config, tmp_path / "run")
    assert result.metrics["top1"] == 1.0
