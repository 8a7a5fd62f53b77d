"""Which web pages may send requests: those of the service itself, and those whose origin is named."""

import httpx
import pytest
from tests.serving.conftest import draw_image, refused

import vitreous
from vitreous.api.serving import check_origin
from vitreous.cli.options.serving import Serve
from vitreous.cli.parse import parse

PNG, KIND = draw_image(1), {"Content-Type": "image/png"}


def test_pages_of_other_origins_may_ask_only_if_they_are_named(folder, client):
    foreign = {"Origin": "https://other.example", "Sec-Fetch-Site": "cross-site", **KIND}
    refused(client.post("/v1/predict", content=PNG, headers=foreign), 403, "foreign-page", "--allow-origin")
    assert (
        "access-control-allow-origin"
        not in client.get("/v1/models", headers={"Origin": "https://other.example"}).headers
    )
    with vitreous.serve(folder, port=0, allow_origin=["https://other.example"]) as service:
        answer = httpx.post(service.url + "/v1/predict", content=PNG, headers=foreign, verify=False)
        assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == "https://other.example"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://other.example"}, 403),  # to a host without TLS browsers say no more
        ({"Origin": "null"}, 403),
        ({"Origin": "http://other.example", "Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://127.0.0.1:9", "Host": "127.0.0.1:9"}, 200),
        (
            {"Origin": "https://seen.example", "Host": "inside:80", "Sec-Fetch-Site": "same-origin"},
            200,
        ),  # behind a proxy
        ({}, 200),  # no browser
    ],
)
def test_a_page_of_another_origin_is_told_by_what_the_browser_says(client, headers, status):
    assert client.post("/v1/predict", content=PNG, headers={**KIND, **headers}).status_code == status


def test_every_origin_may_be_allowed(folder):
    foreign = {"Origin": "https://other.example", "Sec-Fetch-Site": "cross-site", **KIND}
    options = parse(Serve, [str(folder), "--allow-origin", "*"], "serve")
    with vitreous.serve(folder, port=0, allow_origin=options.allow_origin) as service:
        answer = httpx.post(service.url + "/v1/predict", content=PNG, headers=foreign, verify=False)
        assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == "*"
    given = [
        "https://a.example",
        "http://[::1]:8080",
        "HTTP://[::1]:80",
        "https://A.example:443",
        "https://a.example:80",
    ]
    named = parse(Serve, [str(folder), "--allow-origin", *given], "serve").allow_origin
    browsers = ["https://a.example", "http://[::1]:8080", "http://[::1]", "https://a.example", "https://a.example:80"]
    assert [check_origin(one.replace("HTTP", "http")) for one in named] == browsers
