"""Runs that begin with a head by logistic regression: recipe probe, and finetune on few images."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.metrics import log_loss
from tests.support.training import TINY, Listener, digest, exported
from torch import nn

import vitreous
from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.errors import ConfigError
from vitreous.evaluation.probes.features import FeatureOptions, features
from vitreous.evaluation.probes.logistic import fit_logistic_head
from vitreous.model.factory import create
from vitreous.model.names import build_vit_config
from vitreous.model.resnet_config import ResNetConfig
from vitreous.objectives.config import ClassifyConfig
from vitreous.rate_search import plan_search
from vitreous.training import head_fit
from vitreous.training.assembly import build_job
from vitreous.training.config import OptimizerConfig
from vitreous.training.head_check import check_head
from vitreous.training.initial_weights import scale_rates
from vitreous.training.interrupt import Interrupt
from vitreous.training.reporter import Silent
from vitreous.training.run import resume
from vitreous.weights.model_folder import load_model

PROBE = replace(
    TINY,
    data=replace(TINY.data, holdout=0.65, tuning_holdout=0.15),  # 534 images to learn from, 94 to measure on
    head="logistic",
    duration="0st",
    freeze="trunk",
    export="best",
    schedule=replace(TINY.schedule, warmup="0%"),
)
FEW = replace(PROBE, duration="12st", freeze="none")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VITREOUS_CACHE", str(tmp_path / "cache"))


def records(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_of_no_steps_is_scikit_learns_regression_on_the_frozen_features(trained_once):
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    result = trained_once(PROBE)
    assert (result.stopped, result.metrics["step"]) == ("finished", 0)
    folder = load_model(result.model)
    dataset = open_dataset(PROBE.data)
    train, held = (features(folder, one, FeatureOptions(cache=False)) for one in (dataset.train, dataset.validation))
    state = json.loads(next((result.run / "checkpoints").glob("step-*/state.json")).read_text())
    l2 = state["state"]["head"]["l2"]
    scaler = StandardScaler().fit(train.vectors.astype(np.float64))
    reference = LogisticRegression(C=1 / (l2 * len(train)), tol=1e-8, max_iter=10_000)
    reference.fit(scaler.transform(train.vectors.astype(np.float64)), train.labels)
    expected = reference.predict_proba(scaler.transform(held.vectors.astype(np.float64)))
    head = folder.model.head
    assert isinstance(head, nn.Linear)
    found = head(torch.from_numpy(np.array(held.vectors))).softmax(1).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert result.metrics["top1"] == pytest.approx((expected.argmax(1) == held.labels).mean(), abs=0.003)
    assert result.metrics["top1"] > 0.5  # of ten classes, by random features


def test_nothing_but_the_head_changes_and_the_bits_are_the_same_every_time(go, trained_once):
    results = [go(replace(PROBE, head_views=2)) for _ in range(2)]
    assert digest(results[0].run) == digest(results[1].run)
    before = create(PROBE.model, PROBE.seed).state_dict()
    for name, tensor in exported(results[0].run).items():
        assert torch.equal(tensor, before[name]) != name.startswith("head.")
    assert digest(results[0].run) != digest(trained_once(PROBE).run)  # views are learned from
    assert digest(resume(results[0].run).run) == digest(results[1].run)


def test_steps_start_from_the_head_and_the_best_is_kept(go, trained_once):
    listener = Listener()
    ruined = go(replace(FEW, optimizer=OptimizerConfig(lr=1.0, clip=0.0)), listener)
    assert [step for step, _ in listener.best] == [0, 4, 8, 12]
    assert load_model(ruined.model).origin["step"] == 0
    probe = trained_once(PROBE)
    assert ruined.metrics["top1"] == probe.metrics["top1"]
    for name, tensor in exported(ruined.run).items():
        assert torch.equal(tensor, exported(probe.run)[name])


def test_an_average_starts_from_the_fitted_head(go):
    averaged = go(replace(FEW, ema=0.9, optimizer=OptimizerConfig(lr=1e-5)))
    evaluations = [record for record in records(averaged.run) if record["kind"] == "evaluation"]
    assert evaluations[0]["step"] == 0
    assert evaluations[0]["top1"] > 0.5
    assert evaluations[-1]["top1"] == pytest.approx(evaluations[0]["top1"], abs=0.02)


def test_a_run_killed_at_the_first_step_goes_on_to_the_same_bits(go, trained_once, tmp_path, monkeypatch):
    calls = iter(range(100))

    def killed(*arguments):
        if next(calls) == 5:
            raise KeyboardInterrupt
        return step(*arguments)

    from vitreous.training import loop

    step = loop.train_step
    monkeypatch.setattr(loop, "train_step", killed)
    with pytest.raises(KeyboardInterrupt):
        go(FEW)
    monkeypatch.setattr(loop, "train_step", step)
    assert digest(resume(tmp_path / "run-0").run) == digest(trained_once(FEW).run)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"head": "new"}, "duration is 0st; it must be above 0"),
        ({"head": "auto", "duration": "3st", "head_views": 2}, "views are for --head logistic"),
        ({"optimizer": OptimizerConfig(layer_decay=0.0)}, "layer_decay"),
        ({"objective": ClassifyConfig(class_weights="balanced")}, "--objective.class-weights is for training steps"),
    ],
)
def test_what_does_not_go_together_is_refused(go, changed, said):
    with pytest.raises(ConfigError, match=said):
        go(replace(PROBE, **changed))


def test_what_only_steps_learn_from_is_refused_without_any():
    dataset = open_dataset(PROBE.data)
    with pytest.raises(ConfigError, match="--teacher is for training steps, and this run has none"):
        check_head(replace(PROBE, teacher="runs/a"), dataset)
    check_head(replace(FEW, teacher="runs/a", objective=ClassifyConfig(class_weights="balanced")), dataset)
    with pytest.raises(ConfigError, match="--rates tries rates of training steps, but this run has no steps"):
        plan_search(PROBE, 1000, (1e-3, 1e-2))
    assert plan_search(replace(FEW, data=TINY.data), 1000, (1e-3, 1e-2)).rates == (1e-3, 1e-2)


def test_layer_wise_rates_are_timms():
    # But for the final norm, which timm counts to the last block, and BEiT's authors to the head.
    from benchmarks.timm_peer import let_torchvision_load

    let_torchvision_load()
    import timm
    from timm.optim import param_groups_layer_decay

    theirs = timm.create_model("vit_tiny_patch16_224", depth=3, num_classes=7)
    expected = {}
    for group in param_groups_layer_decay(theirs, weight_decay=0.1, layer_decay=0.6):
        for parameter in group["params"]:
            name = next(name for name, one in theirs.named_parameters() if one is parameter)
            expected[name] = group["lr_scale"]
    model = create(build_vit_config("Ti/16", depth=3, classes=7))
    rates = scale_rates(model, 0.6)
    found = {name: rates.get(parameter, 1.0) for name, parameter in model.named_parameters()}
    pairs = {
        "class_token": "cls_token",
        "positions.embedding": "pos_embed",
        "patches.embed.weight": "patch_embed.proj.weight",
        "blocks.0.attention.qkv.weight": "blocks.0.attn.qkv.weight",
        "blocks.1.attention_norm.bias": "blocks.1.norm1.bias",
        "blocks.2.mlp.contract.bias": "blocks.2.mlp.fc2.bias",
        "head.weight": "head.weight",
    }
    for ours, name in pairs.items():
        assert found[ours] == pytest.approx(expected[name]), (ours, name)
    assert scale_rates(model, 1.0) == {}


def test_layer_wise_rates_of_a_resnet_and_in_the_optimizer(go):
    model = create(ResNetConfig(image=(16, 16), units=(1, 2), unit="basic", root="3x3", classes=3))
    rates = scale_rates(model, 0.5)
    assert {rates[parameter] for parameter in model.root.parameters()} == {0.5**4}
    assert [rates[stage[-1].conv1.weight] for stage in model.stages] == [0.5**3, 0.5]
    assert model.head.weight not in rates
    before = create(FEW.model, FEW.seed).state_dict()
    last = exported(
        go(replace(FEW, export="last", optimizer=OptimizerConfig(name="sgd", lr=0.1, layer_decay=1e-9))).run
    )
    for name, tensor in last.items():  # a factor of a billionth holds everything below the head still
        moved = float((tensor - before[name]).abs().max())
        assert (moved > 1e-6) == name.startswith(("norm.", "head.")), (name, moved)


def test_the_temperature_of_predictions_of_unseen_images_travels_with_the_model(trained_once, tmp_path):
    import vitreous

    result = trained_once(PROBE)
    folder, dataset = load_model(result.model), open_dataset(PROBE.data)
    train = features(folder, dataset.train, FeatureOptions(cache=False))
    head = fit_logistic_head([train], seed=PROBE.seed)

    def loss(temperature):
        return log_loss(train.labels, softmax(head.logits.astype(np.float64) / temperature, axis=1))

    best = minimize_scalar(loss, bounds=(0.1, 10), method="bounded", options={"xatol": 1e-6})
    assert folder.temperature == pytest.approx(best.x, rel=1e-4)
    assert abs(folder.temperature - 1) > 0.05
    assert loss(folder.temperature) < loss(1.0)
    measured = vitreous.evaluate(str(result.model), "digits", speed=False)
    held = open_dataset(DataConfig("digits")).validation
    pixels = [held.read(index) for index in range(8)]
    before = shutil.copytree(result.model, tmp_path / "before")  # as a folder without a temperature
    document = json.loads((before / "config.json").read_text())
    assert document.pop("temperature") == folder.temperature
    (before / "config.json").write_text(json.dumps(document))
    plain, uncalibrated = vitreous.load(result.model), vitreous.load(before)
    for one, other, row in zip(plain(pixels), uncalibrated(pixels), measured.probabilities, strict=False):
        assert one.label == other.label
        assert one.score != pytest.approx(other.score, rel=1e-4) or other.score > 0.9999
        assert one.score == pytest.approx(row.max(), abs=1e-6)
    assert measured.metrics.nll == pytest.approx(log_loss(measured.targets, measured.probabilities), rel=1e-4)
    again = vitreous.evaluate(str(result.run), speed=False).metrics
    assert (again.top1, again.nll) == pytest.approx((result.metrics["top1"], result.metrics["loss"]))
    assert f"logits are divided by {folder.temperature:.4g}" in str(vitreous.inspect(result.model))


def test_what_a_step_has_changed_has_no_temperature_of_the_head(go):
    tuned = go(replace(FEW, export="last"))
    assert load_model(tuned.model).origin["step"] == 12
    assert load_model(tuned.model).temperature == 1.0


def test_few_images_tell_no_temperature(go):
    few = go(replace(PROBE, data=replace(PROBE.data, holdout=0.975)))
    assert load_model(few.model).temperature == 1.0


def test_a_view_shows_each_image_once_and_alone(monkeypatch):
    config = replace(PROBE, head_views=1, augment=replace(PROBE.augment, views=3, mixup=0.8, cutmix=1.0))
    job = build_job(config, open_dataset(PROBE.data), Silent())
    batches, consumed = head_fit.load_train_batches, []

    def load(*given):
        for batch in batches(*given):
            consumed.append(batch)
            yield batch

    monkeypatch.setattr(head_fit, "load_train_batches", load)
    _, view = head_fit.read_views(job, job.model, job.stream.source, "training", Silent(), Interrupt())
    assert sorted(torch.cat([batch.indices for batch in consumed]).tolist()) == list(range(len(view)))
    assert all(bool((batch.weights == 1).all()) for batch in consumed)


def test_settings_that_only_steps_read_are_named(trained_once):
    """They are in the configuration, and would be listed as changes that did something."""
    heard = Listener()
    given = {"optimizer": {"lr": 1.0}, "early_stop": {"patience": 5}, "seed": 3}
    start = {"weights": str(trained_once(TINY).run), "image": (8, 8)}
    for settings, said in ((given, 1), ({"seed": 3}, 0)):
        vitreous.train("digits", recipe="probe", settings=settings, dry_run=True, reporter=heard, **start)
        notes = [one for one in heard.messages if "change nothing here" in one]
        assert len(notes) == said
        heard.messages.clear()
        assert all("optimizer.lr, early_stop.patience change nothing here: recipe probe" in one for one in notes)
