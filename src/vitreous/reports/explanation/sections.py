"""The static sections of the page: maps, how faithful they are, how far heads look, positions, filters, features."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from vitreous.drawing.charts import Series, draw_lines
from vitreous.drawing.html import render_macro
from vitreous.drawing.images import draw_overlay, draw_sheet
from vitreous.drawing.svg import Axis, format_percent, shorten
from vitreous.images.pixels import describe_colours
from vitreous.insight.faithfulness import Curve
from vitreous.insight.filters import find_components
from vitreous.insight.methods import METHODS
from vitreous.model.config import ViTConfig
from vitreous.model.kinds import name_kind
from vitreous.model.swin_config import SwinConfig
from vitreous.model.vit import ViT
from vitreous.reports.blocks import Beside, Block, Drawing, Note, Table, Words
from vitreous.reports.explanation.contents import ExplainedImage, ExplanationContents
from vitreous.reports.explanation.explorer import TEMPLATE
from vitreous.reports.image_grid import Line, Picture, Tile, Tiles
from vitreous.reports.position_maps import build_position_maps

BEST, WIDE = 3, 224
"""Most classes named for an image, and pixels of a picture's longer side."""


@dataclass(frozen=True)
class Maps(Block):
    """Each image with its prediction and every fitting method's map."""

    found: ExplanationContents

    def html(self) -> Markup:
        """Return a description of the maps, and a row of pictures for each image."""
        found = self.found
        methods = [(name, METHODS[name].what) for name in found.maps]
        images = [(one.name, list_scores(found, one), self.tiles(place)) for place, one in enumerate(found.shown)]
        return render_macro("maps", methods, images, template=TEMPLATE)

    def tiles(self, place: int) -> Tiles:
        """Return an image and its maps; the requested one is named in bold."""
        one, chosen = self.found.shown[place], self.found.map_options.method
        tiles = [Tile(Picture(one.picture, "the image", most=WIDE), [Line("", "the image")])]
        for method, values in self.found.maps.items():
            picture = Picture(draw_overlay(one.picture, values[place].astype(np.float64)), method, most=WIDE)
            tiles.append(Tile(picture, [Line(method) if method == chosen else Line("", method)]))
        return Tiles(tiles, "maps")


def build_maps(found: ExplanationContents) -> list[Block]:
    """Return each image with its prediction and every fitting method's map."""
    lead = (
        "The images as the model sees them. Yellow is most, relative to each picture; maps that explain a class "
        "explain the one in bold. " + describe_colours(found.ready.folder.preprocess)
    )
    return [Words(lead), Maps(found)]


def list_scores(found: ExplanationContents, one: ExplainedImage) -> list[tuple[str, str, bool]]:
    """Return the most probable classes, and the explained one: name, probability, whether it is that one."""
    classes = found.ready.folder.classes
    if not classes:
        return []
    order = list(map(int, np.argsort(-one.probabilities, kind="stable")[:BEST]))
    order += [one.target] * (one.target not in order)
    return [(classes[index], f"{one.probabilities[index]:.1%}", index == one.target) for index in order]


def build_faithfulness(found: ExplanationContents) -> list[Block]:
    """Return a comparison of the methods' maps by deletion and insertion."""
    if not found.compared:
        return [Note("Not measured:", "it needs a model with a head, and --faithful above 0.")]
    over = f"Means over the first {found.compared_images} images" if found.compared_images > 1 else "Of the first image"
    lead = (
        f"{over}. Deletion replaces the cells that a map ranks highest by the image's mean colour, most important "
        "first: the sooner the class's probability falls, the smaller the area. Insertion restores them in a "
        "blurred image: the sooner it rises, the larger the area (1806.07421). A map that does no better than "
        "the random one says nothing about the model's reasons."
    )
    order = sorted(found.compared, key=lambda name: found.compared[name].deletion.area)
    rows = [
        (name, f"{found.compared[name].deletion.area:.3f}", f"{found.compared[name].insertion.area:.3f}")
        for name in order
    ]
    heads = ("map", "deletion (less is better)", "insertion (more is better)")
    charts = [
        _draw_over_share(found, "deletion", "deleted", "goes"),
        _draw_over_share(found, "insertion", "inserted", "comes"),
    ]
    return [Words(lead), Table("Area under the curve", heads, rows), Beside(charts)]


def _draw_over_share(found: ExplanationContents, way: str, done: str, goes: str) -> Drawing:
    """Draw the class's probability along a curve, for the requested map and for the random one."""
    lines = [
        _draw_curve(method, getattr(found.compared[method], way), colour)
        for colour, method in enumerate((found.map_options.method, "random"), start=1)
    ]
    y = Axis("", format_percent, within=(0, 1))
    chart = draw_lines(lines, f"Probability of the class by {way}", Axis(f"share of the image {done}"), y)
    return Drawing(chart, f"Probability of the class as the image {goes}.", way.capitalize())


def _draw_curve(name: str, curve: Curve, colour: int) -> Series:
    return Series(name, list(zip(curve.shares.tolist(), curve.probabilities.tolist(), strict=True)), colour)


def build_distances(found: ExplanationContents) -> list[Block]:
    """Return attention distance, entropy and the prefix tokens' share by depth, a dot for each head."""
    if not found.distances:
        return [Note("Nothing to show:", f"{name_kind(found.ready.model.config.KIND)} has no attention.")]
    config, images = found.ready.model.config, found.distances[0].images
    plots = [
        ("Distance", "distance", "pixels", "Mean distance, in pixels, between a patch and the patches it attends to, weighted "
                                           "by attention (2010.11929, figure 7, right)."),
        ("Entropy", "entropy", "nats", f"Entropy of a patch's attention, in nats: 0 for a single token, {_describe_most(found)}."),
    ]  # fmt: skip
    if isinstance(config, ViTConfig) and config.prefix:
        plots.append(("To the prefix", "prefix", "share", "Share of the patches' attention that goes to [class] and other tokens before the patches."))  # fmt: skip
    if isinstance(config, SwinConfig) and any(part.prefix.max() > 0 for part in found.distances):
        plots.append(("To the padding", "prefix", "share", "Share of the patches' attention that goes to the padding of their windows."))  # fmt: skip
    charts = []
    for title, name, unit, words in plots:
        rows = [row for part in found.distances for row in getattr(part, name).tolist()]
        heads = [(float(layer), float(one)) for layer, row in enumerate(rows) for one in row]
        means = [(float(layer), sum(row) / len(row)) for layer, row in enumerate(rows)]
        series = [Series("heads", heads, 1, joined=False), Series("mean", means, 2)]
        form = format_percent if unit == "share" else shorten
        chart = draw_lines(series, f"{title} by layer, in {unit}", Axis("layer"), Axis("", form))
        charts.append(Drawing(chart, words, title))
    lead = f"Means over {images:,} image{'s' if images > 1 else ''}; each dot is a head."
    if isinstance(config, SwinConfig):
        lead += f" Stages of {', '.join(map(str, config.depths))} layers, each with patches twice as large as the one before."
    return [Words(lead), Beside(charts)]


def _describe_most(found: ExplanationContents) -> str:
    """Describe the largest entropy: that of a patch which attends equally to all tokens within its reach."""
    config = found.ready.model.config
    if isinstance(config, SwinConfig):
        sizes = sorted({rows * cols for rows, cols in config.windows})
        return " or ".join(f"{np.log(size):.2f} for all {size} patches of a window equally" for size in sizes)
    tokens = found.rows.grid.rows * found.rows.grid.cols + len(found.rows.prefix) if found.rows else config.tokens
    return f"{np.log(tokens):.2f} for all {tokens} equally"


def build_positions(found: ExplanationContents) -> Sequence[Block]:
    """Return what the model has learned about positions."""
    model = found.ready.model
    if not isinstance(model, ViT):
        return [Note("Nothing to show:", f"{name_kind(model.config.KIND)} has no position embedding.")]
    return build_position_maps(model)


def build_filters(found: ExplanationContents) -> list[Block]:
    """Return the principal components of the first layer's filters."""
    made = find_components(found.ready.model)
    tiles = made.components.permute(0, 2, 3, 1).numpy()
    times = max(1, 24 // max(tiles.shape[1:3]))
    pixels = draw_sheet(tiles.repeat(times, axis=1).repeat(times, axis=2))
    lead = (
        f"The first {len(tiles)} principal components of the filters of {made.of}, row by row; together they explain "
        f"{float(made.explained.sum()):.0%} of the filters' variance (2010.11929, figure 7, left). Grey is 0."
    )
    return [Words(lead), Picture(pixels, "Principal components", "tiny sheet")]


def build_features(found: ExplanationContents) -> list[Block]:
    """Return patch features as colours, and the lengths of tokens by depth."""
    if found.colours is None:
        return [Note("Nothing to show:", f"{name_kind(found.ready.model.config.KIND)} has no patches.")]
    pixels = (255 * found.colours).round().astype(np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    tiles = [
        Tile(Picture(values, one.name, "tiny", WIDE), [Line("", one.name)])
        for one, values in zip(found.shown, pixels, strict=True)
    ]
    lead = (
        "The first three principal components of the last layer's patch vectors, over all these images together, "
        "as red, green and blue: equal colours mean equal content."
    )
    if found.norms is None:
        return [Words(lead), Tiles(tiles, "maps")]
    front = found.ready.model.config.prefix
    lines = [
        ("largest patch", found.norms[:, :, front:].max((1, 2))),
        ("median patch", np.median(found.norms[:, :, front:], axis=(1, 2))),
    ]
    lines += [("other tokens", found.norms[:, :, :front].mean((1, 2)))] if front else []
    series = [Series(name, list(enumerate(map(float, values))), style) for style, (name, values) in enumerate(lines, 1)]
    words = "Length of the tokens' vectors after each layer"
    words += "; other tokens are [class], registers and the like. " if front else ". "
    words += "Patches far longer than the median are artefacts, which registers remove (2309.16588)."
    chart = draw_lines(series, "Lengths of tokens by layer", Axis("layer"))
    return [Words(lead), Tiles(tiles, "maps"), Beside([Drawing(chart, words, "Lengths of tokens")], wide=True)]
