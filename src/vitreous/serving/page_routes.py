"""The addresses that the service's page uses: the inside of a model for an image, and the style of all pages."""

from functools import partial
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from vitreous.drawing.html import read_resource
from vitreous.images.inputs import Ready
from vitreous.serving.models import Loaded, Models, require_layers
from vitreous.serving.routes import READING, ModelName, accept, refuse_unknown, refuse_unreadable
from vitreous.serving.schemas import IMAGES_BODY, Answer, Timings, describe_problems

MOST_IMAGES = 2
"""Most images: one, or two whose patches are compared."""
DARK = "@media(prefers-color-scheme:dark){:root{"


class Inside(Answer):
    """One layer of a Vision Transformer, and figures of all layers, for one or two images. Arrays are base64, one byte
    per number."""

    model: str
    version: int
    grid: list[int] = Field(description="Rows and columns of patches.")
    layer: int
    layers: int
    heads: int
    prefix: int = Field(description="Tokens before the patches.")
    positions: str | None = Field(description="Similarity of position embeddings (patch, patch), -1 to 1 as 0 to 255.")
    images: list[dict[str, Any]] = Field(
        description="Of each: picture, attention (weights: head, the first their mean, token, patch; tops: each row's greatest "
        "in 1/10,000), rollout and norms (layer, patch), relevance (patch) to target."
    )
    timings: Timings
    nearest: dict[str, list[Any]] | None = Field(
        description="With two images: of each patch of the first the most similar one of the second, and their cosine."
    )


def build_page_routes(models: Models) -> APIRouter:
    """Return the addresses that the page needs in addition to those for programs."""
    router = APIRouter()

    @router.post(
        "/v1/inside",
        summary="Look inside a Vision Transformer",
        response_model=Inside,
        openapi_extra=IMAGES_BODY,
        responses=describe_problems(*READING),
        dependencies=[Depends(refuse_unknown)],
    )
    async def inside(
        request: Request,
        model: ModelName = None,
        layer: Annotated[int, Query(ge=-1000, le=1000, description="0 the first, -1 the last.")] = -1,
        target: Annotated[
            str | None, Query(description="A class by name or number; by default the most probable.")
        ] = None,
    ) -> Response:
        async with accept(request, models, model, require_layers, MOST_IMAGES) as one:
            refuse_unreadable([image for image in one.images if image.pixels is None] or one.images)
            document, timings = await one.run(partial(_look, one.loaded, one.images, layer, target))
        return one.encode(document, timings)

    @router.get("/style.css", include_in_schema=False)
    async def style() -> Response:
        return Response(write_style(), media_type="text/css")

    return router


def _look(loaded: Loaded, images: list[Ready], layer: int, target: str | None) -> dict[str, Any]:
    from vitreous.serving.page_contents import gather_contents  # needs torch, which no export does

    pixels = np.stack([one.pixels for one in images if one.pixels is not None])
    return gather_contents(loaded.predictor, pixels, layer, target)


def write_style() -> str:
    """Return the style of all pages, with the dark palette also for users who choose it although their system's is
    light."""
    palette = read_resource("drawing/palette.css")
    light, found, rest = palette.partition(DARK)
    if not found:
        raise AssertionError("the palette has no dark half")
    dark = rest.rstrip().removesuffix("}}")
    chosen = f":root[data-theme=dark]{{color-scheme:dark;{dark}}}:root[data-theme=light]{{color-scheme:light}}"
    return (
        f"{light}@media(prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}\n{chosen}\n"
        + read_resource("drawing/page.css")
    )
