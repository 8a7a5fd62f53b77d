"""Every study: its cells can be built for every scale, and it concludes whatever part of them is done."""

import xml.etree.ElementTree as ET
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from markupsafe import escape
from PIL import Image

from vitreous.data.config import DataConfig
from vitreous.data.dataset import Dataset, Facts
from vitreous.data.listing.scan_report import ScanReport
from vitreous.data.sources.base import ArraySource
from vitreous.data.synthetic.formula import is_formula, parse_formula
from vitreous.errors import UnknownName
from vitreous.metrics.seeds import settle_verdicts
from vitreous.model import count
from vitreous.settings import from_dict, to_dict
from vitreous.shapes import Size
from vitreous.studies import positions, self_training
from vitreous.studies.catalog import STUDIES, find
from vitreous.studies.engine.class_split import split_classes
from vitreous.studies.engine.data_subset import open_setting
from vitreous.studies.engine.page import collect_results, format_markdown, render_report
from vitreous.studies.engine.run import check_study_cells
from vitreous.studies.engine.study import CellResult, CellResults, Setting
from vitreous.training.config import RunConfig
from vitreous.training.duration import Duration
from vitreous.training.initial_weights import MAY_DIFFER
from vitreous.training.resolve import check_settings
from vitreous.training.settings_check import check_ranges
from vitreous.training.trial_run import dry_run

DATA = {
    "digits": Facts(tuple("0123456789"), 1437, 360, 1, Size(8, 8), (144,) * 10),
    "thumbnails": Facts(tuple("0123456789"), 50_000, 10_000, 3, Size(32, 32), (5000,) * 10),
    "photographs": Facts(tuple(map(str, range(1000))), 1_281_167, 50_000, 3, Size(375, 500), (1281,) * 1000),
}
"""Facts of data sets that need not be there."""


def dataset(facts):
    """A data set of these facts without any images."""
    none = ArraySource(np.zeros((0, 1, 1, 1), np.uint8), (), np.zeros(0, np.int64), facts.classes, "")
    return Dataset(none, none, facts, ScanReport("nowhere"))


PAIRS = (
    ("smoke", "digits"),
    ("laptop", "digits"),
    ("laptop", "thumbnails"),
    ("gpu", "thumbnails"),
    ("paper", "photographs"),
)


def settings(tmp_path):
    for scale, name in PAIRS:
        yield Setting(scale, DataConfig(name), DATA[name], tmp_path)


def facts_of(cell, setting):
    """The facts of a cell's data: the setting's, a formula's, or those of half of its classes."""
    if cell.config.data == setting.data:
        return setting.facts
    if is_formula(cell.config.data.path):
        return replace(setting.facts, classes=parse_formula(cell.config.data.path).names)
    if cell.config.data.path.endswith("labelled.csv"):
        return self_training.choose_facts(setting)
    part = split_classes(setting)[cell.config.data.path.endswith("target.csv")]
    assert part.data == cell.config.data
    return part.facts


@pytest.mark.parametrize("name", STUDIES)
def test_cells_are_valid_at_every_scale(name, tmp_path):
    study = find(name)
    assert study.name == name
    for setting in settings(tmp_path):
        cells = check_study_cells(study.cells(setting))
        by_name = {cell.name: cell for cell in cells}
        assert len({(cell.group, cell.seed) for cell in cells}) == len(cells)
        for cell in [cell for cell in cells if cell.seed == 0]:
            check_ranges(cell.config)
            check_settings(cell.config, dataset(facts_of(cell, setting)))
            assert from_dict(RunConfig, to_dict(cell.config)) == cell.config
            by_clock = Duration.parse(cell.config.duration).unit == "min"
            assert not by_clock or name == "family", (
                "a cell's length must not depend on the machine, unless time is the question"
            )
            assert cell.config.teacher is None or Path(cell.config.teacher).name in cell.needs
            assert Path(cell.config.weights or setting.run("x")).is_relative_to(tmp_path)
            if cell.config.weights and not cell.prepare:
                start = by_name[Path(cell.config.weights).name].config.model
                differing = [
                    one.name
                    for one in fields(start)
                    if getattr(start, one.name) != getattr(cell.config.model, one.name)
                ]
                assert set(differing) <= set(MAY_DIFFER), f"{cell.name} can't start from these weights: {differing}"
            if cell.config.weights:
                assert cell.prepare or Path(cell.config.weights).name in cell.needs


@pytest.mark.parametrize("name", STUDIES)
def test_nothing_done_concludes_nothing(name, tmp_path):
    study = find(name)
    setting = Setting("laptop", DataConfig("digits"), DATA["digits"], tmp_path)
    results = CellResults([], len(study.cells(setting)))
    conclusion = study.conclude(setting, results)
    assert {verdict.seen for verdict in conclusion.verdicts} <= {"can't be told"}
    assert collect_results(study, setting, results, conclusion)["done"] == 0
    assert "cells are not run yet" in format_markdown(setting, results, conclusion)
    page = render_report(study, setting, results, conclusion).decode()
    assert "<svg" in page
    assert escape(study.here) in page, "a page tells what was done"
    assert all(
        f'<th scope="row">{escape(group)}</th>' in page for group in {cell.group for cell in study.cells(setting)}
    )
    for figure in conclusion.figures:
        ET.fromstring(figure.svg)


def test_an_unknown_study_suggests_the_nearest():
    with pytest.raises(UnknownName, match="did you mean 'positions'"):
        find("position")


def made(study, setting, top1):
    """Outcomes as if every cell had been run: top1(group, seed)."""
    cells = study.cells(setting)
    found = [CellResult(cell.name, cell.group, cell.seed, {"top1": top1(cell.group, cell.seed)}) for cell in cells]
    return CellResults(found, len(found))


@pytest.mark.parametrize(
    ("none", "relative", "seen"),
    [
        (0.60, 0.64, ["seen", "seen"]),
        (0.60, 0.55, ["seen", "not seen"]),
        (0.66, 0.64, ["not seen", "can't be told"]),
    ],
)
def test_positions_concludes_what_the_numbers_say(tmp_path, none, relative, seen):
    study, setting = find("positions"), Setting("laptop", DataConfig("digits"), DATA["digits"], tmp_path)
    levels = {"none": none, "relative": relative}
    results = made(
        study, setting, lambda group, seed: levels.get(group, 0.64) + 0.001 * seed + 0.0001 * (len(group) % 3)
    )
    assert [verdict.seen for verdict in settle_verdicts(study.conclude(setting, results).verdicts)] == seen


def test_kinds_of_positions_that_gain_nothing_have_no_share_of_the_gain():
    (verdict,) = positions.judge_likeness({kind: {0: 0.1, 1: 0.1} for kind in positions.KINDS})
    assert "0.0 points, – of the gain" in verdict.sentence


@pytest.mark.parametrize(
    ("axial", "deep", "seen"),
    [
        (0.60, 0.52, ["seen", "seen", "seen"]),
        (0.60, 0.60, ["seen", "seen", "can't be told"]),
        (0.45, 0.52, ["not seen", "not seen", "not seen"]),
    ],
)
def test_axial_concludes_what_the_numbers_say(tmp_path, axial, deep, seen):
    study, setting = find("axial"), Setting("laptop", DataConfig("thumbnails"), DATA["thumbnails"], tmp_path)
    levels = {"Axial-ViT": axial, "ViT of twice the depth": deep, "ViT": 0.5}
    noise = {"Axial-ViT": 0.001, "ViT of twice the depth": -0.001, "ViT": 0.0}

    def top1(group, seed):
        kind = group.split(",")[0]
        return levels[kind] + noise[kind] * (-1) ** seed

    conclusion = study.conclude(setting, made(study, setting, top1))
    verdicts = settle_verdicts(conclusion.verdicts)
    assert [verdict.seen for verdict in verdicts] == seen
    assert "for 1.84 times the operations" in verdicts[0].sentence
    assert len(conclusion.tables[0].rows) == 6


def test_axial_compares_models_that_differ_in_attention_alone(tmp_path):
    for setting in settings(tmp_path):
        models = {cell.group: cell.config.model for cell in find("axial").cells(setting)}
        for size in ("large patches", "small patches"):
            plain, axial, deep = (models[f"{kind}, {size}"] for kind in ("ViT", "Axial-ViT", "ViT of twice the depth"))
            assert replace(axial, block=deep.block) == deep == replace(plain, depth=2 * plain.depth)
            assert axial.block == replace(deep.block, attention="axial")
            assert count.count_parameters(axial) == count.count_parameters(deep)
            assert count.count_flops(plain) < count.count_flops(axial) < count.count_flops(deep)
        assert models["ViT, small patches"].tokens == 4 * models["ViT, large patches"].tokens


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A folder of four classes of noise, ten images each."""
    folder, noise = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for label in "abcd":
        (folder / label).mkdir()
        for number in range(10):
            pixels = noise.integers(0, 256, (80, 96, 3), np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_the_papers_configurations_take_a_step(name, photographs, tmp_path):
    """One cell of each group that starts from nothing and has up to 100 million parameters, on two images."""
    setting = open_setting("paper", str(photographs), tmp_path)
    tried = set()
    for cell in find(name).cells(setting):
        labelled = "teacher" in getattr(cell.prepare, "keywords", {})  # by a run that isn't there
        started = cell.config.weights or cell.config.teacher or labelled
        if started or cell.group in tried or count.count_parameters(cell.config.model) > 1e8:
            continue
        tried.add(cell.group)
        if cell.prepare:
            cell.prepare(setting)
        done = dry_run(replace(cell.config, batch=2, micro_batch=1, duration="100000st", workers=0, device="cpu"))
        assert np.isfinite(done.loss), cell.name
    assert tried or name == "inside"
