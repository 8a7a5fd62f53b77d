"""POST /v1/explain and /v1/embed: what vitreous.explain and a Predictor's features say."""

import io

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from tests.engines.test_onnx_file import folder_of as write_export
from tests.engines.test_onnx_file import linear
from tests.serving.conftest import draw_image, refused

import vitreous
from vitreous.insight.attention import compute_attention_maps
from vitreous.insight.explanation import open_inside
from vitreous.serving import maps

PNG = draw_image(5)
FILES = [("images", ("a.png", PNG)), ("images", ("b.png", draw_image(6)))]
KIND = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def predictor(folder):
    return vitreous.load(folder)


def numbers(values):
    return np.asarray(values, np.float64)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"method": "rollout"},
        {"method": "attention", "layer": 1, "head": 0},
        {"method": "gradient", "target": "eel"},
    ],
)
def test_maps_are_those_of_vitreous_explain(client, predictor, options):
    answer = client.post("/v1/explain", files=FILES, params=options).json()
    right = vitreous.explain(predictor, [data for _, (_, data) in FILES], **options)
    assert (answer["method"], answer["layer"], answer["head"]) == (right.method, right.layer, options.get("head"))
    for index, one in enumerate(answer["explanations"]):
        np.testing.assert_allclose(numbers(one["map"]), right.maps[index], rtol=1e-5, atol=1e-7)
        assert one["target"] == right.classes[right.targets[index]]
        if right.by_head is not None:
            np.testing.assert_allclose(numbers(one["heads"]), right.by_head[index], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("layer", [0, -1])
def test_what_a_patch_attends_to(client, predictor, layer):
    ready = open_inside(predictor)
    pixels = vitreous.explain(predictor, PNG).pixels
    prefix, (rows, cols) = predictor.model.config.prefix, predictor.model.grid
    (weights,) = compute_attention_maps(predictor.model, ready.images(pixels), [layer]).values()
    right = weights[0, :, prefix:, prefix:].unflatten(2, (rows, cols)).numpy()
    asked = {"method": "attention", "layer": layer}
    one = client.post("/v1/explain", content=PNG, headers=KIND, params={**asked, "query": 5}).json()["explanations"][0]
    np.testing.assert_allclose(numbers(one["heads"]), right[:, 5], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(numbers(one["map"]), right[:, 5].mean(0), rtol=1e-5, atol=1e-7)
    every = client.post("/v1/explain", content=PNG, headers=KIND, params={**asked, "query": "all", "format": "npy"})
    np.testing.assert_allclose(np.load(io.BytesIO(every.content)), right, rtol=1e-5, atol=1e-7)


def test_a_picture_is_the_overlay(client, predictor):
    answer = client.post("/v1/explain?format=png&method=rollout", content=PNG, headers=KIND)
    assert answer.headers["content-type"] == "image/png"
    right = vitreous.explain(predictor, PNG, "rollout").overlay(0)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), right)


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"method": "rolout"}, "invalid-parameter", "did you mean 'rollout'"),
        ({"method": "attention", "layer": 99}, "invalid-parameter", "layer 99"),
        ({"method": "rollout", "query": 1}, "invalid-parameter", "takes no query"),
        ({"method": "attention", "query": 999}, "invalid-parameter", "query 999"),
        ({"query": "some"}, "invalid-parameter", "query"),
        ({"method": "attention", "query": -1}, "invalid-parameter", "greater than or equal to 0"),
        ({"target": "yak"}, "invalid-parameter", "yak"),
        ({"target": "9" * 5000}, "invalid-parameter", "999"),
        ({"format": "png", "query": "all", "method": "attention"}, "invalid-parameter", "npy"),
        ({"format": "gif"}, "invalid-parameter", "gif"),
        ({"model": "headless", "method": "relevance"}, "invalid-parameter", "without head"),
    ],
)
def test_maps_that_there_are_not(client, options, kind, words):
    refused(client.post("/v1/explain", content=PNG, headers=KIND, params=options), 422, kind, words)


def test_images_pass_in_batches_and_their_numbers_have_a_limit(folder, monkeypatch):
    """As many at a time as elsewhere, with the maps of one pass."""
    passes, compute = [], maps.look_at

    def watch(ready, pixels, options):
        passes.append(len(pixels))
        return compute(ready, pixels, options)

    monkeypatch.setattr(maps, "look_at", watch)
    files = [("images", (f"{place}.png", PNG)) for place in range(3)]
    found = []
    for batch in (8, 2):
        with vitreous.serve(folder, port=0, batch=batch) as service:
            answer = httpx.post(service.url + "/v1/explain", files=files, params={"method": "attention"}, verify=False)
            assert answer.status_code == 200
            found.append([one["map"] for one in answer.json()["explanations"]])
            with monkeypatch.context() as changed:
                changed.setattr("vitreous.serving.maps.MOST_NUMBERS", np.size(found[0]))
                said = httpx.post(
                    service.url + "/v1/explain", files=files, params={"method": "attention"}, verify=False
                )
            refused(said, 422, "invalid-parameter", f"above the limit of {np.size(found[0])}; send fewer images")
    assert passes == [3, 3, 2, 1, 2, 1]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4)


def test_weights_of_all_patches_have_a_limit(client, predictor, monkeypatch):
    asked = {"method": "attention", "query": "all"}
    rows, cols = predictor.model.grid
    each = predictor.model.config.heads * (rows * cols) ** 2
    monkeypatch.setattr("vitreous.serving.maps.MOST_NUMBERS", each)
    assert client.post("/v1/explain", content=PNG, headers=KIND, params=asked).status_code == 200
    refused(
        client.post("/v1/explain", files=FILES, params=asked),
        422,
        "invalid-parameter",
        f"{2 * each:,} weights",
        f"limit of {each:,}",
    )
    monkeypatch.setattr("vitreous.serving.maps.MOST_NUMBERS", each - 1)
    refused(client.post("/v1/explain", content=PNG, headers=KIND, params=asked), 422, "invalid-parameter", "format=npy")
    assert client.post("/v1/explain", content=PNG, headers=KIND, params={**asked, "format": "npy"}).status_code == 200


def test_a_picture_is_of_one_image(client):
    refused(client.post("/v1/explain?format=png", files=FILES), 422, "invalid-parameter", "2 came")


@pytest.mark.parametrize("model", ["animals", "headless"])
def test_vectors_are_the_predictors_features(client, folder, headless, model):
    right = vitreous.load({"animals": folder, "headless": headless}[model]).features([data for _, (_, data) in FILES])
    answer = client.post("/v1/embed", files=[*FILES, ("images", ("c.txt", b"none"))], params={"model": model}).json()
    found = torch.tensor([one["vector"] for one in answer["embeddings"][:2]])
    torch.testing.assert_close(found, right, rtol=1e-5, atol=1e-6)
    assert answer["dimensions"] == right.shape[1]
    assert answer["embeddings"][2]["vector"] is None and "c.txt" in answer["embeddings"][2]["error"]


def test_an_export_has_no_layers_and_says_so(tmp_path):
    exported = write_export(tmp_path / "animals", linear())
    with vitreous.serve(exported, port=0) as service, httpx.Client(base_url=service.url, verify=False) as client:
        (said,) = client.get("/v1/models").json()["models"]
        assert (said["engine"] != "torch", said["methods"], said["layers"], said["embeds"]) == (True, [], None, False)
        assert client.post("/v1/predict", content=PNG, headers=KIND).status_code == 200
        for address in ("/v1/explain", "/v1/inside"):
            refused(
                client.post(address, content=PNG, headers=KIND),
                422,
                "unsuited-model",
                "animals is an export",
                "exported from",
            )
        refused(client.post("/v1/embed", content=PNG, headers=KIND), 422, "unsuited-model", "--outputs both")
