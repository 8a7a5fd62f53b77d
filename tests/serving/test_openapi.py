"""The service's own description: whole, with an example of every answer and of every problem that holds what it shows."""

import re

import pytest
from tests.serving.conftest import draw_image

from vitreous.predictor import Predictor
from vitreous.serving.app import Service
from vitreous.serving.examples import DETAILS
from vitreous.serving.options import ModelSource, ServiceOptions
from vitreous.serving.page_routes import Inside
from vitreous.serving.problems import KINDS, MEDIA_TYPE
from vitreous.serving.schemas import EmbedAnswer, ExplainAnswer, Health, ModelsAnswer, PredictAnswer

ANSWERS = {
    "/v1/predict": PredictAnswer, "/v1/embed": EmbedAnswer, "/v1/explain": ExplainAnswer, "/v1/inside": Inside,
    "/v1/models": ModelsAnswer, "/healthz": Health, "/readyz": Health,
}  # fmt: skip
PNG, KIND = draw_image(1), {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def described(client):
    return client.get("/openapi.json").json()


def operations(described):
    return [(path, one) for path, methods in described["paths"].items() for one in methods.values()]


def test_every_address_shows_its_answer(described):
    schemas = described["components"]["schemas"]
    paths = [path for path, _ in operations(described)]
    assert sorted(paths) == sorted([*ANSWERS, "/metrics", "/problems/{kind}"])
    for path, one in operations(described):
        assert one["summary"], path
        content = one["responses"]["200"]["content"]
        if path not in ANSWERS:
            assert content["text/plain"]["example"], path
            continue
        name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
        kind = ANSWERS[path]
        assert name == kind.__name__
        kind.model_validate(schemas[name]["example"])
    assert "HTTPValidationError" not in str(described)


def test_a_key_is_asked_for_where_it_is_needed(described, folder):
    schemes = described["components"]["securitySchemes"]
    assert schemes["key"]["name"] == "X-API-Key" and schemes["bearer"]["scheme"] == "bearer"
    with_keys = Service(
        [ModelSource("animals", str(folder), Predictor)], ServiceOptions(keys=("a" * 16,))
    ).api.openapi()
    for found, more in ((described, [{}]), (with_keys, [])):
        for path, one in operations(found):
            needed = [{"key": []}, {"bearer": []}, *more] if path.startswith(("/v1/", "/metrics")) else None
            assert one.get("security") == needed, path


def test_every_problem_is_shown_where_it_can_come(described):
    shown = {}
    for path, one in operations(described):
        for status, response in one["responses"].items():
            for kind, example in response["content"].get(MEDIA_TYPE, {}).get("examples", {}).items():
                value = example["value"]
                assert (value["type"], str(value["status"])) == (f"/problems/{kind}", status), (path, kind)
                assert value["title"] == KINDS[kind][1] and value["detail"] == DETAILS[kind]
                shown.setdefault(kind, set()).add(path)
    assert set(KINDS) - set(shown) == {"method-not-allowed"}  # of no address of its own
    for path in ("/v1/predict", "/v1/embed", "/v1/explain", "/v1/inside"):
        assert {"malformed", "too-large", "queue-full", "timed-out", "failed"} <= {
            kind for kind, paths in shown.items() if path in paths
        }


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/embed", "/v1/explain", "/v1/inside"])
def test_what_is_shown_as_a_request_is_answered_and_the_answer_is_as_described(client, described, path):
    body = described["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    ANSWERS[path].model_validate(answer.json())


def test_models_and_states_are_as_described(client):
    for path in ("/v1/models", "/healthz", "/readyz"):
        ANSWERS[path].model_validate(client.get(path).json())
    assert "vitreous_requests_total" in client.get("/metrics").text
    assert re.fullmatch(r"too-large \(413\): .*\n", client.get("/problems/too-large").text)


def test_parameters_say_what_they_are(described):
    for path, one in operations(described):
        for parameter in one.get("parameters", ()):
            schema = parameter["schema"]
            assert parameter.get("description") or schema.get("description") or schema.get("examples"), (
                path,
                parameter,
            )
