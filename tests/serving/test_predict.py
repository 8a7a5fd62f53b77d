"""POST /v1/predict: what a Predictor says, by every way in."""

import base64

import pytest
from tests.serving.conftest import CLASSES, draw_image, refused

import vitreous

IMAGES = [draw_image(1), draw_image(2, "JPEG"), draw_image(3)]


@pytest.fixture(scope="module")
def expected(folder):
    """What the Predictor itself says of the images, and the probability of every class."""
    return [one.top for one in vitreous.load(folder, top=len(CLASSES))(IMAGES)]


def check(predictions, expected, top=5):
    for one, right in zip(predictions, expected, strict=True):
        assert [entry["label"] for entry in one["top"]] == [label for label, _ in right[:top]]
        assert [entry["score"] for entry in one["top"]] == pytest.approx([score for _, score in right[:top]], abs=1e-6)
        assert (one["label"], one["score"], one["error"]) == (one["top"][0]["label"], one["top"][0]["score"], None)


def as_json(entries):
    return {"json": {"images": entries}}


WAYS = {
    "files": lambda: {"files": [("images", (f"{number}.png", data)) for number, data in enumerate(IMAGES)]},
    "base64": lambda: as_json([base64.b64encode(one).decode() for one in IMAGES]),
    "named": lambda: as_json([{"name": "a", "data": base64.b64encode(one).decode()} for one in IMAGES]),
    "data-uri": lambda: as_json([f"data:image/png;base64,{base64.b64encode(one).decode()}" for one in IMAGES]),
}


@pytest.mark.parametrize("way", WAYS)
def test_several_images(client, expected, way):
    answer = client.post("/v1/predict", **WAYS[way]()).json()
    check(answer["predictions"], expected)
    assert (answer["model"], answer["version"]) == ("animals", 1)


@pytest.mark.parametrize("kind", ["image/png", "image/whatever", "application/octet-stream"])
def test_an_image_as_it_is(client, expected, kind):
    answer = client.post("/v1/predict?top=2", content=IMAGES[0], headers={"Content-Type": kind}).json()
    check(answer["predictions"], expected[:1], 2)
    timings = answer["timings"]
    assert timings["batch"] == 1 and 0 < timings["compute_ms"] < timings["total_ms"]


def test_every_class_in_the_order_of_the_labels(client, expected):
    answer = client.post("/v1/predict?probabilities=true&top=1", **WAYS["files"]()).json()
    labels = client.get("/v1/models").json()["models"][0]["labels"]
    assert labels == list(CLASSES)
    for one, right in zip(answer["predictions"], expected, strict=True):
        assert dict(zip(labels, one["probabilities"], strict=True)) == pytest.approx(dict(right), abs=1e-6)


def test_a_broken_image_among_others_is_told_in_its_place(client, expected):
    files = [("images", ("../../etc/a.png", IMAGES[0])), ("images", ("C:\\b\\no.png", b"no image"))]
    answer = client.post("/v1/predict", files=files).json()
    check(answer["predictions"][:1], expected[:1])
    assert answer["predictions"][0]["name"] == "a.png"
    broken = answer["predictions"][1]
    assert (broken["name"], broken["label"], broken["top"]) == ("no.png", None, [])
    assert broken["error"].startswith("no.png is not an image of a known format")


def test_nothing_but_broken_images_is_a_problem(client):
    refused(client.post("/v1/predict", files={"images": ("no.png", b"no image")}), 422, "unreadable-image", "no.png")
    refused(
        client.post("/v1/predict", content=IMAGES[0][:99], headers={"Content-Type": "image/png"}),
        422,
        "unreadable-image",
    )
