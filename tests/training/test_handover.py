"""What a run hands over is said, and its best weights are kept whatever is exported."""

import hashlib
from dataclasses import replace

import pytest
from tests.support.training import TINY, digest

import vitreous
from vitreous.data.dataset import open_dataset
from vitreous.evaluation.accuracy import evaluate
from vitreous.evaluation.handover import describe_handover
from vitreous.metrics.classification import wilson_interval
from vitreous.predictor import Predictor
from vitreous.run_folder import read_run
from vitreous.training import loop, model_export
from vitreous.training.run import resume, train
from vitreous.weights.model_folder import load_model, read_origin


@pytest.fixture
def planned(monkeypatch):
    """Have a run's evaluations find what is planned, by step; return the plan."""
    plan = {1: 0.2, 2: 0.5, 3: 0.4, 4: 0.3}

    def validate(job, reporter, interrupt):
        return {"loss": 2.0 - plan[job.progress.step], "top1": plan[job.progress.step], "seconds": 0.0}

    monkeypatch.setattr(loop, "validate", validate)
    return plan


FOUR = replace(TINY, duration="4st", evaluate_every="1st", batch=8)


def hashed(folder):
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_the_best_is_kept_where_the_last_is_exported(go, planned):
    last, best = go(FOUR), go(FOUR, export="best")
    assert [read_origin(last.run / name)["step"] for name in ("model", "best")] == [4, 2]
    assert hashed(last.run / "best") == digest(best.run) != digest(last.run)
    assert not (best.run / "best").exists()
    kept = vitreous.load(last.run / "best", device="cpu")
    assert kept.folder.classes == load_model(last.run).classes
    assert last.handover.kept == last.run / "best"


def test_the_average_is_what_is_kept(go, planned):
    assert hashed(go(FOUR, ema=0.9).run / "best") == digest(go(FOUR, ema=0.9, export="best").run)


def test_nothing_is_kept_twice(go, planned):
    planned |= {3: 0.6, 4: 0.7}
    result = go(FOUR)
    assert not (result.run / "best").exists()
    assert (result.handover.best.step, result.handover.exported, result.handover.kept) == (4, 4, None)


def test_a_better_one_later_takes_the_place(go, planned):
    planned |= {1: 0.1, 2: 0.3, 3: 0.6, 4: 0.5}
    assert read_origin(go(FOUR).run / "best")["step"] == 3


@pytest.mark.parametrize("dies", ["save_model", "export_model", "remove_folder"])
@pytest.mark.parametrize("at", [3])
def test_a_run_that_dies_while_it_exports_keeps_the_best_all_the_same(go, planned, tmp_path, monkeypatch, dies, at):
    planned |= {1: 0.1, 2: 0.3, 3: 0.5}
    whole = go(FOUR).run
    original = getattr(model_export, dies)

    class Died(BaseException):
        pass

    def die(*given):
        step = given[0].progress.step if dies == "export_model" else None
        if (step == at) if step is not None else died.pop("left", 0):
            raise Died
        return original(*given)

    died = {"left": 1}
    monkeypatch.setattr(model_export, dies, die)
    run = tmp_path / "dies"
    try:
        train(FOUR, run)
    except Died:
        monkeypatch.setattr(model_export, dies, original)
        resume(run)
    for name in ("model", "best"):
        assert hashed(run / name) == hashed(whole / name)


def test_what_is_said(go, planned):
    handover = go(FOUR).handover
    images = len(open_dataset(TINY.data).validation)
    low, high = wilson_interval(round(0.5 * images), images)
    words = dict(handover.lines)
    assert words["best"] == (
        f"top-1 50.00% (95% interval {low:.1%} to {high:.1%}), loss 1.5000, at step 2, on {images} held-out images"
    )
    assert words["last"].startswith("top-1 30.00% (95%") and "at step 4" in words["last"]
    assert words["handed over"].startswith("the last, whatever the held-out images say")
    assert words["kept"] == f"the best, in {handover.kept}"
    assert "note" not in words, "nothing was chosen"


@pytest.mark.parametrize(
    "figures, export, said",
    [
        ({}, "best", "the best of 4 evaluations, chosen by the held-out images"),
        ({4: 0.9}, "best", "the last, which is the best of 4 evaluations"),
    ],
)
def test_why_it_was_exported(go, planned, figures, export, said):
    planned |= figures
    assert go(FOUR, export=export).handover.reason == said


@pytest.mark.parametrize("last, export, chosen", [(0.3, "best", True), (0.9, "best", True), (0.9, "last", False)])
def test_a_choice_is_noted_and_no_more(go, planned, last, export, chosen):
    planned[4] = last
    result = go(FOUR, export=export)
    words, measured = dict(result.handover.lines), vitreous.evaluate(result.run, speed=False).measured
    assert ("as the best of 4 evaluations on the same images" in words.get("note", "")) == chosen
    assert ("by which it is the best of 4 evaluations" in measured) == chosen


def test_others_are_told_of_a_choice_where_the_kept_best_is_published(go, planned):
    """The last chose nothing, whoever takes the best in its place chooses."""
    handover = go(FOUR).handover
    last, best = (" ".join(handover.describe_for_others(step)) for step in (4, 2))
    assert "the last, whatever the held-out images say" in last and "it was chosen" not in last
    assert "chosen by the held-out images" in best and "it was chosen as the best of 4" in best


def test_one_evaluation_was_no_choice(go, planned):
    handover = go(FOUR, evaluate_every="4st").handover
    assert [word for word, _ in handover.lines] == ["best, last", "handed over"]
    assert handover.reason == "the model of step 4, the only one that was evaluated"


def test_the_figures_are_those_of_the_models(go):
    """No plan here: the models in the folders give, measured again, what is said of them."""
    result = go(FOUR, optimizer=replace(TINY.optimizer, lr=3e-2), seed=5)
    source = open_dataset(TINY.data).validation
    handover = result.handover
    places = {handover.exported: result.model} | ({handover.best.step: handover.kept} if handover.kept else {})
    assert handover.best.step in places
    for one in (handover.best, handover.last):
        metrics, _, _ = evaluate(Predictor.load(places[one.step], device="cpu"), source)
        assert metrics.top1 == one.metrics["top1"] and metrics.interval == one.interval


def test_a_longer_run_goes_on_keeping(go, planned):
    run = go(FOUR).run
    planned |= {5: 0.45, 6: 0.6}
    longer = resume(run, changes=vitreous_changes(duration="6st"))
    assert (longer.handover.best.step, longer.handover.exported, longer.handover.kept) == (6, 6, None)
    assert not (run / "best").exists()


def vitreous_changes(**changed):
    from vitreous.training.changes import Changes

    return Changes(**changed)


def test_a_run_of_before_says_that_its_best_is_gone(go, planned):
    """Such a run has no folder `best`: what there is to say is said."""
    import shutil

    result = go(FOUR)
    shutil.rmtree(result.run / "best")
    handover = describe_handover(read_run(result.run))
    assert handover is not None and handover.kept is None
    assert dict(handover.lines)["kept"] == "not the best: its weights are gone"
    assert resume(result.run).handover == handover


def test_a_head_that_was_fitted_is_exported_though_the_run_died_before(go, monkeypatch, tmp_path):
    """A run of no step dies after its checkpoint: there was a checkpoint and no model, for ever."""
    base = go().run
    config = replace(
        TINY, weights=str(base), head="logistic", duration="0st", freeze="trunk", export="best",
        model=replace(TINY.model, head_bias=True),
    )  # fmt: skip
    monkeypatch.setattr(loop, "export_evaluated", lambda job, run: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "probe")
    monkeypatch.undo()
    result = resume(tmp_path / "probe")
    assert result.model is not None and read_origin(result.run)["step"] == 0


def test_the_page_and_the_command_line_say_the_same(go, planned, reported, capsys):
    from vitreous.cli.train import report_result
    from vitreous.training.reporter import Silent

    result = go(FOUR)
    page = result.report.read_text(encoding="utf-8")
    report_result(result, Silent())
    printed = capsys.readouterr().out
    assert "What is handed over" in page
    for word, said in result.handover.lines:
        assert f"{word:<12} {said}" in printed
        assert said in page
