"""Attention maps equal transformers' eager attention for the same weights."""

from pathlib import Path

import pytest
import torch
from tests.references.test_families_huggingface import CASES, made
from tests.support.twins import images

from vitreous.insight.attention import compute_attention_maps, pool_maps
from vitreous.weights.foreign import load_foreign

CLOSE = 1e-5
NAMES = ("vit", "deit", "dinov2", "dinov2-registers", "dinov3", "dinov3-key-bias", "clip", "siglip")


@pytest.mark.parametrize("name", NAMES)
def test_maps_equal_transformers(name: str, tmp_path: Path) -> None:
    model = made(name)
    model.save_pretrained(tmp_path)
    ours = load_foreign(tmp_path)[0].model
    pixels = images(*ours.config.image)
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        theirs = model(pixels, output_attentions=True).attentions
    found = compute_attention_maps(ours, pixels)
    assert len(found) == len(theirs) == CASES[name][2]["num_hidden_layers"]
    for layer, expected in enumerate(theirs):
        assert found[layer].shape == expected.shape
        assert float(expected.std()) > 1e-3, "attention is all but uniform: nothing is shown"
        assert float((found[layer] - expected).abs().max()) < CLOSE


def test_the_poolings_map_equals_transformers(tmp_path: Path) -> None:
    model = made("siglip")
    model.save_pretrained(tmp_path)
    ours, pixels = load_foreign(tmp_path)[0].model, images(32, 32)
    head = next(module for name, module in model.named_modules() if name.endswith("head"))
    kept = []
    head.attention.register_forward_hook(
        lambda module, given, named, _output: kept.append(
            module.forward(*given, **(named | {"need_weights": True, "average_attn_weights": False}))[1]
        ),
        with_kwargs=True,
    )
    with torch.inference_mode():
        model(pixels)
    found = pool_maps(ours, pixels)
    assert float((found.flatten(2) - kept[0][:, :, 0]).abs().max()) < CLOSE
