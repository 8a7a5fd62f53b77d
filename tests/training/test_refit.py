"""A head that is fitted again, once it is measured, to the images that measured it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from tests.support.training import TINY, Listener, digest, exported

import vitreous
from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.errors import ConfigError
from vitreous.evaluation.probes.features import FeatureOptions, features
from vitreous.recipes.options import RecipeOptions
from vitreous.recipes.probe import probe
from vitreous.training import refit
from vitreous.training.run import resume
from vitreous.weights.model_folder import load_model, read_origin

PROBE = replace(
    TINY,
    data=replace(TINY.data, holdout=0.5, split_seed=1),
    head="logistic",
    duration="0st",
    freeze="trunk",
    export="best",
    schedule=replace(TINY.schedule, warmup="0%"),
    refit=True,
)
FEW = replace(PROBE, duration="4st", freeze="none")
LAST = replace(FEW, export="last")
VIEWS = replace(PROBE, head_views=1)
IMAGES, HELD_OUT = 1797, 899


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VITREOUS_CACHE", str(tmp_path / "cache"))


def copy_run(result, folder):
    """A shared run's result, in a copy that may be changed."""
    return replace(result, run=Path(shutil.copytree(result.run, folder / "copy")))


def read_l2(run):
    (state,) = (json.loads(one.read_text()) for one in sorted((run / "checkpoints").glob("step-*/state.json"))[-1:])
    return state["state"]["head"]["l2"]


def check_is_scikit_learns(result):
    """Hold the exported head against scikit-learn's regression on the features of all images."""
    folder, dataset = load_model(result.model), open_dataset(PROBE.data)
    parts = [features(folder, one, FeatureOptions(cache=False)) for one in (dataset.train, dataset.validation)]
    vectors = np.concatenate([one.vectors for one in parts]).astype(np.float64)
    labels = np.concatenate([one.labels for one in parts])
    assert len(labels) == IMAGES
    scaled = StandardScaler().fit_transform(vectors)
    reference = LogisticRegression(C=1 / (read_l2(result.run) * IMAGES), tol=1e-8, max_iter=10_000).fit(scaled, labels)
    found = folder.model.head(torch.from_numpy(vectors.astype(np.float32))).softmax(1).detach().numpy()
    np.testing.assert_allclose(found, reference.predict_proba(scaled), atol=1e-3)


def test_the_head_handed_over_is_scikit_learns_on_all_images(trained_once):
    result, before = trained_once(PROBE), trained_once(replace(PROBE, refit=False))
    check_is_scikit_learns(result)
    assert digest(result.run) != digest(before.run)
    for name, tensor in exported(before.run).items():
        assert torch.equal(tensor, load_model(result.run / "measured").model.state_dict()[name])
        assert torch.equal(tensor, exported(result.run)[name]) != name.startswith("head.")
    assert load_model(result.model).temperature == load_model(before.model).temperature != 1.0


def test_the_accuracy_that_is_told_is_the_measured_one(trained_once):
    result, before = trained_once(PROBE), trained_once(replace(PROBE, refit=False))
    assert {**result.metrics, "seconds": 0} == {**before.metrics, "seconds": 0}
    said = f"measured on {HELD_OUT} images held out; the model handed over has then learned from them too, 1,797 images in all"
    assert dict(result.handover.lines)["refitted"] == said
    assert "refitted" not in dict(before.handover.lines)
    assert not (before.run / "measured").exists()
    assert f"refitted    {said}" in str(vitreous.inspect(result.run))
    assert any(said in line for line in result.handover.describe_for_others(0))
    assert not any("/" in line for line in result.handover.describe_for_others(0))


def test_evaluate_measures_the_model_of_before_and_says_so(trained_once):
    result = trained_once(PROBE)
    own = vitreous.evaluate(result.run, speed=False)
    assert own.metrics.top1 == pytest.approx(result.metrics["top1"])
    assert "by the model as it was before its head learned from them too" in own.measured
    assert str(result.run / "measured") in own.measured
    named = vitreous.evaluate(result.run, open_dataset(PROBE.data).validation, speed=False)
    assert (named.overlap.trained, named.overlap.held_out) == (HELD_OUT, HELD_OUT)
    assert f"{HELD_OUT} of them measured it before it learned from them too" in str(named)
    assert named.metrics.top1 > own.metrics.top1
    train = vitreous.evaluate(result.run, open_dataset(PROBE.data).train, speed=False)
    assert train.overlap.trained == IMAGES - HELD_OUT


def test_quantising_names_the_model_of_before(trained_once, tmp_path):
    """Where it hasn't seen the measured images, which another split of the same data doesn't promise."""
    for config, measured in ((replace(PROBE, data=DataConfig("digits")), ""), (PROBE, None)):
        run = trained_once(config).run
        found = vitreous.quantise(run, "digits", tmp_path / f"int8-{measured}", to="torch", most_lost=100)
        other = vitreous.quantise(run / "measured", "digits", tmp_path / f"{measured}-b", to="torch", most_lost=100)
        assert "so both accuracies flatter it" in found.note
        assert (f"; {run / 'measured'} hasn't seen them" in found.note) == (measured == "")
        assert "hasn't seen" not in other.note and (other.note == "") == (measured == "")


def test_the_report_measures_the_model_of_before(trained_once):
    from vitreous.reports.run.contents import gather

    result = trained_once(PROBE)
    assert gather(result.run).measured.metrics.top1 == pytest.approx(result.metrics["top1"])


def test_a_head_is_fitted_again_after_steps_too(trained_once, tmp_path):
    result = copy_run(trained_once(LAST), tmp_path)
    assert read_origin(result.model)["step"] == 4
    head = json.loads((result.run / "checkpoints" / "step-4" / "state.json").read_text())["state"]["head"]
    assert load_model(result.model).temperature == pytest.approx(head["temperature"]) != 1
    check_is_scikit_learns(result)
    assert digest(resume(result.run).run) == digest(trained_once(LAST).run)


def test_views_of_the_held_out_images_are_learned_from(trained_once):
    assert digest(trained_once(VIEWS).run) != digest(trained_once(PROBE).run)


@pytest.mark.parametrize(
    "dies", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("read_views", "fit_at")), "save_model"]
)
def test_a_run_that_dies_while_it_is_fitted_again_goes_on_to_the_same_bits(
    go, trained_once, tmp_path, monkeypatch, dies
):
    def killed(*given, **options):
        raise KeyboardInterrupt

    whole = trained_once(VIEWS)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(refit, dies, killed)
        go(VIEWS)
    listener = Listener()
    again = resume(tmp_path / "run-0", listener)
    assert digest(again.run) == digest(whole.run)
    assert "refitted" in dict(again.handover.lines)


def test_a_longer_run_exports_and_fits_again(trained_once, tmp_path):
    from vitreous.training.changes import Changes

    first = copy_run(trained_once(LAST), tmp_path)
    longer = resume(first.run, changes=Changes(duration="8st"))
    assert read_origin(longer.model)["step"] == read_origin(longer.run / "measured")["step"] == 8
    assert "refit" not in read_origin(longer.run / "measured")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"head": "new", "duration": "1st"}, "refit fits a head by logistic regression again"),
        (
            {"duration": "2ep"},
            "2ep of training would change the head alone, which refit then replaces; use recipe lp-ft",
        ),
        ({"data": DataConfig("digits", folds=3)}, "validation images of its own"),
    ],
)
def test_what_does_not_go_together_is_refused(go, changed, said):
    with pytest.raises(ConfigError, match=said):
        go(replace(PROBE, **changed))


def test_the_recipe_fits_again_where_images_were_held_out_alone(trained_once, tmp_path):
    facts = open_dataset(DataConfig("digits")).facts
    weights = str(trained_once(PROBE).model)
    assert facts.held_out and probe(RecipeOptions(facts, weights=weights)).refit
    assert not probe(RecipeOptions(replace(facts, held_out=False), weights=weights)).refit
    assert not open_dataset(DataConfig("digits", folds=2)).facts.held_out
    assert not open_dataset(DataConfig("digits", tuning_holdout=0.2)).facts.held_out
    assert not open_dataset(DataConfig("formula:atoms?classes=3&images=4&size=16")).facts.held_out


def test_a_split_of_the_datas_own_is_never_held_out(tmp_path):
    from tests.support.pictures import tree

    alone = tree(tmp_path / "alone", cat=5, dog=5)
    split = tmp_path / "split"
    tree(split / "train", cat=5, dog=5), tree(split / "val", cat=2, dog=2)
    tested = tmp_path / "tested"
    tree(tested / "train", cat=5, dog=5), tree(tested / "test", cat=2, dog=2)
    held_out = [open_dataset(DataConfig(str(one), test_split="once")).facts.held_out for one in (alone, split, tested)]
    assert held_out == [True, False, True]
    assert not open_dataset(DataConfig(str(tested))).facts.held_out
