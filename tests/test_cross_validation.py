"""Cross-validation: folds against scikit-learn's properties, every image predicted once, one model at the end."""

import csv
import json
import re
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import binomtest
from sklearn.model_selection import StratifiedKFold
from tests.support.training import TINY, Listener, digest

import vitreous
import vitreous.training.run_group as running
from vitreous.cross_validation import begin_folds, continue_folds, describe_plan, plan_folds, set_fold
from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.data.folds import assign_folds
from vitreous.errors import CheckpointError, ConfigError, DataError, RunError
from vitreous.evaluation.overlap import Overlap, overlap
from vitreous.run_folder import MODEL
from vitreous.weights.model_folder import load_model

CONFIG = replace(TINY, duration="6st", evaluate_every="3st", export="best")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(4, 9), min_size=2, max_size=5), st.integers(2, 4), st.integers(0, 9))
def test_folds_are_stratified_as_scikit_learns(sizes, folds, seed):
    labels = [f"class {index}" for index, size in enumerate(sizes) for _ in range(size)]
    names = [f"{index}.png" for index in range(len(labels))]
    found = np.array(assign_folds(names, labels, folds, seed))
    theirs = np.zeros(len(labels), int)
    for fold, (_, held) in enumerate(StratifiedKFold(folds, shuffle=True, random_state=seed).split(names, labels)):
        theirs[held] = fold
    for chosen in (slice(None), *(np.array(labels) == label for label in set(labels))):
        ours, others = (sorted(np.bincount(one[chosen], minlength=folds)) for one in (found, theirs))
        assert ours == others
    order = np.random.default_rng(seed).permutation(len(labels))
    again = assign_folds([names[at] for at in order], [labels[at] for at in order], folds, seed)
    assert found[order].tolist() == again, "the order in which examples are listed is of no account"


def test_every_image_is_held_out_once_and_the_last_model_has_them_all():
    parts = [open_dataset(DataConfig("digits", folds=4, fold=fold)) for fold in range(4)]
    held = [name for part in parts for name in part.validation.names]
    assert len(held) == len(set(held)) == 1797
    for part in parts:
        assert set(part.train.names) | set(part.validation.names) == set(held)
        assert not set(part.train.names) & set(part.validation.names)
        assert (part.facts.train, sum(part.facts.counts)) == (len(part.train), len(part.train))
    whole = open_dataset(DataConfig("digits", folds=4, fold=-1))
    assert set(whole.train.names) == set(held)
    assert "it is measured on training images" in str(whole.report)


@pytest.fixture
def photos(tmp_path):
    """Return a folder with train/ (7 and 5 images of two classes) and val/ (3 each)."""
    rng = np.random.default_rng(0)
    for part, counts in (("train", (7, 5)), ("val", (3, 3))):
        for label, count in zip("ab", counts, strict=True):
            (tmp_path / "photos" / part / label).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 255, (9, 9, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "photos" / part / label / f"{index}.png")
    return tmp_path / "photos"


def test_a_split_of_the_datas_own_stays_apart(photos):
    apart = set(open_dataset(DataConfig(str(photos))).validation.names)
    seen = Counter()
    for fold in range(5):
        part = open_dataset(DataConfig(str(photos), folds=5, fold=fold))
        assert str(part.validation.root).endswith("train")
        assert len(part.train) + len(part.validation) == 12
        seen.update(part.validation.names)
    assert len(seen) == 12
    last = open_dataset(DataConfig(str(photos), folds=5, fold=-1))
    assert (len(last.train), set(last.validation.names)) == (12, apart)


@pytest.fixture(scope="module")
def crossed(tmp_path_factory):
    """Return a finished cross-validation's folder, its result and what was said."""
    out, listener = tmp_path_factory.mktemp("folds") / "out", Listener()
    return out, begin_folds(plan_folds(CONFIG, 3), out, listener), listener.messages


def test_the_model_of_all_is_known_to_have_seen_the_images(crossed):
    out, source = crossed[0], open_dataset(DataConfig("digits", folds=3, fold=-1)).train
    for model in (out, out / MODEL):
        assert overlap(model, source, CONFIG.decode) == Overlap(1797, 1797, 0)


def test_predictions_are_those_of_models_that_have_not_seen_the_images(crossed):
    out, result, said = crossed
    rows = list(csv.DictReader((out / "predictions.csv").open()))
    assert len({row["path"] for row in rows}) == len(rows) == 1797
    right = [row["label"] == row["prediction"] for row in rows]
    each = [np.mean([one for one, row in zip(right, rows, strict=True) if row["fold"] == fold]) for fold in "123"]
    assert result.metrics["top1"] == pytest.approx(np.mean(each))
    document = json.loads((out / "folds.json").read_text())
    interval = tuple(binomtest(sum(right), len(right)).proportion_ci(method="wilson"))
    assert (document["pooled"]["low"], document["pooled"]["high"]) == pytest.approx(interval)
    probabilities = np.array([[float(row[f"probability of {label}"]) for label in range(10)] for row in rows])
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-4)
    assert [str(best) for best in probabilities.argmax(1)] == [row["prediction"] for row in rows]
    model = vitreous.load(out / "fold-2")
    held = open_dataset(replace(CONFIG.data, folds=3, fold=1)).validation
    by_name = {row["path"]: row["prediction"] for row in rows if row["fold"] == "2"}
    assert set(by_name) == set(held.names)
    assert [one.label for one in model([held.read(at) for at in range(20)])] == [
        by_name[one] for one in held.names[:20]
    ]
    assert "mean of 3 folds (95% interval" in str(result.folds)
    assert "fold 2 of 3" in said


def test_one_model_is_there_at_the_end_with_the_temperature(crossed):
    out, result, _ = crossed
    assert sorted(path.name for path in out.iterdir()) == [
        ".lock", "final", "fold-1", "fold-2", "fold-3", "folds.json", "model", "predictions.csv",
    ]  # fmt: skip
    assert (result.run, result.model) == (out, out / "model")
    assert digest(out) == digest(out / "final")
    config = json.loads((out / "final" / "config.json").read_text())
    assert config["data"]["train"] == 1797
    assert config["config"]["export"] == "last"
    pooled = json.loads((out / "folds.json").read_text())["pooled"]
    assert load_model(out).temperature == pooled["temperature"] != 1.0
    assert load_model(out / "final").temperature == 1.0
    assert vitreous.load(out)(np.zeros((8, 8), np.uint8)).label in set("0123456789")
    said = str(vitreous.inspect(out))
    assert "3 folds" in said
    assert f"next: vitreous predict {out} IMAGES" in said
    with pytest.raises(RunError, match="vitreous resume"):
        vitreous.train("digits", out=out, folds=3)


def test_a_killed_one_goes_on_to_the_same_bits(crossed, tmp_path, monkeypatch):
    out, result, _ = crossed
    cut = tmp_path / "cut"
    shutil.copytree(out, cut)
    for name in ("final", "model", "fold-3"):
        shutil.rmtree(cut / name)
    (cut / "predictions.csv").unlink()
    document = json.loads((cut / "folds.json").read_text())
    del document["reached"]["3"]
    (cut / "folds.json").write_text(json.dumps(document | {"pooled": {}}))
    with pytest.raises(CheckpointError, match="has no model yet; resume it with"):
        load_model(cut)
    begun, whole = [], running.train
    monkeypatch.setattr(
        running, "train", lambda config, path, *rest: begun.append(path.name) or whole(config, path, *rest)
    )
    again = vitreous.resume(cut)
    assert begun == ["fold-3", "final"]
    assert again.metrics == result.metrics
    for name in ("predictions.csv", "folds.json", "model/model.safetensors"):
        assert (cut / name).read_bytes() == (out / name).read_bytes() or name == "folds.json"
    assert continue_folds(cut).metrics == result.metrics
    with pytest.raises(ConfigError, match="a cross-validation, which continues as it began"):
        vitreous.resume(cut, duration="9st")


@pytest.mark.parametrize(
    ("data", "how", "said"),
    [
        ("digits", {"folds": 1}, "at least 2"),
        ("digits", {"folds": -3}, "at least 2"),
        ("digits", {"folds": 3, "rates": "auto"}, "--folds and --rates"),
        ("formula:atoms?classes=3", {"folds": 3}, "draws any number"),
        ("digits", {"folds": 3, "recipe": "mae"}, "without labels"),
        ("digits", {"folds": 3, "recipe": "small", "settings": {"data": {"folds": 4}}}, "leave out data.folds"),
        ("digits", {"folds": 200, "recipe": "small"}, "class '8' has 174 images"),
    ],
)
def test_what_can_not_be_is_refused_before_anything_is_written(data, how, said, tmp_path):
    with pytest.raises((ConfigError, DataError), match=said):
        vitreous.train(data, out=tmp_path / "out", **how)
    assert not (tmp_path / "out").exists()


def test_pseudo_labels_are_refused_since_they_may_be_of_what_is_measured():
    data = replace(CONFIG.data, unlabelled="more", pseudo_labels="labels.csv")
    with pytest.raises(ConfigError, match=r"leave out data\.pseudo_labels"):
        plan_folds(replace(CONFIG, data=data), 3)


def test_more_folds_than_the_smallest_class_has_images_names_the_class(photos, tmp_path):
    with pytest.raises(DataError, match=r"6 folds, but class 'b' has 5 images, .* at most --folds 5"):
        vitreous.train(photos, recipe="small", model="mu/4", image=(8, 8), folds=6, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_several_labels_an_image_are_refused(photos, tmp_path):
    lines = [
        json.dumps({"path": str(path), "labels": ["x", "y"][: 1 + index % 2]})
        for index, path in enumerate(sorted(photos.rglob("*.png")))
    ]
    (tmp_path / "several.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError, match="has several; leave out --folds"):
        vitreous.train(tmp_path / "several.jsonl", recipe="small", folds=2, out=tmp_path / "out")


@pytest.mark.parametrize("name", ["label", "class"])
def test_a_label_column_with_too_few_images_of_a_class_is_refused_before_weights_are_looked_for(
    photos, tmp_path, monkeypatch, name
):
    monkeypatch.setattr("vitreous.api.training.resolve_weights", lambda *given: pytest.fail("weights were looked for"))
    rows = [f"{path},{path.parent.name}" for path in sorted((photos / "train").rglob("*.png"))]
    (tmp_path / "list.csv").write_text("\n".join([f"path,{name}", *rows]))
    with pytest.raises(
        DataError,
        match=r"^6 folds, but class 'b' has 5 images, and each fold needs one; use at most --folds 5, or add images$",
    ):
        vitreous.train(tmp_path / "list.csv", folds=6, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("weights", [None, "auto", "dinov2-s"])
@pytest.mark.parametrize(
    ("data", "how", "said"),
    [
        ("digits", {"recipe": "probe", "minutes": 3}, "leave out --minutes 3, or use recipe 'lp-ft'"),
        ("no-such-place", {"recipe": "probe"}, "no such file or folder: no-such-place"),
        ("digits", {"recipe": "prob"}, "did you mean 'probe'"),
        ("digits", {"model": "S/61x"}, "unknown model 'S/61x'"),
        ("digits", {"folds": 200}, "class '8' has 174 images"),
    ],
)
def test_no_weights_are_looked_for_where_the_request_can_not_be(weights, data, how, said, monkeypatch):
    monkeypatch.setattr("vitreous.api.training.resolve_weights", lambda *given: pytest.fail("weights were looked for"))
    with pytest.raises((ConfigError, DataError), match=said):
        vitreous.train(data, weights=weights, **how)


def test_a_dry_run_shows_the_plan_and_writes_nothing(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    there = set(tmp_path.rglob("*"))
    found = vitreous.train(
        photos,
        recipe="small",
        model="mu/4",
        image=(8, 8),
        folds=4,
        dry_run=True,
        settings={"duration": "2ep", "batch": 4},
    )
    assert str(found).endswith(
        "fold 1       trains on 9 images, is measured on 3\nfold 2       trains on 9 images, is measured on 3\n"
        "fold 3       trains on 9 images, is measured on 3\nfold 4       trains on 9 images, is measured on 3\n"
        "final        trains on all 12, each 2ep"
    )
    assert set(tmp_path.rglob("*")) == there


@pytest.mark.parametrize(("folds", "seed"), [(4, 0), (7, 3)])
def test_a_plan_says_what_each_fold_holds_and_opens_the_data_once(folds, seed, monkeypatch):
    data = replace(CONFIG.data, path="digits", split_seed=seed)
    plan = plan_folds(replace(CONFIG, data=data), folds)
    each = [open_dataset(set_fold(plan, fold).data) for fold in range(folds)]
    opened = []
    monkeypatch.setattr(
        "vitreous.cross_validation.open_dataset", lambda *given: opened.append(1) or open_dataset(*given)
    )
    said = re.findall(r"trains on (?:all )?([\d,]*\d)(?: images, is measured on (\d+))?", describe_plan(plan))
    assert said == [*((f"{len(one.train):,}", str(len(one.validation))) for one in each), ("1,797", "")]
    assert opened == [1]


def test_an_unfinished_one_can_not_be_measured_yet(crossed, tmp_path):
    out, _, _ = crossed
    cut = tmp_path / "cut"
    shutil.copytree(out, cut)
    (cut / "folds.json").write_text(json.dumps(json.loads((out / "folds.json").read_text()) | {"pooled": {}}))
    with pytest.raises(RunError, match="isn't done; continue it with `vitreous resume"):
        vitreous.evaluate(cut, speed=False)


def test_measured_again_it_comes_to_what_it_said(crossed):
    out, _, _ = crossed
    found = vitreous.evaluate(out, speed=False, device="cpu")
    rows = list(csv.DictReader((out / "predictions.csv").open()))
    assert dict(zip(found.source.names, found.columns["prediction"], strict=True)) == {
        row["path"]: row["prediction"] for row in rows
    }
    assert found.metrics.examples == len(rows) == 1797
    assert found.metrics.top1 == pytest.approx(json.loads((out / "folds.json").read_text())["pooled"]["right"] / 1797)


@pytest.fixture
def divided(photos, tmp_path):
    """Return a finished cross-validation of photos that have no split of their own, and the photos."""
    shutil.rmtree(photos / "val")
    config = replace(
        CONFIG, data=DataConfig(str(photos)), model=replace(CONFIG.model, classes=2), batch=4, duration="1st"
    )
    config = replace(config, schedule=replace(config.schedule, warmup="0st"))
    out = tmp_path / "out"
    begin_folds(plan_folds(config, 3), out)
    return out, photos / "train"


def change_plan(out, **values):
    (out / "folds.json").write_text(json.dumps(json.loads((out / "folds.json").read_text()) | values))


@pytest.mark.parametrize("change", ["added", "removed", "moved to another class", "replaced"])
def test_other_images_are_noticed_since_the_folds_would_be_others(divided, change):
    out, photos = divided
    one = photos / "a" / "0.png"
    if change == "removed":
        one.unlink()
    elif change == "moved to another class":
        one.rename(photos / "b" / "new.png")
    else:
        Image.new("RGB", (9, 9)).save(photos / "a" / ("new.png" if change == "added" else "0.png"))
    with pytest.raises(
        RunError, match=r"the images have changed since the cross-validation in .* Restore them"
    ) as caught:
        vitreous.evaluate(out, speed=False)
    assert caught.value.exit_code == 2
    shutil.rmtree(out / "fold-3")
    change_plan(out, reached={}, pooled={})
    with pytest.raises(RunError, match="the images have changed"):
        vitreous.resume(out)
    assert not (out / "fold-3").exists()


def test_folds_of_an_earlier_version_predict_no_images_but_their_own(divided):
    out, photos = divided
    change_plan(out, images="")
    assert vitreous.evaluate(out, speed=False).metrics.examples == 12, "nothing has changed"
    Image.new("RGB", (9, 9)).save(photos / "a" / "new.png")
    with pytest.raises(RunError, match="the data has changed since this run began"):
        vitreous.evaluate(out, speed=False)
    change_plan(out, pooled={})
    with pytest.raises(
        RunError, match=r"the data has changed since this run began.* or start again in another folder$"
    ):
        vitreous.resume(out)
