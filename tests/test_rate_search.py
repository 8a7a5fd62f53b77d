"""A search among learning rates: chosen on a part of the training images, then trained on all; it goes on after a kill."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from tests.support.pictures import tree
from tests.support.training import TINY, Listener, digest

import vitreous
from vitreous.api.inspection import inspect
from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.errors import ConfigError, DataError, NonFiniteLoss, RunError
from vitreous.rate_search import RateSearch, begin_search, choose_rate, continue_search, is_search, plan_search
from vitreous.recipes.finetune import choose_tuning_share, list_rates
from vitreous.run_folder import read_run
from vitreous.training import run_group as running

SEARCH = RateSearch(replace(TINY, duration="4st", evaluate_every="4st"), (1e-5, 1e-2), 0.1, {})


def test_a_share_of_the_training_images_stands_in_for_the_validation():
    whole, part = open_dataset(DataConfig("digits")), open_dataset(DataConfig("digits", tuning_holdout=0.1))
    assert (len(part.train), len(part.validation)) == (1437 - 144, 144)
    names = [set(part.train.names), set(part.validation.names)]
    assert names[0] | names[1] == set(whole.train.names)
    assert not names[0] & names[1]
    assert (part.facts.train, part.facts.validation, sum(part.facts.counts)) == (1293, 144, 1293)
    assert np.bincount(part.validation.labels).min() >= 13, "stratified"
    assert part.train.fingerprint != whole.train.fingerprint
    index = part.train.names.index(next(iter(names[0])))
    origin = list(whole.train.names).index(part.train.names[index])
    assert np.array_equal(part.train.read(index), whole.train.read(origin))
    assert "held out to choose settings by" in str(part.report)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Return a finished search's folder, its result and what was said."""
    out, listener = tmp_path_factory.mktemp("search") / "out", Listener()
    return out, begin_search(replace(SEARCH, results={}), out, listener), listener.messages


def test_the_best_rate_trains_on_everything(swept):
    out, result, said = swept
    assert is_search(out)
    assert sorted(path.name for path in out.iterdir()) == [".lock", "final", "rate-0.01", "rate-1e-05", "rates.json"]
    reached = json.loads((out / "rates.json").read_text())["reached"]
    assert reached["0.01"]["top1"] > reached["1e-05"]["top1"]
    assert result.run == out / "final"
    tried, final = (read_run(out / name).config for name in ("rate-0.01", "final"))
    assert [one["data"]["train"] for one in (tried, final)] == [1536, 1707]
    assert [one["data"]["validation"] for one in (tried, final)] == [171, 90]
    assert (tried["config"]["data"]["tuning_holdout"], final["config"]["data"]["tuning_holdout"]) == (0.1, 0.0)
    assert final["config"]["optimizer"]["lr"] == 1e-2
    assert any("learning rate 0.01 is the best; training on all" in text for text in said)


def test_it_is_described(swept):
    out, _, _ = swept
    said = str(inspect(out))
    for words in (
        "recipe      custom on digits, rates on 90%",
        "rate 0.01",
        "best        0.01",
        f"next: vitreous inspect {out}/final",
    ):
        assert words in said


def test_a_killed_search_goes_on_to_the_same_bits(swept, tmp_path, monkeypatch):
    out, result, _ = swept
    cut = tmp_path / "cut"
    shutil.copytree(out, cut)
    shutil.rmtree(cut / "final")
    shutil.rmtree(cut / "rate-0.01")
    document = json.loads((cut / "rates.json").read_text())
    del document["reached"]["0.01"]
    (cut / "rates.json").write_text(json.dumps(document))
    begun = []
    monkeypatch.setattr(
        running, "train", lambda config, path, *rest: begun.append(path.name) or whole(config, path, *rest)
    )
    again = vitreous.resume(cut)
    assert begun == ["rate-0.01", "final"]
    assert digest(again.run) == digest(result.run)
    assert continue_search(cut).run == cut / "final", "a finished search is finished"


whole = running.train


def test_a_rate_that_diverges_is_passed_over(tmp_path):
    wild = replace(SEARCH.config, optimizer=replace(TINY.optimizer, clip=0.0), duration="6st", evaluate_every="6st")
    listener = Listener()
    result = begin_search(RateSearch(wild, (1e30, 1e-3), 0.1, {}), tmp_path / "out", listener)
    assert result.run == tmp_path / "out" / "final"
    assert any(text.startswith("rate 1e+30 is too high") for text in listener.messages)
    with pytest.raises(NonFiniteLoss, match="diverged with every learning rate"):
        choose_rate(replace(SEARCH, results={"1e-05": {}, "0.01": {}}))


def test_the_best_is_of_accuracy_then_loss():
    several = replace(SEARCH, rates=(1.0, 2.0, 3.0))
    assert (
        choose_rate(
            replace(several, results={"1": {"top1": 0.5, "loss": 1.0}, "2": {"top1": 0.5, "loss": 0.9}, "3": {}})
        )
        == 2
    )
    assert choose_rate(replace(several, results={"1": {"loss": 1.0}, "2": {"loss": 0.9}, "3": {"loss": 2.0}})) == 2


def test_the_papers_grids():
    assert list_rates(1_281_167) == (0.003, 0.01, 0.03, 0.06)
    assert list_rates(50_000) == list_rates(3_680) == (0.001, 0.003, 0.01, 0.03)
    assert [choose_tuning_share(examples) for examples in (1_281_167, 50_000, 3_680)] == [0.01, 0.02, 0.1]
    made = plan_search(replace(TINY, recipe="finetune"), 50_000)
    assert (made.rates, made.share) == ((0.001, 0.003, 0.01, 0.03), 0.02)


@pytest.mark.parametrize(
    ("config", "given", "words"),
    [
        (TINY, (), "recipe 'custom' has no grid of learning rates; give them with --rates"),
        (TINY, (0.1, 0.1), "must be numbers above 0 that differ"),
        (TINY, (0.1, -0.1), "must be numbers above 0 that differ"),
        (TINY, (0.00100000001, 0.001), "must be numbers above 0 that differ in their first six digits"),
        (replace(TINY, data=DataConfig(tuning_holdout=0.1)), (0.1,), "data.tuning_holdout is set by the search itself"),
    ],
)
def test_what_cannot_be_swept(config, given, words):
    with pytest.raises(ConfigError, match=words):
        plan_search(config, 1000, given)


def test_a_folder_in_use_and_a_damaged_plan(swept, tmp_path):
    with pytest.raises(
        RunError, match="is not empty; choose another folder with --out, or go on with `vitreous resume"
    ):
        begin_search(SEARCH, swept[0])
    for text, words in (("{", "can't be read"), ('{"vitreous_rates": 9}', "is of version 9"), ("{}", "can't be read")):
        (tmp_path / "rates.json").write_text(text)
        with pytest.raises(RunError, match=words):
            continue_search(tmp_path)


def test_from_python(tmp_path):
    settings = {"duration": "1st", "schedule": {"warmup": "0st"}, "workers": 0}
    result = vitreous.train("digits", model="mu/4", settings=settings, rates=(1e-3,), out=tmp_path / "out")
    assert result.run == tmp_path / "out" / "final"


def test_other_images_are_noticed(tmp_path):
    folder = tree(tmp_path / "photos", a=10, b=10)
    config = replace(SEARCH.config, data=DataConfig(str(folder)), model=replace(TINY.model, classes=2), batch=4)
    begin_search(replace(SEARCH, config=config, results={}), tmp_path / "out")
    plan = json.loads((tmp_path / "out" / "rates.json").read_text())
    (folder / "a" / "0.png").rename(folder / "b" / "new.png")
    for images in (plan["images"], None):  # an earlier version recorded none
        (tmp_path / "out" / "rates.json").write_text(json.dumps({**plan, "images": images or "", "reached": {}}))
        words = "the images have changed since the rate search" if images else "the data has changed since this run"
        with pytest.raises(RunError, match=words):
            vitreous.resume(tmp_path / "out")


def test_pseudo_labels_of_the_images_that_a_rate_is_chosen_by_are_refused(tmp_path):
    folder = tree(tmp_path / "photos", a=10, b=10)
    held = open_dataset(DataConfig(str(folder), tuning_holdout=0.1)).validation.names[0]
    (tmp_path / "labels.csv").write_text(f"path,label,confidence,copies\n{held},a,1,1\n")
    data = DataConfig(str(folder), unlabelled=str(folder), pseudo_labels=str(tmp_path / "labels.csv"))
    config = replace(SEARCH.config, data=data, model=replace(TINY.model, classes=2), batch=4)
    with pytest.raises(DataError, match="1 pseudo-labelled images are among the validation or test images"):
        begin_search(replace(SEARCH, config=config, results={}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_too_few_images_to_hold_any_out():
    with pytest.raises(DataError, match="a single image"):
        open_dataset(DataConfig("formula:fractals?classes=3&images=1&size=8", tuning_holdout=0.1))
