"""Runs on images with several labels each: from the manifest to a model that gives each label its own probability."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score, log_loss
from tests.support.quadrants import QUARTERS, quadrants
from tests.support.training import TIMED, TINY, Listener, digest

import vitreous
from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.errors import ConfigError, DataError
from vitreous.evaluation.accuracy import evaluate, evaluate_multilabel
from vitreous.images.config import AugmentConfig
from vitreous.images.preprocess import preprocess_image
from vitreous.metrics.headline import find_headline
from vitreous.model.names import build_vit_config
from vitreous.objectives.config import ClassifyConfig
from vitreous.predictor import Predictor
from vitreous.recipes.catalog import RECIPES, UNLABELLED, configure
from vitreous.recipes.options import RecipeOptions
from vitreous.run_folder import read_run
from vitreous.training.config import EarlyStopConfig, OptimizerConfig
from vitreous.training.loop import is_better
from vitreous.training.run import resume, train
from vitreous.training.trial_run import dry_run
from vitreous.weights.model_folder import load_model

SETS = replace(
    TINY,
    model=build_vit_config("mu/4", image=(8, 8), channels=1, classes=4, depth=1, pool="mean", class_token=False),
    objective=ClassifyConfig(loss="sigmoid"),
    batch=16,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return DataConfig(str(quadrants(tmp_path_factory.mktemp("sets"), 240, split=True)))


@pytest.fixture
def start(tmp_path, data):
    """Train SETS with some settings changed, into a numbered folder."""
    runs = iter(range(100))

    def run(reporter=None, **changed):
        return train(replace(SETS, data=data, **changed), tmp_path / f"run-{next(runs)}", reporter)

    return run


@pytest.fixture(scope="module")
def learned(tmp_path_factory, data):
    """Return a run that learned its labels. Not to be changed."""
    changed = {"duration": "200st", "evaluate_every": "100st", "batch": 32}
    plain = AugmentConfig(crop="eval", flip=False)
    config = replace(SETS, data=data, optimizer=OptimizerConfig(lr=2e-2), augment=plain, **changed)
    return train(config, tmp_path_factory.mktemp("learned") / "run")


def records(run, kind):
    return [one for one in read_run(run).metrics if one["kind"] == kind]


def test_it_learns_every_label(learned):
    assert learned.metrics["map"] > 0.99
    assert learned.metrics["micro_f1"] > 0.95
    assert records(learned.run, "train")[-1]["micro_f1"] > 0.9
    assert "accuracy" not in records(learned.run, "train")[-1]


def test_validation_is_scikit_learns(learned, data):
    source = open_dataset(data).validation
    predictor = Predictor.load(learned.run, device="cpu")
    metrics, logits, targets = evaluate_multilabel(predictor, source)
    np.testing.assert_array_equal(targets, source.label_matrix)
    scores = 1 / (1 + np.exp(-logits.astype(np.float64)))
    claimed = scores >= 0.5
    assert learned.metrics["map"] == pytest.approx(average_precision_score(targets, scores, average="macro"))
    assert learned.metrics["micro_f1"] == pytest.approx(f1_score(targets, claimed, average="micro"))
    assert learned.metrics["macro_f1"] == pytest.approx(f1_score(targets, claimed, average="macro"))
    total = sum(log_loss(targets[:, label], scores[:, label], labels=[0, 1]) for label in range(4))
    assert learned.metrics["loss"] == pytest.approx(total, rel=1e-5)
    assert learned.metrics["map"] == metrics.mean_average_precision


def test_the_model_knows_that_an_image_may_have_several(learned, data):
    folder = load_model(learned.run)
    assert (folder.multilabel, folder.classes) == (True, QUARTERS)
    assert json.loads((learned.run / "model" / "config.json").read_text())["multilabel"] is True
    predictor = Predictor(folder, device="cpu", top=1)
    source = open_dataset(data).validation
    for index in range(4):
        one = predictor(source.root / source.names[index])
        pixels = torch.from_numpy(preprocess_image(source.read(index), folder.decode, folder.preprocess))
        logits = predictor.logits(pixels.permute(2, 0, 1)[None])[0]
        shares = dict(zip(QUARTERS, logits.sigmoid().tolist(), strict=True))
        assert set(one.labels) == {label for label, share in shares.items() if share >= 0.5}
        assert [label for label, _ in one.top[: len(one.labels)]] == list(one.labels)
        assert one.score == pytest.approx(max(shares.values()), abs=1e-6)
        assert one.to_dict()["labels"] == list(one.labels)


def test_accuracy_is_refused_where_there_are_several(learned, data):
    with pytest.raises(DataError, match="several labels an image, but accuracy needs one label an image"):
        evaluate(Predictor.load(learned.run, device="cpu"), open_dataset(data).validation)


def test_the_report_is_about_labels(learned):
    page = (learned.run / "report.html").read_text()
    for words in (
        "mean average precision",
        "micro F1",
        "Each label, by average precision",
        "Surest mistakes",
        "top left",
    ):
        assert words in page, words
    for words in ("top-1", "Confusions", "Calibration", "can't be drawn", "Not measured"):
        assert words not in page, words


def test_same_bits_whatever_the_workers_and_however_often_it_was_interrupted(start):
    whole, broken = start(ema=0.9, workers=2), start(ema=0.9, checkpoint_every="5st", keep_checkpoints=4)
    assert digest(broken.run) == digest(whole.run)
    for lost in ("step-8", "step-10", "step-12"):
        shutil.rmtree(broken.run / "checkpoints" / lost, ignore_errors=True)
    (broken.run / "model" / "model.safetensors").unlink()
    assert digest(resume(broken.run).run) == digest(whole.run)
    timeless = [
        [{key: value for key, value in one.items() if key not in TIMED} for one in read_run(run).metrics]
        for run in (broken.run, whole.run)
    ]
    assert timeless[0] == timeless[1]


def test_everything_that_is_set_takes_part(data, learned):
    config = replace(SETS, data=data, weights=str(learned.run))
    changes = [
        {},
        {"objective": replace(SETS.objective, smoothing=0.1)},
        {"objective": replace(SETS.objective, class_weights="balanced")},
        {"augment": replace(SETS.augment, mixup=0.0)},
        {"augment": replace(SETS.augment, mixup=0.0, cutmix=1.0)},
    ]
    assert len({dry_run(replace(config, **changed)).loss for changed in changes}) == 5


def test_a_test_split_without_a_label_is_measured_by_its_loss(data, tmp_path):
    manifest = Path(data.path)
    rows = list(csv.DictReader(manifest.open()))
    place = manifest.parent
    fields = [*rows[0]]
    held = [row for row in rows if row["split"] != "train"]
    for row in held[::2]:
        row |= {"split": "test", "labels": ""}
    with (place / "unlabelled-test.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerows(rows)
    config = replace(SETS, data=DataConfig(str(place / "unlabelled-test.csv"), test_split="once"), duration="4st")
    result = train(config, tmp_path / "run")
    assert '"map"' not in (tmp_path / "run" / "test.jsonl").read_text()
    vitreous.report(result.run)
    (tmp_path / "run" / "test.jsonl").write_text(  # as versions before wrote it
        (tmp_path / "run" / "test.jsonl").read_text().replace('"loss"', '"map": null, "loss"', 1)
    )
    vitreous.report(result.run)


def test_softmax_is_refused(data, tmp_path):
    config = replace(SETS, data=data, objective=ClassifyConfig())
    with pytest.raises(ConfigError, match=r"several labels an image.*softmax.*set --objective\.loss sigmoid"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_sigmoid_is_told(data):
    listener = Listener()
    dry_run(replace(SETS, data=data), listener)
    assert any(
        message.startswith("several labels an image: a sigmoid for each of the 4 labels")
        for message in listener.messages
    )


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name not in (*UNLABELLED, "probe", "lp-ft")])
def test_recipes_choose_the_sigmoid(recipe, data, learned):
    facts = open_dataset(data).facts
    weights = str(learned.run) if recipe in ("finetune", "hyperrule") else None
    config = configure(recipe, RecipeOptions(facts, data, weights=weights))
    assert config.objective.loss == "sigmoid"
    one = configure(recipe, RecipeOptions(replace(facts, multilabel=False), data, weights=weights))
    assert replace(config, objective=one.objective) == one
    assert one.objective.loss == ("sigmoid" if recipe in ("vit-21k", "vit-jft", "bit-jft", "deit-iii") else "softmax")


def test_weights_are_fine_tuned_and_labels_without_use_do_no_harm(data, learned, tmp_path):
    settings = {
        "duration": "2st",
        "evaluate_every": "2st",
        "schedule": {"warmup": "0st"},
        "workers": 0,
        "device": "cpu",
    }
    tuned = vitreous.train(data.path, recipe="finetune", weights=learned.run, out=tmp_path / "tuned", settings=settings)
    assert (find_headline(tuned.metrics), load_model(tuned.run).multilabel) == ("map", True)
    masked = vitreous.train(data.path, recipe="mae", out=tmp_path / "mae", settings=settings | {"batch": 8})
    assert (find_headline(masked.metrics), load_model(masked.run).multilabel) == (None, False)


def test_the_best_has_the_highest_mean_average_precision(start):
    assert is_better({"map": 0.5, "loss": 2.0}, {"map": 0.4, "loss": 1.0}, 0.0)
    assert not is_better({"map": 0.5, "loss": 0.5}, {"map": 0.6, "loss": 1.0}, 0.0)
    assert is_better({"map": 0.5, "loss": 0.5}, {"map": 0.5, "loss": 1.0}, 0.0)
    result = start(export="best", early_stop=EarlyStopConfig(patience=1, min_delta=1.0), evaluate_every="2st")
    assert (result.stopped, result.metrics["step"]) == ("early", 2)
    assert load_model(result.run).origin["metrics"] == {
        "step": 2, "map": result.metrics["map"], "loss": result.metrics["loss"],
    }  # fmt: skip


def test_a_search_of_rates_is_judged_by_it_too(data, tmp_path):
    settings = {"duration": "2st", "evaluate_every": "2st", "batch": 8, "schedule": {"warmup": "0st"}, "workers": 0}
    result = vitreous.train(data.path, out=tmp_path / "rates", settings=settings, rates=(1e-3, 1e-2))
    reached = json.loads((tmp_path / "rates" / "rates.json").read_text())["reached"]
    assert [set(one) for one in reached.values()] == [{"map", "loss"}] * 2
    assert find_headline(result.metrics) == "map"
