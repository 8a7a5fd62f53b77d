"""Families at equal time: the same for all but the model and the teacher, and what is concluded from their accuracies."""

from dataclasses import replace

import pytest

from vitreous.data.config import DataConfig
from vitreous.data.dataset import Facts
from vitreous.metrics.seeds import settle_verdicts
from vitreous.model.count import count_flops
from vitreous.shapes import Size
from vitreous.studies.catalog import find
from vitreous.studies.engine.study import CellResult, CellResults, Setting
from vitreous.studies.family import (
    DEIT,
    FAMILIES,
    HYBRID,
    RESNET,
    SWIN,
    VIT,
    list_models,
    list_rates,
    name_condition,
    plan_runs,
)

FACTS = Facts(tuple("0123456789"), 20_000, 4_000, 3, Size(32, 32), (2000,) * 10)


@pytest.fixture
def laptop(tmp_path):
    return Setting("laptop", DataConfig("thumbnails"), FACTS, tmp_path)


def test_families_differ_in_nothing_but_the_model_the_rate_and_the_teacher(laptop):
    planned = plan_runs(laptop)
    assert len(planned) == len(FAMILIES) * len(list_rates(laptop))
    first = planned[name_condition(VIT, 1e-3)]
    assert first.duration == "1min"
    for config in planned.values():
        assert replace(config, model=first.model, optimizer=first.optimizer) == first
    work = [count_flops(model) for model in list_models(laptop, first).values()]
    assert max(work) < 8 * min(work)


def test_deit_learns_from_the_resnet_of_its_seed(laptop):
    cells = find("family").cells(laptop)
    taught = [cell for cell in cells if cell.group.startswith(DEIT)]
    assert len(taught) == 3 * len(list_rates(laptop))
    for cell in taught:
        [needed] = cell.needs
        teacher = next(one for one in cells if one.name == needed)
        assert (teacher.group, teacher.seed) == (name_condition(RESNET, 3e-3), cell.seed)
        assert cell.config.teacher == str(laptop.run(needed)) and cell.config.model.distillation_token


def test_each_family_is_judged_at_its_own_rate(laptop):
    """The best rate of each differs; with the same accuracy there nothing but the planted differences is concluded."""
    levels = dict.fromkeys(FAMILIES, 0.5) | {RESNET: 0.60, HYBRID: 0.55, SWIN: 0.45}
    best = dict(zip(FAMILIES, (1e-3, 3e-3, 1e-2, 1e-3, 3e-3, 1e-2), strict=True))
    found = []
    for cell in find("family").cells(laptop):
        family, _, rate = cell.group.partition(", ")
        top1 = (
            levels[family]
            - (0.1 if float(rate) != best[family] else 0.0)
            + 0.002 * cell.seed
            + 0.0003 * (len(cell.group) % 2)
        )
        found.append(CellResult(cell.name, cell.group, cell.seed, {"top1": top1, "images": 9000, "seconds": 60.0}))
    conclusion = find("family").conclude(laptop, CellResults(found, len(found)))
    assert [one.seen for one in settle_verdicts(conclusion.verdicts)] == [
        "seen",
        "seen",
        "not seen",
        "can't be told",
        "not seen",
    ]
    rows = {row[0]: row for row in conclusion.tables[0].rows}
    assert rows[SWIN][3:6] == ["9,000", "150", "0.001"]
