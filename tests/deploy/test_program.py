"""torch's own exports: for other programs, and opened here only where they were exported here."""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from tests.deploy.conftest import TINY, traceable
from tests.support.processor import needs_bf16

import vitreous
from vitreous.engines import program_engine
from vitreous.errors import CheckpointError, ConfigError

PIXELS = np.random.default_rng(0).integers(0, 256, (3, *TINY.image, 3), dtype=np.uint8)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A cache of its own, in which what is exported here is noted."""
    with pytest.MonkeyPatch.context() as changed:
        path = tmp_path_factory.mktemp("cache")
        changed.setenv("VITREOUS_CACHE", str(path))
        yield path


@pytest.fixture(scope="module")
def program(original, tmp_path_factory):
    with traceable():
        out = tmp_path_factory.mktemp("programs") / "program"
        return vitreous.export(original, to="torch", out=out, preprocess_inside=True, outputs="both")


def test_programs_run_in_torch_and_as_a_model_like_any_other(program, original, photo):
    inside = {"vitreous.json": ""}
    run = torch.export.load(program.path / "model.pt2", extra_files=inside).module()
    model, loaded = vitreous.load(original, device="cpu"), vitreous.load(program.path)
    wanted = model.engine.probabilities(PIXELS)
    assert np.abs(run(torch.from_numpy(PIXELS))[0].numpy() - wanted).max() < 1e-6
    assert json.loads(inside["vitreous.json"])["classes"] == list(model.folder.classes)
    assert np.abs(loaded.engine.probabilities(PIXELS) - wanted).max() < 1e-6
    assert loaded.features(photo).shape == (TINY.width,)
    assert (loaded.engine.name, loaded.engine.precision, loaded(photo).label) == ("torch", "fp32", model(photo).label)
    assert np.abs(loaded.engine.features(PIXELS) - model.engine.features(PIXELS)).max() < 1e-5
    assert program.proof.engine.startswith("torch") and "model.pt2" in str(program)
    assert "a ViT" in str(vitreous.inspect(program.path))
    with pytest.raises(ConfigError, match="which onnxruntime doesn't run; choose --engine torch"):
        vitreous.load(program.path, engine="onnxruntime")
    with pytest.raises(ConfigError, match="whose layers can't be inspected"):
        vitreous.explain(program.path, photo)


def test_what_somebody_else_has_exported_is_not_opened(program, tmp_path, monkeypatch):
    """The notes are in a cache; a file that hashes otherwise has none, whatever its config.json says."""
    monkeypatch.setattr(torch.export, "load", lambda *_: pytest.fail("opened"))
    with monkeypatch.context() as changed:
        changed.setenv("VITREOUS_CACHE", str(tmp_path / "another"))
        with pytest.raises(
            ConfigError,
            match=r"can run code when it is opened, .*exported by this account.*export again, from .*model\)",
        ):
            vitreous.load(program.path)
    monkeypatch.setattr(program_engine.torch, "__version__", "1.0")
    with pytest.raises(ConfigError, match=r"was exported for torch 2.*, but this is 1\.0; export again"):
        vitreous.load(program.path)


def test_a_noted_file_that_torch_cannot_read_is_refused(program, tmp_path):
    file = program.export.files[0]
    (tmp_path / file.file).write_bytes(b"x")
    files = (file.find(tmp_path, file.file),)
    folder = program.export.__class__(**{**vars(program.export), "path": tmp_path, "files": files})
    program_engine.note_own(folder)
    with pytest.raises(CheckpointError, match="torch can't open"):
        program_engine.ProgramEngine(folder)


def test_a_missing_compiler_is_said_before_any_work(original, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(
        ConfigError, match="needs a C\\+\\+ compiler, but there is no no-such-compiler: install g\\+\\+"
    ):
        vitreous.export(original, to="aotinductor", out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=needs_bf16)])
def test_a_compiled_package_is_a_model_like_any_other(precision, original, photo, tmp_path, monkeypatch):
    """In a process of its own too, where nothing has been compiled; other batches than those of the proof."""
    with traceable():
        found = vitreous.export(original, to="aotinductor", out=tmp_path / "package", precision=precision)
    model, loaded = vitreous.load(original, device="cpu"), vitreous.load(found.path)
    for batch in (1, 3, 7):
        pixels = np.random.default_rng(batch).integers(0, 256, (batch, *TINY.image, 3), dtype=np.uint8)
        wanted = model.engine.logits(pixels)
        away = np.abs(loaded.engine.logits(pixels) - wanted).max() / np.abs(wanted).max()
        assert away < {"fp32": 1e-5, "bf16": 3e-2}[precision]
    with zipfile.ZipFile(found.path / "model.pt2") as archive:
        assert any(name.endswith(".so") for name in archive.namelist())
    command = [sys.executable, "-m", "vitreous", "predict", str(found.path), str(photo), "--format", "csv"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert model(photo).label in done.stdout
    monkeypatch.setattr(program_engine, "read_cpu_features", lambda: "fpu")
    with pytest.raises(ConfigError, match=r"was exported for another processor \(.*\), but this is .*; export again"):
        vitreous.load(found.path)


def test_what_is_noted_is_this_account_s_alone(cache, program):
    notes = list((cache / "programs").iterdir())
    assert f"{program.export.files[0].sha256}.json" in {one.name for one in notes}
    assert (
        json.loads((cache / "programs" / f"{program.export.files[0].sha256}.json").read_text())["torch"]
        == torch.__version__
    )
