"""Whatever can't be answered is told as a problem document: what came, what was expected, what to do."""

import json

import pytest
from tests.serving.conftest import draw_image, refused

from vitreous.serving.bodies import read_json
from vitreous.serving.problems import Problem

PNG = draw_image(1)
FORM = {"Content-Type": "multipart/form-data; boundary=x"}
PART = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n' + PNG
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("body", "headers", "status", "kind", "words"),
    [
        (PNG, {}, 415, "unsupported-media-type", "Content-Type"),
        (PNG, {"Content-Type": "text/plain"}, 415, "unsupported-media-type", "text/plain"),
        (b"", {"Content-Type": "image/png"}, 400, "malformed", "no image"),
        (PART, {"Content-Type": "multipart/form-data"}, 400, "malformed", "boundary"),
        (PART, FORM, 400, "malformed", "last boundary"),
        (b"--y--\r\n", FORM, 400, "malformed", "can't be read"),
        (b'--x\r\nContent-Disposition: form-data; name="top"\r\n\r\n3\r\n--x--\r\n', FORM, 400, "malformed", "'top'"),
        (b"--x\r\n" + b"a" * 5000 + b": b\r\n\r\n--x--\r\n", FORM, 400, "malformed", "header size"),
        (b"{", JSON, 400, "malformed", "not JSON"),
        (b"[" * 900, JSON, 400, "malformed", "not JSON"),
        (b"[" * 100_000, JSON, 413, "too-large", "100,000 commas and brackets"),
        (b'{"images": [' + b"{}," * 60_000 + b"{}]}", JSON, 413, "too-large", "for 4 images"),
        (json.dumps(dict.fromkeys(map(str, range(10_000)), 0)).encode(), JSON, 413, "too-large", "10,000"),
        (b"\xff", JSON, 400, "malformed", "not JSON"),
        (b"[]", JSON, 400, "malformed", "a list"),
        (b'{"images": []}', JSON, 400, "malformed", "no image"),
        (b'{"images": 3}', JSON, 400, "malformed", "a number"),
        (b'{"images": [null]}', JSON, 400, "malformed", "missing"),
        (b'{"image": ["aa=="]}', JSON, 400, "malformed", "did you mean 'images'"),
        (b'{"images": [{"data": "aa==", "url": ""}]}', JSON, 400, "malformed", "'url'"),
        (b'{"images": ["https://example.com/a.png"]}', JSON, 400, "malformed", "nothing is fetched"),
        (b'{"images": ["file:///etc/passwd"]}', JSON, 400, "malformed", "nothing is fetched"),
        (b'{"images": ["/etc/passwd"]}', JSON, 400, "malformed", "base64"),
        (json.dumps({"images": ["aaaa"] * 5}).encode(), JSON, 413, "too-large", "at most 4"),
        (b"x" * 200_001, {"Content-Type": "image/png"}, 413, "too-large", "200,000"),
    ],
)  # fmt: skip
def test_bodies(client, body, headers, status, kind, words):
    refused(client.post("/v1/predict", content=body, headers=headers), status, kind, words)


def test_json_is_taken_with_names_full_of_commas_and_not_with_nesting_that_the_parser_gives_up():
    entry = {"name": "a, b, [c] {d}" * 7, "data": "data:image/png;base64,aaaa"}
    assert [one.data for one in read_json(json.dumps({"images": [entry] * 64}).encode(), 64)] == [b"i\xa6\x9a"] * 64
    with pytest.raises(Problem, match="not JSON"):
        read_json(b"[" * 10_000, 64)


@pytest.mark.parametrize(
    ("address", "status", "kind", "words"),
    [
        ("/v1/predict?model=plants", 404, "unknown-model", "animals, headless"),
        ("/v1/predict?model=headless", 422, "unsuited-model", "/v1/embed"),
        ("/v1/predict?top=0", 422, "invalid-parameter", "top"),
        ("/v1/predict?top=many", 422, "invalid-parameter", "many"),
        ("/v1/predict?tops=3", 422, "invalid-parameter", "did you mean 'top'"),
        ("/v1/predict?top=3&top=4", 422, "invalid-parameter", "2 times"),
        ("/v1/nothing", 405, "method-not-allowed", ""),
    ],
)  # fmt: skip
def test_addresses(client, address, status, kind, words):
    refused(client.post(address, content=PNG, headers={"Content-Type": "image/png"}), status, kind, words)


def test_methods_and_places_that_are_not_there(client):
    refused(client.get("/v1/predict"), 405, "method-not-allowed")
    refused(client.get("/no/such/page"), 404, "not-found")
    refused(client.get("/problems/none"), 404, "not-found")
    assert client.get("/problems/too-large").text.startswith("too-large (413)")


def test_a_body_of_unknown_length_is_cut_off_at_the_limit(client):
    refused(
        client.post("/v1/predict", content=iter([b"x" * 70_000] * 4), headers={"Content-Type": "image/png"}),
        413,
        "too-large",
    )


def test_ids_are_taken_over_if_they_are_plain(client):
    assert client.get("/healthz", headers={"X-Request-ID": "job-7.a"}).headers["x-request-id"] == "job-7.a"
    assert client.get("/healthz", headers={"X-Request-ID": "a\tb" * 40}).headers["x-request-id"] != "a\tb" * 40
