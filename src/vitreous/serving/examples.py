"""The examples in OpenAPI's description of the service: an answer of each kind, and a problem of each kind."""

from typing import Any

from vitreous.serving.problems import KINDS

IDENTITY = "5f2a9c0d1e3b4a67"
"""A request's id."""
TIMINGS = {"read_ms": 0.4, "decode_ms": 3.1, "queue_ms": 2.2, "compute_ms": 14.8, "total_ms": 21.0, "batch": 4}
NAMED = {"model": "photos-1", "version": 1}
PREDICT = {
    **NAMED,
    "predictions": [
        {
            "name": "image 1",
            "label": "cat",
            "score": 0.93,
            "top": [{"label": "cat", "score": 0.93}, {"label": "dog", "score": 0.07}],
            "error": None,
        }
    ],
    "timings": TIMINGS,
}
EMBED = {
    **NAMED,
    "dimensions": 3,
    "embeddings": [{"name": "image 1", "vector": [0.12, -1.4, 0.08], "error": None}],
    "timings": TIMINGS,
}
EXPLAIN = {
    **NAMED,
    "method": "rollout",
    "layer": None,
    "head": None,
    "explanations": [
        {
            "name": "image 1",
            "error": None,
            "target": "cat",
            "score": 0.93,
            "map": [[0.11, 0.62], [0.05, 0.22]],
            "heads": None,
        }
    ],
    "timings": {**TIMINGS, "queue_ms": 0.0, "batch": 0},
}
INSIDE = {
    **NAMED,
    "grid": [1, 2],
    "layer": 0,
    "layers": 1,
    "heads": 1,
    "prefix": 0,
    "positions": "/4CA/w==",
    "images": [
        {
            "picture": "data:image/png;base64,iVBORw0KGgo=",
            "attention": {"weights": "/4D//4D//w==", "tops": "iBOIE4gTiBM="},
            "rollout": "/4A=",
            "norms": "/4A=",
            "longest": [12.5],
            "target": "cat",
            "score": 0.93,
            "relevance": "/wA=",
        }
    ],
    "nearest": None,
    "timings": {**TIMINGS, "queue_ms": 0.0, "batch": 0},
}
MODELS = {
    "models": [
        {
            "name": "photos-1",
            "version": 1,
            "ready": True,
            "failure": None,
            "description": "ViT Ti/16 at 224 x 224 px",
            "labels": ["cat", "dog"],
            "multilabel": False,
            "preprocess": {"size": [224, 224], "crop": 0.875},
            "origin": {},
            "engine": "torch",
            "precision": "fp32",
            "device": "cpu",
            "grid": [14, 14],
            "layers": 12,
            "heads": 3,
            "methods": ["relevance", "rollout", "attention"],
            "classifies": True,
            "embeds": True,
        }
    ]
}
MEASUREMENTS = 'vitreous_requests_total{route="/v1/predict",status="200"} 12.0\n'
ANSWERS = {
    "PredictAnswer": PREDICT, "EmbedAnswer": EMBED, "ExplainAnswer": EXPLAIN, "Inside": INSIDE, "ModelsAnswer": MODELS,
    "Health": {"status": "alive"},
}  # fmt: skip
"""An answer of each schema."""
DETAILS = {
    "malformed": "the form data ends before its last boundary; send it whole",
    "unauthorized": "there is no API key; send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'",
    "foreign-page": "a page of another origin sent the request; allow that origin with --allow-origin",
    "not-found": "Not Found; /openapi.json lists what can be requested",
    "unknown-model": "there is no model 'photo' here; this service has photos-1",
    "method-not-allowed": "Method Not Allowed; /openapi.json lists what can be requested",
    "slow-request": "the body didn't arrive within 10 s; send less, or over a faster connection",
    "too-large": "there are more than 64 images in the request; send at most 64 at a time",
    "unsupported-media-type": "the body is 'text/plain'; send an image as it is, multipart/form-data, or application/json",
    "unreadable-image": "notes.txt is not an image of a known format",
    "invalid-parameter": "there is no option 'tops' here; did you mean 'top'?",
    "unsuited-model": "photos-1 has no head, so it can't classify; ask /v1/embed for its vectors",
    "queue-full": "256 images are waiting for photos-1, whose queue holds 256; try again later",
    "failed": "the service failed on this request; its log has the details under this id",
    "not-ready": "photos-1 is loading; try again soon",
    "timed-out": "there was no answer within 30 s; try again later, or with fewer images",
    "stopping": "the service is stopping; try another one",
}
"""What a problem of each kind says."""


def show_problem(kind: str) -> dict[str, Any]:
    """Return a problem document of one kind."""
    status, title = KINDS[kind]
    found = {"type": f"/problems/{kind}", "title": title, "status": status, "detail": DETAILS[kind]}
    return {**found, "instance": f"urn:request:{IDENTITY}"}
