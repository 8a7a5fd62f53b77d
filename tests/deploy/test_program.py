"""Export to torch.export: for other programs, never opened here again."""

import json

import numpy as np
import pytest
import torch
from tests.deploy.conftest import TINY, traceable

import vitreous
from vitreous.errors import ConfigError


def test_programs_run_in_torch_and_are_not_opened_by_vitreous(original, tmp_path):
    with traceable():
        found = vitreous.export(original, to="torch", out=tmp_path / "program", preprocess_inside=True)
    inside = {"vitreous.json": ""}
    program = torch.export.load(tmp_path / "program" / "model.pt2", extra_files=inside).module()
    model = vitreous.load(original, device="cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (3, *TINY.image, 3), dtype=np.uint8)
    probabilities, _ = program(torch.from_numpy(pixels))
    assert np.abs(probabilities.numpy() - model.engine.probabilities(pixels)).max() < 1e-6
    assert json.loads(inside["vitreous.json"])["classes"] == list(model.folder.classes)
    assert found.proof.engine.startswith("torch") and "model.pt2" in str(found)
    with pytest.raises(ConfigError, match=r"can run code when it is opened.*exported from \(.*model\)"):
        vitreous.load(tmp_path / "program")
    assert "a ViT" in str(vitreous.inspect(tmp_path / "program"))
