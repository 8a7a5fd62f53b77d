"""BEiT and data2vec-vision: timm's and transformers' models, saved as theirs and loaded by us, give their numbers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.references.test_families_timm import made, saved
from tests.support.twins import CLOSE, difference, randomise
from torch import nn

from vitreous.errors import CheckpointError
from vitreous.weights.foreign import load_foreign
from vitreous.weights.options import LoadOptions

TIMM = {
    "beit_base_patch16_224": {"img_size": 112, "num_heads": 4},
    "beitv2_large_patch16_224": {"img_size": 80, "num_heads": 2, "global_pool": "token"},
    "beit_large_patch16_224": {"img_size": (96, 64), "num_heads": 2, "use_rel_pos_bias": False, "qkv_bias": False},
}
SHARED = "beit_large_patch16_224"
SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96, "patch_size": 8}


def drawn(name: str) -> nn.Module:
    more = {"use_shared_rel_pos_bias": True} if name == SHARED else {}
    return spread(made(name, **TIMM[name], **more))


def spread(model: nn.Module) -> nn.Module:
    """Give tables and scales values of the order that training gives them."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bias_table" in name:
                parameter.copy_(2 * torch.randn(parameter.shape, generator=generator))
            elif "gamma" in name or "lambda" in name:
                parameter.copy_(torch.rand(parameter.shape, generator=generator) + 0.1)
    return model


@pytest.mark.parametrize("name", list(TIMM))
def test_logits_equal_timms(name: str, tmp_path: Path) -> None:
    model = drawn(name)
    folder, report = load_foreign(saved(model, tmp_path))
    assert (report.origin.split(":")[0], report.unused, report.new) == ("beit", (), ())
    assert difference(folder.model, model) < CLOSE
    assert folder.preprocess.mean == (0.485, 0.456, 0.406) if "v2" in name else (0.5, 0.5, 0.5)


@pytest.mark.parametrize("name", list(TIMM))
@pytest.mark.parametrize("cells", [(9, 13), (4, 3)])
def test_logits_equal_timms_on_images_that_are_not_square(name: str, cells: tuple[int, int], tmp_path: Path) -> None:
    model = drawn(name)
    size = (16 * cells[0], 16 * cells[1])
    folder, report = load_foreign(saved(model, tmp_path), LoadOptions(image=size))
    model.set_input_size(img_size=size)
    assert "geometric" in report.resized
    assert difference(folder.model, model) < CLOSE


def test_microsofts_file_before_fine_tuning_gives_features(tmp_path: Path) -> None:
    """A shared table, a mask token, the index of the table and the head over visual tokens."""
    model = spread(made(SHARED, img_size=80, num_heads=2, num_classes=0, use_fc_norm=False, global_pool="token",
                        use_rel_pos_bias=False, use_shared_rel_pos_bias=True))  # fmt: skip
    tensors = dict(model.state_dict()) | {"mask_token": torch.zeros(1, 1, 128), "lm_head.weight": torch.zeros(9, 128)}
    tensors["rel_pos_bias.relative_position_index"] = torch.zeros(26, 26, dtype=torch.int64)
    torch.save({"model": tensors}, tmp_path / "beit.pth")
    folder, report = load_foreign(tmp_path / "beit.pth")
    assert (report.ignored, folder.model.config.classes) == (3, 0)
    assert any("--as beitv2" in note for note in report.assumed)
    assert difference(folder.model, model) < CLOSE


def test_two_kinds_of_positions_are_refused(tmp_path: Path) -> None:
    model = made("beit_base_patch16_224", img_size=80, num_heads=2, use_abs_pos_emb=True)
    with pytest.raises(CheckpointError, match="relative positions and added ones"):
        load_foreign(saved(model, tmp_path))


HF: dict[str, tuple[str, dict[str, Any]]] = {
    "classes": ("BeitForImageClassification", {"use_relative_position_bias": True, "num_labels": 5}),
    "class-token": (
        "BeitForImageClassification",
        {"use_shared_relative_position_bias": True, "use_mean_pooling": False, "layer_scale_init_value": 0.0},
    ),
    "added": (
        "BeitForImageClassification",
        {"use_absolute_position_embeddings": True, "hidden_act": "gelu_new", "layer_norm_eps": 1e-5},
    ),
    "data2vec": ("Data2VecVisionForImageClassification", {"use_relative_position_bias": True, "use_mask_token": True}),
    "not-square": ("BeitForImageClassification", {"use_relative_position_bias": True, "image_size": (32, 48)}),
}


def hugging(name: str) -> nn.Module:
    import transformers

    kind, more = HF[name]
    kind = getattr(transformers, kind)
    return spread(randomise(kind(kind.config_class(**SIZES | {"image_size": 32} | more))))


@pytest.mark.parametrize("name", list(HF))
def test_logits_equal_transformers(name: str, tmp_path: Path) -> None:
    model = hugging(name)
    model.save_pretrained(tmp_path)
    folder, report = load_foreign(tmp_path)
    assert (report.origin.split(":")[0], report.unused, report.new) == ("hf-beit", (), ())
    assert difference(folder.model, lambda pixels: model(pixels).logits) < CLOSE


@pytest.mark.parametrize("name", [name for name in HF if name != "not-square"])
def test_logits_equal_transformers_on_images_that_are_not_square(name: str, tmp_path: Path) -> None:
    model = hugging(name)
    model.save_pretrained(tmp_path)
    folder, _ = load_foreign(tmp_path, LoadOptions(image=(56, 40)))
    asked = {"interpolate_pos_encoding": True} if name == "added" else {}
    assert difference(folder.model, lambda pixels: model(pixels, **asked).logits) < CLOSE


def test_the_names_of_transformers_5_and_masked_image_modeling_are_read_too(tmp_path: Path) -> None:
    import transformers

    model = hugging("classes")
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    assert difference(load_foreign(tmp_path)[0].model, lambda pixels: model(pixels).logits) < CLOSE
    config = transformers.BeitConfig(
        **SIZES, image_size=32, use_mask_token=True, use_shared_relative_position_bias=True
    )
    other = spread(randomise(transformers.BeitForMaskedImageModeling(config)))
    other.save_pretrained(tmp_path / "masked")
    folder, report = load_foreign(tmp_path / "masked")
    assert report.ignored == 3
    assert difference(folder.model, lambda pixels: other.layernorm(other.beit(pixels).last_hidden_state)[:, 0]) < CLOSE
