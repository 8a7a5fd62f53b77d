"""A whole study in seconds: what it leaves, and that killed on the way it comes to the same."""

import json
import shutil
import signal
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import vitreous.training.run_group as running
from vitreous.data.dataset import open_dataset
from vitreous.errors import NonFiniteLoss, RunError, UnknownName
from vitreous.settings import to_dict
from vitreous.studies.catalog import find
from vitreous.studies.engine.data_subset import open_setting, stratify
from vitreous.studies.engine.run import run_study
from vitreous.studies.engine.settings_diff import hash_settings
from vitreous.training.reporter import Silent

STUDY = find("positions")


def short(study, groups=("none", "relative")):
    """Return a study with one seed of few cells."""

    def few(setting):
        return [cell for cell in study.cells(setting) if cell.group in groups and cell.seed == 0]

    return replace(study, cells=few)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Return the folder of a short study, carried out."""
    folder = tmp_path_factory.mktemp("studies") / "done"
    ended = run_study(short(STUDY), open_setting("smoke", "digits", folder))
    assert (ended.done, ended.cells, ended.signal) == (2, 2, None)
    return folder


def test_a_study_leaves_numbers_table_figure_and_page(done):
    found = json.loads((done / "results.json").read_text())
    assert [one["group"] for one in found["outcomes"]] == ["none", "relative"]
    assert all(0 < one["top1"] < 1 for one in found["outcomes"])
    assert found["verdicts"] == [], "two kinds of eight conclude nothing"
    assert "| relative |" in (done / "table.md").read_text()
    ET.fromstring((done / "figure.svg").read_text())
    assert "prefers-color-scheme:dark" in (done / "figure.svg").read_text()
    assert b"What the paper found" in (done / "report.html").read_bytes()
    assert (done / "runs" / "none-0" / "report.html").exists()


class Dying(Silent):
    """Ends the process's work, as Ctrl-C does or as a power cut does, at a step of a cell."""

    def __init__(self, cell, step, how):
        self.cell, self.step, self.how, self.now = cell, step, how, ""

    def message(self, text):
        self.now = text

    def progress(self, done, total, numbers):
        if self.cell in self.now and done == self.step and "loss" in numbers:
            if self.how == "signal":
                signal.raise_signal(signal.SIGTERM)
            else:
                raise ZeroDivisionError


@pytest.mark.parametrize("how", ["signal", "death"])
def test_a_killed_study_goes_on_to_the_same_results(done, tmp_path, how):
    setting = open_setting("smoke", "digits", tmp_path / "again")
    if how == "signal":
        ended = run_study(short(STUDY), setting, Dying("relative-0", 2, how))
        assert (ended.done, ended.signal) == (1, signal.SIGTERM)
    else:
        with pytest.raises(ZeroDivisionError):
            run_study(short(STUDY), setting, Dying("relative-0", 2, how))
    kept = (tmp_path / "again" / "runs" / "none-0" / "result.json").read_bytes()
    assert run_study(short(STUDY), setting).done == 2
    assert (tmp_path / "again" / "runs" / "none-0" / "result.json").read_bytes() == kept
    assert (tmp_path / "again" / "results.json").read_bytes() == (done / "results.json").read_bytes()


def test_only_some_cells(tmp_path):
    setting = open_setting("smoke", "digits", tmp_path)
    ended = run_study(short(STUDY), setting, only="none-0")
    assert (ended.done, ended.cells) == (1, 2)
    assert "1 of 2 cells are not run yet" in (tmp_path / "table.md").read_text()
    with pytest.raises(UnknownName, match="unknown cell"):
        run_study(short(STUDY), setting, only="nothing")


def test_a_folder_of_another_study_or_scale_is_refused(done):
    setting = open_setting("smoke", "digits", done)
    with pytest.raises(RunError, match='holds another study: scale "smoke" there, "laptop" here'):
        run_study(short(STUDY), replace(setting, scale="laptop"))
    with pytest.raises(RunError, match='holds another study: study "positions" there'):
        run_study(replace(short(STUDY), name="other"), setting)


def write_photos(folder, seed, size=16):
    """Write eight pictures of each of two classes in plain class folders; return the folder's name."""
    random = np.random.default_rng(seed)
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for number in range(8):
            pixels = random.integers(0, 255, (size, size + number, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return str(folder)


def read_files(folder):
    """Return the contents of all files in a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_other_data_are_refused_and_the_folder_stays_as_it_is(tmp_path):
    one, other = (write_photos(tmp_path / name, seed) for seed, name in enumerate(("one", "other")))
    out = tmp_path / "study"
    setting = open_setting("smoke", one, out)
    assert not out.exists(), "opening writes nothing"
    assert run_study(short(STUDY), setting, only="none-0").done == 1
    assert setting.facts == open_dataset(setting.data).facts
    before = read_files(out)
    with pytest.raises(RunError, match=r"it began with the images of \S+one, and those of \S+other are others"):
        run_study(short(STUDY), open_setting("smoke", other, out))
    with pytest.raises(RunError, match="holds another study: study"):
        run_study(replace(short(STUDY), name="another"), open_setting("smoke", other, out))
    assert read_files(out) == before
    (tmp_path / "one" / "cat" / "0.png").write_bytes((tmp_path / "one" / "cat" / "1.png").read_bytes())
    with pytest.raises(RunError, match=r"the images of \S+one have changed since it began"):
        run_study(short(STUDY), open_setting("smoke", one, out))


def test_a_study_that_notes_no_images_goes_on(done, tmp_path):
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    about = json.loads((tmp_path / "study.json").read_text())
    del about["images"]
    (tmp_path / "study.json").write_text(json.dumps(about))
    assert run_study(short(STUDY), open_setting("smoke", "digits", tmp_path)).done == 2
    assert (tmp_path / "study.json").read_bytes() == (done / "study.json").read_bytes()


def test_cells_of_other_settings_are_refused(done):
    def longer(setting):
        return [replace(cell, config=replace(cell.config, batch=8)) for cell in short(STUDY).cells(setting)]

    with pytest.raises(RunError, match=r"was run with other settings than the study has now: batch \d+ there, 8 here"):
        run_study(replace(STUDY, cells=longer), open_setting("smoke", "digits", done))


def noted(done, change):
    """Return the folder of a study's copy, whose study.json is changed by a function of its cells' and data's settings."""
    about = json.loads((done / "study.json").read_text())
    for settings in about["cells"].values():
        change(settings)
    change(about["data"])
    (done / "study.json").write_text(json.dumps(about))
    return open_setting("smoke", "digits", done)


def test_a_setting_that_came_since_leaves_a_folder_as_it_is(done, tmp_path):
    """One that the folder knows nothing of is at its default, or the cell is another."""
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    before = (done / "study.json").read_bytes()

    def older(settings):
        for name in ("ema", "seed"):
            settings.pop(name, None)

    assert run_study(short(STUDY), noted(tmp_path, older)).done == 2
    assert (tmp_path / "study.json").read_bytes() == before

    def set_since(setting):
        return [replace(cell, config=replace(cell.config, ema=0.9)) for cell in short(STUDY).cells(setting)]

    with pytest.raises(RunError, match=r"settings than the study has now: ema 0\.0 there, 0\.9 here\. Remove that"):
        run_study(replace(STUDY, cells=set_since), noted(tmp_path, older))


def test_a_default_that_changed_and_a_setting_that_went_are_said(done, tmp_path):
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    setting = noted(tmp_path, lambda settings: "optimizer" in settings and settings["optimizer"].update(eps=1e-6))
    with pytest.raises(RunError, match=r"optimizer\.eps 1e-06 there, 1e-08 here"):
        run_study(short(STUDY), setting)
    setting = noted(tmp_path, lambda settings: "recipe" in settings and settings.update(bygone=3))
    with pytest.raises(RunError, match="unknown setting 'bygone'"):
        run_study(short(STUDY), setting)
    with pytest.raises(RunError, match="holds another study: unknown setting 'bygone'"):
        run_study(short(STUDY), noted(tmp_path, lambda settings: settings.update(bygone=3)))


@pytest.mark.parametrize("same", [True, False])
def test_a_folder_with_hashes_of_settings_is_read_too(done, tmp_path, same):
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    setting = open_setting("smoke", "digits", tmp_path)
    about = json.loads((tmp_path / "study.json").read_text())
    about["cells"] = {}
    for cell in short(STUDY).cells(setting):
        settings, config = to_dict(cell.config), tmp_path / "runs" / cell.name / "config.json"
        about["cells"][cell.name] = hash_settings({name: settings[name] for name in settings if name != "ema"})
        run = json.loads(config.read_text())
        run["config"].pop("ema" if same else "seed")
        config.write_text(json.dumps(run))
    (tmp_path / "study.json").write_text(json.dumps(about))
    if same:
        assert run_study(short(STUDY), setting).done == 2
        assert (tmp_path / "study.json").read_bytes() == (done / "study.json").read_bytes()
    else:
        with pytest.raises(RunError, match="than the study has now: their hash is another"):
            run_study(short(STUDY), setting)


def test_a_run_that_diverges_is_a_result(tmp_path, monkeypatch):
    def fails(config, out, reporter):
        out.mkdir(parents=True)
        raise NonFiniteLoss("the loss became inf at step 3")

    monkeypatch.setattr(running, "train", fails)
    ended = run_study(short(STUDY, ["none"]), open_setting("smoke", "digits", tmp_path))
    assert ended.done == 1
    assert "none-0 has no result: the loss became inf" in (tmp_path / "table.md").read_text()


def test_what_starts_from_a_run_that_diverged_fails_with_it(tmp_path, monkeypatch):
    def fails(config, out, reporter):
        assert not config.weights, "nothing starts from weights that are not there"
        out.mkdir(parents=True)
        raise NonFiniteLoss("the loss became inf at step 3")

    monkeypatch.setattr(running, "train", fails)
    setting = open_setting("smoke", "digits", tmp_path)
    ended = run_study(find("optimiser"), setting)
    assert ended.done == ended.cells
    told = (tmp_path / "table.md").read_text()
    assert "Adam-0.003-0 has no result: it starts from pre-trained-Adam-0.003-0, which failed" in told
    assert run_study(find("optimiser"), setting).done == ended.cells, "it can be gone on with"


def test_a_part_is_stratified_and_fixed():
    names, labels = [f"image-{n}" for n in range(100)], [0] * 60 + [1] * 38 + [2] * 2
    chosen = stratify(names, labels, 20)
    assert chosen == stratify(names, labels, 20)
    assert [sum(labels[index] == label for index in chosen) for label in range(3)] == [12, 8, 1]
    assert stratify(names, labels, 1000) == list(range(100))
