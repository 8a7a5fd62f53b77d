"""Studies compute and optimiser: envelopes by hand, and that they conclude what made-up numbers say."""

import pytest

from vitreous.data.config import DataConfig
from vitreous.data.dataset import Facts
from vitreous.metrics.seeds import note_grid_edges, settle_verdicts
from vitreous.metrics.seeds_and_images import Scores
from vitreous.shapes import Size
from vitreous.studies import optimiser
from vitreous.studies.compute import HYBRID, RESNET, VIT, cells, count_work, find_envelope, list_budgets, plan_runs
from vitreous.studies.compute import STUDY as COMPUTE
from vitreous.studies.engine.study import CellResult, CellResults, Setting

FACTS = Facts(tuple("0123456789"), 20_000, 4_000, 3, Size(32, 32), (2000,) * 10)


@pytest.fixture
def laptop(tmp_path):
    return Setting("laptop", DataConfig("photos"), FACTS, tmp_path)


def test_an_envelope_takes_what_is_best_on_the_other_seeds_within_the_budget():
    spent = {"short": 1.0, "deep": 3.0, "long": 3.0}
    found = {"short": {0: 0.30, 1: 0.31, 2: 0.32}, "deep": {0: 0.2, 1: 0.25, 2: 0.9}, "long": {0: 0.4, 1: 0.5, 2: 0.4}}
    assert find_envelope(spent, found, 0.5) == {}
    assert find_envelope(spent, found, 2.9) == dict.fromkeys(range(3), "short")
    assert find_envelope(spent, found, 3.0) == {0: "deep", 1: "deep", 2: "long"}, (
        "the lucky seed 2 doesn't choose for itself"
    )
    assert find_envelope(spent, found) == find_envelope(spent, found, 3.0)
    assert find_envelope(spent, {"short": {0: 0.3, 1: 0.4}, "long": {1: 0.5}}) == {1: "long"}
    assert find_envelope(spent, {"short": {0: 0.3}, "long": {1: 0.5}}) == {}
    scores = {name: {seed: Scores([value, 1.0]) for seed, value in by.items()} for name, by in found.items()}
    assert find_envelope(spent, scores) == find_envelope(spent, found)


def outcomes_of(setting, level, dropped=lambda run, seed: False, failed=lambda run, seed: False):
    """Outcomes as if all cells had been run, but for those dropped: level(run) and a little for the seed."""
    runs = {run.group: run for run in plan_runs(setting)}
    found = []
    for cell in cells(setting):
        run = runs[cell.group]
        if failed(run, cell.seed):
            found.append(CellResult(cell.name, cell.group, cell.seed, {}, "the loss became inf"))
        elif not dropped(run, cell.seed):
            top1 = level(run) + 0.001 * cell.seed * (1 + 0.1 * (run.family == VIT) - 0.1 * (run.family == HYBRID))
            found.append(CellResult(cell.name, cell.group, cell.seed, {"top1": top1}))
    return CellResults(found, len(cells(setting)))


def seen(setting, results):
    """What is called of ViT over ResNet at both ends, of the hybrids' lead, and of its shrinking."""
    return [one.seen for one in settle_verdicts(COMPUTE.conclude(setting, results).verdicts)]


def levels(setting, vit, resnet, hybrid):
    """Accuracy by run from each family's at the smallest and at the largest budget; the middle rate is best."""
    small, *_, large = list_budgets(setting)

    def level(run):
        low, high = {VIT: vit, RESNET: resnet, HYBRID: hybrid}[run.family]
        return low + (high - low) * (run.budget - small) / (large - small) - 0.05 * (run.rate != 3e-3)

    return level


@pytest.mark.parametrize(
    ("vit", "resnet", "hybrid", "expected"),
    [
        pytest.param(
            (0.3, 0.4), (0.35, 0.46), (0.3, 0.4), ["not seen", "not seen"] + ["can't be told"] * 2, id="ResNet"
        ),
        pytest.param((0.36, 0.46), (0.3, 0.4), (0.38, 0.46), ["seen"] * 4, id="ViT"),
        pytest.param(
            (0.3, 0.5), (0.34, 0.46), (0.25, 0.40), ["not seen", "seen", "not seen", "not seen"], id="crossing"
        ),
        pytest.param((0.3, 0.4), (0.3, 0.4), (0.33, 0.45), ["can't be told"] * 2 + ["seen", "not seen"], id="alike"),
    ],
)
def test_compute_concludes_what_the_numbers_say(laptop, vit, resnet, hybrid, expected):
    assert seen(laptop, outcomes_of(laptop, levels(laptop, vit, resnet, hybrid))) == expected


def test_models_and_rates_that_do_worse_change_nothing(laptop):
    level = levels(laptop, (0.3, 0.4), (0.35, 0.46), (0.3, 0.4))
    deeper = outcomes_of(laptop, lambda run: level(run) - 0.2 * (run.model in ("3 units", "48")))
    assert seen(laptop, deeper)[:2] == ["not seen", "not seen"]
    longer = outcomes_of(laptop, lambda run: 0.35 if run.family == RESNET else 0.3 - 0.1 * (run.budget > 1e11))
    assert seen(laptop, longer)[:2] == ["not seen", "not seen"]
    text = str(COMPUTE.conclude(laptop, longer).tables[0].rows)
    assert "4e10 operations, rate" in text
    assert "4e11 operations, rate" not in text, "a longer run that is worse is not on the envelope"


def test_a_rate_that_diverges_is_no_choice_and_costs_no_seed(laptop):
    level = levels(laptop, (0.3, 0.4), (0.35, 0.46), (0.3, 0.4))
    whole = outcomes_of(laptop, level)
    gone = outcomes_of(laptop, level, failed=lambda run, seed: run.rate == 1e-2 and seed == 1)
    assert seen(laptop, gone) == seen(laptop, whole)
    assert [one.sentence for one in COMPUTE.conclude(laptop, gone).verdicts] == [
        one.sentence for one in COMPUTE.conclude(laptop, whole).verdicts
    ]


def test_part_of_compute_is_concluded_from(laptop):
    level = levels(laptop, (0.3, 0.4), (0.35, 0.46), (0.3, 0.4))
    two = outcomes_of(laptop, level, dropped=lambda run, seed: seed == 2 and run.budget > 1e11)
    assert len(seen(laptop, two)) == 4
    transformers = outcomes_of(laptop, level, dropped=lambda run, seed: run.family != VIT)
    assert seen(laptop, transformers) == []
    one = outcomes_of(laptop, level, dropped=lambda run, seed: seed > 0)
    assert seen(laptop, one) == ["can't be told"] * 4


@pytest.mark.parametrize(("scale", "most"), [("laptop", 3.6e13), ("gpu", 1e16)])
def test_every_model_spends_each_budget_and_all_of_it_stays_bounded(tmp_path, scale, most):
    facts = FACTS if scale == "laptop" else Facts(FACTS.classes, 50_000, 10_000, 3, Size(32, 32), (5000,) * 10)
    setting = Setting(scale, DataConfig("photos"), facts, tmp_path)
    for run, config in plan_runs(setting).items():
        assert 0.98 * run.budget < count_work(config, setting) <= run.budget
        assert config.optimizer.lr == run.rate
        if run.budget == list_budgets(setting)[-1]:
            assert count_work(config, setting) / run.budget > 0.99
    assert sum(count_work(cell.config, setting) for cell in cells(setting)) < most


def test_optimiser_holds_both_at_their_best_rates(laptop):
    best = {"Adam": 3e-3, "SGD": 1.0}
    found = []
    for cell in optimiser.cells(laptop):
        name, rate = cell.group.removeprefix("pre-trained ").split(", ")
        if name == "SGD" and rate == "3" and cell.seed == 0:
            found.append(CellResult(cell.name, cell.group, cell.seed, {}, "the loss became inf"))
            continue
        level = 0.5 + 0.03 * (name == "Adam") - 0.04 * (float(rate) != best[name])
        found.append(CellResult(cell.name, cell.group, cell.seed, {"top1": level + 0.001 * cell.seed * len(name)}))
    conclusion = optimiser.conclude(laptop, CellResults(found, len(found)))
    verdicts = settle_verdicts(conclusion.verdicts)
    assert [one.seen for one in verdicts] == ["seen"]
    assert "Adam (rate 0.003) minus SGD (rate 1)" in verdicts[0].sentence
    assert conclusion.notes == (), "neither optimum is at an end"


def test_a_grid_of_one_rate_has_no_ends():
    assert note_grid_edges({"Adam": {0: 0.1}}, {"Adam": (0.1,)}) == ()
