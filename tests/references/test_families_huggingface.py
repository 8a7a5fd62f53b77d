"""transformers' models, saved as transformers saves them and loaded by us, give transformers' numbers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.twins import CLOSE, difference, images, randomise
from torch import Tensor, nn

from vitreous.errors import CheckpointError
from vitreous.weights.foreign import load_foreign
from vitreous.weights.options import LoadOptions

SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32, "patch_size": 8}
WIDE = SIZES | {"intermediate_size": 96}
TEXT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 20}
TEXT |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
Output = Callable[[nn.Module], Callable[..., Tensor]]


def logits(model: nn.Module) -> Callable[..., Tensor]:
    return lambda pixels, **more: model(pixels, **more).logits


def pooled(model: nn.Module) -> Callable[..., Tensor]:
    return lambda pixels, **more: model(pixels, **more).pooler_output


def embedded(model: nn.Module) -> Callable[..., Tensor]:
    return lambda pixels, **more: model(pixels, **more).image_embeds


def projected(model: nn.Module) -> Callable[..., Tensor]:
    return lambda pixels, **more: model.get_image_features(pixels, **more).pooler_output


CASES: dict[str, tuple[str, str, dict[str, Any], Output]] = {
    "vit": ("ViTForImageClassification", "ViTConfig", WIDE | {"num_labels": 5}, logits),
    "vit-pooler": ("ViTModel", "ViTConfig", WIDE | {"qkv_bias": False, "hidden_act": "gelu_new"}, pooled),
    "vit-pooler-narrow": ("ViTModel", "ViTConfig", WIDE | {"pooler_output_size": 24}, pooled),
    "deit": ("DeiTForImageClassification", "DeiTConfig", WIDE | {"num_labels": 5}, logits),
    "deit-teacher": ("DeiTForImageClassificationWithTeacher", "DeiTConfig", WIDE | {"num_labels": 5}, logits),
    "deit-pooler": ("DeiTModel", "DeiTConfig", WIDE, pooled),
    "dinov2": ("Dinov2Model", "Dinov2Config", SIZES, pooled),
    "dinov2-classes": ("Dinov2ForImageClassification", "Dinov2Config", SIZES | {"num_labels": 5}, logits),
    "dinov2-gated": ("Dinov2Model", "Dinov2Config", SIZES | {"use_swiglu_ffn": True}, pooled),
    "dinov2-registers": ("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", SIZES, pooled),
    "dinov2-registers-classes": (
        "Dinov2WithRegistersForImageClassification",
        "Dinov2WithRegistersConfig",
        SIZES | {"num_labels": 5},
        logits,
    ),
    "dinov3": ("DINOv3ViTModel", "DINOv3ViTConfig", WIDE | {"num_register_tokens": 4}, pooled),
    "dinov3-gated": (
        "DINOv3ViTModel",
        "DINOv3ViTConfig",
        WIDE | {"num_register_tokens": 4, "use_gated_mlp": True, "hidden_act": "silu"},
        pooled,
    ),
    "dinov3-seven-billion": (
        "DINOv3ViTModel",
        "DINOv3ViTConfig",
        WIDE
        | {"num_register_tokens": 4, "use_gated_mlp": True, "hidden_act": "silu", "query_bias": False}
        | {"value_bias": False, "rope_theta": 50.0, "layer_norm_eps": 1e-4},
        pooled,
    ),
    "dinov3-key-bias": ("DINOv3ViTModel", "DINOv3ViTConfig", WIDE | {"key_bias": True}, pooled),
    "clip": ("CLIPVisionModel", "CLIPVisionConfig", WIDE, pooled),
    "clip-projection": ("CLIPVisionModelWithProjection", "CLIPVisionConfig", WIDE | {"projection_dim": 16}, embedded),
    "clip-gelu": ("CLIPVisionModel", "CLIPVisionConfig", WIDE | {"hidden_act": "gelu"}, pooled),
    "clip-whole": (
        "CLIPModel",
        "CLIPConfig",
        {"text_config": TEXT, "vision_config": WIDE, "projection_dim": 16},
        projected,
    ),
    "clip-classes": (
        "CLIPForImageClassification",
        "CLIPConfig",
        {"text_config": TEXT, "vision_config": WIDE, "num_labels": 5},
        logits,
    ),
    "metaclip2": (
        "MetaClip2VisionModelWithProjection",
        "MetaClip2VisionConfig",
        WIDE | {"projection_dim": 16},
        embedded,
    ),
    "metaclip2-classes": (
        "MetaClip2ForImageClassification",
        "MetaClip2Config",
        {"text_config": TEXT, "vision_config": WIDE, "num_labels": 5},
        logits,
    ),
    "siglip": ("SiglipVisionModel", "SiglipVisionConfig", WIDE, pooled),
    "siglip-whole": ("SiglipModel", "SiglipConfig", {"text_config": TEXT, "vision_config": WIDE}, projected),
    "siglip-classes": (
        "SiglipForImageClassification",
        "SiglipConfig",
        {"text_config": TEXT, "vision_config": WIDE, "num_labels": 5},
        logits,
    ),
}
FLEXIBLE = ("dinov2", "dinov3")
"""Those that take any size without being asked to interpolate."""


def made(name: str) -> nn.Module:
    import transformers

    model, config, settings, _ = CASES[name]
    return randomise(getattr(transformers, model)(getattr(transformers, config)(**settings)))


def test_files_have_the_names_that_the_hub_has(tmp_path: Path) -> None:
    """What these tests stand for: transformers 5 writes the names of transformers 4."""
    made("vit").save_pretrained(tmp_path)
    assert "vit.encoder.layer.1.attention.attention.query.weight" in tensors_of(tmp_path)


def tensors_of(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("name", list(CASES))
def test_outputs_equal_transformers(name: str, tmp_path: Path) -> None:
    model = made(name)
    model.save_pretrained(tmp_path)
    folder, report = load_foreign(tmp_path)
    assert report.unused == report.new == ()
    assert difference(folder.model, CASES[name][3](model)) < CLOSE


@pytest.mark.parametrize("name", [name for name in CASES if name != "clip-classes"])
def test_outputs_equal_transformers_on_images_that_are_not_square(name: str, tmp_path: Path) -> None:
    model = made(name)
    model.save_pretrained(tmp_path)
    folder, report = load_foreign(tmp_path, LoadOptions(image=(56, 40)))
    assert ("by their formula" if name.startswith("dinov3") else "by bicubic") in report.resized
    asked = {} if name.startswith(FLEXIBLE) else {"interpolate_pos_encoding": True}
    output = CASES[name][3](model)
    assert difference(folder.model, lambda pixels: output(pixels, **asked)) < CLOSE


@pytest.mark.parametrize("kind", ["ViTMAEModel", "ViTMAEForPreTraining"])
def test_mae_encoders_equal_transformers(kind: str, tmp_path: Path) -> None:
    import transformers

    decoder = {"decoder_hidden_size": 32, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
    config = transformers.ViTMAEConfig(**WIDE, **decoder, decoder_intermediate_size=32, mask_ratio=0.0)
    model = randomise(getattr(transformers, kind)(config))
    model.save_pretrained(tmp_path)
    folder, report = load_foreign(tmp_path)
    assert (report.ignored > 0) == (kind == "ViTMAEForPreTraining")
    encoder = model if kind == "ViTMAEModel" else model.vit
    for ours, size in (
        (folder.model, (32, 32)),
        (load_foreign(tmp_path, LoadOptions(image=(56, 40)))[0].model, (56, 40)),
    ):
        order = torch.arange(size[0] * size[1] // 64).expand(2, -1).float()
        more = {"noise": order, "interpolate_pos_encoding": True}
        with torch.inference_mode():
            theirs, own = encoder(images(*size), **more).last_hidden_state, ours.tokens(images(*size))
        assert float(theirs.std()) > 0.1
        assert float((theirs - own).abs().max()) < CLOSE


def test_the_names_of_transformers_5_are_read_too(tmp_path: Path) -> None:
    for name in ("vit", "deit-teacher", "dinov2", "dinov2-gated", "dinov3"):
        model, folder = made(name), tmp_path / name
        model.config.save_pretrained(folder)
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        found, _ = load_foreign(folder)
        assert difference(found.model, CASES[name][3](model)) < CLOSE


def test_labels_and_preprocessing_travel(tmp_path: Path) -> None:
    model = made("vit")
    model.config.id2label = {0: "crane", 1: "heron", 2: "crane", 3: "a", 4: "b"}
    model.save_pretrained(tmp_path)
    processor = {"do_resize": True, "size": {"shortest_edge": 36}, "do_center_crop": True, "do_normalize": True}
    processor |= {"crop_size": {"height": 32, "width": 32}, "resample": 2}
    processor |= {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    folder, report = load_foreign(tmp_path)
    assert folder.classes == ("crane", "heron", "crane (2)", "a", "b")
    found = folder.preprocess
    assert (found.resize, found.interpolation, found.mean) == ("short", "bilinear", (0.1, 0.2, 0.3))
    assert (found.size, found.crop) == ((32, 32), pytest.approx(32 / 36))
    assert not any("preprocessor" in note for note in report.assumed)


def test_without_a_config_the_report_says_what_was_assumed(tmp_path: Path) -> None:
    import transformers

    config = transformers.ViTConfig(**WIDE | {"image_size": 224, "num_attention_heads": 1}, num_labels=5)
    model = randomise(transformers.ViTForImageClassification(config))
    model.save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    folder, report = load_foreign(tmp_path)
    assert any("layer_norm_eps 1e-12" in note for note in report.assumed)
    assert any("1 heads" in note for note in report.assumed)
    assert difference(folder.model, logits(model)) < CLOSE


def test_another_model_type_with_the_same_names_is_refused(tmp_path: Path) -> None:
    made("vit").save_pretrained(tmp_path)
    document = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(document | {"model_type": "audio-spectrogram-transformer"}))
    with pytest.raises(CheckpointError, match="no family"):
        load_foreign(tmp_path)


def test_a_pooler_without_tanh_is_refused(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTModel

    ViTModel(ViTConfig(**WIDE, pooler_act="relu")).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="says pooler_act relu"):
        load_foreign(tmp_path)
