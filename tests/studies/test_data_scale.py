"""Study data-scale: what its sets hold, and that it concludes what the numbers say."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from vitreous.data.config import DataConfig
from vitreous.data.dataset import Facts
from vitreous.data.synthetic.formula import FormulaSource, parse_formula, split_formula
from vitreous.metrics.seeds import settle_verdicts
from vitreous.metrics.seeds_and_images import Scores
from vitreous.model import count
from vitreous.model.config import ViTConfig
from vitreous.shapes import Size
from vitreous.studies.answers import EACH, pack_answers
from vitreous.studies.catalog import find
from vitreous.studies.data_scale import ARMS, HELD, MEASURES, RATES, RESNET, TESTED, VIT, cells, list_sizes, name_group
from vitreous.studies.engine.data_subset import open_setting
from vitreous.studies.engine.run import run_study
from vitreous.studies.engine.study import CellResult, CellResults, Setting
from vitreous.training.duration import Duration

STUDY = find("data-scale")
FACTS = Facts(tuple("0123456789"), 20_000, 4_000, 3, Size(32, 32), (2000,) * 10)


@pytest.fixture
def laptop(tmp_path):
    return Setting("laptop", DataConfig("photos"), FACTS, tmp_path)


@pytest.mark.parametrize("scale", ["smoke", "laptop", "gpu", "paper"])
def test_sets_grow_by_instances_and_all_else_is_equal(tmp_path, scale):
    setting = Setting(scale, DataConfig("photos"), FACTS, tmp_path)
    classes, images = list_sizes(setting)
    settings = {arm: set() for arm in ARMS}
    for cell in cells(setting):
        arm, count_, seed = cell.name.split("-")
        config = cell.config
        formula = parse_formula(config.data.path)
        train, held = split_formula(formula, config.data.holdout, config.data.split_seed)
        assert (formula.classes, train.each, held.each) == (classes, int(count_) // classes, HELD)
        assert (formula.size, int(seed), cell.group) == (
            max(config.model.image),
            config.seed,
            name_group(arm, int(count_)),
        )
        tested = FormulaSource(formula, TESTED, first=max(images) + HELD)
        assert not {tested.place(index)[1] for index in range(TESTED)} & set(range(formula.images)), "unseen instances"
        settings[arm].add(repr(replace(config, data=DataConfig(), seed=0)))
        assert config.export == "best"
    assert {arm: len(found) for arm, found in settings.items()} == {VIT: 1, RESNET: 1}


def test_the_arms_cost_about_the_same_and_differ_in_model_and_rate_alone(laptop):
    vit, resnet = (cell.config for cell in cells(laptop)[:2])
    assert 0.75 < count.count_flops(vit.model) / count.count_flops(resnet.model) < 1.3
    assert (vit.optimizer.lr, resnet.optimizer.lr) == (RATES[VIT], RATES[RESNET])
    alike = [replace(one, model=ViTConfig(), optimizer=replace(one.optimizer, lr=1.0)) for one in (vit, resnet)]
    assert alike[0] == alike[1]
    assert Duration.parse(vit.duration).amount == 200_000


def outcomes_of(setting, accuracy, images=400):
    """Outcomes as if all cells had been run: accuracy(arm, images, seed), spread over fixed images."""
    found = []
    for cell in cells(setting):
        arm, size, _ = cell.name.split("-")
        right = np.random.default_rng(0).permutation(images) < round(accuracy(arm, int(size), cell.seed) * images)
        numbers = dict.fromkeys(MEASURES, float(right.mean()))
        found.append(
            CellResult(
                cell.name, cell.group, cell.seed, {**numbers, EACH: dict.fromkeys(MEASURES, pack_answers(right))}
            )
        )
    return CellResults(found, len(found))


def verdicts(setting, slopes, start):
    """Conclude from accuracies that rise by `slopes` for each tenfold set from `start` at 2,000 images."""

    def accuracy(arm, images, seed):
        return start[arm] + slopes[arm] * math.log10(images / 2000) + 0.005 * seed * (1 + (arm == VIT))

    found = settle_verdicts(STUDY.conclude(setting, outcomes_of(setting, accuracy)).verdicts)
    assert [one.seen for one in found[:4]] == [one.seen for one in found[4:]], "both measures got the same numbers"
    return [one.seen for one in found[:4]]


@pytest.mark.parametrize(
    ("slopes", "start", "seen"),
    [
        ((0.3, 0.1), (0.2, 0.45), ["seen", "seen", "seen", "seen"]),
        ((0.3, 0.25), (0.2, 0.4), ["seen", "seen", "not seen", "not seen"]),
        ((0.05, 0.2), (0.5, 0.3), ["not seen", "not seen", "not seen", "not seen"]),
        ((0.2, 0.2), (0.3, 0.3), ["can't be told"] * 4),
    ],
)
def test_it_concludes_what_the_numbers_say(laptop, slopes, start, seen):
    found = verdicts(laptop, dict(zip(ARMS, slopes, strict=True)), dict(zip(ARMS, start, strict=True)))
    assert found == seen


def test_part_of_it_done_is_concluded_from(laptop):
    whole = outcomes_of(laptop, lambda arm, images, seed: 0.3 + 0.01 * seed)
    part = CellResults([one for one in whole.all if "-2000-" in one.cell and one.seed < 2], whole.cell_count)
    conclusion = STUDY.conclude(laptop, part)
    assert [one.claim for one in conclusion.verdicts] == [
        f"with the fewest images the ResNet is better ({how})" for how in MEASURES.values()
    ]
    assert len(conclusion.figures) == 2


def test_it_runs_and_measures_images_that_nobody_saw(tmp_path):
    def few(setting):
        return [cell for cell in cells(setting) if cell.name in ("ViT-8-0", "ResNet-8-0")]

    ended = run_study(replace(STUDY, cells=few), open_setting("smoke", "digits", tmp_path / "study"))
    assert ended.done == 2
    document = json.loads((tmp_path / "study/results.json").read_text())
    for one in document["outcomes"]:
        assert set(one) >= {*MEASURES, "top1", "loss"} and EACH not in one
        assert 0 < one["few_shot"] < 1
    kept = json.loads((tmp_path / "study/runs/ViT-8-0/result.json").read_text())
    scores = CellResult(kept["cell"], kept["group"], kept["seed"], kept["numbers"]).scores("tested")
    assert isinstance(scores, Scores)
    assert float(scores) == pytest.approx(kept["numbers"]["tested"])
    assert len(scores.each) == 4 * TESTED
