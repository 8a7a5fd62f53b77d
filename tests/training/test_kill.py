"""Kill -9 at random instants: the run goes on to the same bits."""

import hashlib
import json
import random
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.forked import Forked
from tests.support.training import TIMED

from vitreous.data.config import DataConfig
from vitreous.images.config import AugmentConfig, PreprocessConfig
from vitreous.model.config import RegularisationConfig
from vitreous.model.names import build_vit_config
from vitreous.training.config import OptimizerConfig, RunConfig, ScheduleConfig
from vitreous.training.run import resume, train

CONFIG = RunConfig(
    data=DataConfig("digits"),
    preprocess=PreprocessConfig(size=(8, 8), mode="L", crop=1.0),
    augment=AugmentConfig(crop="pad", crop_pad=1, flip=False, mixup=0.4, cutmix=1.0, erase=0.2),
    model=build_vit_config("mu/2", image=(8, 8), channels=1, classes=10, depth=2),
    regularisation=RegularisationConfig(dropout=0.1, drop_path=0.1),
    optimizer=OptimizerConfig(lr=3e-3),
    schedule=ScheduleConfig(warmup="10%"),
    batch=32,
    ema=0.99,
    seed=3,
    workers=0,
    evaluate_every="37st",
    checkpoint_every="5st",
    export="best",
)


def start(folder: Path, duration: str) -> Forked:
    """Return a process that begins, or goes on, just now."""

    def work() -> int:
        begun = (folder / "config.json").exists()
        done = resume(folder) if begun else train(replace(CONFIG, duration=duration), folder)
        assert done.stopped == "finished", done
        return 0

    return Forked(work)


def finish(folder: Path, duration: str) -> float:
    """Let a run come to its end; return the seconds that it took."""
    process, begun = start(folder, duration), time.monotonic()
    said = process.communicate()
    assert process.returncode == 0, said
    return time.monotonic() - begun


def digest(run: Path) -> dict[str, str]:
    """Hash the exported weights and the tensors of the last checkpoint."""
    last = max((run / "checkpoints").iterdir(), key=lambda path: int(path.name.rpartition("-")[2]))
    files = [*sorted((run / "model").glob("*.safetensors")), *sorted(last.glob("*.safetensors"))]
    return {path.relative_to(run).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def records(run: Path) -> list[str]:
    """Return the records without what the clock measured."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.dumps({key: value for key, value in json.loads(line).items() if key not in TIMED}) for line in lines]


def kill_and_finish(tmp_path: Path, kills: int, duration: str) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    whole = finish(straight, duration)
    chance = random.Random(0)
    killed = 0
    while killed < kills:
        process = start(broken, duration)
        time.sleep(chance.uniform(0, 0.9 * whole / min(kills, 2)))  # two kills fit into one run
        if process.poll() is None:
            process.kill()
            killed += 1
        process.communicate()
        if process.returncode == 0:
            assert digest(broken) == digest(straight)
            broken = tmp_path / f"broken-{killed}"
    finish(broken, duration)
    assert digest(broken) == digest(straight)
    assert records(broken) == records(straight)


@pytest.mark.slow
def test_killed_twice(tmp_path: Path) -> None:
    kill_and_finish(tmp_path, kills=2, duration="80st")


@pytest.mark.slow
def test_killed_at_thirty_instants(tmp_path: Path) -> None:
    kill_and_finish(tmp_path, kills=30, duration="400st")
