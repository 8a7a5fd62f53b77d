"""The addresses of the service, and what each answers."""

import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from vitreous.errors import suggest
from vitreous.images.inputs import Ready
from vitreous.serving import examples
from vitreous.serving.batcher import Answer
from vitreous.serving.bodies import Upload, read_uploads
from vitreous.serving.descriptions import describe_model
from vitreous.serving.explain_options import ExplainOptions, explain_images, read_explain_options
from vitreous.serving.models import Loaded, Models, ServedModel, require_features, require_head, require_layers
from vitreous.serving.problems import KINDS, Problem
from vitreous.serving.schemas import (
    IMAGE,
    IMAGES_BODY,
    EmbedAnswer,
    ExplainAnswer,
    Health,
    ModelsAnswer,
    PredictAnswer,
    describe_problems,
    describe_text,
)

MOST_TOP = 1000
ModelName = Annotated[
    str | None,
    Query(description="Which model, by its name in /v1/models; by default the first.", examples=["photos-1"]),
]
READING = (
    "malformed", "unauthorized", "foreign-page", "unknown-model", "slow-request", "too-large", "unsupported-media-type",
    "unreadable-image", "invalid-parameter", "unsuited-model", "queue-full", "failed", "not-ready", "timed-out",
)  # fmt: skip
"""Problems of addresses that take images."""


async def refuse_unknown(request: Request) -> None:
    """Raise Problem for options in the address that are unknown or given twice.

    This is a coroutine although it waits for nothing: the framework would run a function in another thread for each request.
    """
    described = request.app.openapi()["paths"][request.scope["route"].path][request.method.lower()]
    known = [one["name"] for one in described.get("parameters", ())]
    given = [name for name, _ in request.query_params.multi_items()]
    for name in given:
        if name not in known:
            raise Problem("invalid-parameter", f"there is no option {name[:100]!r} here; {suggest(name, known)}")
        if given.count(name) > 1:
            raise Problem("invalid-parameter", f"the option {name} is given {given.count(name)} times; give it once")


class Timer:
    """Milliseconds of a request's stages."""

    def __init__(self) -> None:
        self.began = self.last = time.monotonic()
        self.stages: dict[str, float] = {}

    def stage(self, name: str) -> None:
        """Record the end of a stage."""
        now = time.monotonic()
        self.stages[f"{name}_ms"], self.last = round(1000 * (now - self.last), 3), now

    def finish(self, answers: list[Answer | None]) -> dict[str, float]:
        """Return all of them, with the slowest of the images' waits and passes."""
        there = [one for one in answers if one is not None]
        queued, computed = (max((getattr(one, name) for one in there), default=0.0) for name in ("queued", "computed"))
        found = {**self.stages, "queue_ms": round(1000 * queued, 3), "compute_ms": round(1000 * computed, 3)}
        found["total_ms"] = round(1000 * (time.monotonic() - self.began), 3)
        return {**found, "batch": max((one.batch for one in there), default=0)}


async def receive_uploads(request: Request, model: ServedModel, most: int) -> list[Upload]:
    """Return a request's images, at most `most`; a request that can't be answered is refused before its body is read.
    Raises Problem."""
    model.refuse_overload(1)
    body = await request.body()
    uploads = read_uploads(body, request.headers.get("content-type", ""), min(most, model.options.max_images))
    request.state.exchange.images, request.state.exchange.model = len(uploads), model.source.name
    return uploads


@dataclass(frozen=True)
class Accepted:
    """A request for a model's answer, with its images decoded."""

    timer: Timer
    served: ServedModel
    loaded: Loaded
    images: list[Ready]

    async def run(self, work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
        """Run other work than a batch in the model's thread; return its result and the timings."""
        began = time.monotonic()
        found = await self.loaded.batcher.run(work)
        return found, self.timer.finish([]) | {"compute_ms": round(1000 * (time.monotonic() - began), 3)}

    def encode(self, document: dict[str, Any], timings: dict[str, float]) -> Response:
        """Return the answer: which version of which model says what, and how long it took."""
        return encode(
            {"model": self.served.source.name, "version": self.loaded.version, **document, "timings": timings}
        )


@asynccontextmanager
async def accept(
    request: Request, models: Models, name: str | None, require: Callable[[Loaded, str], None], most: int = sys.maxsize
) -> AsyncIterator[Accepted]:
    """Read a request's images and hold their places in the model's queue; they count once they are answered. Raises Problem.

    Args:
        require: raises Problem for a model that can't give such an answer.
        most: most images for this address, if fewer than for others.
    """
    timer, served = Timer(), models.find(name)
    uploads = await receive_uploads(request, served, most)
    timer.stage("read")
    async with served.answer(len(uploads)) as loaded:
        require(loaded, served.source.name)
        found = await served.decode(loaded, uploads)
        refuse_unreadable(found)
        timer.stage("decode")
        yield Accepted(timer, served, loaded, found)
    models.measurements.images.labels(served.source.name, request.scope["route"].path).inc(len(uploads))


def refuse_unreadable(found: list[Ready]) -> None:
    """Raise Problem if no image has pixels."""
    if all(one.pixels is None for one in found):
        more = {"errors": [{"name": one.name, "error": one.error} for one in found]} if len(found) > 1 else {}
        raise Problem("unreadable-image", str(found[0].error), **more)


def encode(document: Any) -> Response:
    """Return a document of plain values as JSON."""
    return Response(json.dumps(document, allow_nan=False, separators=(",", ":")), media_type="application/json")


def describe_predictions(
    loaded: Loaded, images: list[Ready], answers: list[Answer | None], top: int, probabilities: bool
) -> list[dict[str, Any]]:
    """Return each image's prediction as JSON values."""
    found = []
    for ready, answer in zip(images, answers, strict=True):
        ranked = () if answer is None else loaded.predictor.rank(answer.row[None], top)[0]
        said = loaded.predictor.decide(ready, ranked).to_dict()
        if probabilities and answer is not None:
            said["probabilities"] = answer.row.tolist()
        found.append(said)
    return found


def build_routes(models: Models) -> APIRouter:
    """Return the addresses that answer from these models."""
    router = APIRouter()
    images = {
        "openapi_extra": IMAGES_BODY,
        "responses": describe_problems(*READING),
        "dependencies": [Depends(refuse_unknown)],
    }

    @router.post("/v1/predict", summary="Classify images", response_model=PredictAnswer, **images)
    async def predict(
        request: Request,
        model: ModelName = None,
        top: Annotated[int, Query(ge=1, le=MOST_TOP, description="How many classes to list.")] = 5,
        probabilities: Annotated[bool, Query(description="List the probability of every class too.")] = False,
    ) -> Response:
        async with accept(request, models, model, require_head) as one:
            answers = await one.served.compute(one.loaded, "probabilities", one.images)
        predictions = describe_predictions(one.loaded, one.images, answers, top, probabilities)
        return one.encode({"predictions": predictions}, one.timer.finish(answers))

    add_embed(router, models, images)
    add_explain(router, models, images)

    @router.get(
        "/v1/models", summary="List the models", response_model=ModelsAnswer,
        responses=describe_problems("unauthorized", "invalid-parameter", "failed"), dependencies=[Depends(refuse_unknown)],
    )  # fmt: skip
    async def list_models() -> Response:
        return encode({"models": [describe_model(model) for model in models.by_name.values()]})

    return router


def add_embed(router: APIRouter, models: Models, images: dict[str, Any]) -> None:
    """Add the address that answers with vectors."""

    @router.post("/v1/embed", summary="Represent images as vectors", response_model=EmbedAnswer, **images)
    async def embed(request: Request, model: ModelName = None) -> Response:
        async with accept(request, models, model, require_features) as one:
            answers = await one.served.compute(one.loaded, "features", one.images)
        vectors = [None if answer is None else answer.row.tolist() for answer in answers]
        entries = [
            {"name": ready.name, "vector": row, "error": ready.error}
            for ready, row in zip(one.images, vectors, strict=True)
        ]
        width = next(len(row) for row in vectors if row is not None)
        return one.encode({"dimensions": width, "embeddings": entries}, one.timer.finish(answers))


PICTURE = {"description": "The maps", "content": {"image/png": IMAGE, "application/octet-stream": IMAGE}}
"""The answers of /v1/explain other than JSON."""


def add_explain(router: APIRouter, models: Models, images: dict[str, Any]) -> None:
    """Add the address that answers with maps."""
    responses = {200: PICTURE, **images["responses"]}

    @router.post(
        "/v1/explain",
        summary="Show where a model looks",
        response_model=ExplainAnswer,
        **{**images, "responses": responses},
    )
    async def explain(
        request: Request, wanted: Annotated[ExplainOptions, Depends(read_explain_options)], model: ModelName = None
    ) -> Response:
        async with accept(request, models, model, require_layers) as one:
            document, timings = await one.run(partial(explain_images, one.loaded, one.images, wanted))
        if isinstance(document, bytes):
            kind = {"png": "image/png", "npy": "application/octet-stream"}[wanted.format]
            return Response(document, media_type=kind)
        return one.encode(document, timings)


def build_probes(models: Models) -> APIRouter:
    """Return the addresses by which others watch the service."""
    router = APIRouter()

    @router.get("/healthz", summary="Whether the service is alive", response_model=Health)
    async def tell_health() -> Response:
        return JSONResponse({"status": "alive"})

    @router.get(
        "/readyz",
        summary="Whether the models can answer",
        response_model=Health,
        responses=describe_problems("not-ready", "stopping"),
    )
    async def tell_readiness(request: Request) -> Response:
        if request.app.state.guard.stopping:
            raise Problem("stopping", "the service is stopping; try another one")
        if not models.warm:
            raise Problem("not-ready", "a model is loading; try again soon", {"Retry-After": "1"})
        return JSONResponse({"status": "ready"})

    @router.get(
        "/metrics", summary="Measurements for Prometheus", response_class=PlainTextResponse,
        responses={200: describe_text(examples.MEASUREMENTS), **describe_problems("unauthorized", "failed")},
    )  # fmt: skip
    async def tell_measurements() -> Response:
        return Response(models.measurements.write(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @router.get(
        "/problems/{kind}", summary="What a kind of problem is", response_class=PlainTextResponse,
        responses={200: describe_text(say_kind("too-large")), **describe_problems("not-found")},
    )  # fmt: skip
    async def explain_problem(kind: Annotated[str, Path(examples=["too-large"])]) -> Response:
        if kind not in KINDS:
            raise Problem("not-found", f"there is no kind of problem {kind[:100]!r}; {suggest(kind, KINDS)}")
        return PlainTextResponse(say_kind(kind))

    return router


def say_kind(kind: str) -> str:
    """Return a one-line description of a kind of problem."""
    status, title = KINDS[kind]
    return f"{kind} ({status}): {title}\n"
