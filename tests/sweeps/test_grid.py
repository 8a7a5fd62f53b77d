"""What a sweep varies: combinations of values, read from texts and files, and what is refused."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from vitreous.errors import ConfigError, UnknownName
from vitreous.sweeps.grid import combine_variants, list_file_variants, list_variants, nest, read_grid, read_variations
from vitreous.sweeps.plan import build_cells, shorten_names
from vitreous.training.config import RunConfig


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("optimizer.lr=1e-3,3e-3", [0.001, 0.003]),
        ("ema=null,0.99", [None, 0.99]),
        ("augment.flip=true,false", [True, False]),
        ("duration=90ep,300ep", ["90ep", "300ep"]),
        ('schedule.warmup="500st,10%","5%"', ["500st,10%", "5%"]),
        ("weights=none,runs/a=b", ["none", "runs/a=b"]),
        ("optimizer.lr=NaN", ["NaN"]),
    ],
)
def test_values_are_read_as_json_or_words(text, values):
    assert list(read_variations([text]).values()) == [values]


def test_every_combination_comes_once_the_last_name_varying_fastest():
    grid = {"optimizer": {"lr": [1, 2], "name": ["adamw", "muon"]}, "model": ["S/16", "B/16", "L/16"]}
    found = [tuple(one.values()) for one in list_variants(grid)]
    assert found == list(itertools.product([1, 2], ["adamw", "muon"], ["S/16", "B/16", "L/16"]))
    assert nest(list_variants(grid)[0]) == {"optimizer": {"lr": 1, "name": "adamw"}, "model": "S/16"}


def test_a_file_and_texts_combine(tmp_path):
    (tmp_path / "grid.toml").write_text("batch = [32, 64]\n[optimizer]\nlr = [0.1]\n")
    (tmp_path / "grid.json").write_text('[{"batch": 32}, {"batch": 64, "optimizer": {"lr": 0.1}}]')
    assert list_variants(read_grid(str(tmp_path / "grid.toml"))) == [
        {"batch": 32, "optimizer.lr": 0.1},
        {"batch": 64, "optimizer.lr": 0.1},
    ]
    listed = list_variants(read_grid(str(tmp_path / "grid.json")))
    assert combine_variants(listed, list_variants({"ema": [0.9, 0.99]}))[3] == {
        "batch": 64,
        "optimizer.lr": 0.1,
        "ema": 0.99,
    }


@pytest.mark.parametrize(
    "text",
    [
        '{"optimizer.name": ["adamw", "mine:Optimizer"]}',
        '{"optimizer": [{"name": "mine:Optimizer", "lr": 0.1}]}',
        '[{"optimizer": {"name": "mine:Optimizer"}}]',
    ],
)
def test_a_file_does_not_choose_what_code_is_run(tmp_path, text):
    (tmp_path / "grid.json").write_text(text)
    with pytest.raises(ConfigError, match=r"names the optimizer mine:Optimizer; if you trust it, give it with --set"):
        list_file_variants(str(tmp_path / "grid.json"))


@pytest.mark.parametrize(
    ("grid", "kind", "words"),
    [
        ({"optimizer.lr": 0.1}, ConfigError, "optimizer.lr is 0.1; it must be a list of values"),
        ({"optimizer.lr": []}, ConfigError, "must be a list of values"),
        ({"seed": [1, 2]}, ConfigError, "seed can't be varied: give --seeds"),
        ({"data": {"holdout": [0.1, 0.2]}}, ConfigError, "changes the images by which settings are compared"),
        ({"data.test_split": ["once", "stand-in"]}, ConfigError, "changes the images by which settings are compared"),
        (
            {"data": [{"holdout": 0.1}, {"holdout": 0.5}]},
            ConfigError,
            "data.holdout can't be varied: it changes the images",
        ),
        ({1: [2]}, UnknownName, "unknown setting '1'"),
        ({"batch": [object()]}, ConfigError, "can't be tried; give numbers, texts"),
        ([{"batch": np.zeros(2)}], ConfigError, "can't be tried; give numbers, texts"),
        ({"optimiser.lr": [1]}, UnknownName, "did you mean 'optimizer"),
        ({"batch": list(range(101)), "ema": list(range(100))}, ConfigError, "10,100 combinations, more than 10,000"),
        ("batch", ConfigError, "must be an object with a list of values"),
        ([], ConfigError, "list of 1 to 10,000"),
        ([{"batch": 32}, 3], ConfigError, "list of 1 to 10,000"),
    ],
)
def test_what_is_no_grid_is_refused(grid, kind, words):
    with pytest.raises(kind, match=words):
        list_variants(grid)


@pytest.mark.parametrize(
    "values", [[1, 1.0], [0.1, 0.1], [[8, 8], (8.0, 8)], [Path("a"), "a"], [np.float64(0.5), 0.5], [np.int64(3), 3.0]]
)
def test_values_that_are_equal_are_tried_once(values):
    with pytest.raises(ConfigError, match="is tried twice"):
        combine_variants(list_variants({"optimizer.lr": values}), [{}])
    with pytest.raises(ConfigError, match="is tried twice"):
        combine_variants(list_variants([{"optimizer.lr": values[0]}, {"optimizer": {"lr": values[1]}}]), [{}])
    with pytest.raises(ConfigError, match="is tried twice"):
        combine_variants(list_variants({"optimizer": [{"lr": one} for one in values]}), [{}])
    assert len(combine_variants(list_variants({"ema": [None, True, 1, "1", 0.5]}), [{}])) == 5


def test_a_setting_and_one_within_it_exclude_each_other():
    for one in ({"optimizer": 1, "optimizer.lr": 0.2}, {"optimizer.lr": 0.2, "optimizer": 1}):
        with pytest.raises(ConfigError, match="leave out one of them"):
            nest(one)


def test_a_file_that_is_not_there_is_that_of_the_grid(tmp_path):
    with pytest.raises(ConfigError, match="--grid: no such file"):
        read_grid(str(tmp_path / "none.json"))


@pytest.mark.parametrize("texts", [["optimizer.lr"], ["=1"], ["batch="], ["batch=1", "batch=2"]])
def test_a_text_without_a_name_and_values_is_refused(texts):
    with pytest.raises(ConfigError, match="--set"):
        read_variations(texts)


def test_the_same_variant_twice_is_refused():
    with pytest.raises(ConfigError, match="batch=32 is tried twice"):
        combine_variants(list_variants({"batch": [32, 32]}), [{}])
    with pytest.raises(ConfigError, match="batch is varied by both"):
        combine_variants([{"batch": 32}], [{"batch": 64}])


def test_each_run_has_a_folder_of_its_own():
    configs = [
        ({"model": name, "image": [8, 8], "data.broken": "skip"}, RunConfig(seed=5), "") for name in ("S/16", "S-16")
    ]
    cells = build_cells(configs, 2)
    names = [cell.name for cell in cells]
    assert len(set(names)) == 4
    assert [cell.config.seed for cell in cells] == [cell.seed for cell in cells] == [5, 6, 5, 6]
    assert all("/" not in name and not name.startswith(".") and len(name) < 120 for name in names)
    assert shorten_names(["model", "x.model"]) == {"model": "model", "x.model": "x.model"}


def test_settings_whose_hashes_begin_alike_have_folders_of_their_own():
    variants = [{"weights": "w" * 100, "optimizer.lr": n / 1e6} for n in range(1, 10_000)]
    cells = build_cells([(one, RunConfig(), "") for one in variants], 1)
    assert [cell.variant for cell in cells] == variants
    assert len({cell.name for cell in cells}) == len(cells)
    usual = [cell.name for cell in cells if len(cell.name.rpartition("-")[2]) == 6]
    assert 0 < len(cells) - len(usual) < 10, "and folders of earlier versions keep their names"
