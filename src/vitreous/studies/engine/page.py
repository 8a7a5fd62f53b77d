"""The output of a study: results.json, table.md, the figures and report.html."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from vitreous.drawing.html import render_page
from vitreous.metrics.seeds import Verdict, settle_verdicts
from vitreous.model import count
from vitreous.reports.blocks import Drawing, Section, Table, Words
from vitreous.settings import to_json
from vitreous.storage.atomic import write_atomically
from vitreous.studies.answers import EACH
from vitreous.studies.engine.study import Cell, CellResults, Conclusion, Setting, Study

RESULTS, TABLE, REPORT = "results.json", "table.md", "report.html"
RULES = (
    "Conditions are compared by seed: the same order of images, and the same starting weights wherever their shapes agree. An interval after ± or in "
    "brackets is the 95% interval of the mean, for other seeds and other validation images alike. A claim is judged by t tests of the paired differences, "
    "sameness within a named margin by two one-sided ones; p is the probability of such numbers, or clearer ones, if there were nothing to see, after Holm's "
    "correction for all claims of the study. Up to 0.05 a claim is called seen, or not seen where its opposite is shown. Anything else can't be told."
)
"""The rules of judgement of all studies, for readers of the page; see `metrics/seeds.py`."""
SHARED = {"top1": "top-1 accuracy", "loss": "loss"}
"""Descriptions of the numbers that most cells have."""
WORDS = {"seen": "Seen again", "not seen": "Not seen", "can't be told": "Can't be told at this scale"}


def write_conclusion(study: Study, setting: Setting, results: CellResults) -> Conclusion:
    """Conclude from the finished cells (nothing at scale smoke) and write everything to the study's folder, each file
    atomically."""
    conclusion = study.conclude(setting, results)
    conclusion = replace(conclusion, verdicts=settle_verdicts(conclusion.verdicts))
    if setting.scale == "smoke":
        conclusion = replace(conclusion, verdicts=[replace(one, seen="can't be told") for one in conclusion.verdicts])
    folder = setting.folder
    write_atomically(folder / RESULTS, to_json(collect_results(study, setting, results, conclusion)))
    write_atomically(folder / TABLE, format_markdown(setting, results, conclusion).encode())
    for drawing in conclusion.figures:
        write_atomically(folder / f"{drawing.name}.svg", drawing.svg.encode())
    write_atomically(folder / REPORT, render_report(study, setting, results, conclusion))
    return conclusion


def collect_results(study: Study, setting: Setting, results: CellResults, conclusion: Conclusion) -> dict[str, Any]:
    """Return all numbers and verdicts as JSON values: a pure function of the runs, except for times of day and
    durations."""
    return {
        "study": study.name,
        "title": study.title,
        "scale": setting.scale,
        "data": describe_data(setting),
        "cells": results.cell_count,
        "done": len(results.all),
        "question": study.question,
        "paper": study.paper,
        "here": study.here,
        "verdicts": [asdict(verdict) for verdict in conclusion.verdicts],
        "notes": list_notes(setting, results, conclusion),
        "figures": [{"name": one.name, "caption": one.caption} for one in conclusion.figures],
        "numbers": conclusion.numbers,
        "outcomes": [
            {
                "cell": one.cell,
                "group": one.group,
                "seed": one.seed,
                "failed": one.failed,
                **{name: value for name, value in one.numbers.items() if name != EACH},
            }
            for one in results.all
        ],
    }


def describe_data(setting: Setting) -> str:
    """Describe the training data, without any folder's name."""
    facts = setting.facts
    kind = setting.data.path if setting.data.path == "digits" or ":" in setting.data.path else "images"
    return (
        f"{kind}: {facts.train:,} for training and {facts.validation:,} for validation, {len(facts.classes):,} classes, "
        f"{facts.size[0]} x {facts.size[1]} pixels"
    )


def list_notes(setting: Setting, results: CellResults, conclusion: Conclusion) -> list[str]:
    """Return notes for the reader, unfinished and failed cells first."""
    told = ["A trial of the machinery: too small to conclude anything."] if setting.scale == "smoke" else []
    if len(results.all) < results.cell_count:
        told.append(f"{results.cell_count - len(results.all)} of {results.cell_count} cells are not run yet.")
    told += [f"{one.cell} has no result: {one.failed}" for one in results.failures]
    return [*told, *conclusion.notes]


def format_markdown(setting: Setting, results: CellResults, conclusion: Conclusion) -> str:
    """Return verdicts, tables and notes as Markdown."""
    parts = [f"Scale: {setting.scale}. Data: {describe_data(setting)}."]
    parts += [f"**{WORDS[one.seen]}**: {one.claim}. {describe_verdict(one)}" for one in conclusion.verdicts]
    parts += [f"{one.caption}\n\n{one.pipes()}" for one in conclusion.tables]
    parts += ["\n".join(f"- {note}" for note in list_notes(setting, results, conclusion))]
    return "\n\n".join(filter(None, parts)) + "\n"


def describe_verdict(verdict: Verdict) -> str:
    """Return the measurement, and how probable it is if there is no effect.

    >>> from vitreous.metrics.seeds import Evidence
    >>> describe_verdict(Verdict("more helps", Evidence(0.004, 1.0), "More minus less: +1.2 points.", chance=0.012))
    'More minus less: +1.2 points (p = 0.012).'
    """
    if verdict.evidence is None:
        return verdict.sentence
    chance = "p < 0.001" if verdict.chance < 0.001 else f"p = {verdict.chance:.2g}"
    return f"{verdict.sentence.removesuffix('.')} ({chance})."


def render_report(study: Study, setting: Setting, results: CellResults, conclusion: Conclusion) -> bytes:
    """Return the page."""
    seen = [
        Words(f"{one.claim}. {describe_verdict(one)}", strong=WORDS[one.seen], soft=False)
        for one in conclusion.verdicts
    ]
    sections = [
        Section("results", "What was seen", [*seen, *map(Words, list_notes(setting, results, conclusion))]),
        Section("paper", "What the paper found", [Words(study.paper)]),
        Section("here", "What was done here", [Words(study.here), Words(RULES)]),
        Section("figures", "Figures", [Drawing(one.svg, one.caption) for one in conclusion.figures]),
        Section("tables", "Numbers", conclusion.tables),
        Section("runs", "Runs", [tabulate_conditions(study.cells(setting)), tabulate_cells(study, results)]),
    ]
    lead = [Words(study.question, soft=False), Words(f"Scale: {setting.scale}. Data: {describe_data(setting)}.")]
    return render_page(study.title, lead, sections, f"Written by vitreous from {setting.folder.name}.")


def tabulate_conditions(cells: Sequence[Cell]) -> Table:
    """Return a table of the training in each condition, and the number of seeds."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.group, []).append(cell)
    rows = [[group, *list_training(found[0]), len(found)] for group, found in groups.items()]
    heads = ("condition", "parameters", "image", "length", "batch", "optimizer", "rate", "seeds")
    return Table("What is trained in each condition; the length in images (ex), steps (st) or epochs (ep)", heads, rows)


def list_training(cell: Cell) -> list[object]:
    """Describe a cell's model, length and optimizer."""
    config, way = cell.config, cell.config.optimizer
    rate = way.muon_lr if way.name == "muon" else way.lr
    size = " x ".join(map(str, config.preprocess.size))
    return [f"{count.count_parameters(config.model):,}", size, config.duration, config.batch, way.name, f"{rate:g}"]


def tabulate_cells(study: Study, results: CellResults) -> Table:
    """Return a table of all cells with those of their numbers that have a description."""
    words = {
        name: what
        for name, what in {**SHARED, **study.words}.items()
        if any(name in one.numbers for one in results.all)
    }
    rows = [
        [one.cell, *(f"{one.numbers[name]:.4g}" if name in one.numbers else "–" for name in words)]
        for one in results.all
    ]
    return Table("What every cell came to: the condition and its seed", ("cell", *words.values()), rows)
