"""The transforms of Hugging Face's image processors (preprocessor_config.json,
transformers/models/*/image_processing_*)."""

import re
from collections.abc import Mapping
from typing import Any

from vitreous.images.config import HALF, Interpolation, PreprocessConfig
from vitreous.weights.families.base import CLIP, IMAGENET
from vitreous.weights.files import Weights

KERNELS: dict[Any, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Our names of Pillow's numbers."""
CUT = {"size": {"shortest_edge": 224}, "do_center_crop": True, "crop_size": 224, "resample": 3}
STANDARD = {"image_mean": HALF, "image_std": HALF}
OPENAI = {"image_mean": CLIP["mean"], "image_std": CLIP["std"]}
PROCESSORS: dict[str, dict[str, Any]] = {
    "ViT": {"size": 224, "resample": 2, **STANDARD},
    "DeiT": {"size": 256, "do_center_crop": True, "crop_size": 224, "resample": 3, **STANDARD},
    "Siglip": {"size": {"height": 224, "width": 224}, "resample": 3, **STANDARD},
    "Beit": {"size": 224, "resample": 3, **STANDARD},
    "Siglip2": {"resample": 2, **STANDARD},
    "CLIP": CUT | OPENAI,
    "Bit": CUT | OPENAI,
    "EfficientNet": {"size": {"height": 346, "width": 346}, "resample": 3, **STANDARD},
    "ConvNext": {"size": {"shortest_edge": 384}, "crop_pct": 224 / 256, "resample": 3, **STANDARD},
    "DINOv3ViT": {"size": 224, "resample": 2, "image_mean": IMAGENET["mean"], "image_std": IMAGENET["std"]},
}
"""The defaults of each class of processors (transformers 5.23)."""
OF_MODELS = {
    "vit": "ViT",
    "vit_mae": "ViT",
    "vit_msn": "ViT",
    "deit": "DeiT",
    "dinov2": "Bit",
    "dinov3_vit": "DINOv3ViT",
    "clip": "CLIP",
    "metaclip_2": "CLIP",
    "metaclip_2_vision_model": "CLIP",
    "siglip": "Siglip",
    "siglip2": "Siglip2",
    "siglip2_vision_model": "Siglip2",
    "ijepa": "ViT",
    "aimv2": "CLIP",
    "aimv2_vision_model": "CLIP",
    "beit": "Beit",
    "efficientnet": "EfficientNet",
    "data2vec-vision": "Beit",
}
"""The class that `AutoImageProcessor` uses if the file doesn't name one, by the model's type in config.json."""
SHORT = ("CLIP", "Bit", "Siglip", "ConvNext")
"""Classes that apply a size of one number to the shorter side; the others apply it to both."""
WHOLE = 384
"""Sides from which ConvNextImageProcessor squashes the whole image."""
CLASS = re.compile(r"(?P<stem>\w+?)(ImageProcessor(Fast|Pil)?|FeatureExtractor)")


def read_preprocess(
    weights: Weights, image: tuple[int, int], default: PreprocessConfig, assumed: list[str]
) -> PreprocessConfig:
    """Return the evaluation transform that preprocessor_config.json describes, or the default if there is none.

    Args:
        weights: what was read.
        image: rows and columns of the model's input.
        default: the default transform of the origin's processor.
        assumed: receives a note for each setting that is missing there, or requested there and done differently here.
    """
    if not weights.preprocessor:
        return default
    given = complete_settings(weights, default, assumed)
    size = read_sides(given.get("size", {}))
    crop = read_sides(given.get("crop_size", {})) if given.get("do_center_crop") else {}
    short = "shortest_edge" in size or ("height" not in size and bool(crop))
    edge = size.get("shortest_edge") or size.get("height") or min(image)
    cut = crop.get("height", crop.get("shortest_edge", edge))
    assumed += list_differences(given, short, crop, default.interpolation)
    if not short and crop and size.get("width", edge) * cut != edge * crop.get("width", cut):
        assumed.append("rows and columns are cropped alike; their processor crops them by different shares")
    if cut > edge and given.get("do_resize", True):
        assumed.append(
            f"images fill the model's input; their processor cuts {cut} pixels out of {edge}, the rest black"
        )
    mean, std = scale_statistics(given)
    return PreprocessConfig(
        size=image,
        resize="short" if short else "squash",
        rounding="transformers",
        crop=min(cut, edge) / edge if given.get("do_resize", True) else 1.0,
        interpolation=KERNELS.get(given.get("resample"), default.interpolation),
        mean=mean,
        std=std,
    )


def complete_settings(weights: Weights, default: PreprocessConfig, assumed: list[str]) -> dict[str, Any]:
    """Return a processor's settings, completed by the defaults of its class, with notes about those."""
    given = {key: value for key, value in weights.preprocessor.items() if value is not None}
    named = given.get("image_processor_type") or given.get("feature_extractor_type")
    match = CLASS.fullmatch(str(named))
    stem = (match["stem"] if match else "") if named else OF_MODELS.get(str(weights.config.get("model_type")), "")
    usual = PROCESSORS.get(stem) or {"image_mean": default.mean, "image_std": default.std}
    lacking = [key for key in usual if key not in given and (key[:5] != "image" or given.get("do_normalize", True))]
    if lacking:
        whose = f"{stem}ImageProcessor's defaults" if stem in PROCESSORS else "the defaults of its origin"
        assumed.append(f"{', '.join(lacking)} of the image processor, which doesn't state it: {whose}")
    whole = usual | given
    if stem in SHORT and isinstance(whole["size"], (int, float)):
        whole["size"] = {"shortest_edge": whole["size"]}
    if named and stem not in PROCESSORS:
        assumed.append(
            f"images as {str(named)[:60]} states size, crop, mean and deviation; anything else that this processor does, such as another "
            "order of channels, is unknown here, and left out"
        )
    return whole | cut_by_share(whole) if stem == "ConvNext" else whole


def cut_by_share(whole: Mapping[str, Any]) -> dict[str, Any]:
    """Return the size and crop that ConvNextImageProcessor makes of its size: a share of a shorter side, or all of it from 384 pixels."""
    edge = read_sides(whole["size"]).get("shortest_edge", WHOLE)
    if edge >= WHOLE:
        return {"size": {"height": edge, "width": edge}, "do_center_crop": False}
    return {"size": {"shortest_edge": int(edge / whole["crop_pct"])}, "do_center_crop": True, "crop_size": edge}


def scale_statistics(given: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation for pixels of 0 to 1, if the processor's own may be for another scale.

    It computes (pixel * factor - mean) / std from a pixel of 0 to 255, where the usual factor is 1/255.
    """
    scale = 255 * float(given.get("rescale_factor", 1 / 255)) if given.get("do_rescale", True) else 255.0
    normal = given.get("do_normalize", True)
    mean, std = (given["image_mean"], given["image_std"]) if normal else (0.0, 1.0)
    return expand_channels(mean, scale), expand_channels(std, scale)


def expand_channels(values: Any, scale: float) -> tuple[float, ...]:
    """Return one value, or one per channel, in units of a scale."""
    listed = (values,) if isinstance(values, (int, float)) else values
    return tuple(float(value) / scale for value in listed)


def list_differences(
    given: Mapping[str, Any], short: bool, crop: Mapping[str, int], kernel: Interpolation
) -> list[str]:
    """List how a processor differs from the one transform here: unsupported kernels, images of several sizes."""
    notes = []
    if given.get("resample") is not None and given["resample"] not in KERNELS:
        notes.append(
            f"images resized by the {kernel} kernel; their processor's (Pillow's {given['resample']}) isn't supported"
        )
    if not given.get("do_resize", True):
        notes.append("images resized to the model's input; their processor keeps their size")
    elif short and not crop:
        notes.append("the centre of images is cut out; their processor keeps their aspect")
    return notes


def read_sides(value: Any) -> dict[str, int]:
    """Return a size in any of the forms in which it was written: a number, two, or named sides."""
    if isinstance(value, Mapping):
        return {str(key): int(side) for key, side in value.items() if isinstance(side, (int, float))}
    if isinstance(value, (int, float)):
        return {"height": int(value), "width": int(value)}
    return {"height": int(value[0]), "width": int(value[1])} if value else {}
