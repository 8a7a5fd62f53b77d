"""The interactive section of the page: pick an image, a layer, a head and a patch, and see what the patch attends
to."""

from dataclasses import dataclass

from markupsafe import Markup

from vitreous.drawing.html import render_macro
from vitreous.drawing.images import STEPS, TINY, draw_thumbnail
from vitreous.model.kinds import name_kind
from vitreous.model.vit import ViT
from vitreous.reports.blocks import Block, Note, Words
from vitreous.reports.explanation.attention_rows import Rows, describe_omissions
from vitreous.reports.explanation.contents import ExplainedImage, ExplanationContents

TEMPLATE = "reports/explanation/explorer.html"

LARGEST = 320
"""Pixels of the longer side of an image on the page."""


def build_explorer(found: ExplanationContents) -> list[Block]:
    """Return the stages, the controls, and the weights behind them."""
    model, rows = found.ready.model, found.rows
    if rows is None or not isinstance(model, ViT):
        return [Note("No attention to move about in:", f"{name_kind(model.config.KIND)} has none. Its maps are below.")]
    lead = (
        "Move over either picture, or tap it: the yellow patches are those that the outlined patch looks at, in the layer "
        "and head chosen. A click holds the patch."
    )
    lacking = describe_omissions(rows.kept, model, len(found.shown))
    return [Words(lead), *([Words(lacking)] if lacking else []), Explorer(found, rows)]


@dataclass(frozen=True)
class Explorer(Block):
    """The block that explorer.js animates."""

    found: ExplanationContents
    rows: Rows

    def html(self) -> Markup:
        """Return pictures, controls, and the weights as base64."""
        found, rows = self.found, self.rows
        shown = found.shown[: rows.kept.images]
        config = found.ready.model.config
        pictures = [
            {
                "name": one.name,
                "source": draw_thumbnail(one.picture, LARGEST),
                "tiny": max(one.picture.shape[:2]) <= TINY,
            }
            for one in shown
        ]
        data = {
            "grid": list(rows.grid),
            "depth": config.depth,
            "prefix": list(rows.prefix),
            "layers": list(rows.kept.layers),
            "heads": [None, *rows.kept.heads],
            "start": _choose_start(found, rows),
            "colours": STEPS,
            "tiny": pictures[0]["tiny"],
            "images": [{"name": one.name, "words": describe(found, one)} for one in shown],
        }
        layers, heads = len(rows.kept.layers), rows.kept.heads
        return render_macro("explorer", pictures, layers, heads, config.heads, data, rows.texts, template=TEMPLATE)


def describe(found: ExplanationContents, one: ExplainedImage) -> str:
    """Describe the model's prediction for an image."""
    classes = found.ready.folder.classes
    if not classes:
        return one.name
    best = int(one.probabilities.argmax())
    return f"{one.name}: {classes[best]}, {one.probabilities[best]:.1%}"


def _choose_start(found: ExplanationContents, rows: Rows) -> list[int]:
    """Return the positions of the layer and the map that are shown first: the requested ones, if the page holds
    them."""
    layer, head = found.map_options.layer, found.map_options.head
    place = rows.kept.layers.index(layer) if layer in rows.kept.layers else len(rows.kept.layers) - 1
    return [place, 1 + rows.kept.heads.index(head) if head in rows.kept.heads else 0]
