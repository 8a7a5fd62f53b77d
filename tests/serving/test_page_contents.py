"""POST /v1/inside: what the page moves about in is what the library computes."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image
from tests.serving.conftest import CLASSES, draw_image, refused

import vitreous
from vitreous.insight.attention import compute_attention_maps
from vitreous.insight.explanation import open_inside
from vitreous.insight.patch_features import compute_patch_features, compute_token_norms
from vitreous.insight.relevance import compute_relevance
from vitreous.insight.rollout import compute_rollout, compute_rollout_depths, compute_rollout_matrix
from vitreous.serving.page_routes import write_style

FIRST, SECOND = draw_image(1), draw_image(2)
PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def model(folder):
    return open_inside(vitreous.load(folder))


@pytest.fixture(scope="module")
def images(model):
    from vitreous.images.inputs import prepare_all

    return model.images(np.stack([pixels for _, pixels in prepare_all([FIRST, SECOND], model.folder)]))


def unpack(text, *shape):
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(shape) / 255


def test_one_image(client, model, images):
    found = client.post("/v1/inside", params={"layer": 0}, content=FIRST, headers=PNG)
    assert found.status_code == 200, found.text
    said, vit = found.json(), model.model
    rows, cols = said["grid"]
    depth, heads, prefix, patches = vit.config.depth, vit.config.heads, vit.config.prefix, rows * cols
    assert (said["grid"], said["layer"], said["layers"], said["heads"]) == (list(vit.grid), 0, depth, heads)
    (one,) = said["images"]
    (weights,) = compute_attention_maps(vit, images[:1], [0]).values()
    expected = torch.cat([weights[0].mean(0, keepdim=True), weights[0]])[..., prefix:].double().numpy()
    tops = (
        np.frombuffer(base64.b64decode(one["attention"]["tops"]), "<u2").reshape(heads + 1, prefix + patches) / 10_000
    )
    assert tops == pytest.approx(expected.max(2), abs=6e-5)
    shown = unpack(one["attention"]["weights"], heads + 1, prefix + patches, patches) * expected.max(2, keepdims=True)
    assert shown == pytest.approx(expected, abs=3e-3)
    norms = compute_token_norms(vit, images[:1])[:, 0, prefix:].numpy()
    assert unpack(one["norms"], depth, patches) * np.array(one["longest"])[:, None] == pytest.approx(
        norms, rel=0.01, abs=0.02
    )
    rollout = compute_rollout(vit, images[:1]).flatten().detach().numpy()
    assert unpack(one["rollout"], depth, patches)[-1] == pytest.approx(rollout / rollout.max(), abs=3e-3)
    picture = Image.open(io.BytesIO(base64.b64decode(one["picture"].partition(",")[2])))
    assert picture.size[0] / picture.size[1] == pytest.approx(24 / 32, abs=0.02)
    relevance = compute_relevance(vit, images[:1], [CLASSES.index(one["target"])]).flatten().detach().numpy()
    assert unpack(one["relevance"], patches) == pytest.approx(relevance / relevance.max(), abs=3e-3)
    assert said["nearest"] is None


def test_a_class_is_chosen(client):
    (one,) = client.post("/v1/inside?target=fox", content=FIRST, headers=PNG).json()["images"]
    assert one["target"] == "fox"
    (best,) = client.post("/v1/inside", content=FIRST, headers=PNG).json()["images"]
    assert best["score"] >= one["score"]
    refused(client.post("/v1/inside?target=yak", content=FIRST, headers=PNG), 422, "invalid-parameter", "yak")


def test_two_images_are_matched_patch_by_patch(client, model, images):
    files = [("images", ("a.png", FIRST)), ("images", ("b.png", SECOND))]
    said = client.post("/v1/inside", files=files).json()
    first, second = (one.flatten(0, 1).double() for one in compute_patch_features(model.model, images))
    cosine = torch.nn.functional.normalize(first, dim=1) @ torch.nn.functional.normalize(second, dim=1).T
    best = cosine.gather(1, torch.tensor(said["nearest"]["places"])[:, None])[:, 0]
    assert best.tolist() == pytest.approx(cosine.amax(1).tolist(), abs=1e-5)
    assert said["nearest"]["likeness"] == pytest.approx(cosine.amax(1).tolist(), abs=1e-3)
    files.append(("images", ("c.png", SECOND)))
    refused(client.post("/v1/inside", files=files), 413, "too-large", "at most 2")


def test_what_has_no_inside_says_so(client):
    said = client.post("/v1/inside?model=headless", content=FIRST, headers=PNG).json()
    assert said["images"][0]["relevance"] is None and said["images"][0]["target"] is None
    refused(client.post("/v1/inside?layer=99", content=FIRST, headers=PNG), 422, "invalid-parameter", "layer 99")
    refused(client.post("/v1/inside", content=b"none", headers=PNG), 422, "unreadable-image")


def test_rollout_by_depth_ends_with_the_rollout(model, images):
    found = compute_rollout_depths(model.model, images)
    assert torch.allclose(found[-1], compute_rollout(model.model, images), atol=1e-6)
    matrix = compute_rollout_matrix(model.model, images)
    assert found.shape == (model.model.config.depth, 2, *model.model.grid) and matrix.shape[0] == 2
    (weights,) = compute_attention_maps(model.model, images, [0]).values()
    step = weights.mean(1) + torch.eye(weights.shape[2])
    step = step / step.sum(2, keepdim=True)
    prefix = model.model.config.prefix
    row = step[:, 0] if model.model.config.pool == "class" else step[:, prefix:].mean(1)
    assert torch.allclose(found[0].flatten(1), row[:, prefix:], atol=1e-6)


def test_the_page_comes_with_the_style_of_all_pages(client):
    answer = client.get("/style.css")
    assert answer.headers["content-type"].startswith("text/css") and answer.text == write_style()
    dark = [part for part in answer.text.split("{") if "--page:#131518" in part]
    assert len(dark) == 2
    assert answer.text.count("{") == answer.text.count("}")
