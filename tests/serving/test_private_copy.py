"""The private copy from which changed files of a model are loaded."""

from pathlib import Path

import numpy as np
import pytest
from tests.deploy.conftest import TINY, folder_of

import vitreous
from vitreous.api.serving import open_sealed
from vitreous.errors import CheckpointError
from vitreous.serving.fingerprint import copy_model
from vitreous.weights.model_folder import save_model

PIXELS = np.zeros((1, 16, 24, 3), np.uint8)


@pytest.fixture
def model(tmp_path):
    save_model(tmp_path / "model", folder_of(TINY))
    (tmp_path / "model" / "notes.txt").write_text("small")
    (tmp_path / "model" / "checkpoints").mkdir()
    return tmp_path / "model"


@pytest.mark.parametrize("again", [False, True])
def test_a_model_is_the_same_from_its_copy(model, again):
    found = open_sealed(str(model), {}, again)
    assert np.array_equal(found.engine.logits(PIXELS), vitreous.load(model).engine.logits(PIXELS))
    assert found.path == str(model)


def test_a_copy_has_the_models_files_and_leaves_nothing(model):
    with copy_model(str(model)) as private:
        names = {path.relative_to(private).as_posix() for path in Path(private).rglob("*")}
        assert names == {"config.json", "model.safetensors", "notes.txt"}
        for name in names:
            assert (Path(private) / name).read_bytes() == (model / name).read_bytes()
    assert not Path(private).parent.exists()


def test_a_file_comes_with_what_lies_beside_it(model):
    with copy_model(str(model / "model.safetensors")) as private:
        assert sorted(path.name for path in Path(private).parent.iterdir()) == sorted(
            path.name for path in model.iterdir() if path.is_file()
        )


def test_errors_name_the_model_and_not_its_copy(model):
    (model / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError) as told:
        open_sealed(str(model), {}, again=True)
    assert str(model) in str(told.value) and "vitreous-" not in str(told.value)
