"""Pictures of what a model has learned about positions, of any kind."""

from collections.abc import Sequence

import numpy as np

from vitreous.drawing.html import render_macro
from vitreous.drawing.images import draw_mosaic, draw_thumbnail
from vitreous.insight.positions import PlaceMap, compute_position_maps
from vitreous.model.vit import ViT
from vitreous.reports.blocks import Beside, Block, Drawing, Note, Words

MOST = 4
"""Most maps that are shown, evenly spread over layers and heads."""


def build_position_maps(model: ViT) -> Sequence[Block]:
    """Return the mosaics of a model's maps of places, with an explanation of how to read them."""
    every = compute_position_maps(model)
    if not every:
        return [Note("Nothing to show:", "this model has no position embedding.")]
    spread = np.unique(np.linspace(0, len(every) - 1, min(MOST, len(every))).round().astype(int))
    lead = (
        f"Each small picture is at one patch's place, in a grid of {model.config.grid}, and shows how strongly "
        "every other place is related to it (2010.11929, figure 7, middle, and figure 10). A model that has "
        "learned where things are shows a bright spot that moves with the place, and often its row and column."
    )
    lead += f" {len(spread)} of {len(every)} are shown." if len(spread) < len(every) else ""
    return [Words(lead), Beside([_draw_mosaic(every[place]) for place in spread], wide=True)]


def _draw_mosaic(one: PlaceMap) -> Drawing:
    values = one.values.numpy()
    most = 1.0 if one.kind == "cosine" else max(float(np.abs(values).max()), 1e-12)
    name, title = "cosine similarity" if one.kind == "cosine" else "added to the logits", f"{one.name}: {one.of}"
    return Drawing(
        render_macro("mosaic", draw_thumbnail(draw_mosaic(values / most)), title, f"{most:.3g}", name), "", title
    )
