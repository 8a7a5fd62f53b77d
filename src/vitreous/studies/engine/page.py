"""What a study leaves to read: results.json, table.md, the figures and report.html."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from vitreous.drawing.html import page
from vitreous.metrics.seeds import Verdict, settle_verdicts
from vitreous.model import count
from vitreous.reports.blocks import Drawing, Section, Table, Words
from vitreous.settings import to_json
from vitreous.storage.atomic import write_atomically
from vitreous.studies.answers import EACH
from vitreous.studies.engine.study import Cell, Findings, Outcomes, Setting, Study

RESULTS, TABLE, REPORT = "results.json", "table.md", "report.html"
RULES = (
    "Conditions are compared by seed: the same order of images, and the same starting weights wherever their shapes agree. An interval after ± or in "
    "brackets is the 95% interval of the mean, for other seeds and other validation images alike. A claim is judged by t tests of the paired differences, "
    "sameness within a named margin by two one-sided ones; p is the probability of such numbers, or clearer ones, if there were nothing to see, after Holm's "
    "correction for all claims of the study. Up to 0.05 a claim is called seen, or not seen where its opposite is shown. Anything else can't be told."
)
"""How every study judges, for readers of its page; see `statistics`."""
SHARED = {"top1": "top-1 accuracy", "loss": "loss"}
"""What the numbers are that most cells have."""
WORDS = {"seen": "Seen again", "not seen": "Not seen", "can't be told": "Can't be told at this scale"}


def write_findings(study: Study, setting: Setting, outcomes: Outcomes) -> Findings:
    """Conclude from what is there, at scale smoke nothing, and write it all to the study's folder, each file atomically."""
    findings = study.conclude(setting, outcomes)
    findings = replace(findings, verdicts=settle_verdicts(findings.verdicts))
    if setting.scale == "smoke":
        findings = replace(findings, verdicts=[replace(one, seen="can't be told") for one in findings.verdicts])
    folder = setting.folder
    write_atomically(folder / RESULTS, to_json(results(study, setting, outcomes, findings)))
    write_atomically(folder / TABLE, markdown(setting, outcomes, findings).encode())
    for drawing in findings.figures:
        write_atomically(folder / f"{drawing.name}.svg", drawing.svg.encode())
    write_atomically(folder / REPORT, report(study, setting, outcomes, findings))
    return findings


def results(study: Study, setting: Setting, outcomes: Outcomes, findings: Findings) -> dict[str, Any]:
    """Return all numbers and verdicts as JSON values: a pure function of the runs, times of day and of work aside."""
    return {
        "study": study.name,
        "title": study.title,
        "scale": setting.scale,
        "data": shown_data(setting),
        "cells": outcomes.wanted,
        "done": len(outcomes.all),
        "question": study.question,
        "paper": study.paper,
        "here": study.here,
        "verdicts": [asdict(verdict) for verdict in findings.verdicts],
        "notes": notes(setting, outcomes, findings),
        "figures": [{"name": one.name, "caption": one.caption} for one in findings.figures],
        "numbers": findings.numbers,
        "outcomes": [
            {
                "cell": one.cell,
                "group": one.group,
                "seed": one.seed,
                "failed": one.failed,
                **{name: value for name, value in one.numbers.items() if name != EACH},
            }
            for one in outcomes.all
        ],
    }


def shown_data(setting: Setting) -> str:
    """Say what the runs were trained on, without any folder's name."""
    facts = setting.facts
    kind = setting.data.path if setting.data.path == "digits" or ":" in setting.data.path else "images"
    return (
        f"{kind}: {facts.train:,} for training and {facts.validation:,} for validation, {len(facts.classes):,} classes, "
        f"{facts.size[0]} x {facts.size[1]} pixels"
    )


def notes(setting: Setting, outcomes: Outcomes, findings: Findings) -> list[str]:
    """Return what a reader must know, unfinished and failed cells first."""
    told = ["A trial of the machinery: too small to conclude anything."] if setting.scale == "smoke" else []
    if len(outcomes.all) < outcomes.wanted:
        told.append(f"{outcomes.wanted - len(outcomes.all)} of {outcomes.wanted} cells are not run yet.")
    told += [f"{one.cell} has no result: {one.failed}" for one in outcomes.failures]
    return [*told, *findings.notes]


def markdown(setting: Setting, outcomes: Outcomes, findings: Findings) -> str:
    """Return verdicts, tables and notes as Markdown."""
    parts = [f"Scale: {setting.scale}. Data: {shown_data(setting)}."]
    parts += [f"**{WORDS[one.seen]}**: {one.claim}. {told(one)}" for one in findings.verdicts]
    parts += [f"{one.caption}\n\n{one.pipes()}" for one in findings.tables]
    parts += ["\n".join(f"- {note}" for note in notes(setting, outcomes, findings))]
    return "\n\n".join(filter(None, parts)) + "\n"


def told(verdict: Verdict) -> str:
    """Return what was measured, and how probable that is if there is nothing to see.

    >>> from vitreous.metrics.seeds import Evidence
    >>> told(Verdict("more helps", Evidence(0.004, 1.0), "More minus less: +1.2 points.", chance=0.012))
    'More minus less: +1.2 points (p = 0.012).'
    """
    if verdict.evidence is None:
        return verdict.sentence
    chance = "p < 0.001" if verdict.chance < 0.001 else f"p = {verdict.chance:.2g}"
    return f"{verdict.sentence.removesuffix('.')} ({chance})."


def report(study: Study, setting: Setting, outcomes: Outcomes, findings: Findings) -> bytes:
    """Return the page."""
    seen = [Words(f"{one.claim}. {told(one)}", strong=WORDS[one.seen], soft=False) for one in findings.verdicts]
    sections = [
        Section("results", "What was seen", [*seen, *map(Words, notes(setting, outcomes, findings))]),
        Section("paper", "What the paper found", [Words(study.paper)]),
        Section("here", "What was done here", [Words(study.here), Words(RULES)]),
        Section("figures", "Figures", [Drawing(one.svg, one.caption) for one in findings.figures]),
        Section("tables", "Numbers", findings.tables),
        Section("runs", "Runs", [conditions(study.cells(setting)), every_cell(study, outcomes)]),
    ]
    lead = [Words(study.question, soft=False), Words(f"Scale: {setting.scale}. Data: {shown_data(setting)}.")]
    return page(study.title, lead, sections, f"Written by vitreous from {setting.folder.name}.")


def conditions(cells: Sequence[Cell]) -> Table:
    """Return a table of what is trained in each condition, and on how many seeds."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.group, []).append(cell)
    rows = [[group, *trained(found[0]), len(found)] for group, found in groups.items()]
    heads = ("condition", "parameters", "image", "length", "batch", "optimizer", "rate", "seeds")
    return Table("What is trained in each condition; the length in images (ex), steps (st) or epochs (ep)", heads, rows)


def trained(cell: Cell) -> list[object]:
    """Return a cell's model, length and optimizer, in words."""
    config, way = cell.config, cell.config.optimizer
    rate = way.muon_lr if way.name == "muon" else way.lr
    size = " x ".join(map(str, config.preprocess.size))
    return [f"{count.count_parameters(config.model):,}", size, config.duration, config.batch, way.name, f"{rate:g}"]


def every_cell(study: Study, outcomes: Outcomes) -> Table:
    """Return a table of all cells with those of their numbers that there are words for."""
    words = {
        name: what
        for name, what in {**SHARED, **study.words}.items()
        if any(name in one.numbers for one in outcomes.all)
    }
    rows = [
        [one.cell, *(f"{one.numbers[name]:.4g}" if name in one.numbers else "–" for name in words)]
        for one in outcomes.all
    ]
    return Table("What every cell came to: the condition and its seed", ("cell", *words.values()), rows)
