"""Runs that learn from pseudo-labelled images too: to the same bits when they go on, and nothing accepted that can't be kept."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.support.training import TINY, Listener, digest
from tests.support.unlabelled import write_digits

from vitreous.data.config import DataConfig
from vitreous.errors import ConfigError, RunError
from vitreous.run_folder import read_run
from vitreous.training.config import RunConfig
from vitreous.training.run import resume, train
from vitreous.training.trial_run import dry_run


def write_labels(place: Path) -> None:
    """Write soft labels for the unlabelled digits, some of them copied."""
    rng = np.random.default_rng(0)
    with (place / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "confidence", "copies", *(f"probability of {name}" for name in range(3))])
        for index in range(60, 100):
            row = rng.dirichlet([0.5] * 3)
            table.writerow([f"{index:03}.png", int(row.argmax()), row.max(), index % 3, *row])


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    write_digits(tmp_path / "data")
    write_labels(tmp_path / "data")
    more, labels = str(tmp_path / "data" / "more"), str(tmp_path / "data" / "labels.csv")
    data = DataConfig(str(tmp_path / "data" / "labelled"), unlabelled=more, pseudo_labels=labels, pseudo_ratio=3.0)
    return replace(TINY, data=data, model=replace(TINY.model, classes=3), checkpoint_every="2st")


def test_a_run_goes_on_to_the_same_bits(config, tmp_path):
    config = replace(config, keep_checkpoints=4)
    whole = train(config, tmp_path / "whole")
    known = read_run(whole.run)
    assert known.config["data"]["pseudo_labelled"] == sum(index % 3 for index in range(60, 100))
    assert known.metrics[-1]["epoch"] == pytest.approx(12 * 32 / (48 * 4)), (
        "each labelled image once, three others to each"
    )
    shutil.copytree(whole.run, tmp_path / "moved" / "run")
    shutil.copytree(tmp_path / "data", tmp_path / "moved" / "data")
    for step in (12, 10):
        shutil.rmtree(tmp_path / "moved" / "run" / "checkpoints" / f"step-{step}")
    shutil.rmtree(tmp_path / "moved" / "run" / "model")
    shutil.rmtree(tmp_path / "data")
    resume(tmp_path / "moved" / "run", listener := Listener())
    assert any("resuming at step 8 of 12" in message for message in listener.messages)
    assert digest(tmp_path / "moved" / "run") == digest(whole.run)


def test_other_pseudo_labels_are_other_data(config, tmp_path):
    run = train(config, tmp_path / "run").run
    labels = tmp_path / "data" / "labels.csv"
    lines = labels.read_text().splitlines()
    label = lines[2].split(",")[1]
    lines[2] = lines[2].replace(f"061.png,{label}", f"061.png,{(int(label) + 1) % 3}")
    labels.write_text("\n".join(lines))
    with pytest.raises(RunError, match="the data has changed"):
        resume(run)


def test_what_pseudo_labels_bring_is_learned(config, tmp_path):
    plain = replace(config, data=replace(config.data, unlabelled=None, pseudo_labels=None, pseudo_ratio=1.0))
    runs = {train(one, tmp_path / str(place)).run for place, one in enumerate((config, plain))}
    assert len({digest(run) for run in runs}) == 2


def test_a_dry_run_counts_all_examples(config):
    listener = Listener()
    found = dry_run(config, listener)
    assert (found.epoch, found.steps) == (192, 12)
    assert "2 epochs" in str(found)
    assert any("soft pseudo labels" in message for message in listener.messages)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 30}, "batch is 30, but at data.pseudo_ratio 3 1 of 4 examples are labelled; .* --batch 32"),
        ({"batch": 2}, "such as --batch 4"),
        ({"head": "logistic", "weights": "x"}, "a head by logistic regression learns from labelled images alone"),
    ],
)
def test_settings_that_pseudo_labels_exclude_are_refused(config, changes, message):
    with pytest.raises(ConfigError, match=message):
        dry_run(replace(config, **changes))


def test_a_ratio_out_of_range_is_refused(config):
    for ratio in (0.0, -1.0, float("inf"), 1e6):
        with pytest.raises(ConfigError, match=r"data\.pseudo_ratio is"):
            dry_run(replace(config, data=replace(config.data, pseudo_ratio=ratio)))
