"""Small pictures with words below: examples of a source, as a model sees them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from vitreous.data.sources.base import Source
from vitreous.drawing.html import render_macro
from vitreous.drawing.images import TINY, draw_thumbnail
from vitreous.images.pixels import select_visible
from vitreous.images.preprocess import preprocess_image
from vitreous.reports.blocks import Block, Drawing, escape_markdown
from vitreous.shapes import Pixels, UInt8
from vitreous.weights.model_folder import ModelFolder

ROW = 96
"""Most rows and columns of each picture of a strip, in pixels."""

GAP = 3
"""Grey columns between the pictures of a strip."""


def render_input(folder: ModelFolder, source: Source, index: int) -> UInt8[np.ndarray, "row col channel"]:
    """Return the picture of an example's model input, before normalisation, for people; raises ImageError."""
    return select_visible(read_input(folder, source, index), folder.preprocess)


def read_input(folder: ModelFolder, source: Source, index: int) -> Pixels[np.ndarray, "row col channel"]:
    """Return an example's model input, before normalisation; raises ImageError."""
    return preprocess_image(source.read(index), folder.decode, folder.preprocess, source.names[index])


@dataclass(frozen=True)
class Picture(Block):
    """An image; tiny ones are enlarged without blur."""

    pixels: UInt8[np.ndarray, "row col channel"]
    alternative: str
    """Description in words."""
    kind: str = ""
    """A class of the page's style."""
    most: int = 160
    """Pixels of its longer side."""

    def html(self) -> Markup:
        """Return it with its pixels embedded."""
        tiny = max(self.pixels.shape[:2]) <= TINY
        return render_macro("picture", draw_thumbnail(self.pixels, self.most), self.alternative, tiny, self.kind)


class Line(NamedTuple):
    """A line below a picture."""

    name: str
    """The emphasised part."""
    more: str = ""
    wrong: bool = False
    before: str = ""


@dataclass(frozen=True)
class Tile:
    """One picture, or two side by side, with lines of text."""

    picture: Picture
    lines: Sequence[Line]
    file: str = ""
    """Its file name."""
    second: Picture | None = None


@dataclass(frozen=True)
class Tiles(Block):
    """Pictures with their lines on the page, a list of names and lines in Markdown."""

    tiles: Sequence[Tile]
    kind: str = "tiles"
    """tiles, pairs or maps: the size."""
    title: str = ""

    def markdown(self) -> str:
        """Return one line for each picture."""
        lines = [", ".join(f"{line.before}{line.name} {line.more}".strip() for line in one.lines) for one in self.tiles]
        return "\n".join(
            f"- {escape_markdown(one.file)}: {escape_markdown(said)}"
            for one, said in zip(self.tiles, lines, strict=True)
        )


def build_strip(name: str, pixels: Sequence[UInt8[np.ndarray, "row col channel"]]) -> Drawing:
    """Return pictures of one size in a row, as one, with one caption."""
    times = max(1, ROW // max(pixels[0].shape[:2]))
    large = [one.repeat(times, axis=0).repeat(times, axis=1) for one in pixels]
    gap = np.full((large[0].shape[0], GAP, large[0].shape[2]), 128, np.uint8)
    row = np.concatenate([part for one in large for part in (one, gap)][:-1], axis=1)
    return Drawing(Picture(row, name, "tiny" if times > 1 else "", ROW * len(pixels)).html(), name)
