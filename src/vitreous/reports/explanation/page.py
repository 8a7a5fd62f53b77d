"""An explanation's folder: an overlay for each image, and the page."""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from vitreous.drawing.html import read_resource, render_page
from vitreous.drawing.images import draw_overlay, encode_png
from vitreous.images.inputs import Image
from vitreous.insight.explanation import Opened
from vitreous.model.kinds import get_kind
from vitreous.reports.blocks import Block, Section, Words, write_byline
from vitreous.reports.explanation.contents import ExplainedImage, ExplanationContents, PageOptions, Progress, gather
from vitreous.reports.explanation.explorer import build_explorer
from vitreous.reports.explanation.sections import (
    build_distances,
    build_faithfulness,
    build_features,
    build_filters,
    build_maps,
    build_positions,
)
from vitreous.storage.atomic import atomic_folder

PAGE, MAPS = "index.html", "maps"
LONGEST = 150
"""Bytes of an image's name in that of its overlay; file systems take 255 in all."""
SECTIONS: tuple[tuple[str, str, Callable[[ExplanationContents], Sequence[Block]], tuple[str, ...]], ...] = (
    ("explore", "What a patch looks at", build_explorer, ("vit",)),
    ("maps", "Maps", build_maps, ()),
    ("faithfulness", "How faithful the maps are", build_faithfulness, ()),
    ("distance", "How far heads look", build_distances, ("vit", "swin")),
    ("positions", "Positions", build_positions, ("vit",)),
    ("filters", "Filters", build_filters, ()),
    ("features", "Features", build_features, ("vit", "swin")),
)
"""Anchor, title and function of each section, in the page's order, and the kinds of models that have it; none: all."""


def write_explanation(
    folder: Path, ready: Opened, images: Iterable[Image], options: PageOptions, name: str, progress: Progress
) -> ExplanationContents:
    """Write a folder, whole or not at all: maps/0001-cat-relevance.png for each image, and index.html.

    Args:
        folder: new or empty.
        ready: the model.
        images: as `explain` takes them; unreadable ones are left out.
        options: which map the overlays show, and how much goes on the page.
        name: of the model on the page.
        progress: called during the work.

    Raises:
        DataError: no image could be read; nothing is written. StorageError: the disk is full or read-only.
    """
    with atomic_folder(folder.resolve()) as partial:
        (partial / MAPS).mkdir()

        def keep(number: int, one: ExplainedImage) -> None:
            pixels = draw_overlay(one.picture, one.heat.astype(np.float64))
            (partial / MAPS / name_file(number, one.name, options.map_options.method)).write_bytes(encode_png(pixels))

        found = gather(ready, images, options, keep, progress)
        (partial / PAGE).write_bytes(render(found, name))
    return found


def name_file(number: int, name: str, method: str) -> str:
    """Return the name of an image's overlay; its number distinguishes equal names."""
    stem = re.sub(r"[^\w.-]+", "-", Path(name).stem).strip("-.")[:60]
    stem = stem.encode()[:LONGEST].decode(errors="ignore")
    return f"{number + 1:04}-{stem or 'image'}-{method}.png"


def render(found: ExplanationContents, name: str) -> bytes:
    """Return the whole page."""
    kind = get_kind(found.ready.model.config)
    sections = [
        Section(anchor, title, draw(found)) for anchor, title, draw, kinds in SECTIONS if not kinds or kind in kinds
    ]
    style, script = (read_resource(f"reports/explanation/explorer.{kind}") for kind in ("css", "js"))
    title, lead = f"What {name} looks at", [Words(_write_lead(found))]
    return render_page(title, lead, sections, f"{write_byline()}.", style, script if kind == "vit" else "")


def _write_lead(found: ExplanationContents) -> str:
    shown, count = len(found.shown), found.count
    lead = f"{count:,} image{'s' if count != 1 else ''}"
    lead += f", of which the first {shown} are on this page" if shown < count else ""
    lead += f"; an overlay of {found.map_options.method} for each is in {MAPS}/."
    if found.broken:
        lead += f" {len(found.broken):,} could not be read."
    return lead
