"""What we write for other libraries: their own readers take it, and it is the same function, bit for bit on the way back."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.twins import CLOSE, difference, randomise
from torch import Tensor

from vitreous.errors import CheckpointError
from vitreous.images.config import IMAGENET_MEAN, IMAGENET_STD, DecodeConfig, PreprocessConfig
from vitreous.images.preprocess import convert_to_pixels
from vitreous.images.tensors import normalize
from vitreous.model.config import BlockConfig, RotaryConfig, ViTConfig
from vitreous.model.factory import create
from vitreous.model.names import build_vit_config
from vitreous.weights.conversion import convert, formats
from vitreous.weights.families.timm.write import find_timm_name
from vitreous.weights.foreign import load_foreign
from vitreous.weights.model_folder import ModelFolder

BASE: dict[str, Any] = {"image": (96, 96), "width": 128, "depth": 2, "heads": 2, "mlp_width": 96, "classes": 5}


def random_folder(preprocess: PreprocessConfig | None = None, **settings: Any) -> ModelFolder:
    model = create(ViTConfig(**BASE | settings))
    randomise(model)
    classes = tuple(f"animal {number}" for number in range(model.config.classes))
    preprocess = preprocess or PreprocessConfig(size=model.config.image, resize="squash", crop=1.0)
    return ModelFolder(model, preprocess, DecodeConfig(), classes)


HUGGING_FACE: dict[str, dict[str, Any]] = {
    "classes": {},
    "tall images": {"image": (96, 64)},
    "tanh": {"block": BlockConfig(activation="gelu-tanh", qkv_bias="none"), "norm_eps": 1e-5},
    "pooler": {"classes": 0, "pre_logits": True},
    "narrow pooler": {"classes": 0, "pre_logits": True, "pre_logits_width": 24},
    "distilled": {"distillation_token": True},
    "grey": {"channels": 1},
}


@pytest.mark.parametrize("kind", list(HUGGING_FACE))
def test_transformers_reads_what_we_write(kind: str, tmp_path: Path) -> None:
    from transformers import AutoModelForImageClassification, DeiTForImageClassificationWithTeacher, ViTModel

    folder = random_folder(**HUGGING_FACE[kind])
    assert convert(folder, tmp_path / "theirs", "huggingface").difference == 0
    reader = {"pooler": ViTModel, "narrow pooler": ViTModel, "distilled": DeiTForImageClassificationWithTeacher}
    model = reader.get(kind, AutoModelForImageClassification).from_pretrained(tmp_path / "theirs").eval()

    def theirs(pixels: Tensor) -> Tensor:
        found = model(pixels)
        return found.pooler_output if "pooler" in kind else found.logits

    assert difference(folder.model, theirs) < CLOSE
    if folder.classes:
        assert tuple(model.config.id2label[number] for number in range(5)) == folder.classes


@pytest.mark.parametrize("distilled", [False, True])
@pytest.mark.parametrize("size", ["mu", "Ti", "S", "B", "L", "H", "g", "G"])
def test_every_size_has_an_architecture_that_timm_knows(size: str, distilled: bool) -> None:
    import timm

    config = build_vit_config(f"{size}/14" if size in "HgG" else f"{size}/16", distillation_token=distilled)
    assert timm.is_model(find_timm_name(config))


TRANSFORMS = [
    PreprocessConfig(size=(96, 96), resize="squash", crop=1.0, interpolation="bilinear"),
    PreprocessConfig(size=(96, 96), resize="squash", crop=0.75, mean=IMAGENET_MEAN, std=IMAGENET_STD),
    PreprocessConfig(size=(96, 96), resize="short", crop=0.75, mean=IMAGENET_MEAN, std=IMAGENET_STD),
]


@pytest.mark.parametrize("images", TRANSFORMS)
def test_transformers_prepares_images_as_we_do(images: PreprocessConfig, tmp_path: Path) -> None:
    from PIL import Image
    from transformers import AutoImageProcessor

    convert(random_folder(images), tmp_path / "theirs", "huggingface")
    again, _ = load_foreign(tmp_path / "theirs")
    assert (again.preprocess.size, again.preprocess.resize, again.preprocess.crop) == (
        (96, 96),
        images.resize,
        images.crop,
    )
    assert again.preprocess.interpolation == images.interpolation
    processor = AutoImageProcessor.from_pretrained(tmp_path / "theirs", backend="pil")
    pixels = np.random.default_rng(0).integers(0, 256, (96, 144, 3), dtype=np.uint8)
    theirs = torch.as_tensor(processor(Image.fromarray(pixels), return_tensors="pt")["pixel_values"][0])
    ours = np.ascontiguousarray(convert_to_pixels(pixels, images).transpose(2, 0, 1))
    ours = normalize(torch.from_numpy(ours)[None], images)[0]
    assert ours.shape == theirs.shape
    grey_levels = (ours - theirs) * 255 * torch.tensor(processor.image_std).view(3, 1, 1)
    assert float(grey_levels.abs().max()) <= 2


def test_torchvision_loads_what_we_write(tmp_path: Path) -> None:
    from safetensors.torch import load_file
    from torchvision.models.vision_transformer import VisionTransformer

    folder = random_folder()
    assert convert(folder, tmp_path / "theirs", "torchvision").difference == 0
    model = VisionTransformer(96, 16, num_layers=2, num_heads=2, hidden_dim=128, mlp_dim=96, num_classes=5)
    model.load_state_dict(load_file(tmp_path / "theirs" / "model.safetensors"))
    assert difference(folder.model, model.eval()) < CLOSE


@pytest.mark.parametrize(
    "to", [name for name, family in formats().items() if family is not None and family.kind == "vit"]
)
def test_a_round_trip_changes_no_bit(to: str, tmp_path: Path) -> None:
    act = "gelu-tanh" if to == "google" else "gelu"
    folder = random_folder(block=BlockConfig(activation=act))
    convert(folder, tmp_path / "theirs", to)
    again, report = load_foreign(tmp_path / "theirs")
    assert (report.new, report.unused) == ((), ())
    ours, back = folder.model.state_dict(), again.model.state_dict()
    assert ours.keys() == back.keys()
    assert all(torch.equal(ours[name], back[name]) for name in ours)


INEXPRESSIBLE: list[dict[str, Any]] = [
    {"registers": 2},
    {"rotary": RotaryConfig("centred", 100.0), "positions": "none"},
    {"block": BlockConfig(norm="rms")},
    {"pool": "class+mean"},
    {"positioned_tokens": "patches"},
    {"positions": "relative"},
    {"block": BlockConfig(attention="axial"), "class_token": False, "pool": "mean"},
    {"attention_head_width": 32},
    {"patch_norm": "after"},
]


@pytest.mark.parametrize("settings", INEXPRESSIBLE)
@pytest.mark.parametrize("to", ["huggingface", "torchvision", "google"])
def test_what_a_format_cannot_express_is_refused_with_the_reason(
    to: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="can't express this model: "):
        convert(random_folder(**settings), tmp_path / "theirs", to)
    assert not (tmp_path / "theirs").exists()


BY_TIMM: dict[str, dict[str, Any]] = {
    "registers without positions": {"registers": 3, "positioned_tokens": "class"},
    "registers of patches alone": {"registers": 3, "positioned_tokens": "patches"},
    "[class] with a position": {"positioned_tokens": "class"},
    "mean over all tokens": {"pool": "mean", "pool_prefix": True, "registers": 2},
    "maximum over all tokens": {"pool": "max", "pool_prefix": True},
    "attention over all tokens": {"pool": "map", "pool_prefix": True},
    "an MLP as wide as the blocks'": {"pool": "map", "pool_mlp_width": 96, "pool_heads": 2},
    "heads of the usual width": {"attention_head_width": 64},
}


@pytest.mark.parametrize("case", list(BY_TIMM))
def test_timm_reads_what_we_write(case: str, tmp_path: Path) -> None:
    import timm

    folder = random_folder(**BY_TIMM[case])
    assert convert(folder, tmp_path / "theirs", "timm").difference == 0
    theirs = timm.create_model(f"local-dir:{tmp_path / 'theirs'}", pretrained=True).eval()
    assert difference(folder.model, theirs) < CLOSE


NOT_TIMMS: list[dict[str, Any]] = [
    {"distillation_token": True, "positioned_tokens": "patches"},
    {"pool": "map", "pool_mlp_width": 40},
    {"pool": "map", "pool_heads": 4},
    {"pool": "map", "pool_plain": True},
    {"attention_head_width": 32},
    {"patch_norm": "after"},
    {"block": BlockConfig(norm_order="after")},
]


@pytest.mark.parametrize("settings", NOT_TIMMS)
def test_what_timm_cannot_express_is_refused_before_anything_is_written(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=r"^the format timm can't express this model: "):
        convert(random_folder(**settings), tmp_path / "theirs", "timm")


@pytest.mark.parametrize(("width", "mlp"), [(896, 488), (1152, 4304), (384, 1537)])
def test_timm_makes_the_hidden_width_that_its_config_says(width: int, mlp: int) -> None:
    from vitreous.weights.families.timm.write import find_ratio

    assert int(width * find_ratio(width, mlp)) == mlp


def test_several_classes_an_image_is_told_or_kept(tmp_path):
    folder = replace(random_folder(), multilabel=True)
    assert convert(folder, tmp_path / "hf", "huggingface").lost == ""
    assert load_foreign(tmp_path / "hf")[0].multilabel
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["problem_type"] == "multi_label_classification"
    assert "the model is multilabel: timm doesn't record it" in convert(folder, tmp_path / "timm", "timm").lost
    convert(replace(folder, multilabel=False), tmp_path / "one", "huggingface")
    assert not load_foreign(tmp_path / "one")[0].multilabel
    assert "problem_type" not in json.loads((tmp_path / "one" / "config.json").read_text())
