"""Small models, and one service for all tests that change nothing about it."""

import io

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

import vitreous
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.weights.model_folder import ModelFolder, save_model

CLASSES = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")


def write_model(path, seed=0, classes=CLASSES, name="mu/8", **settings):
    """Write a small model whose every parameter is drawn, so that its answers differ from image to image."""
    model = vitreous.create(name, classes=len(classes), image=(32, 24), depth=2, **settings)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    save_model(path, ModelFolder(model, PreprocessConfig((32, 24), crop=0.9), DecodeConfig(), classes))
    return path


def draw_image(seed, kind="PNG", size=(40, 50)):
    """Return an image file of noise around a colour."""
    draw = np.random.default_rng(seed)
    pixels = (draw.integers(0, 256, 3) + draw.integers(-60, 60, (*size, 3))).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("served") / "animals")


@pytest.fixture(scope="session")
def headless(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("served") / "headless", classes=())


@pytest.fixture(scope="session")
def service(folder, headless):
    """A service of two models on a free port. Not to be stopped."""
    with vitreous.serve(
        {"animals": folder, "headless": headless}, port=0, wait_ms=1, limits={"max_body": 200_000, "max_images": 4}
    ) as found:
        yield found


@pytest.fixture(scope="session")
def client(service):
    with httpx.Client(base_url=service.url, verify=False, timeout=60) as found:
        yield found


def refused(answer, status, kind, *words):
    """Assert that an answer is a problem document of that kind with these words in its one line; return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["type"] == f"/problems/{kind}" and document["status"] == status, document
    assert document["instance"] == f"urn:request:{answer.headers['x-request-id']}" and "\n" not in document["detail"]
    for word in words:
        assert word in document["detail"], document["detail"]
    return document
