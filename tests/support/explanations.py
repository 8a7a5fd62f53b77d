"""Model folders with random weights, and images for them."""

import numpy as np
import torch
from tests.model.test_variants import random_model

from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.model.factory import create
from vitreous.model.resnet_config import ResNetConfig, StemConfig
from vitreous.weights.model_folder import ModelFolder

CLASSES = ("cat", "dog", "fish", "bird", "7")
KINDS = {
    "plain": {},
    "registers": {"registers": 2},
    "pooling": {"pool": "map", "class_token": False},
    "headless": {"classes": 0},
    "hybrid": {"stem": StemConfig("resnet", (1,)), "patch": (4, 4)},
    "bias": {"positions": "bias", "position_placement": "layers"},
    "none": {"positions": "none"},
}


def folder(kind: str) -> ModelFolder:
    """Return a model of a kind with all that belongs to it; "resnet" and "headless resnet" are ResNets."""
    if kind.endswith("resnet"):
        classes = 0 if kind.startswith("headless") else 5
        model = create(ResNetConfig(image=(32, 48), units=(1, 1), classes=classes), seed=1).eval()
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in model.head.parameters():
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    else:
        model = random_model(**KINDS[kind]).eval()
    preprocess = PreprocessConfig(size=model.config.image, mode="RGB")
    return ModelFolder(model, preprocess, DecodeConfig(), CLASSES if model.config.classes else ())


def pictures(count: int = 3) -> list[np.ndarray]:
    """Return images of several sizes."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (20 + 7 * number, 31, 3), dtype=np.uint8) for number in range(count)]
