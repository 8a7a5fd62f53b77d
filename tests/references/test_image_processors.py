"""preprocessor_config.json as transformers reads it: what it says, and what it leaves out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.references.test_families_huggingface import made

from vitreous.errors import CheckpointError
from vitreous.images.preprocess import convert_to_pixels
from vitreous.images.tensors import normalize
from vitreous.weights.families.huggingface.preprocessor import KERNELS
from vitreous.weights.foreign import load_foreign

PROCESSORS = [
    {"size": {"height": 32, "width": 32}},
    {"size": {"shortest_edge": 36}, "do_center_crop": True, "crop_size": {"height": 32, "width": 32}, "resample": 3},
    {"size": {"height": 32, "width": 32}, "resample": 1},
    {"size": {"height": 36, "width": 36}, "do_center_crop": True, "crop_size": {"height": 32, "width": 32}},
    {"size": {"height": 32, "width": 32}, "rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3},
    {"size": {"height": 32, "width": 32}, "do_rescale": False, "image_mean": [120.0] * 3, "image_std": [60.0] * 3},
    {"size": {"height": 32, "width": 32}, "rescale_factor": 1 / 100, "do_normalize": False},
]


@pytest.mark.parametrize("settings", PROCESSORS)
def test_preprocessing_follows_transformers_own_processor(settings: dict[str, Any], tmp_path: Path) -> None:
    """The same picture through theirs and ours: apart by the rounding of a resize, at most two grey levels."""
    from PIL import Image
    from transformers import CLIPImageProcessorPil, ViTImageProcessorPil

    made("vit").save_pretrained(tmp_path)
    processor = (CLIPImageProcessorPil if "do_center_crop" in settings else ViTImageProcessorPil)(**settings)
    processor.save_pretrained(tmp_path)
    folder, _ = load_foreign(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    theirs = torch.as_tensor(processor(Image.fromarray(pixels), return_tensors="pt")["pixel_values"][0])
    ours = convert_to_pixels(pixels, folder.preprocess).transpose(2, 0, 1)
    ours = normalize(torch.from_numpy(np.ascontiguousarray(ours))[None], folder.preprocess)[0]
    grey_levels = (ours - theirs) * 255 * torch.tensor(folder.preprocess.std).view(-1, 1, 1)
    assert float(grey_levels.abs().max()) <= 2


@pytest.mark.parametrize("settings", [{"size": 32}, {"size": {"shortest_edge": 32}, "crop_pct": 0.75}, {}])
def test_convnexts_processor_crops_a_share_or_squashes_large_images(settings: dict[str, Any], tmp_path: Path) -> None:
    from PIL import Image
    from transformers import ConvNextImageProcessorPil

    made("vit").save_pretrained(tmp_path)
    written = {"image_processor_type": "ConvNextImageProcessor", **settings}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(written))
    folder, report = load_foreign(tmp_path)
    if not settings:  # 384 pixels, which the model sees at its own size
        assert (folder.preprocess.resize, folder.preprocess.crop) == ("squash", 1.0)
        return
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    processor = ConvNextImageProcessorPil.from_pretrained(tmp_path)
    theirs = torch.as_tensor(processor(Image.fromarray(pixels), return_tensors="pt")["pixel_values"][0])
    ours = convert_to_pixels(pixels, folder.preprocess).transpose(2, 0, 1)
    ours = normalize(torch.from_numpy(np.ascontiguousarray(ours))[None], folder.preprocess)[0]
    assert float((ours - theirs).abs().max()) * 255 * 0.5 <= 2
    assert not any("aspect" in note for note in report.assumed)


UNLIKE = [
    ({"size": 32, "resample": 4}, "bilinear kernel; their processor's (Pillow's 4)"),
    ({"do_resize": False}, "keeps their size"),
    ({"size": {"shortest_edge": 32}}, "keeps their aspect"),
    ({"size": 32, "do_center_crop": True, "crop_size": 40}, "their processor cuts 40 pixels out of 32, the rest black"),
    ({"size": 32}, "resample, image_mean, image_std of the image processor, which doesn't state it: ViTImage"),
    (
        {"image_processor_type": "OwnImageProcessor", "size": 32},
        "as OwnImageProcessor states size, crop, mean and deviation; anything else that this processor does",
    ),
    (
        {"image_processor_type": "OwnImageProcessor"},
        "image_mean, image_std of the image processor, which doesn't state it",
    ),
    ({"size": 32, "resample": 2, "image_std": 0.5}, "image_mean of the image processor, which doesn't state it"),
]


@pytest.mark.parametrize(("settings", "note"), UNLIKE)
def test_what_a_processor_does_otherwise_is_told(settings: dict[str, Any], note: str, tmp_path: Path) -> None:
    made("vit").save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    _, report = load_foreign(tmp_path)
    assert any(note in line for line in report.assumed)


def test_a_whole_processor_is_told_nothing_of(tmp_path: Path) -> None:
    made("vit").save_pretrained(tmp_path)
    settings = {"size": 32, "resample": 2, "do_normalize": False, "image_processor_type": "ViTImageProcessor"}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings | {"crop_size": None}))
    assert load_foreign(tmp_path)[1].assumed == ()


CLASSES = {
    "vit": ({}, {"image_processor_type": "ViTImageProcessorFast", "image_mean": [0.1] * 3}),
    "deit-teacher": ({}, {"size": 36, "crop_size": 32}),
    "dinov2": ({}, {"size": 40, "crop_size": 32}, {"image_processor_type": "DeiTImageProcessor", "size": 32}),
    "clip-whole": ({}, {"size": 36, "crop_size": {"height": 32, "width": 32}}),
    "siglip-whole": ({"image_processor_type": "SiglipImageProcessor"}, {"image_processor_type": "CLIPImageProcessor"}),
}


@pytest.mark.parametrize("model", CLASSES)
def test_what_a_processor_leaves_out_is_as_transformers_own_has_it(model: str, tmp_path: Path) -> None:
    from transformers import AutoImageProcessor

    made(model).save_pretrained(tmp_path)
    for settings in CLASSES[model]:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings or {"rescale_factor": 1 / 255}))
        theirs = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
        folder, report = load_foreign(tmp_path)
        ours = folder.preprocess
        assert ours.mean == pytest.approx(theirs.image_mean)
        assert ours.std == pytest.approx(theirs.image_std)
        assert ours.interpolation == KERNELS[theirs.resample]
        size, crop = dict(theirs.size), dict(theirs.crop_size or {}) if theirs.do_center_crop else {}
        edge = size.get("shortest_edge") or size["height"]
        assert ours.resize == ("short" if size.get("shortest_edge") else "squash")
        assert ours.crop == pytest.approx(min(1, crop.get("height", edge) / edge))
        assert any("the image processor, which doesn't state it" in note for note in report.assumed)


IMPOSSIBLE = [
    {"image_std": [0, 0, 0]},
    {"image_std": [0.5, 0.5]},
    {"image_mean": "abc"},
    {"image_mean": [float("nan")] * 3},
    {"rescale_factor": 0},
    {"size": {"height": 40}, "do_center_crop": True, "crop_size": -8},
]


@pytest.mark.parametrize("settings", IMPOSSIBLE)
def test_impossible_preprocessing_is_refused_at_once(settings: dict[str, Any], tmp_path: Path) -> None:
    """Not when the first image is seen."""
    made("vit").save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": 32} | settings))
    with pytest.raises(CheckpointError, match=r"configuration next to|NaN is not a finite number"):
        load_foreign(tmp_path)
