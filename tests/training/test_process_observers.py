"""Who looks on while several processes train: callbacks hear of the run once, and layers' norms are those of the whole model."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.exact_steps import EXACT
from tests.support.ranks import run_ranks
from torch import nn

from vitreous.run_folder import read_run
from vitreous.training.callbacks import Callback, add_callbacks
from vitreous.training.run import train

CONFIG = replace(EXACT, duration="6st", evaluate_every="3st", layer_statistics=True)


class Diary(Callback):
    """Writes down what it hears, without touching the model."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def on_begin(self, run: Path, config: Any, step: int) -> None:
        self.heard.append(["begin", step])

    def on_step(self, step: int, numbers: Mapping[str, float], model: nn.Module) -> None:
        self.heard.append(["step", step, numbers["loss"], numbers["gradient_norm"], numbers["lr"]])

    def on_record(self, record: Mapping[str, Any]) -> None:
        self.heard.append(["record", record["kind"], record["step"]])

    def on_evaluation(self, step: int, numbers: Mapping[str, float], best: bool) -> None:
        self.heard.append(["evaluation", step, numbers["loss"], numbers["top1"], float(best)])

    def on_checkpoint(self, step: int, folder: Path) -> None:
        assert (folder / "state.json").exists()
        self.heard.append(["checkpoint", step])

    def on_end(self, stopped: str) -> None:
        self.heard.append(["end", stopped])


def read_layers(run: Path) -> list[dict[str, Any]]:
    return [one for one in read_run(run).metrics if one["kind"] == "layers"]


@pytest.mark.parametrize("shard", [pytest.param("none", marks=pytest.mark.slow), "all"])
@pytest.mark.slow
def test_callbacks_and_layers_are_those_of_one_process(shard: str, tmp_path: Path, doubled: None) -> None:
    alone = Diary()
    with add_callbacks([alone]):
        train(CONFIG, tmp_path / "alone")

    def work(rank: int) -> int:
        diary = Diary()
        with add_callbacks([diary]):
            train(replace(CONFIG, shard=shard), tmp_path / "run")
        (tmp_path / f"heard-{rank}.json").write_text(json.dumps(diary.heard))
        return 0

    for code, out, err in run_ranks(work, 2):
        assert code == 0, (out, err)
    found, others = (json.loads((tmp_path / f"heard-{rank}.json").read_text()) for rank in (0, 1))
    assert others == [] and len(found) == len(alone.heard)
    for one, expected in zip(found, alone.heard, strict=True):
        texts, numbers = ([value for value in expected if isinstance(value, kind)] for kind in (str, float))
        assert [value for value in one if isinstance(value, str)] == texts
        assert [value for value in one if isinstance(value, float)] == pytest.approx(numbers, rel=1e-6)
    layers, expected_layers = read_layers(tmp_path / "run"), read_layers(tmp_path / "alone")
    assert [one["step"] for one in layers] == [1, 2, 3, 4, 5, 6]
    for one, expected in zip(layers, expected_layers, strict=True):
        for kind in ("weight_norm", "layer_gradient_norm", "update_norm"):
            assert {"blocks.0", "blocks.1", "head"} <= one[kind].keys() == expected[kind].keys()
            assert one[kind] == pytest.approx(expected[kind], rel=1e-5, abs=1e-12), (one["step"], kind)
