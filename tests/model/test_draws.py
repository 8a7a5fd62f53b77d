"""What is left out at random: uniform, independent, and a function of the example's key alone."""

import numpy as np
import pytest
import torch
from scipy import stats

from vitreous.model.config import RegularisationConfig
from vitreous.model.draws import LEAST, Drawing, Dropout, Keys, PatchDropout, draw, threshold
from vitreous.model.factory import create
from vitreous.model.names import build_vit_config
from vitreous.model.vit import ViT

KEYS = torch.arange(40, dtype=torch.int32) * 7919 - 11


def test_draws_are_uniform() -> None:
    drawn = draw(KEYS, 3, (17, 96)).numpy().astype(np.int64) - LEAST
    assert stats.kstest(drawn.ravel() / 2**32, "uniform").pvalue > 0.01
    for rate in (0.1, 0.5, 0.9):
        share = (draw(KEYS, 5, (50, 64)) < threshold(rate)).double().mean().item()
        assert abs(share - rate) < 4 * (rate * (1 - rate) / (40 * 50 * 64)) ** 0.5


@pytest.mark.parametrize("axis", ["example", "layer", "row", "col"])
def test_draws_along_an_axis_are_independent(axis: str) -> None:
    """Neighbours along each axis, and those some places apart, don't say anything of each other."""
    drawn = torch.stack([draw(KEYS, layer, (24, 24)) for layer in range(24)], 1).double().numpy()
    values = np.moveaxis(drawn, ("example", "layer", "row", "col").index(axis), 0)
    for apart in (1, 2, 8, 16):
        correlation = np.corrcoef(values[:-apart].ravel(), values[apart:].ravel())[0, 1]
        assert abs(correlation) < 4.5 / values[apart:].size ** 0.5
    middle = values > values.mean()
    both = (middle[1:] & middle[:-1]).mean()
    assert abs(both - 0.25) < 4.5 * (3 / 16 / middle[1:].size) ** 0.5


def test_pairs_of_rows_and_columns_are_independent() -> None:
    """A sum of a row's and a column's part would leave a pattern over four corners of a rectangle."""
    corners = (draw(KEYS, 1, (64, 64)) >= 0).numpy()
    odd = corners[:, :32, :32] ^ corners[:, 32:, :32] ^ corners[:, :32, 32:] ^ corners[:, 32:, 32:]
    assert abs(odd.mean() - 0.5) < 4.5 * 0.5 / odd.size**0.5


def test_a_seldom_rate_is_met_per_example() -> None:
    dropped = (draw(torch.arange(4000, dtype=torch.int32), 2, (1, 1)) < threshold(0.02)).sum().item()
    assert stats.binomtest(dropped, 4000, 0.02).pvalue > 0.001


def regularised(**settings: float) -> ViT:
    torch.manual_seed(0)
    model = create(build_vit_config("mu/4", image=(16, 16), classes=5, depth=3), 0)
    assert isinstance(model, ViT)
    torch.nn.init.normal_(model.head.weight)
    model.regularise(RegularisationConfig(**settings))
    return model.train()


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("settings", [{"dropout": 0.3}, {"drop_path": 0.5}, {"patch_dropout": 0.4}])
def test_an_example_is_the_same_whatever_shares_its_batch(settings: dict[str, float], recompute: bool) -> None:
    model, keys = regularised(**settings).double(), KEYS[:6]
    model.recompute = recompute
    images = torch.randn(6, 3, 16, 16, dtype=torch.float64)
    model.set_examples(keys)
    whole = model(images)
    whole.square().sum().backward()
    gradient = model.patches.embed.weight.grad
    model.zero_grad()
    order = [4, 0, 5, 2, 1, 3]
    for part in (order[:2], order[2:]):
        model.set_examples(keys[part])
        found = model(images[part])
        found.square().sum().backward()
        torch.testing.assert_close(found, whole[part])
    torch.testing.assert_close(model.patches.embed.weight.grad, gradient)
    model.set_examples(keys + 1)
    assert not torch.allclose(model(images), whole)


def test_layers_and_uses_draw_anew() -> None:
    model = regularised(dropout=0.5, drop_path=0.5)
    model.set_examples(KEYS)
    ones = torch.ones(40, 4, model.config.width)
    places = [place for block in model.blocks[1:] for place in (block.mlp.hidden_dropout, block.mlp.dropout)]
    places += [block.dropout for block in model.blocks]
    places += [model.blocks[2].attention_drop_path, model.blocks[2].mlp_drop_path]
    masks = [place(ones) for place in places]
    for index, first in enumerate(masks):
        assert set(first.unique().tolist()) == {0.0, 2.0}
        assert not any(torch.equal(first, second) for second in masks[:index])


def test_a_model_holds_no_layer_that_leaves_nothing_out() -> None:
    model = regularised(dropout=0.5, drop_path=0.5, patch_dropout=0.5)
    numbers = [layer.number for layer in model.modules() if isinstance(layer, Drawing)]
    assert numbers == [0, 2, 4, 6, 7, 10, 12, 13, 14, 15, 16, 18, 19, 20, 21], "saved runs draw by these"
    model.regularise(RegularisationConfig(drop_path=0.25))
    kept = [layer for layer in model.modules() if isinstance(layer, Drawing)]
    assert [(layer.number, layer.rate) for layer in kept] == [(14, 0.125), (15, 0.125), (20, 0.25), (21, 0.25)]
    model.regularise(RegularisationConfig())
    assert not any(isinstance(layer, Drawing) for layer in model.modules())


def test_without_keys_torch_draws() -> None:
    layer = Dropout(0.25).train()
    torch.manual_seed(5)
    expected = torch.nn.functional.dropout(torch.ones(4, 100), 0.25)
    torch.manual_seed(5)
    assert torch.equal(layer(torch.ones(4, 100)), expected)


def test_patches_stay_in_every_place_alike() -> None:
    keys = Keys()
    keys.of_examples = torch.arange(3000, dtype=torch.int32)
    layer = PatchDropout(0.75, keys).train()
    chosen = layer(torch.zeros(3000, 16, 1))
    assert chosen.shape == (3000, 4)
    assert all(len(set(row)) == 4 for row in chosen.tolist())
    assert stats.chisquare(torch.bincount(chosen.flatten(), minlength=16).numpy()).pvalue > 0.001
