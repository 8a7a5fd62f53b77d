import contextlib
import math

import jaxtyping
import numpy as np
import pytest
import torch
from PIL import Image

from vitreous.evaluation import throughput
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.model.config import ViTConfig
from vitreous.model.factory import create
from vitreous.weights.model_folder import ModelFolder, save_model

PLAIN = ViTConfig(image=(16, 24), patch=(4, 4), width=32, depth=2, heads=2, mlp_width=48, classes=3)
TINY = ViTConfig(image=(16, 24), patch=(8, 8), width=16, depth=1, heads=2, mlp_width=24, classes=3)


def trained(config, seed=0):
    """Return a model whose weights are spread as trained ones are: none of the parts is without effect."""
    model, generator = create(config), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            if value.ndim > 1 and "table" not in name and "registers" not in name:
                value.copy_(noise * 1.5 / math.sqrt(value[0].numel()))
            else:
                value.add_(noise * 0.3)
    return model.eval()


def folder_of(config, **more):
    """Return a model folder with settings other than the defaults."""
    size = tuple(config.image)
    channels = (
        {"mode": config.channels} if config.channels not in (1, 3) else {"mode": {1: "L", 3: "RGB"}[config.channels]}
    )
    preprocess = PreprocessConfig(size, crop=0.8, mean=(0.4,), std=(0.3,), **channels)
    classes = tuple(f"class {place}" for place in range(config.classes))
    return ModelFolder(trained(config), preprocess, DecodeConfig(), classes, **more)


@contextlib.contextmanager
def traceable():
    """Switch the shape checks off, which tracers can't follow."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


@contextlib.contextmanager
def measure_shortly():
    """Measure speed by two passes, where figures are not what is tested."""
    with pytest.MonkeyPatch.context() as changed:
        for name, value in (("LONG_ENOUGH", 0.0), ("FEWEST", 2)):
            changed.setattr(throughput, name, value)
        yield


def write_classes(root, images):
    """Write images into the folders of three classes, in turn."""
    for place, pixels in enumerate(images):
        path = root / f"class {place % 3}" / f"{place}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    return root


def save_plain(path):
    """Save a ViT of 24 patches whose logits have a temperature."""
    save_model(path, folder_of(PLAIN, temperature=1.7))
    return path


def write_noise(root, size):
    """Write noise of three classes, in training and validation folders; `size` in rows and columns."""
    noise = np.random.default_rng(3)
    for place in range(36):
        path = root / ("train" if place < 24 else "val") / f"class {place % 3}" / f"{place}.png"
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(noise.integers(256, size=(*size, 3), dtype=np.uint8)).save(path)
    return root


@pytest.fixture(scope="session")
def photo(tmp_path_factory):
    """A photograph of other proportions than the model's, as a JPEG."""
    from sklearn.datasets import load_sample_image

    path = tmp_path_factory.mktemp("photo") / "flower.jpg"
    Image.fromarray(np.asarray(load_sample_image("flower.jpg"))[100:400, 100:500]).save(path, quality=90)
    return path


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    """A calibrated model of three classes, saved."""
    path = tmp_path_factory.mktemp("original") / "model"
    save_model(path, folder_of(TINY, origin={"recipe": "small"}, temperature=1.7))
    return path
