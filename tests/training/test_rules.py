"""Runs that were begun when the same settings did something else."""

import json
import shutil
from dataclasses import replace

import pytest
from tests.support.training import TINY, digest

from vitreous.errors import RunError
from vitreous.model.config import BlockConfig
from vitreous.model.swin_config import SwinConfig
from vitreous.objectives.config import MaskedAutoencoderConfig
from vitreous.run_folder import list_checkpoint_steps
from vitreous.settings import to_dict
from vitreous.training import run as running
from vitreous.training.config import OptimizerConfig
from vitreous.training.rules import find_outdated
from vitreous.training.run import resume

MUON, SGD = OptimizerConfig(name="muon", weight_decay=0.0), OptimizerConfig(name="sgd", weight_decay=1e-4)
TOUCHED = {
    "relative": {"model": replace(TINY.model, positions="relative")},
    "layers": {"model": replace(TINY.model, position_placement="layers")},
    "registers": {"model": replace(TINY.model, registers=1)},
    "biases under Muon": {"model": replace(TINY.model, positions="bias"), "optimizer": MUON},
    "gated under Muon": {"model": replace(TINY.model, block=BlockConfig(mlp="swiglu")), "optimizer": MUON},
    "LoRA under Muon": {"lora": 3, "optimizer": MUON},
    "SGD": {"optimizer": SGD},
    "offsets by an MLP": {"model": replace(TINY.model, positions="bias-log"), "freeze": "positions"},
    "shared offsets": {
        "model": replace(TINY.model, positions="bias-log", position_placement="shared"),
        "optimizer": OptimizerConfig(layer_decay=0.75),
    },
    "decay of offsets": {"model": replace(TINY.model, positions="bias-log")},
    "decay of Swin V2's offsets": {"model": SwinConfig(version="v2")},
    "whole images at reduced scale": {
        "decode": replace(TINY.decode, at_least=(16, 16)),
        "augment": replace(TINY.augment, crop="pad"),
    },
    "a teacher of rendered views": {"teacher": "runs/a", "augment": replace(TINY.augment, on="device")},
    "decoder's heads": {"model": replace(TINY.model, attention_head_width=8), "objective": MaskedAutoencoderConfig()},
}
UNTOUCHED = {
    "AdamW": {},
    "a teacher": {"teacher": "runs/a"},
    "decoder": {"objective": MaskedAutoencoderConfig()},
    "offsets of each block": {"model": replace(TINY.model, positions="bias-log"), "freeze": "trunk"},
    "frozen offsets of Swin V2": {"model": SwinConfig(version="v2"), "lora": 2},
    "offsets without decay": {"model": SwinConfig(version="v2"), "optimizer": OptimizerConfig(weight_decay=0)},
    "Swin V1": {"model": SwinConfig()},
    "Muon": {"optimizer": MUON},
    "relative without decay": {
        "model": replace(TINY.model, positions="relative"),
        "optimizer": OptimizerConfig(weight_decay=0),
    },
    "SGD without decay": {"optimizer": replace(SGD, weight_decay=0.0)},
    "SGD, torch's decay": {"optimizer": replace(SGD, decoupled=False)},
}


@pytest.mark.parametrize("name", [*TOUCHED, *UNTOUCHED])
def test_what_the_change_of_rules_touches(name):
    written = {"config": to_dict(replace(TINY, **(TOUCHED | UNTOUCHED)[name]))}
    assert bool(find_outdated(written)) == (name in TOUCHED)
    assert not find_outdated(written | {"rules": running.RULES})


def begun_before(go, monkeypatch, **changed):
    """Return a run of older rules that was killed at step 4 of 12."""
    with monkeypatch.context() as then:
        then.setattr(running, "RULES", 1)
        run = go(**changed, checkpoint_every="4st", keep_checkpoints=9).run
    for step in list_checkpoint_steps(run)[1:]:
        shutil.rmtree(run / "checkpoints" / f"step-{step}")
    return run


def test_a_run_that_is_touched_is_not_gone_on_with(go, monkeypatch):
    run = begun_before(go, monkeypatch, **TOUCHED["SGD"])
    before = (run / "metrics.jsonl").read_bytes()
    said = r"begun by a vitreous that passed SGD's decoupled weight decay through the momentum \(version .*--weights"
    with pytest.raises(RunError, match=said):
        resume(run)
    assert (run / "metrics.jsonl").read_bytes() == before


def test_a_run_that_is_not_touched_goes_on_to_the_same_bits(go, trained_once, monkeypatch):
    assert digest(resume(begun_before(go, monkeypatch)).run) == digest(trained_once(TINY).run)


def test_a_finished_run_can_be_looked_at_whatever_its_rules(go, monkeypatch):
    with monkeypatch.context() as then:
        then.setattr(running, "RULES", 1)
        done = go(optimizer=SGD).run
    assert json.loads((done / "config.json").read_text())["rules"] == 1
    assert resume(done).stopped == "finished"
