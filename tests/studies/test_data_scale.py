"""Study data-scale: what its sets hold, and that it concludes what the numbers say."""

import json
import math
from dataclasses import replace

import pytest

from vitreous.data.config import DataConfig
from vitreous.data.formula import is_formula, parse_formula, split_formula
from vitreous.data.sources import Facts
from vitreous.model import count
from vitreous.model.config import ViTConfig
from vitreous.shapes import Size
from vitreous.studies.catalog import find
from vitreous.studies.data_scale import ARMS, FEW, HELD, RESNET, VIT, cells, group, sizes, started
from vitreous.studies.run import run_study
from vitreous.studies.setting import open_setting
from vitreous.studies.statistics import settle
from vitreous.studies.study import Outcome, Outcomes, Setting
from vitreous.training.duration import Duration, Scale

STUDY = find("data-scale")
FACTS = Facts(tuple("0123456789"), 20_000, 4_000, 3, Size(32, 32), (2000,) * 10)


@pytest.fixture
def laptop(tmp_path):
    return Setting("laptop", DataConfig("photos"), FACTS, tmp_path)


def pretrained(setting):
    """Cells that pre-train, by (arm, images), of seed 0."""
    classes, images = sizes(setting)
    return {
        (arm, classes * each): cell
        for arm in ARMS
        for each in images
        for cell in cells(setting)
        if cell.seed == 0 and cell.group == group(arm, classes * each, FEW)
    }


@pytest.mark.parametrize("scale", ["smoke", "laptop", "gpu", "paper"])
def test_sets_grow_by_instances_and_all_else_is_equal(tmp_path, scale):
    setting = Setting(scale, DataConfig("photos"), FACTS, tmp_path)
    classes, _ = sizes(setting)
    seen = {arm: set() for arm in ARMS}
    for (arm, images), cell in pretrained(setting).items():
        config = cell.config
        formula = parse_formula(config.data.path)
        held = split_formula(formula, config.data.holdout, config.data.split_seed)[1]
        assert (formula.classes, formula.images, held.each) == (classes, images // classes + HELD, HELD)
        assert formula.size == max(config.model.image)
        small = replace(config, data=DataConfig(), batch=1, model=ViTConfig())
        seen[arm].add(repr(small))
        duration = Duration.parse(config.duration)
        assert duration.steps(Scale(images, config.batch)) * config.batch >= duration.amount
        assert config.export == "best"
        assert arm in cell.name
    assert {arm: len(settings) for arm, settings in seen.items()} == {VIT: 1, RESNET: 1}


def test_the_arms_cost_about_the_same(laptop):
    vit, resnet = (count.flops(started(laptop, arm).model) for arm in ARMS)
    assert 0.8 < vit / resnet < 1.25


def test_fine_tuning_is_alike_with_and_without_pre_training(laptop):
    found = {cell.name: cell for cell in cells(laptop)}
    for arm in ARMS:
        bare, tuned = found[f"{arm}-0-1"].config, found[f"{arm}-500-tuned-1"].config
        assert bare.weights is None
        assert replace(tuned, weights=None) == bare
        assert not is_formula(tuned.data.path)
        assert tuned.model.classes == 10


def outcomes_of(setting, accuracy):
    """Outcomes as if all cells had been run: accuracy(arm, images, seed)."""
    found = []
    for cell in cells(setting):
        arm, images = cell.name.split("-")[:2]
        value = accuracy(arm, int(images), cell.seed)
        found.append(Outcome(cell.name, cell.group, cell.seed, {FEW: value, "top1": value}))
    return Outcomes(found, len(found))


def verdicts(setting, slopes, start, bare=None):
    """Conclude from accuracies that rise by `slopes` for each tenfold set from `start` at 500 images, and `bare` at none."""

    def accuracy(arm, images, seed):
        if not images and bare:
            return bare[arm] + 0.001 * seed
        return start[arm] + slopes[arm] * math.log10(max(images, 500) / 500) + 0.001 * seed * (1 + 0.1 * (arm == VIT))

    return [one.seen for one in settle(STUDY.conclude(setting, outcomes_of(setting, accuracy))).verdicts]


def test_it_concludes_what_the_numbers_say(laptop):
    crossing = verdicts(laptop, {VIT: 0.1, RESNET: 0.02}, {VIT: 0.3, RESNET: 0.35})
    assert crossing == ["seen"] * 6
    below = verdicts(laptop, {VIT: 0.06, RESNET: 0.05}, {VIT: 0.3, RESNET: 0.4})
    assert below == ["seen", "not seen", "seen"] * 2
    above = verdicts(laptop, {VIT: 0.01, RESNET: 0.02}, {VIT: 0.5, RESNET: 0.4}, {VIT: 0.1, RESNET: 0.1})
    assert above == ["not seen", "seen", "not seen"] * 2
    falling = verdicts(laptop, {VIT: -0.01, RESNET: -0.02}, {VIT: 0.39, RESNET: 0.4})
    assert falling == ["seen", "seen", "not seen"] * 2, "to lose less is no gain"
    ahead = verdicts(laptop, {VIT: 0.02, RESNET: 0.01}, {VIT: 0.5, RESNET: 0.4}, {VIT: 0.5, RESNET: 0.3})
    assert ahead == ["not seen", "can't be told", "seen"] * 2, "it leads by more without any data"
    level = verdicts(laptop, {VIT: 0.02, RESNET: 0.02}, {VIT: 0.4, RESNET: 0.4 + 0.0001})
    assert level == ["can't be told"] * 6


def test_part_of_it_done_is_concluded_from(laptop):
    whole = outcomes_of(laptop, lambda arm, images, seed: 0.3 + 0.01 * seed)
    part = Outcomes([one for one in whole.all if "500" in one.cell and one.seed < 2], whole.wanted)
    findings = STUDY.conclude(laptop, part)
    assert [one.claim.split(" (")[0] for one in findings.verdicts] == [
        "with the least pre-training data the ResNet transfers better"
    ] * 2
    assert len(findings.figures) == 2


def test_pre_training_and_fine_tuning_in_seconds(tmp_path):
    def few(setting):
        return [cell for cell in cells(setting) if cell.name in ("ViT-0-0", "ResNet-8-0", "ResNet-8-tuned-0")]

    ended = run_study(replace(STUDY, cells=few), open_setting("smoke", "digits", tmp_path / "study"))
    assert ended.done == 3
    found = {one["cell"]: one for one in json.loads((tmp_path / "study/results.json").read_text())["outcomes"]}
    assert set(found["ResNet-8-0"]) >= {FEW, "top1", "loss"}
    assert 0 < found["ViT-0-0"][FEW] < 1
    assert FEW not in found["ResNet-8-tuned-0"]
