"""RUN/report.html: everything about a run on one page, in one file that needs no network."""

from collections.abc import Callable, Sequence
from pathlib import Path

from markupsafe import Markup

from vitreous.drawing.html import render_page
from vitreous.images.config import PreprocessConfig
from vitreous.images.pixels import describe_colours
from vitreous.model.kinds import TITLES
from vitreous.reports.blocks import Block, Note, Section, Words, write_byline
from vitreous.reports.run.contents import EXPECTED, RunContents, gather, is_multilabel, is_unlabelled, read_kind
from vitreous.reports.run.examples import build_attention, build_positions, build_training_batch, list_mistakes
from vitreous.reports.run.metadata import build_commands, build_configuration, build_data, build_versions
from vitreous.reports.run.pseudo_labels import tabulate_pseudo_labels
from vitreous.reports.run.results import (
    build_calibration,
    build_confusions,
    build_curves,
    describe_handed_over,
    list_figures,
    tabulate_classes,
)
from vitreous.runtime.display import strip_hidden
from vitreous.settings import from_dict
from vitreous.storage.atomic import write_atomically

Draw = Callable[[RunContents], Sequence[Block] | None]
"""Returns a section's blocks; None if it doesn't apply to this run."""
SECTIONS: tuple[tuple[str, str, Draw], ...] = (
    ("results", "Results", list_figures),
    ("handed-over", "What is handed over", describe_handed_over),
    ("curves", "Learning curves", build_curves),
    ("confusion", "Confusions", build_confusions),
    ("classes", "Classes", tabulate_classes),
    ("calibration", "Calibration", build_calibration),
    ("mistakes", "Surest mistakes", list_mistakes),
    ("attention", "Attention", build_attention),
    ("positions", "Position embeddings", build_positions),
    ("batch", "A training batch", build_training_batch),
    ("pseudo-labels", "Pseudo labels", tabulate_pseudo_labels),
    ("data", "Data", build_data),
    ("configuration", "Configuration", build_configuration),
    ("versions", "Versions and machine", build_versions),
    ("commands", "Next", build_commands),
)
"""Anchor, title and function of each section, in the page's order."""
PREDICTIONS = ("confusion", "classes", "calibration", "mistakes", "attention")
"""Sections about a head's predictions, which a run without labels doesn't have."""
OF_ONE_LABEL = ("confusion", "calibration")
"""Sections that are meaningful only if an image has one label."""


def write_report(run_path: str | Path) -> Path:
    """Write RUN/report.html and return its path. The page is replaced as a whole, or stays as it was.

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
    lead = said.format(name_kind(found), strip_hidden(where), strip_hidden(recipe), strip_hidden(build_pictures(found)))
    left_out = PREDICTIONS if is_unlabelled(found) else OF_ONE_LABEL if is_multilabel(found) else ()
    parts = [(anchor, title, draw_sections(found, draw)) for anchor, title, draw in SECTIONS if anchor not in left_out]
    sections = [Section(anchor, title, blocks) for anchor, title, blocks in parts if blocks is not None]
    name = found.record.path.resolve().name
    return render_page(name, [Words(lead)], sections, f"{write_byline()} from {found.record.path}.")


def build_pictures(found: RunContents) -> str:
    """Describe how the page's pictures show images with many channels."""
    said = describe_colours(from_dict(PreprocessConfig, found.settings.get("preprocess") or {}, "preprocess"))
    return f" {said}" if said else ""


def name_kind(found: RunContents) -> str:
    """Name the kind of training."""
    kind = read_kind(found)
    return "Vision Transformer" if kind == "vit" else TITLES.get(kind, kind)


def draw_sections(found: RunContents, draw: Draw) -> Sequence[Block] | None:
    """Return a section's blocks; if something that it needs is unavailable, a note that says so."""
    try:
        return draw(found)
    except EXPECTED as error:
        return [Note("This part can't be drawn:", " ".join(str(error).split()))]
