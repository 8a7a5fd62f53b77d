"""Whatever can't be answered is told as a problem document: what came, what was expected, what to do."""

import contextlib
import json
import socket
import time

import h11
import httpx
import pytest
from tests.serving.conftest import draw_image, refused

from vitreous.serving.bodies import read_json
from vitreous.serving.problems import Problem
from vitreous.serving.server import Parser

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
        (b'{"images": [null]}', JSON, 400, "malformed", "image 1 is null"),
        (b"null", JSON, 400, "malformed", "the body is null"),
        (b"{}", JSON, 400, "malformed", "images of the body is missing"),
        (b'{"images": [{"data": null}]}', JSON, 400, "malformed", "data of image 1 is null"),
        (b'{"images": [{"name": null, "data": "aa=="}]}', JSON, 400, "malformed", "the name of image 1 is null"),
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
        ("/v1/nothing", 404, "not-found", ""),
        ("/v1/predict/", 404, "not-found", ""),
        ("/main.js", 405, "method-not-allowed", ""),
    ],
)  # fmt: skip
def test_addresses(client, address, status, kind, words):
    refused(client.post(address, content=PNG, headers={"Content-Type": "image/png"}), status, kind, words)


def test_methods_and_places_that_are_not_there(client):
    refused(client.get("/v1/predict"), 405, "method-not-allowed")
    refused(client.get("/no/such/page"), 404, "not-found")
    refused(client.get("/problems/none"), 404, "not-found")
    refused(client.get("/v1/models?x=1"), 422, "invalid-parameter", "there is no option 'x' here; Known: none")
    for method in ("OPTIONS", "PUT", "DELETE"):
        refused(client.request(method, "/nope"), 404, "not-found")
        refused(client.request(method, "/"), 405, "method-not-allowed")
    assert client.get("/problems/too-large").text.startswith("too-large (413)")


@pytest.mark.parametrize(
    "address", ["/healthz", "/readyz", "/metrics", "/v1/models", "/style.css", "/problems/failed", "/"]
)
def test_head_is_answered_as_get_without_a_body(client, address):
    answer, whole = client.head(address), client.get(address)
    assert (answer.status_code, answer.content) == (whole.status_code, b"") == (200, b"")
    assert answer.headers["content-type"] == whole.headers["content-type"]
    assert client.head("/v1/predict").status_code == 405


def test_an_unknown_name_of_megabytes_is_refused_at_once():
    began = time.process_time()
    with pytest.raises(Problem, match="the body has 'imagesss") as told:
        read_json(json.dumps({"image" + "s" * 4_000_000: 0}).encode(), 4)
    assert len(str(told.value)) < 300 and time.process_time() - began < 1


def test_a_body_of_unknown_length_is_cut_off_at_the_limit(client):
    refused(
        client.post("/v1/predict", content=iter([b"x" * 70_000] * 4), headers={"Content-Type": "image/png"}),
        413,
        "too-large",
    )


def test_ids_are_taken_over_if_they_are_plain(client):
    assert client.get("/healthz", headers={"X-Request-ID": "job-7.a"}).headers["x-request-id"] == "job-7.a"
    assert client.get("/healthz", headers={"X-Request-ID": "a\tb" * 40}).headers["x-request-id"] != "a\tb" * 40


@pytest.mark.parametrize("address", ["predict", "nothing"])
def test_a_body_whose_chunks_are_broken_is_a_problem_too(service, address):
    head = f"POST /v1/{address} HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    for pause in (0.0, 0.05):
        with socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2])), timeout=10) as sent:
            said = b""
            sent.sendall(head + b"1\r\na\r\n")
            time.sleep(pause)
            sent.sendall(b"zz\r\n")
            while part := sent.recv(4096):
                said += part
        status, kind = (b"400", b"malformed") if address == "predict" else (b"404", b"not-found")
        assert said.startswith(b"HTTP/1.1 " + status) and b'"/problems/' + kind in said, said
    measured = httpx.get(service.url + "/metrics", verify=False).text
    assert ('vitreous_requests_total{route="/v1/predict",status="400"}' in measured) or address != "predict"


@pytest.mark.parametrize(
    ("size", "count", "tiny"), [(1, 4096, False), (1, 4097, True), (64, 6000, False), (63, 6000, True)]
)
def test_a_body_of_thousands_of_tiny_chunks_is_refused(size, count, tiny):
    parser = Parser(h11.SERVER)
    parser.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    parser.receive_data((b"%x\r\n" % size + b"x" * size + b"\r\n") * count + b"0\r\n\r\n")
    with pytest.raises(h11.RemoteProtocolError) if tiny else contextlib.nullcontext():
        while type(parser.next_event()) is not h11.EndOfMessage:
            pass


def test_who_sends_tiny_chunks_is_told(client):
    body = iter([b"x"] * 4100)
    refused(client.post("/v1/predict", content=body, headers={"Content-Type": "image/png"}), 400, "malformed", "tiny")


@pytest.mark.parametrize(
    ("target", "host", "origin", "status", "body"),
    [
        (b"http://a/v1/models", b"a", b"", b"200", b'"animals"'),
        (b"HTTP://a/v1/models", b"b", b"", b"200", b'"animals"'),
        (b"http://a", b"a", b"", b"200", b"<!doctype html>"),
        (b"https://a?x", b"a", b"", b"200", b"<!doctype html>"),
        (b"http://a/nothing", b"a", b"", b"404", b"not-found"),
        (b"http://a/v1/predict", b"b", b"http://a", b"415", b"content-type"),  # the Host header's doesn't count
        (b"http://a/v1/predict", b"b", b"http://b", b"403", b"origin"),
        (b"ftp://a/v1/models", b"a", b"", b"404", b"not-found"),
    ],
)
def test_requests_for_an_address_are_those_for_its_path(service, target, host, origin, status, body):
    """As RFC 9112, section 3.2.2, has it of every server."""
    method, given = (b"POST ", b"Content-Length: 0\r\nOrigin: " + origin + b"\r\n") if origin else (b"GET ", b"")
    with socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2])), timeout=20) as sent:
        sent.sendall(method + target + b" HTTP/1.1\r\nHost: " + host + b"\r\n" + given + b"Connection: close\r\n\r\n")
        said = b""
        while part := sent.recv(65536):
            said += part
    assert said.startswith(b"HTTP/1.1 " + status) and body in said.lower(), said[:600]
