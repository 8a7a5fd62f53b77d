"""What several processes leave: the last checkpoints, the best weights; and what they leave to one process alone."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.support.training import TINY
from tests.training.test_distributed import EXACT, go_on, read_whole, told_by

import vitreous
from vitreous.run_folder import list_checkpoint_steps, read_run
from vitreous.training import loop
from vitreous.training.run import train
from vitreous.weights.model_folder import load_model


def test_what_one_process_does_alone_is_refused(tmp_path: Path) -> None:
    """Sweeps, folds, and heads by logistic regression: before anything is written, and on resume."""
    whole = "several processes can only train one model; use one process"
    (tmp_path / "rates").mkdir()
    (tmp_path / "rates" / "rates.json").write_text("{}")
    refused = (
        (
            lambda rank: vitreous.train("digits", out=tmp_path / "run", rates=[1e-3, 2e-3]),
            "--folds and --rates train many",
        ),
        (lambda rank: vitreous.train("digits", out=tmp_path / "run", folds=3), "--folds and --rates train many models"),
        (lambda rank: vitreous.resume(tmp_path / "rates"), "rates is a rate search, many models"),
    )
    for work, what in refused:
        codes, lines = told_by(work, 2)
        assert codes == [2, 2]
        assert len(lines) == 1 and what in lines[0] and whole in lines[0]
    codes, lines = told_by(lambda rank: train(replace(TINY, head="logistic"), tmp_path / "run"), 2)
    assert codes == [2, 2]
    assert len(lines) == 1 and "is fitted in one process" in lines[0] and "--head new" in lines[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("shard", ["none", pytest.param("all", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_the_last_checkpoints_and_the_best_weights_are_kept(
    shard: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model folder holds the averages of the best evaluation, which is neither the first nor the last."""
    monkeypatch.setattr(loop, "is_better", lambda metrics, before, least: before is None or before["step"] == 3)
    config = replace(EXACT, evaluate_every="3st", keep_checkpoints=3, shard=shard)
    for export, folder in (("best", tmp_path / "best"), ("last", tmp_path / "last")):
        go_on(folder, replace(config, export=export), 2)
        assert list_checkpoint_steps(folder) == [6, 9, 12]
    records = [one for one in read_run(tmp_path / "best").metrics if one["kind"] == "evaluation"]
    assert [(one["step"], one["best"]) for one in records] == [(3, True), (6, True), (9, False), (12, False)]
    kept = {6: (tmp_path / "best" / "model", tmp_path / "last" / "best"), 12: (tmp_path / "last" / "model",)}
    for step, folders in kept.items():
        average = {
            name.removeprefix("average.module."): one
            for name, one in read_whole(tmp_path / "best" / "checkpoints" / f"step-{step}").items()
            if name.startswith("average.module.")
        }
        assert average
        for folder in folders:
            found = load_model(folder)
            assert found.origin["step"] == step
            state = found.model.state_dict()
            assert [name for name in average if not torch.equal(average[name], state[name])] == []
