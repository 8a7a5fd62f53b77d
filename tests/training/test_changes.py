"""What a run's folder has been through since, and what is wanted to be different: told, refused or noted, never silent."""

import hashlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.training import TINY, Listener, digest

from vitreous import rate_search
from vitreous.api.training import refuse_used
from vitreous.cli.translate import translate_arguments
from vitreous.data.config import DataConfig
from vitreous.errors import ConfigError, DataError, RunError, RunLocked, StorageError
from vitreous.images.config import PreprocessConfig
from vitreous.model.names import build_vit_config
from vitreous.run_folder import list_checkpoint_steps, read_run
from vitreous.storage.atomic import claim_file, claim_folder, give_up_claims
from vitreous.storage.lock import FolderLock, has_never_begun
from vitreous.training import run as training_run
from vitreous.training import run_inputs
from vitreous.training.changes import Changes
from vitreous.training.config import ScheduleConfig
from vitreous.training.run import resume, train
from vitreous.weights.model_folder import load_model

SHORT = replace(TINY, duration="6st", evaluate_every="3st", checkpoint_every="2st", keep_checkpoints=3)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setattr(training_run, "write_report", lambda run, reporter: None)
    run = train(SHORT, tmp_path_factory.mktemp("finished") / "run").run
    patch.undo()
    return run


@pytest.fixture
def run(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "run"))


def told(run: Path, **changes) -> list[str]:
    listener = Listener()
    resume(run, listener, Changes(**changes))
    return listener.messages


def edit(run: Path, change) -> None:
    document = json.loads((run / "config.json").read_text())
    change(document)
    (run / "config.json").write_text(json.dumps(document))


@pytest.mark.parametrize("duration", ["15min,500st", "500st,15min", "50%", "0st"])
def test_a_length_that_train_refuses_is_refused_of_a_begun_run_too(run, duration):
    with pytest.raises(ConfigError, match=f"duration is {duration}"):
        resume(run, changes=Changes(duration=duration))


def test_a_run_shortened_to_the_step_that_was_evaluated_last_is_finished(run):
    for lost in (4, 6):
        shutil.rmtree(run / "checkpoints" / f"step-{lost}")
    shortened = resume(run, changes=Changes(duration="3st"))
    assert (shortened.stopped, load_model(run).origin["step"]) == ("finished", 3)
    assert json.loads((run / "checkpoints" / "step-3" / "state.json").read_text())["state"]["finished"]
    assert resume(run).metrics == shortened.metrics


def test_a_config_edited_by_hand_is_refused_by_name_until_that_is_accepted(run):
    edit(run, lambda document: document["config"]["optimizer"].update(lr=0.001))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    with pytest.raises(
        RunError, match=r"changed by hand .*: optimizer\.lr 0\.003 -> 0\.001\. Put it back .*--accept-changes"
    ):
        resume(run)
    assert {path: path.read_bytes() for path in before} == before
    told(run, accept_changes=True)
    noted = read_run(run).config["changes"]
    assert noted == [{"step": 6, "by_hand": True, "settings": {"optimizer.lr": [0.003, 0.001]}}]
    told(run)
    assert read_run(run).config["changes"] == noted


def test_the_way_a_config_is_written_is_no_edit(run):
    document = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(dict(reversed(document.items())), indent=7))
    assert told(run) == ["resuming at step 6 of 6"]


def test_a_run_of_before_goes_on_and_is_told_once(run):
    def former(document):
        del document["sha256"], document["data"]["sample"]

    edit(run, former)
    for step in list_checkpoint_steps(run):
        folder = run / "checkpoints" / f"step-{step}"
        state = json.loads((folder / "state.json").read_text())
        for name in ("config", "metrics_sha256"):
            del state[name]
        text = json.dumps(state).encode()
        sums = (folder / "SHA256SUMS").read_text().splitlines()
        (folder / "state.json").write_bytes(text)
        sums = [line for line in sums if "state.json" not in line]
        (folder / "SHA256SUMS").write_text("\n".join([*sums, f"{hashlib.sha256(text).hexdigest()}  state.json\n"]))
    assert "config.json is of a version that recorded no hash of it" in told(run)[0]
    assert told(run) == ["resuming at step 6 of 6"]


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda text: "", "metrics.jsonl was cut: it held"),
        (lambda text: text[: len(text) // 2], "metrics.jsonl was cut: it held"),
        (lambda text: text.replace('"top1": 0', '"top1": 1', 1), "metrics.jsonl was edited: it held other records"),
    ],
    ids=["emptied", "cut", "edited"],
)
def test_records_that_are_not_what_they_were_are_told(run, harm, words):
    path = run / "metrics.jsonl"
    before = path.read_text()
    path.write_text(harm(before))
    assert path.read_text() != before
    assert any(words in message for message in told(run))


def test_checkpoints_that_are_gone_are_told(run):
    shutil.rmtree(run / "checkpoints" / "step-6")
    assert any(
        "model folder is from step 6, later than the newest whole checkpoint (step 4)" in one for one in told(run)
    )
    model = digest(run)
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(RunError, match=r"its checkpoints are gone; put them back, or begin a new run from its model"):
        resume(run)
    assert digest(run) == model


class At(Listener):
    """Does something at a step."""

    def __init__(self, step, act):
        super().__init__()
        self.step, self.act = step, act

    def progress(self, done, total, numbers):
        if done == self.step and "loss" in numbers:
            self.act()


def test_a_folder_removed_while_training_is_not_made_again(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(StorageError, match="was removed, renamed or replaced while this run was writing to it"):
        train(SHORT, run, At(3, lambda: shutil.rmtree(run)))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_replaced_while_training_is_left_alone(tmp_path):
    run = tmp_path / "run"

    def replaced():
        run.rename(tmp_path / "moved")
        shutil.copytree(tmp_path / "moved", run)

    with pytest.raises(StorageError, match="removed, renamed or replaced"):
        train(SHORT, run, At(3, replaced))
    assert list_checkpoint_steps(run) == list_checkpoint_steps(tmp_path / "moved") == [2]
    assert resume(tmp_path / "moved").stopped == "finished"


def constant(duration: str):
    return replace(SHORT, duration=duration, schedule=ScheduleConfig(kind="constant", warmup="0st"))


def test_a_lengthened_run_without_a_decay_is_the_run_that_was_longer_from_the_start(tmp_path):
    train(constant("6st"), tmp_path / "run")
    said = told(tmp_path / "run", duration="10st")
    assert any("the run is 10 steps long now, 6 before" in message for message in said)
    train(constant("10st"), tmp_path / "longer")
    assert digest(tmp_path / "run") == digest(tmp_path / "longer")
    record = read_run(tmp_path / "run").config
    assert (record["config"]["duration"], record["steps"]) == ("10st", 10)
    assert record["changes"] == [{"step": 6, "by_hand": False, "settings": {"duration": ["6st", "10st"]}}]


def test_a_lengthened_run_that_is_broken_off_goes_on_to_the_same_bits(run, tmp_path):
    whole = Path(shutil.copytree(run, tmp_path / "whole"))
    resume(whole, None, Changes(duration="12st"))

    def killed(job, run, reporter):
        raise ZeroDivisionError

    with pytest.MonkeyPatch.context() as patch:  # as soon as the change is noted
        patch.setattr(training_run, "carry_out_run", killed)
        with pytest.raises(ZeroDivisionError):
            resume(run, None, Changes(duration="12st"))
    assert list_checkpoint_steps(run)[-1] == 6
    assert digest(resume(run).run) == digest(whole)
    assert list_checkpoint_steps(run)[-1] == 12


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"duration": "5st"}, r"--duration 5st is 5 steps, and 6 are done"),
        ({"duration": "5x"}, "can't read the duration"),
        ({"validation": "elsewhere"}, "this run has none"),
        ({"threads": 0}, "--threads is 0; it must be at least 1"),
        ({"threads": 99_999_999_999}, "--threads is 99999999999; it must be at least 1 and at most 1024"),
        ({"keep_checkpoints": 1}, "keep_checkpoints is 1"),
    ],
)
def test_changes_that_can_not_be(run, changes, words):
    before = (run / "config.json").read_bytes()
    with pytest.raises(ConfigError, match=words):
        resume(run, None, Changes(**changes))
    assert (run / "config.json").read_bytes() == before


def test_what_never_changes_a_number_may_change(run, finished):
    shutil.rmtree(run / "checkpoints" / "step-6")
    told(run, workers=1, checkpoint_every="1st", keep_checkpoints=2)
    assert digest(run) == digest(finished)
    assert list_checkpoint_steps(run) == [5, 6]
    settings = read_run(run).config["changes"][0]["settings"]
    assert settings == {"workers": [0, 1], "checkpoint_every": ["2st", "1st"], "keep_checkpoints": [3, 2]}


@pytest.mark.parametrize("option", ["--optimizer.lr", "--seed", "--batch", "--lr", "--model"])
def test_what_was_settled_is_refused_by_name(option):
    with pytest.raises(ConfigError, match=rf"{option} was fixed when the run began.*--duration, --data.*--weights RUN"):
        translate_arguments("resume", ["run", option, "1"])


def test_other_trainers_words_for_the_length_are_understood():
    assert translate_arguments("resume", ["run", "--epochs", "40"]) == ["run", "--duration", "40ep"]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Train on a few images by a relative path; return the run."""
    from tests.support.pictures import tree

    monkeypatch.chdir(tmp_path)
    tree(tmp_path / "photos", a=6, b=6)
    config = replace(
        SHORT,
        data=DataConfig("photos"),
        preprocess=PreprocessConfig(size=(8, 8)),
        model=build_vit_config("mu/4", image=(8, 8), classes=2, depth=1),
        batch=4,
        duration="4st",
    )
    return train(config, tmp_path / "run").run


def test_moved_data_is_named_and_found_from_then_on(photos, tmp_path, monkeypatch):
    (tmp_path / "photos").rename(tmp_path / "pictures")
    with pytest.raises(DataError, match=r"If it was moved, say where it is: vitreous resume .*run --data PATH"):
        resume(photos)
    resume(photos, None, Changes(data="pictures", duration="6st"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert resume(photos).stopped == "finished"
    record = read_run(photos).config
    assert record["config"]["data"]["path"] == "photos"
    assert record["changes"][0]["settings"]["data is at"] == [str(tmp_path / "photos"), str(tmp_path / "pictures")]


def test_images_replaced_behind_the_scans_back_are_named(photos, monkeypatch):
    monkeypatch.setattr(run_inputs, "hash_dataset", lambda dataset: read_run(photos).config["data"]["fingerprint"])
    name = next(iter(read_run(photos).config["data"]["sample"]["train"]))
    path = Path("photos") / name
    times = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(RunError, match=rf"of 12 files compared, 1 differ: {name}\. Restore it"):
        resume(photos)


def test_a_folder_that_never_became_a_run_is_free(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for name in (".lock", "metrics.jsonl", ".config.json.12345678.partial"):
        (run / name).touch()
    refuse_used(str(run))
    with pytest.raises(
        RunError, match=r"ended before its first step: there is nothing to resume\. Repeat the `vitreous train`"
    ):
        resume(run)
    assert train(replace(SHORT, duration="1st", schedule=ScheduleConfig(warmup="0st")), run).stopped == "finished"
    assert not has_never_begun(run)


def test_names_that_are_asked_for_at_once_differ(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        folders = list(pool.map(lambda _: claim_folder(tmp_path / "runs", "digits-small"), range(40)))
        files = list(pool.map(lambda _: claim_file(tmp_path, "features", ".parquet"), range(40)))
    assert len(set(folders)) == len(set(files)) == 40
    (folders[0] / "kept").touch()
    files[0].write_text("kept")
    give_up_claims(folders[1], tmp_path / "not claimed")
    assert not folders[1].exists() and all(path.exists() for path in (*folders[2:], *files))
    give_up_claims()
    assert [*(tmp_path / "runs").iterdir()] == [folders[0]]
    assert sorted(path.name for path in tmp_path.iterdir()) == [files[0].name, "runs"]


def test_a_search_finds_its_data_from_another_folder_and_has_one_writer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "rates").mkdir()
    planned = rate_search.RateSearch(replace(SHORT, data=DataConfig("photos")), (0.1,), 0.1, {})
    rate_search.write_plan(planned, Path("rates"))
    assert rate_search.read_plan(Path("rates")).config.data.path == "photos"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert rate_search.read_plan(tmp_path / "rates").config.data.path == str(tmp_path / "photos")
    with FolderLock(tmp_path / "rates"), pytest.raises(RunLocked):
        rate_search.continue_search(tmp_path / "rates")
