"""Runs whose training step is compiled. In a process of their own: the checks of array shapes break compiling."""

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_a_compiled_run_learns_as_the_same_run_does_eagerly(tmp_path):
    losses = {}
    for name, more in {"eager": [], "compiled": ["--compile"]}.items():
        command = [sys.executable, "-m", "vitreous", "train", "digits", "--model", "Ti/4", "--recipe", "small-vit"]
        subprocess.run(
            [*command, "--precision", "fp32", "--duration", "2st", "--out", tmp_path / name, *more],
            check=True,
            capture_output=True,
        )
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        losses[name] = [record["loss"] for record in map(json.loads, lines) if record["kind"] == "train"]
    assert len(losses["eager"]) == 2  # later steps amplify rounding
    assert losses["compiled"] == pytest.approx(losses["eager"], rel=1e-4)
