"""Runs whose images are augmented where the model is: the same stream in any number of processes, and over an interruption."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.exact_steps import EXACT, distance, in_processes, take_steps
from tests.support.training import TINY, digest
from torch import nn

import vitreous
from vitreous.training.distributed import ALONE
from vitreous.training.run import train
from vitreous.training.trial_run import dry_run

AUGMENT = replace(TINY.augment, on="device", crop="inception", flip=True, randaugment=(1, 8.0), erase=0.3, cutmix=0.5)


@pytest.mark.slow
def test_the_same_stream_and_weights_in_two_processes(tmp_path: Path, doubled: None) -> None:
    config = replace(EXACT, augment=AUGMENT)
    alone, found = take_steps(config, ALONE), in_processes(replace(config, micro_batch=5), 2, tmp_path)
    assert found["streams"] == alone["streams"]
    assert distance(found["weights"], alone["weights"]) < 1e-9
    on_cpu = take_steps(replace(config, augment=replace(AUGMENT, on="cpu")), ALONE)
    assert on_cpu["losses"] != alone["losses"]
    assert on_cpu["losses"] == pytest.approx(alone["losses"], rel=0.05)


class Stop(vitreous.Callback):
    def on_step(self, step: int, numbers: Any, model: nn.Module) -> None:
        if step == 7:
            raise LookupError


def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    config = replace(TINY, augment=AUGMENT)
    straight = train(config, tmp_path / "straight")
    with pytest.raises(LookupError):
        vitreous.train(config=config, out=tmp_path / "run", callbacks=[Stop()])
    assert digest(vitreous.resume(tmp_path / "run", workers=1).run) == digest(straight.run)
    assert dry_run(config).loss == pytest.approx(2.3026, abs=0.01)
