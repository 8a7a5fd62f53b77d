"""The part of the page that moves: pick an image, a layer, a head and a patch, and see what it looks at."""

import json

from vitreous.drawing.html import missing, paragraph, picture, text
from vitreous.drawing.images import STEPS, TINY, thumbnail
from vitreous.model.vit import ViT
from vitreous.reports.explanation.attention_rows import Rows, left_out
from vitreous.reports.explanation.contents import Findings, Looked

LARGEST = 320
"""Pixels of the longer side of an image on the page."""


def explorer(found: Findings) -> str:
    """Return the stages, the controls, and the weights that they show."""
    model, rows = found.ready.model, found.rows
    if rows is None or not isinstance(model, ViT):
        return missing("No attention to move about in:", "a ResNet has none. Its maps are below.")
    shown = found.shown[: rows.kept.images]
    lead = (
        "Move over either picture, or tap it: the yellow patches are those that the outlined patch looks at, in the layer "
        "and head chosen. A click holds the patch."
    )
    thinned = left_out(rows.kept, model, len(found.shown))
    return (
        paragraph(lead)
        + (paragraph(thinned) if thinned else "")
        + '<noscript><p class="missing">This part needs JavaScript; the maps below do without.</p></noscript>'
        + f'<div class="explore">{_stages(shown[0])}{_controls(found, rows)}</div>{_thumbs(shown)}'
        + _data(found, rows, shown)
    )


def _stages(first: Looked) -> str:
    source, tiny = thumbnail(first.picture, LARGEST), max(first.picture.shape[:2]) <= TINY

    def stage(words: str, label: str, inside: str, kind: str) -> str:
        image = picture(source, first.name, tiny, kind).replace(' loading="lazy"', "")
        return (
            f'<figure class="stage"><figcaption>{words}</figcaption>'
            f'<div class="frame" tabindex="0" role="application" aria-label="{label}" aria-describedby="told">'
            f'{image}{inside}<div class="query" hidden></div></div></figure>'
        )

    keys = "arrow keys move the patch that looks"
    left = stage("Look from here", f"The image; {keys}", "", "")
    right = stage(
        "What it looks at", f"What the patch looks at; {keys}", "<canvas aria-hidden='true'></canvas>", "under"
    )
    return f'<div class="stages">{left}{right}</div>'


def _controls(found: Findings, rows: Rows) -> str:
    last = len(rows.kept.layers) - 1
    heads = f'<option value="0">mean of {found.ready.model.config.heads} heads</option>'
    heads += "".join(f'<option value="{place}">head {head}</option>' for place, head in enumerate(rows.kept.heads, 1))
    tokens = '<option value="-1">the patch under the pointer</option>'
    tokens += "".join(f'<option value="{place}">{text(name)}</option>' for place, name in enumerate(rows.prefix))
    return (
        '<div class="controls"><p class="told" id="told" aria-live="polite"></p>'
        f'<div><label for="layer">Layer <span id="layer-told"></span></label>'
        f'<input type="range" id="layer" min="0" max="{last}" value="{last}" step="1"></div>'
        f'<div><label for="head">Head</label><select id="head">{heads}</select></div>'
        f'<div><label for="query">Look from</label><select id="query">{tokens}</select></div>'
        '<p class="soft" aria-hidden="true">0<span class="scale"></span>most, from here</p>'
        '<p class="soft"><kbd>Tab</kbd> to a picture, then <kbd>←</kbd> <kbd>↑</kbd> <kbd>→</kbd> <kbd>↓</kbd>. '
        '<span id="pin" aria-live="polite"></span></p></div>'
    )


def _thumbs(shown: list[Looked]) -> str:
    buttons = ""
    for number, one in enumerate(shown):
        tiny = max(one.picture.shape[:2]) <= TINY
        image = picture(thumbnail(one.picture, LARGEST), "", tiny).replace(' loading="lazy"', "")
        label = text(f"Image {number + 1}: {one.name}")
        buttons += f'<button type="button" aria-pressed="false" aria-label="{label}" title="{label}">{image}</button>'
    hidden = "" if len(shown) > 1 else " hidden"
    return f'<div class="thumbs" role="group" aria-label="Image"{hidden}>{buttons}</div><p class="soft" id="image-told"></p>'


def said(found: Findings, one: Looked) -> str:
    """Say what the model takes an image for."""
    classes = found.ready.folder.classes
    if not classes:
        return one.name
    best = int(one.probabilities.argmax())
    return f"{one.name}: {classes[best]}, {one.probabilities[best]:.1%}"


def _start(found: Findings, rows: Rows) -> list[int]:
    """Return the places of the layer and the map that are shown first: those that were asked for, if they are kept."""
    layer, head = found.choice.layer, found.choice.head
    place = rows.kept.layers.index(layer) if layer in rows.kept.layers else len(rows.kept.layers) - 1
    return [place, 1 + rows.kept.heads.index(head) if head in rows.kept.heads else 0]


def _data(found: Findings, rows: Rows, shown: list[Looked]) -> str:
    document = {
        "grid": list(rows.grid),
        "depth": found.ready.model.config.depth,
        "prefix": list(rows.prefix),
        "layers": list(rows.kept.layers),
        "heads": [None, *rows.kept.heads],
        "start": _start(found, rows),
        "colours": STEPS,
        "tiny": max(shown[0].picture.shape[:2]) <= TINY,
        "images": [{"name": one.name, "words": said(found, one)} for one in shown],
    }
    # "</" can't end the element early: < is written as its escape.
    written = json.dumps(document).replace("<", "\\u003c")
    parts = f'<script type="application/json" id="explore-data">{written}</script>\n'
    for image, layers in enumerate(rows.texts):
        for layer, packed in enumerate(layers):
            parts += f'<script type="text/plain" id="rows-{image}-{layer}">{packed}</script>\n'
    return parts
