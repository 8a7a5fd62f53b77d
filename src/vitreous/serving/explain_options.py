"""The options of /v1/explain, and how its answer is written. Imports torch only if something is explained."""

import io
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import Query
from pydantic import Field

from vitreous.images.inputs import Ready
from vitreous.serving.models import Loaded
from vitreous.serving.problems import Problem


@dataclass(frozen=True)
class ExplainOptions:
    """Which maps are requested, and in which format."""

    method: str
    layer: int | None
    head: int | None
    target: str | None
    query: int | Literal["all"] | None
    format: Literal["json", "png", "npy"]


async def read_explain_options(
    method: Annotated[
        str, Query(description="attention, rollout, relevance, ...; auto: the most informative one.")
    ] = "auto",
    layer: Annotated[int | None, Query(description="0 the first, -1 the last; by default the last.")] = None,
    head: Annotated[int | None, Query(description="0 the first; by default the mean over all.")] = None,
    target: Annotated[
        str | None, Query(description="The class to explain, by name or number; by default the most probable.")
    ] = None,
    query: Annotated[
        Annotated[int, Field(ge=0)] | Literal["all"] | None,
        Query(description="For attention: the patch whose attention is shown, row by row from 0; all: every patch's."),
    ] = None,
    format: Annotated[
        Literal["json", "png", "npy"],
        Query(
            description="json: arrays; png: the image in grey under its map; npy: the array as NumPy stores it, in float32."
        ),
    ] = "json",
) -> ExplainOptions:
    """Return the options for the maps in the address."""
    return ExplainOptions(method, layer, head, target, query, format)


def explain_images(loaded: Loaded, images: list[Ready], wanted: ExplainOptions) -> dict[str, Any] | bytes:
    """Return the description of the images' maps, or the bytes of one image's map; raises Problem, ConfigError."""
    from vitreous.insight.methods import MapOptions
    from vitreous.serving.maps import (
        MOST_NUMBERS,
        check_weights,
        compute_maps,
        count_numbers,
        describe_maps,
        draw_map,
        join_maps,
    )
    from vitreous.serving.page_contents import MOST_WEIGHTS

    pixels = [one.pixels for one in images if one.pixels is not None]
    if wanted.format != "json" and len(images) > 1:
        raise Problem(
            "invalid-parameter",
            f"{wanted.format} holds one image's map, but {len(images)} came; send one, or ask for json",
        )
    if wanted.format == "png" and wanted.query == "all":
        raise Problem(
            "invalid-parameter", "png shows one map, but query=all asks for every patch's; ask for json or npy"
        )
    options = MapOptions(wanted.method, wanted.layer, wanted.head, wanted.target)
    if wanted.query == "all":
        check_weights(loaded.predictor, len(pixels), MOST_NUMBERS if wanted.format == "json" else MOST_WEIGHTS)
    each = loaded.batcher.most
    found = join_maps(
        [
            compute_maps(loaded.predictor, np.stack(pixels[start : start + each]), options, wanted.query)
            for start in range(0, len(pixels), each)
        ]
    )
    if wanted.format == "json" and wanted.query != "all" and count_numbers(found) > MOST_NUMBERS:
        raise Problem(
            "invalid-parameter",
            f"these maps have {count_numbers(found):,} numbers, above the limit of {MOST_NUMBERS:,}; send fewer images, or ask for npy",
        )
    if wanted.format == "png":
        return draw_map(loaded.predictor, pixels[0], found.maps[0])
    if wanted.format == "npy":
        file = io.BytesIO()
        narrowed = found.by_head is None or wanted.head is not None
        np.save(file, (found.maps if narrowed else found.by_head)[0].astype("<f4"), allow_pickle=False)
        return file.getvalue()
    places = iter(range(len(pixels)))
    entries = [
        {"name": one.name, "error": one.error}
        | ({} if one.pixels is None else describe_maps(loaded.predictor, found, next(places)))
        for one in images
    ]
    settled = found.options
    return {"method": settled.method, "layer": settled.layer, "head": settled.head, "explanations": entries}
