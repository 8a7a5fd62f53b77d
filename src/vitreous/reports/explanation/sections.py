"""The parts of the page that stand still: maps, how faithful they are, how far heads look, positions, filters, features."""

import numpy as np

from vitreous.drawing.charts import Series, line_chart, percent
from vitreous.drawing.html import figure, missing, paragraph, picture, table, text
from vitreous.drawing.images import TINY, overlay, sheet, thumbnail
from vitreous.images.pixels import colours_said
from vitreous.insight.faithfulness import Curve
from vitreous.insight.filters import filter_components
from vitreous.insight.methods import METHODS
from vitreous.model.resnet import ResNet
from vitreous.reports.explanation.contents import Findings, Looked
from vitreous.reports.position_maps import places

BEST, WIDE = 3, 224
"""Most classes named for an image, and pixels of a picture's longer side."""


def maps(found: Findings) -> str:
    """Return each image with its prediction and every fitting method's map."""
    lines = "".join(f"<li><strong>{name}</strong>: {text(METHODS[name].what)}</li>" for name in found.maps)
    body = paragraph(
        "The images as the model sees them. Yellow is most, relative to each picture; maps that are about a class are about "
        "the one in bold. " + colours_said(found.ready.folder.preprocess)
    )
    body += f'<ul class="soft">{lines}</ul>'
    for place, one in enumerate(found.shown):
        tiles = _tile(one.picture, "the image")
        for method, values in found.maps.items():
            words, kind = method, "chosen" if method == found.choice.method else ""
            tiles += _tile(overlay(one.picture, values[place].astype(np.float64)), words, kind)
        body += f'<div class="one"><h3>{text(one.name)}</h3>{_scores(found, one)}<div class="maps">{tiles}</div></div>'
    return body


def _tile(pixels: np.ndarray, words: str, kind: str = "") -> str:
    image = picture(thumbnail(pixels, WIDE), words, max(pixels.shape[:2]) <= 2 * TINY)
    return f'<figure>{image}<figcaption class="{kind}">{text(words)}</figcaption></figure>'


def _scores(found: Findings, one: Looked) -> str:
    classes = found.ready.folder.classes
    if not classes:
        return ""
    order = list(map(int, np.argsort(-one.probabilities, kind="stable")[:BEST]))
    items = ""
    for index in order + [one.target] * (one.target not in order):
        share = one.probabilities[index]
        kind = ' class="about"' if index == one.target else ""
        items += (
            f'<li{kind}><span class="share" aria-hidden="true"><span style="width:{share:.1%}"></span></span>'
            f"{text(classes[index])} {share:.1%}</li>"
        )
    return f'<ul class="said">{items}</ul>'


def faithfulness(found: Findings) -> str:
    """Return how the methods' maps compare by deletion and insertion."""
    if not found.compared:
        return missing("Not measured:", "it needs a model with a head, and --faithful above 0.")
    over = f"Means over the first {found.held} images" if found.held > 1 else "Of the first image"
    lead = (
        f"{over}. Deletion puts the image's mean colour in place of the cells that a map calls "
        "most important, most important first: the sooner the class's probability falls, the smaller the area. Insertion "
        "brings them back into a blurred image: the sooner it rises, the larger the area (1806.07421). A map that does "
        "no better than the random one says nothing of what the model goes by."
    )
    order = sorted(found.compared, key=lambda name: found.compared[name].deletion.area)
    rows = [
        (name, f"{found.compared[name].deletion.area:.3f}", f"{found.compared[name].insertion.area:.3f}")
        for name in order
    ]
    heads = ("map", "deletion (less is better)", "insertion (more is better)")
    chosen = found.choice.method
    charts = "".join(
        figure(
            line_chart(
                [_curve(chosen, getattr(found.compared[chosen], way), 1), _curve("random", getattr(found.compared["random"], way), 2)],
                f"Probability of the class by {way}", f"share of the image {done}", percent, (0, 1),
            ),
            f"Probability of the class as the image {goes}.", way.capitalize(),
        )
        for way, done, goes in (("deletion", "deleted", "goes"), ("insertion", "inserted", "comes"))
    )  # fmt: skip
    return paragraph(lead) + table("Area under the curve", heads, rows) + f'<div class="row">{charts}</div>'


def _curve(name: str, curve: Curve, style: int) -> Series:
    return Series(name, list(zip(curve.shares.tolist(), curve.probabilities.tolist(), strict=True)), style)


def distances(found: Findings) -> str:
    """Return attention distance, entropy and the prefix tokens' share by depth, a dot for each head."""
    spread = found.spread
    if spread is None:
        return missing("Nothing to show:", "a ResNet has no attention.")
    config = found.ready.model.config
    tokens = found.rows.grid.rows * found.rows.grid.cols + len(found.rows.prefix) if found.rows else config.tokens
    told = [
        ("Distance", spread.distance, "pixels", "Mean distance, in pixels, between a patch and what it looks at, weighed by attention (2010.11929, figure 7, right)."),
        ("Entropy", spread.entropy, "nats", f"Of a patch's attention, in nats: 0 looks at one token, {np.log(tokens):.2f} at all {tokens} alike."),
    ]  # fmt: skip
    if config.prefix:
        told.append(("To the prefix", spread.prefix, "share", "Share of the patches' attention that goes to [class] and other tokens before the patches."))  # fmt: skip
    charts = ""
    for title, values, unit, words in told:
        heads = [(float(layer), float(one)) for layer, row in enumerate(values.tolist()) for one in row]
        means = [(float(layer), float(row.mean())) for layer, row in enumerate(values)]
        series = [Series("heads", heads, 1, joined=False), Series("mean", means, 2)]
        form = percent if unit == "share" else "{:.3g}".format
        charts += figure(line_chart(series, f"{title} by layer, in {unit}", "layer", form), words, title)
    lead = f"Means over {spread.images:,} image{'s' if spread.images > 1 else ''}; each dot is a head."
    return paragraph(lead) + f'<div class="row">{charts}</div>'


def positions(found: Findings) -> str:
    """Return what the model has learned about places."""
    model = found.ready.model
    if isinstance(model, ResNet):
        return missing("Nothing to show:", "a ResNet has no position embedding.")
    return places(model)


def filters(found: Findings) -> str:
    """Return the principal components of the first layer's filters."""
    made = filter_components(found.ready.model)
    tiles = made.components.permute(0, 2, 3, 1).numpy()
    times = max(1, 24 // max(tiles.shape[1:3]))
    image = picture(
        thumbnail(sheet(tiles.repeat(times, axis=1).repeat(times, axis=2))), "Principal components", True, "sheet"
    )
    lead = (
        f"The first {len(tiles)} principal components of the filters of {made.of}, row by row; together they explain "
        f"{float(made.explained.sum()):.0%} of the filters' variance (2010.11929, figure 7, left). Grey is 0."
    )
    return paragraph(lead) + image


def features(found: Findings) -> str:
    """Return patch features as colours, and the lengths of tokens by depth."""
    if found.colours is None or found.norms is None:
        return missing("Nothing to show:", "a ResNet has no patches.")
    tiles = "".join(
        _tile((255 * values).round().astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1), one.name)
        for one, values in zip(found.shown, found.colours, strict=True)
    )
    lead = (
        "The first three principal components of the last layer's patch vectors, over all these images together, as red, "
        "green and blue: the same colour is the same content."
    )
    front = found.ready.model.config.prefix
    lines = [
        ("largest patch", found.norms[:, :, front:].max((1, 2))),
        ("median patch", np.median(found.norms[:, :, front:], axis=(1, 2))),
    ]
    lines += [("other tokens", found.norms[:, :, :front].mean((1, 2)))] if front else []
    series = [Series(name, list(enumerate(map(float, values))), style) for style, (name, values) in enumerate(lines, 1)]
    words = "Length of the tokens' vectors after each layer"
    words += "; other tokens are [class], registers and the like. " if front else ". "
    words += "Patches far longer than the median are artefacts, which registers take away (2309.16588)."
    chart = figure(line_chart(series, "Lengths of tokens by layer", "layer"), words, "Lengths of tokens")
    return paragraph(lead) + f'<div class="maps">{tiles}</div><div class="lengths">{chart}</div>'
