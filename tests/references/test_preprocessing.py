"""Each origin's evaluation transform beside ours, on photographs' sizes: at most one grey level apart, where Pillow rounds."""

import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vitreous.images.config import PreprocessConfig
from vitreous.images.preprocess import convert_to_pixels
from vitreous.model.config import ViTConfig
from vitreous.weights.families.timm.transform import read_vit_transform
from vitreous.weights.files import Weights

SIZES = [
    (375, 500), (500, 375), (333, 500), (500, 334), (240, 321), (321, 240), (299, 448), (427, 640), (640, 427), (481, 321),
    (224, 224), (256, 256), (248, 249), (249, 248), (255, 257), (225, 223), (97, 131), (131, 97), (32, 32), (31, 47),
    (60, 400), (400, 61), (17, 301), (301, 19), (640, 480), (479, 641), (1, 9), (90, 91), (363, 551), (201, 600),
]  # fmt: skip
"""Rows and columns: photographs, portrait and landscape, odd, nearly square, smaller than the target, long and thin."""
EXTREME = [(9, 700), (701, 8)]
BY_ONE = [(223, 248), (248, 223)]
"""Sizes that a border of one pixel fills."""


@cache
def picture(rows: int, cols: int) -> np.ndarray:
    """1/f noise in three channels, as photographs have it, within 20 to 235: neither side clips what bicubic overshoots."""
    down, across = np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(cols)[None]
    frequency = np.maximum(np.hypot(down, across), 1 / max(rows, cols))
    generator = np.random.default_rng(rows * 1009 + cols)
    phases = np.exp(2j * np.pi * generator.random((3, *frequency.shape)))
    waves = np.fft.irfft2(phases / frequency, (rows, cols))
    waves = waves / max(float(np.abs(waves).max()), 1e-9)
    return np.ascontiguousarray((127.5 + 107.5 * waves).round().astype(np.uint8).transpose(1, 2, 0))


def apart(theirs: np.ndarray | Tensor, ours: np.ndarray) -> float:
    """The largest difference in grey levels; theirs channels first."""
    values = np.asarray(theirs, dtype=np.float64).transpose(1, 2, 0)
    assert values.shape == ours.shape
    return float(np.abs(values - ours).max())


TIMM: dict[str, dict[str, Any]] = {
    "augreg": {"crop_pct": 0.9, "interpolation": "bicubic"},
    "384": {"input_size": (3, 384, 384), "crop_pct": 0.97, "interpolation": "bicubic"},
    "bilinear": {"crop_pct": 0.875, "interpolation": "bilinear"},
    "odd": {"input_size": (3, 225, 225), "crop_pct": 0.95, "interpolation": "bicubic"},
    "squash": {"crop_pct": 0.94, "crop_mode": "squash", "interpolation": "bicubic"},
    "squash whole": {"crop_pct": 1.0, "crop_mode": "squash", "interpolation": "bilinear"},
    "border": {"crop_pct": 0.9, "crop_mode": "border", "interpolation": "bicubic", "mean": (0.485, 0.456, 0.406)},
    "not square": {"input_size": (3, 160, 224), "crop_pct": 0.9, "interpolation": "bicubic"},
}


@pytest.mark.parametrize("case", TIMM)
def test_timms_transform(case: str) -> None:
    from timm.data import create_transform

    given = {"input_size": (3, 224, 224), "crop_mode": "center", "mean": (0.5,) * 3, "std": (0.5,) * 3} | TIMM[case]
    theirs = create_transform(**given, is_training=False, normalize=False)
    _, *size = given["input_size"]
    beside = Weights(Path("model.safetensors"), {}, {"architecture": "vit_tiny_patch16_224", "pretrained_cfg": given})
    ours = read_vit_transform(beside, ViTConfig(image=tuple(size), patch=(1, 1)), {"mean": (0.5,), "std": (0.5,)})
    assert ours.rounding == "timm"
    for sides in SIZES + EXTREME * (case == "augreg") + BY_ONE * (case == "border"):
        image = picture(*sides)
        assert apart(theirs(Image.fromarray(image)), convert_to_pixels(image, ours)) <= 1, sides


@pytest.mark.parametrize(
    ("resize", "crop", "kernel"), [(256, 224, "bilinear"), (242, 224, "bilinear"), (518, 518, "bicubic")]
)
def test_torchvisions_transform(resize: int, crop: int, kernel: str) -> None:
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, PILToTensor, Resize

    theirs = Compose([Resize(resize, InterpolationMode(kernel)), CenterCrop(crop), PILToTensor()])
    ours = PreprocessConfig((crop, crop), rounding="torchvision", crop=crop / resize, interpolation=kernel)
    for sides in SIZES:
        image = picture(*sides)
        assert apart(theirs(Image.fromarray(image)), convert_to_pixels(image, ours)) <= 1, sides


PROCESSORS: dict[str, tuple[str, dict[str, Any]]] = {
    "ViT": ("ViT", {"size": {"height": 224, "width": 224}}),
    "CLIP": ("CLIP", {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}),
    "DINOv2": ("Bit", {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}),
    "odd": ("CLIP", {"size": {"shortest_edge": 255}, "crop_size": {"height": 224, "width": 224}, "resample": 2}),
    "not square": ("CLIP", {"size": {"shortest_edge": 256}, "crop_size": {"height": 160, "width": 224}}),
    "DeiT": ("DeiT", {"size": {"height": 256, "width": 256}, "crop_size": {"height": 224, "width": 224}}),
}
RAW = {"do_rescale": False, "do_normalize": False}


@pytest.mark.parametrize("backend", ["", "Pil"])
@pytest.mark.parametrize("case", PROCESSORS)
def test_transformers_processors(case: str, backend: str, tmp_path: Any) -> None:
    import transformers
    from tests.references.test_families_huggingface import made

    from vitreous.weights.foreign import load_foreign

    kind, given = PROCESSORS[case]
    theirs = getattr(transformers, f"{kind}ImageProcessor{backend}")(**given, **RAW)
    crop = given.get("crop_size", given["size"])
    made("vit").save_pretrained(tmp_path)
    theirs.save_pretrained(tmp_path)
    folder, _ = load_foreign(tmp_path)
    ours = replace(folder.preprocess, size=(crop["height"], crop["width"]))
    assert ours.rounding == "transformers"
    for sides in SIZES:
        image = picture(*sides)
        made_of_it = theirs(Image.fromarray(image), return_tensors="np", input_data_format="channels_last")
        assert apart(made_of_it["pixel_values"][0], convert_to_pixels(image, ours)) <= 1, sides


def tensorflow_resize(image: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """tf.image.resize: bilinear, half-pixel centres, no antialias; in float64."""
    weights = []
    for side, wanted in ((image.shape[0], rows), (image.shape[1], cols)):
        place = np.clip((np.arange(wanted) + 0.5) * side / wanted - 0.5, 0, side - 1)
        low = np.floor(place).astype(int)
        matrix = np.zeros((wanted, side))
        matrix[np.arange(wanted), low] = 1 - (place - low)
        matrix[np.arange(wanted), np.minimum(low + 1, side - 1)] += place - low
        weights.append(matrix)
    return np.einsum("ir,rcx,jc->xij", weights[0], image.astype(float), weights[1], optimize=True)


@pytest.mark.parametrize("size", [(224, 224), (160, 224)])
def test_googles_transform(size: tuple[int, int]) -> None:
    """vit_jax/input_pipeline.py and big_vision's `resize`."""
    ours = PreprocessConfig(
        size, resize="squash", rounding="tensorflow", crop=1.0, interpolation="bilinear", antialias=False
    )
    for sides in SIZES:
        image = picture(*sides)
        assert apart(tensorflow_resize(image, *size), convert_to_pixels(image, ours)) <= 1, sides


def test_big_visions_resize_small_and_central_crop() -> None:
    ours = PreprocessConfig((224, 224), rounding="tensorflow", crop=0.875, interpolation="bilinear", antialias=False)
    for sides in SIZES:
        image = picture(*sides)
        factor = np.float32(256) / np.float32(min(sides))
        rows, cols = (int(np.round(np.float32(side) * factor)) for side in sides)
        top, left = (rows - 224) // 2, (cols - 224) // 2
        theirs = tensorflow_resize(image, rows, cols)[:, top : top + 224, left : left + 224]
        assert apart(theirs, convert_to_pixels(image, ours)) <= 1, sides


def test_openclips_longest_is_a_border_of_black() -> None:
    """open_clip/transform.py: the longer side fills the target, the rest is black."""
    ours = PreprocessConfig((224, 224), resize="border", rounding="timm", crop=1.0, fill="black")
    pixels = convert_to_pixels(picture(112, 224), ours)
    assert pixels[:56].max() == pixels[168:].max() == 0
    assert np.array_equal(pixels[56:168], picture(112, 224))


def test_before_there_were_rules_sizes_were_rounded_to_the_nearest() -> None:
    """A model folder of before says nothing of rounding: 249 of 224 / 0.9, and half of what is too much cut off at the top."""
    image = picture(333, 500)
    ours = convert_to_pixels(image, PreprocessConfig((224, 224), crop=0.9))
    whole = F.interpolate(
        torch.from_numpy(image).permute(2, 0, 1)[None], (249, round(500 * 249 / 333)), mode="bicubic", antialias=True
    )
    top, left = math.floor((249 - 224) / 2), (whole.shape[3] - 224) // 2
    assert apart(whole[0, :, top : top + 224, left : left + 224], ours) <= 1


def test_long_images_are_computed_only_where_they_are_seen() -> None:
    for antialias in (True, False):
        config = PreprocessConfig((16, 16), crop=0.8, interpolation="bilinear", antialias=antialias)
        image = picture(9, 700)
        whole = F.interpolate(
            torch.from_numpy(image).permute(2, 0, 1)[None], (20, 1556), mode="bilinear", antialias=antialias
        )[0, :, 2:18, 770:786]
        assert apart(whole, convert_to_pixels(image, config)) <= 1
