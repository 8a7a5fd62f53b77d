"""Small pictures with words below: examples of a source, as a model sees them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from vitreous.data.sources.base import Source
from vitreous.drawing.html import picture, text
from vitreous.drawing.images import TINY, thumbnail
from vitreous.images.pixels import visible
from vitreous.images.preprocess import example
from vitreous.reports.blocks import safe
from vitreous.shapes import Pixels
from vitreous.weights.model_folder import ModelFolder

ROW = 96
"""Rows and columns of each picture of a strip, in pixels, at most."""

GAP = 3
"""Grey columns between the pictures of a strip."""


def seen(folder: ModelFolder, source: Source, index: int) -> UInt8[np.ndarray, "row col channel"]:
    """Return what people are shown of an example, as the model gets it before normalisation; raises ImageError."""
    return visible(given(folder, source, index), folder.preprocess)


def given(folder: ModelFolder, source: Source, index: int) -> Pixels[np.ndarray, "row col channel"]:
    """Return an example's pixels as the model gets them, before normalisation; raises ImageError."""
    return example(source.read(index), folder.decode, folder.preprocess, source.names[index])


def tile(pixels: UInt8[np.ndarray, "row col channel"], alternative: str, words: str) -> str:
    """Return a picture with its words, which are HTML."""
    image = picture(thumbnail(pixels), alternative, tiny=max(pixels.shape[:2]) <= TINY)
    return f"<figure>{image}<figcaption>{words}</figcaption></figure>"


@dataclass(frozen=True)
class Line:
    """A line below a picture."""

    name: str
    """What stands out."""
    more: str = ""
    wrong: bool = False


@dataclass(frozen=True)
class Tile:
    """One picture and what is said of it."""

    pixels: UInt8[np.ndarray, "row col channel"]
    alternative: str
    """What it shows, in words."""
    lines: Sequence[Line]
    file: str
    """Its name."""


@dataclass(frozen=True)
class Tiles:
    """A block of a report: pictures with their lines on the page, a list of names and lines in Markdown."""

    tiles: Sequence[Tile]

    def html(self) -> str:
        """Return a grid of pictures."""
        body = ""
        for one in self.tiles:
            words = "<br>".join(
                f'<span class="name{" wrong" if line.wrong else ""}">{text(line.name)}</span> {text(line.more)}'
                for line in one.lines
            )
            body += tile(one.pixels, one.alternative, f'{words}<br><span class="file">{text(one.file)}</span>')
        return f'<div class="tiles">{body}</div>'

    def markdown(self) -> str:
        """Return one line for each picture."""
        lines = [", ".join(f"{line.name} {line.more}".strip() for line in one.lines) for one in self.tiles]
        return "\n".join(f"- {safe(one.file)}: {safe(said)}" for one, said in zip(self.tiles, lines, strict=True))


@dataclass(frozen=True)
class Strip:
    """A block of a report: pictures of one size in a row, with one caption; only the page shows it."""

    name: str
    pixels: Sequence[UInt8[np.ndarray, "row col channel"]]

    def html(self) -> str:
        """Return one picture of all, side by side."""
        times = max(1, ROW // max(self.pixels[0].shape[:2]))
        large = [one.repeat(times, axis=0).repeat(times, axis=1) for one in self.pixels]
        gap = np.full((large[0].shape[0], GAP, large[0].shape[2]), 128, np.uint8)
        row = np.concatenate([part for one in large for part in (one, gap)][:-1], axis=1)
        image = picture(thumbnail(row, ROW * len(self.pixels)), self.name, tiny=times > 1)
        return f"<figure>{image}<figcaption>{text(self.name)}</figcaption></figure>"

    def markdown(self) -> str:
        """Return nothing."""
        return ""
