"""SigLIP 2, ViT-MSN and I-JEPA: transformers' models, saved as theirs and loaded by us, give their numbers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.references.test_families_huggingface import SIZES, TEXT, WIDE, logits
from tests.support.twins import CLOSE, difference, randomise
from torch import Tensor, nn

from vitreous.weights.foreign import load_foreign
from vitreous.weights.options import LoadOptions

PLAIN: dict[str, tuple[str, dict[str, Any]]] = {
    "msn": ("ViTMSNForImageClassification", {"num_labels": 5}),
    "msn-other": (
        "ViTMSNForImageClassification",
        {"hidden_act": "gelu_new", "layer_norm_eps": 1e-4, "qkv_bias": False},
    ),
    "ijepa": ("IJepaForImageClassification", {"num_labels": 5}),
    "ijepa-other": ("IJepaForImageClassification", {"hidden_act": "quick_gelu", "image_size": (32, 48)}),
}


def made(kind: str, **settings: Any) -> nn.Module:
    import transformers

    found = getattr(transformers, kind)
    return randomise(found(found.config_class(**WIDE | settings)))


@pytest.mark.parametrize("name", list(PLAIN))
def test_logits_equal_transformers(name: str, tmp_path: Path) -> None:
    kind, settings = PLAIN[name]
    model = made(kind, **settings)
    model.save_pretrained(tmp_path)
    folder, report = load_foreign(tmp_path)
    assert (report.unused, report.new, folder.preprocess.mean[0]) == ((), (), 0.485)
    assert difference(folder.model, logits(model)) < CLOSE
    if "image_size" not in settings:
        other, _ = load_foreign(tmp_path, LoadOptions(image=(56, 40)))
        assert difference(other.model, lambda pixels: model(pixels, interpolate_pos_encoding=True).logits) < CLOSE


def test_ijepa_without_a_head_gives_the_mean_over_patches(tmp_path: Path) -> None:
    model = made("IJepaModel")
    model.save_pretrained(tmp_path)
    folder, _ = load_foreign(tmp_path)
    assert difference(folder.model, lambda pixels: model(pixels).last_hidden_state.mean(dim=1)) < CLOSE


def cut(pixels: Tensor, patch: int) -> dict[str, Tensor]:
    """Images as SigLIP 2's processor hands them over: flat patches, channels last, and the grid."""
    rows, cols = pixels.shape[2] // patch, pixels.shape[3] // patch
    flat = (
        pixels.unflatten(3, (cols, patch))
        .unflatten(2, (rows, patch))
        .permute(0, 2, 4, 3, 5, 1)
        .flatten(3)
        .flatten(1, 2)
    )
    shapes = torch.tensor([[rows, cols]] * len(pixels))
    return {
        "pixel_values": flat.flatten(2),
        "spatial_shapes": shapes,
        "pixel_attention_mask": torch.ones(flat.shape[:2]),
    }


def naflex(kind: str, **settings: Any) -> nn.Module:
    import transformers

    sizes = {key: value for key, value in WIDE.items() if key != "image_size"} | {"num_patches": 16} | settings
    if kind == "Siglip2VisionModel":
        return randomise(transformers.Siglip2VisionModel(transformers.Siglip2VisionConfig(**sizes)))
    config = transformers.Siglip2Config(vision_config=sizes, text_config=TEXT, num_labels=5)
    return randomise(getattr(transformers, kind)(config))


NAFLEX = {
    "tower": ("Siglip2VisionModel", {}),
    "other": ("Siglip2VisionModel", {"hidden_act": "gelu", "layer_norm_eps": 1e-4, "patch_size": 4, "num_channels": 1}),
    "classes": ("Siglip2ForImageClassification", {}),
    "whole": ("Siglip2Model", {}),
}


@pytest.mark.parametrize("name", list(NAFLEX))
def test_siglip2_naflex_equals_transformers(name: str, tmp_path: Path) -> None:
    kind, settings = NAFLEX[name]
    model = naflex(kind, **settings)
    model.save_pretrained(tmp_path)
    folder, report = load_foreign(tmp_path)
    patch = settings.get("patch_size", SIZES["patch_size"])
    assert (report.origin.split(":")[0], report.unused, report.new) == ("hf-siglip2", (), ())
    assert folder.model.config.image == (4 * patch, 4 * patch)
    assert folder.preprocess.interpolation == "bilinear"

    def theirs(pixels: Tensor) -> Tensor:
        if kind == "Siglip2Model":
            return model.get_image_features(**cut(pixels, patch)).pooler_output
        found = model(**cut(pixels, patch))
        return found.logits if kind.endswith("Classification") else found.pooler_output

    assert difference(folder.model, theirs) < CLOSE
    other, report = load_foreign(tmp_path, LoadOptions(image=(7 * patch, 5 * patch)))
    assert "bilinear-antialias" in report.resized
    assert difference(other.model, theirs) < CLOSE
