"""RUN/report.html: everything about a run on one page, in one file that needs no network."""

from collections.abc import Callable, Sequence
from pathlib import Path

from markupsafe import Markup

from vitreous.drawing.html import page, plain
from vitreous.images.config import PreprocessConfig
from vitreous.images.pixels import describe_colours
from vitreous.reports.blocks import Block, Note, Section, Words, written
from vitreous.reports.run.contents import EXPECTED, RunContents, gather, is_multilabel, is_resnet, without_labels
from vitreous.reports.run.examples import attention, mistakes, positions, training_batch
from vitreous.reports.run.metadata import commands, configuration, data, versions
from vitreous.reports.run.results import calibration, classes, confusions, curves, headline
from vitreous.settings import from_dict
from vitreous.storage.atomic import write_atomically

Draw = Callable[[RunContents], Sequence[Block] | None]
"""Returns a section's blocks; None where it has no place in this run's page."""
SECTIONS: tuple[tuple[str, str, Draw], ...] = (
    ("results", "Results", headline),
    ("curves", "Learning curves", curves),
    ("confusion", "Confusions", confusions),
    ("classes", "Classes", classes),
    ("calibration", "Calibration", calibration),
    ("mistakes", "Surest mistakes", mistakes),
    ("attention", "Attention", attention),
    ("positions", "Position embeddings", positions),
    ("batch", "A training batch", training_batch),
    ("data", "Data", data),
    ("configuration", "Configuration", configuration),
    ("versions", "Versions and machine", versions),
    ("commands", "Next", commands),
)
"""Anchor, title and function of each section, in the page's order."""
PREDICTIONS = ("confusion", "classes", "calibration", "mistakes", "attention")
"""Sections about a head's predictions, which a run without labels has none of."""
OF_ONE_LABEL = ("confusion", "calibration")
"""Sections that have a meaning only where an image has one label."""


def write_report(run_path: str | Path) -> Path:
    """Write RUN/report.html and return its path. The page is replaced whole, or stays as it was.

    A run that is unfinished, has no model yet, or whose data is gone gets a page too: each section that can't be drawn
    says what is missing and why.

    Raises:
        RunError: no run there. StorageError: the page can't be written.
    """
    found = gather(Path(run_path))
    target = found.record.report_path
    write_atomically(target, render(found))
    return target


def render(found: RunContents) -> bytes:
    """Return the whole page."""
    where = (found.settings.get("data") or {}).get("path", "data unknown")
    said = Markup("A {} trained on <code>{}</code>, recipe {}.{}")
    recipe = found.settings.get("recipe", "unknown")
    lead = said.format(kind(found), plain(where), plain(recipe), plain(pictures(found)))
    left_out = PREDICTIONS if without_labels(found) else OF_ONE_LABEL if is_multilabel(found) else ()
    parts = [(anchor, title, drawn(found, draw)) for anchor, title, draw in SECTIONS if anchor not in left_out]
    sections = [Section(anchor, title, blocks) for anchor, title, blocks in parts if blocks is not None]
    name = found.record.path.resolve().name
    return page(name, [Words(lead)], sections, f"{written()} from {found.record.path}.")


def pictures(found: RunContents) -> str:
    """Say what the page's pictures show of images with many channels."""
    said = describe_colours(from_dict(PreprocessConfig, found.settings.get("preprocess") or {}, "preprocess"))
    return f" {said}" if said else ""


def kind(found: RunContents) -> str:
    """Say what was trained."""
    return "ResNet" if is_resnet(found) else "Vision Transformer"


def drawn(found: RunContents, draw: Draw) -> Sequence[Block] | None:
    """Return a section's blocks; what it needs and can't get is said in its place."""
    try:
        return draw(found)
    except EXPECTED as error:
        return [Note("This part can't be drawn:", " ".join(str(error).split()))]
