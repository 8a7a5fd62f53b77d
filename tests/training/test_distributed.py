"""Several processes of one run: the same examples, weights and figures as one process; how they stop, and what they refuse."""

import json
import math
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from tests.support.exact_steps import EXACT, distance, in_processes, lose_after, read_whole, take_steps
from tests.support.ranks import run_ranks, start_ranks
from tests.support.training import TINY

from vitreous.cli.main import report_error
from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.errors import ConfigError, VitreousError
from vitreous.images.config import AugmentConfig
from vitreous.model.config import RegularisationConfig
from vitreous.model.efficientnet_config import EfficientNetConfig
from vitreous.model.factory import create
from vitreous.model.names import build_vit_config
from vitreous.model.swin_config import SwinConfig
from vitreous.objectives.config import MaskedPatchesConfig
from vitreous.run_folder import list_checkpoint_steps, read_run
from vitreous.training import distributed
from vitreous.training import run as running
from vitreous.training.assembly import build_job
from vitreous.training.changes import Changes
from vitreous.training.config import RunConfig
from vitreous.training.distributed import ALONE, World, get_world, join
from vitreous.training.duration import Scale
from vitreous.training.interrupt import Interrupt
from vitreous.training.loop import Cadence
from vitreous.training.reporter import Silent
from vitreous.training.run import resume, train
from vitreous.training.validate import validate
from vitreous.weights.model_folder import ModelFolder, save_model

MASKED = replace(
    TINY,
    model=build_vit_config("mu/2", image=(8, 8), channels=1, classes=0, depth=2, final_norm="pooled"),
    objective=MaskedPatchesConfig(),
)
NORMED = replace(
    EXACT,
    model=EfficientNetConfig(
        image=(8, 8), channels=1, root_channels=8, units=(1, 2), widths=(8, 12), kernels=(3, 5), strides=(1, 2), expansions=(1, 2),
        last_channels=16, classes=10, norm_momentum=0.1,
    ),
    regularisation=RegularisationConfig(dropout=0.1, drop_path=0.2),
)  # fmt: skip
"""Batch norm's statistics are those of the whole batch, and its average has them too."""

STAGED = SwinConfig(
    image=(8, 8), channels=1, patch=(2, 2), version="v2", width=16, depths=(2, 1), heads=(2, 2), windows=((2, 2), (2, 2)), classes=10
)  # fmt: skip


@pytest.mark.parametrize(
    ("config", "size", "changed"),
    [(EXACT, 4, {"micro_batch": 5}), pytest.param(MASKED, 2, {}, marks=pytest.mark.slow)],
    ids=["labelled", "masked"],
)
def test_the_same_examples_weights_and_figures_in_any_number_of_processes(
    config: RunConfig, size: int, changed: dict, tmp_path: Path, doubled: None
) -> None:
    alone = take_steps(config, ALONE)
    found = in_processes(replace(config, **changed), size, tmp_path)
    assert found["streams"] == alone["streams"]
    assert distance(found["weights"], alone["weights"]) < 1e-9
    assert found["losses"] == pytest.approx(
        alone["losses"], rel=1e-6
    )  # a mean in float32, whatever the model's precision
    assert found["figures"] == pytest.approx(alone["figures"], rel=1e-6)


@pytest.mark.slow
def test_a_teacher_of_fixed_views_is_asked_by_all_together(tmp_path: Path, doubled: None) -> None:
    """Each process computes the logits of its batches of the training images; all have all of them."""
    model = create(TINY.model, seed=9)
    torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    save_model(tmp_path / "teacher", ModelFolder(model, TINY.preprocess, TINY.decode, tuple("0123456789")))
    fixed = AugmentConfig(crop="eval", flip=False)
    config = replace(TINY, teacher=str(tmp_path / "teacher"), augment=fixed, micro_batch=3)
    alone, found = take_steps(config, ALONE), in_processes(config, 2, tmp_path)
    assert distance(found["weights"], alone["weights"]) < 1e-9


def test_batch_norm_is_that_of_the_whole_batch(tmp_path: Path, doubled: None) -> None:
    """Weights, running statistics and their averages; biases that a later norm takes away again are rounding errors."""
    alone, found = take_steps(NORMED, ALONE), in_processes(NORMED, 2, tmp_path)
    assert any(name.endswith("running_var") for name in found["weights"])
    for name, expected in alone["weights"].items():
        assert torch.allclose(found["weights"][name], expected, rtol=1e-9, atol=1e-9), name


@pytest.mark.parametrize(
    ("shard", "recompute"), [("all", True), pytest.param(2, False, marks=pytest.mark.slow)], ids=["all", "hybrid"]
)
def test_a_divided_model_gets_the_same_weights(
    shard: str | int, recompute: bool, tmp_path: Path, doubled: None
) -> None:
    """Matrices of Muon whole, clipping over all processes, averages, and blocks that are computed again."""
    alone = take_steps(EXACT, ALONE)
    found = in_processes(replace(EXACT, shard=shard, recompute=recompute, micro_batch=3), 4, tmp_path)
    assert found["streams"] == alone["streams"]
    assert distance(found["weights"], alone["weights"]) < 1e-9
    assert found["figures"] == pytest.approx(alone["figures"], rel=1e-6)


def test_a_model_of_stages_is_divided_block_by_block(tmp_path: Path, doubled: None) -> None:
    """Of blocks in lists of stages, which are divided from the innermost ones outwards."""
    config = replace(EXACT, model=STAGED, regularisation=RegularisationConfig(drop_path=0.2))
    alone, found = take_steps(config, ALONE), in_processes(replace(config, shard="all", micro_batch=3), 2, tmp_path)
    assert distance(found["weights"], alone["weights"]) < 1e-9
    assert found["figures"] == pytest.approx(alone["figures"], rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("micro_batch", [0, 4])
@pytest.mark.parametrize("shard", ["none", "all"])
def test_any_number_of_workers_and_any_accumulation(
    size: int, workers: int, micro_batch: int, shard: str, tmp_path: Path, doubled: None
) -> None:
    alone = take_steps(EXACT, ALONE)
    found = in_processes(replace(EXACT, workers=workers, micro_batch=micro_batch, shard=shard), size, tmp_path)
    assert found["streams"] == alone["streams"]
    assert distance(found["weights"], alone["weights"]) < 1e-9


def test_in_float32_the_first_gradients_agree(tmp_path: Path) -> None:
    alone, found = take_steps(EXACT, ALONE), in_processes(EXACT, 2, tmp_path)
    assert distance(found["gradients"], alone["gradients"]) < 1e-5
    assert found["streams"] == alone["streams"]


def test_figures_are_those_of_one_process_to_the_last_bit(tmp_path: Path) -> None:
    """Whatever divides the batches: as many as 3 processes for 2 batches of 64 and one of fewer."""
    for config in (replace(TINY, data=DataConfig("digits", holdout=0.08)), MASKED):
        config = replace(config, batch=64)
        dataset = open_dataset(config.data, config.decode)
        alone = validate(build_job(config, dataset, Silent()), Silent(), Interrupt())

        def work(rank: int, config: RunConfig = config, alone: Any = alone) -> int:
            with join(1) as world:
                job = build_job(config, open_dataset(config.data, config.decode), Silent())
                job.world = world
                found = validate(job, Silent(), Interrupt(alone=False))
                assert found is not None and {**found, "seconds": alone["seconds"]} == alone
            return 0

        assert [code for code, *_ in run_ranks(work, 3)] == [0, 0, 0]


def go_on(folder: Path, config: RunConfig, size: int) -> None:
    """Begin a run in as many processes, or go on with it."""

    def work(rank: int) -> int:
        done = resume(folder) if (folder / "config.json").exists() else train(config, folder)
        assert done.stopped == "finished"
        return 0

    for code, out, err in run_ranks(work, size):
        assert code == 0, (out, err)


@pytest.mark.parametrize("shard", [pytest.param("none", marks=pytest.mark.slow), "all"])
def test_a_run_goes_on_in_another_number_of_processes(shard: str, tmp_path: Path, doubled: None) -> None:
    """Four, two, one: each reads what the others wrote, of which the newest has lost a byte."""
    config = replace(EXACT, checkpoint_every="4st", keep_checkpoints=9)
    straight = train(config, tmp_path / "straight")
    folder = tmp_path / "run"
    go_on(folder, replace(config, shard=shard), 4)
    assert read_run(folder).config["environment"]["processes"] == 4
    assert sorted(path.name for path in (folder / "checkpoints" / "step-4").glob("shard*")) == [
        "shard-00000.safetensors"
    ] + [f"shard-0000{rank}.safetensors" for rank in (1, 2, 3)] + ["shards.json"]
    lose_after(folder, 8)
    torn = folder / "checkpoints" / "step-8" / "shard-00002.safetensors"
    torn.write_bytes(torn.read_bytes()[:-1])
    go_on(folder, config, 2)
    lose_after(folder, 8)
    last = resume(folder, changes=Changes(shard="none"))
    changes = [one["settings"]["processes"] for one in read_run(folder).config["changes"]]
    assert changes == [[4, 2], [2, 1]]
    found, expected = (read_whole(one / "checkpoints" / "step-12") for one in (folder, straight.run))
    assert distance(found, expected) < 1e-9
    told = {name: value for name, value in last.metrics.items() if name != "seconds"}
    assert told == pytest.approx({name: straight.metrics[name] for name in told}, rel=1e-6)


def test_a_signal_to_one_process_stops_all_at_one_step(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    config = replace(TINY, duration="4000st", evaluate_every="4000st", checkpoint_every="100%")

    def work(rank: int) -> int:
        done = train(config, folder)
        return 128 + (done.signal or 0)

    processes = start_ranks(work, 2)
    end = time.monotonic() + 60
    while not (folder / "metrics.jsonl").exists() or not (folder / "metrics.jsonl").stat().st_size:
        assert time.monotonic() < end and processes[0].poll() is None, processes[0].communicate()
        time.sleep(0.1)
    began = time.monotonic()
    os.kill(processes[1].pid, signal.SIGUSR1)
    assert [process.communicate(30) and process.returncode for process in processes] == [128 + signal.SIGUSR1] * 2
    assert time.monotonic() - began < 10
    (step,) = list_checkpoint_steps(folder)
    assert step >= 1
    assert read_run(folder).metrics[-1]["step"] <= step


def told_by(work: Any, size: int, absent: tuple[int, ...] = ()) -> tuple[list[int | None], list[str]]:
    """Return the exit codes of processes that refuse something, and all that they said."""

    def tell(rank: int) -> int:
        try:
            work(rank)
        except VitreousError as error:
            return report_error(error)
        return 0

    found = run_ranks(tell, size, absent)
    lines = [line for _, _, err in found for line in err.splitlines()]
    return [code for code, *_ in found], [
        line for line in lines if line.startswith("vitreous")
    ]  # torch's C++ logs, too


def test_what_several_processes_refuse_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def divide(rank: int) -> None:
        train(replace(TINY, batch=32), tmp_path / "run")

    codes, lines = told_by(divide, 3)
    assert codes == [2, 2, 2]
    assert lines == [
        "vitreous: error: a batch of 32 can't be divided among 3 processes; give --batch 30 or 33, or another number of processes"
    ]

    def differ(rank: int) -> None:
        train(replace(TINY, data=replace(TINY.data, holdout=0.05 + 0.1 * rank)), tmp_path / "run")

    codes, lines = told_by(differ, 2)
    assert codes == [2, 2]
    assert len(lines) == 1 and "the processes differ: the data is" in lines[0] and "process 1" in lines[0]

    monkeypatch.setattr(distributed, "FIRST_TO_TELL", 0.5)

    def fail(rank: int) -> None:
        with join(1) as world:
            if rank == 1:
                raise ConfigError("something is wrong here")
            world.share(None)
            world.add_up(torch.ones(1))

    codes, lines = told_by(fail, 2)
    assert codes == [2, 2]
    assert lines == ["vitreous: error: process 1 of 2: something is wrong here"]
    assert not (tmp_path / "run").exists()


def test_a_process_that_does_not_come_is_named() -> None:
    def meet(rank: int) -> None:
        with join(0.03):
            raise AssertionError

    codes, lines = told_by(meet, 3, absent=(2,))
    assert codes == [2, 2]
    assert len(lines) == 1 and "2 of 3 processes have come" in lines[0] and "missing: 2" in lines[0]


def test_restarted_processes_find_nothing_of_those_before() -> None:
    store = dist.HashStore()

    def meet(rank: int, size: int) -> World:
        return distributed.await_others(World(rank, size, store=store, timeout=20), "within 1 min", "here")

    for time_to_come in (0.2, 0.0):
        with ThreadPoolExecutor() as pool:
            others = [pool.submit(meet, rank, 3) for rank in (2, 1)]
            time.sleep(time_to_come)
            worlds = [pool.submit(meet, 0, 3).result(), *(one.result() for one in others)]
        assert not any(world.store.check([key]) for world in worlds for key in ("told", "failed/1"))
        distributed.note_failure(worlds[1].store, 1, 1)
        assert distributed.choose_teller(worlds[1].store, 1) == 1
        assert [world.store.get("failed/1") for world in worlds] == [b"1"] * 3


def test_other_versions_are_refused(tmp_path: Path) -> None:
    versions = running.read_versions()

    def work(rank: int) -> None:
        running.read_versions = lambda: versions | {"torch": f"2.{rank}"}
        train(TINY, tmp_path / "run")

    codes, lines = told_by(work, 2)
    assert codes == [2, 2]
    assert len(lines) == 1 and "the version of torch is 2.1 in process 1" in lines[0]


def test_no_process_goes_by_its_own_clock_before_the_first_vote() -> None:
    """Else one would write the checkpoint, which takes all of them, and the others the next step."""
    cadence = Cadence("1min", Scale(100, 10, 10), SimpleNamespace(world=World(size=2)))
    cadence.saved_at -= 61
    assert cadence.late and not cadence.is_due(0)


def test_a_process_alone_has_no_need_of_others() -> None:
    with join() as world:
        assert world is ALONE is get_world()
        assert world.share({"a": 1}) == {"a": 1} and world.gather(3) == [3]
        assert world.divide(7) == 7
        world.check_same({"a": "b"})
    with pytest.raises(ConfigError, match="give --batch 4, or another"):
        World(0, 4).divide(3)


def test_records_hold_the_whole_batch(tmp_path: Path) -> None:
    """Only the first process writes: each record once, with the examples of all."""
    go_on(tmp_path / "run", TINY, 2)
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    trained = [one for one in records if one["kind"] == "train"]
    assert [one["step"] for one in trained] == list(range(1, 13))
    assert [one["samples"] for one in trained] == [32 * step for step in range(1, 13)]
    assert all(0 <= one["accuracy"] <= 1 for one in trained)


@pytest.mark.parametrize("minutes", [0.0, -1.0, math.nan, math.inf])
def test_a_timeout_that_is_no_time_is_refused(minutes: float) -> None:
    with (
        pytest.raises(ConfigError, match=r"^--process-timeout is \S+; it must be a number of minutes above 0$"),
        join(minutes),
    ):
        pass


@pytest.mark.parametrize("name", ["WORLD_SIZE", "RANK", "LOCAL_RANK"])
def test_what_the_launcher_left_must_be_numbers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", name: "banana"}
    for key, value in given.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(distributed, "open_store", lambda *_: None)
    with pytest.raises(ConfigError, match=f"^{name} is 'banana' in the environment; it must be a whole number"), join():
        pass
