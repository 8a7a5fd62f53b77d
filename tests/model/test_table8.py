"""The cells of the paper's table 8 (appendix D.4), and the positions that came after it.

Each is built by one word or two, learns, compiles into one graph, is exported, and comes back from its model folder.
"""

from pathlib import Path

import pytest
import torch
from tests.support.table8 import CELLS, FAR, LATER, check, images, model_of
from torch.nn import functional as F

from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.weights.model_folder import ModelFolder, load_model, save_model


def test_there_are_eight_cells() -> None:
    assert len(CELLS) == 8


@pytest.mark.parametrize("cell", [*CELLS, *LATER])
def test_a_step_of_training_lowers_the_loss(cell: str) -> None:
    model = model_of(cell).train()
    pixels, labels = images(6, model.image), torch.arange(6) % 3
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    before = F.cross_entropy(model(pixels), labels)
    before.backward()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in model.parameters())
    optimizer.step()
    assert F.cross_entropy(model(pixels), labels) < before


@pytest.mark.parametrize("cell", [*CELLS, *LATER])
def test_it_comes_back_from_its_folder_to_the_bit(cell: str, tmp_path: Path) -> None:
    for number, model in enumerate((model_of(cell), model_of(cell).resize(FAR))):
        folder = ModelFolder(model, PreprocessConfig(size=model.image), DecodeConfig(), ("a", "b", "c"))
        save_model(tmp_path / str(number), folder)
        back = load_model(tmp_path / str(number)).model
        assert back.config == model.config
        assert {key: tensor.tolist() for key, tensor in back.state_dict().items()} == {
            key: tensor.tolist() for key, tensor in model.state_dict().items()
        }
        pixels = images(2, model.image)
        with torch.no_grad():
            assert torch.equal(back(pixels), model(pixels))


@pytest.mark.slow
def test_one_compiles_into_one_graph_and_is_exported(as_users_run_it: None) -> None:
    """Both axes' embeddings, at every layer; the test below takes all, and every resolution."""
    assert check("learned2d, shared") == []


@pytest.mark.slow
@pytest.mark.parametrize("cell", [*CELLS, *LATER])
def test_all_compile_and_are_exported_at_every_resolution(cell: str, as_users_run_it: None) -> None:
    assert check(cell, thorough=True) == []
