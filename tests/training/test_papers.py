"""The papers' pre-training: every figure against its source's table, and what it costs against table 6 of the paper."""

from dataclasses import replace

import pytest
from tests.support.training import TINY

from vitreous.data.config import DataConfig
from vitreous.data.dataset import Facts
from vitreous.errors import ConfigError
from vitreous.model.count import count_flops, count_parameters, estimate_activation_bytes
from vitreous.model.names import build_vit_config
from vitreous.objectives.classification import choose_head_bias
from vitreous.recipes.catalog import configure
from vitreous.recipes.options import RecipeOptions
from vitreous.recipes.papers import list_augreg_grid
from vitreous.shapes import Size
from vitreous.training import trial_run
from vitreous.training.assembly import plan_schedule
from vitreous.training.config import RunConfig
from vitreous.training.cost import Cost, estimate_cost, estimate_memory
from vitreous.training.schedule import Schedule
from vitreous.training.trial_run import dry_run


def facts(train: int, classes: int) -> Facts:
    names = tuple(f"class {number}" for number in range(classes))
    return Facts(names, train, 50_000, 3, Size(375, 500), (train // classes,) * classes)


IMAGENET, IMAGENET_21K = facts(1_281_167, 1000), facts(14_197_122, 21_843)
JFT = facts(303_000_000, 18_291)


def plan(recipe: str, known: Facts, model: str | None = None) -> tuple[RunConfig, Schedule]:
    config = configure(recipe, RecipeOptions(known, DataConfig("images"), model=model))
    return config, plan_schedule(config, known.train)


TABLE_3 = [
    ("vit-jft", "B/16", 7, 8e-4, 0.1, 0.0),
    ("vit-jft", "B/32", 7, 8e-4, 0.1, 0.0),
    ("vit-jft", "L/32", 7, 6e-4, 0.1, 0.0),
    ("vit-jft", "L/16", 14, 4e-4, 0.1, 0.0),
    ("vit-jft", "H/14", 14, 3e-4, 0.1, 0.0),
    ("vit-jft", "R50x1", 7, 1e-3, 0.1, 0.0),
    ("vit-jft", "R50x2", 7, 1e-3, 0.1, 0.0),
    ("vit-jft", "R101x1", 7, 8e-4, 0.1, 0.0),
    ("vit-jft", "R152x1", 7, 6e-4, 0.1, 0.0),
    ("vit-jft", "R152x2", 7, 6e-4, 0.1, 0.0),
    ("vit-jft", "R50+B/32", 7, 8e-4, 0.1, 0.0),
    ("vit-jft", "R50+B/16", 7, 8e-4, 0.1, 0.0),
    ("vit-jft", "R50+L/32", 7, 2e-4, 0.1, 0.0),
    ("vit-jft", "R50+L/16", 14, 4e-4, 0.1, 0.0),
    ("vit-21k", "B/16", 90, 1e-3, 0.03, 0.1),
    ("vit-21k", "B/32", 90, 1e-3, 0.03, 0.1),
    ("vit-21k", "L/16", 90, 1e-3, 0.03, 0.1),
    ("pretrain", "B/16", 300, 3e-3, 0.3, 0.1),
]
"""2010.11929: recipe, model, epochs, base rate, weight decay, dropout."""


@pytest.mark.parametrize(("recipe", "model", "epochs", "rate", "decay", "dropout"), TABLE_3)
def test_table_3(recipe: str, model: str, epochs: int, rate: float, decay: float, dropout: float) -> None:
    known = {"vit-jft": JFT, "vit-21k": IMAGENET_21K, "pretrain": IMAGENET}[recipe]
    config, schedule = plan(recipe, known, model)
    optimizer = config.optimizer
    assert (optimizer.lr, optimizer.weight_decay, optimizer.decoupled) == (rate, decay, False)
    assert (optimizer.name, optimizer.betas, config.batch, schedule.warmup) == ("adamw", (0.9, 0.999), 4096, 10_000)
    assert optimizer.clip == (1.0 if recipe == "pretrain" else 0.0)
    assert config.regularisation.dropout == dropout
    assert config.schedule.kind == ("cosine" if recipe == "pretrain" else "linear")
    assert schedule.total == round(epochs * known.train / 4096)
    assert config.model.image == (224, 224) and config.model.classes == len(known.classes)
    assert (model.startswith("R") and "+" not in model) or config.model.pre_logits


def test_the_head_starts_at_the_classes_frequency() -> None:
    config, _ = plan("vit-21k", IMAGENET_21K)
    bias = choose_head_bias(config.objective, IMAGENET_21K.counts, IMAGENET_21K.train, multilabel=False)
    assert config.objective.loss == "sigmoid" and bias == pytest.approx(-10, abs=0.02)  # big_vision's vit_i21k.py
    assert plan("vit-jft", JFT)[0].objective.loss == "sigmoid"


TABLE_6 = {
    ("B/32", 7): 55, ("B/16", 7): 224, ("L/32", 7): 196, ("L/16", 7): 783, ("L/16", 14): 1567, ("H/14", 14): 4262,
    ("R50x1", 7): 50, ("R152x2", 7): 563, ("R50+B/32", 7): 106, ("R50+B/16", 7): 274, ("R50+L/16", 7): 859,
}  # fmt: skip
"""2010.11929: exaFLOPs of pre-training on JFT-300M by model and epochs."""


@pytest.mark.parametrize(("model", "epochs"), TABLE_6)
def test_the_cost_is_that_of_table_6(model: str, epochs: int) -> None:
    config, _ = plan("vit-jft", JFT, model)
    config = replace(config, duration=f"{epochs}ep")
    cost = estimate_cost(config, plan_schedule(config, JFT.train), 0, None)
    assert cost.operations / 1e18 == pytest.approx(TABLE_6[model, epochs], rel=0.05)
    assert cost.gpu_hours == pytest.approx(cost.operations / 989e12 / 0.4 / 3600)


def test_augreg_s_grid() -> None:
    options = RecipeOptions(IMAGENET, DataConfig("images"), model="S/16")
    grid = list(list_augreg_grid(options))
    assert len({repr(one) for one in grid}) == len(grid) == 28
    assert {(one.regularisation.dropout, one.regularisation.drop_path) for one in grid} == {(0, 0), (0.1, 0.1)}
    optimizers = [one.optimizer for one in grid]
    assert {round(one.weight_decay / one.lr, 9) for one in optimizers} == {0.1, 0.03} and all(
        one.decoupled for one in optimizers
    )
    assert list(dict.fromkeys((*one.augment.randaugment, one.augment.mixup) for one in grid)) == [
        (0, 10, 0), (2, 0, 0), (2, 10, 0.2), (2, 15, 0.2), (2, 15, 0.5), (2, 20, 0.5), (2, 20, 0.8),
    ]  # fmt: skip
    config, schedule = plan("augreg", IMAGENET, "S/16")
    assert config in grid and (schedule.warmup, config.batch, config.optimizer.clip) == (10_000, 4096, 1.0)
    assert (config.duration, config.schedule.kind, config.objective.loss) == ("300ep", "cosine", "softmax")
    assert not config.model.pre_logits and config.model.pool == "class"


@pytest.mark.parametrize(
    ("model", "on_1k", "on_21k"),
    [
        ("Ti/16", (2, 0, 0), (0, 10, 0)),
        ("S/32", (2, 10, 0.2), (0, 10, 0)),
        ("S/16", (2, 15, 0.5), (2, 0, 0)),
        ("B/16", (2, 15, 0.5), (2, 10, 0.2)),
        ("L/16", (2, 15, 0.5), (2, 15, 0.5)),
    ],
)
def test_augreg_chooses_as_the_authors_code(model: str, on_1k: tuple, on_21k: tuple) -> None:
    """big_vision's vit_i1k.py and vit_i21k.py."""
    for known, expected, loss in ((IMAGENET, on_1k, "softmax"), (IMAGENET_21K, on_21k, "sigmoid")):
        config, _ = plan("augreg", known, model)
        assert (*config.augment.randaugment, config.augment.mixup) == expected
        assert config.objective.loss == loss


def test_the_plain_s16_is_that_of_the_authors_code() -> None:
    """big_vision's vit_s16_i1k.py."""
    config, schedule = plan("plain-s16", IMAGENET)
    model, optimizer = config.model, config.optimizer
    assert (model.width, model.patch, model.pool, model.class_token, model.positions, model.pre_logits) == (
        384, (16, 16), "mean", False, "sincos2d", True,
    )  # fmt: skip
    assert (config.batch, optimizer.lr, optimizer.weight_decay, optimizer.decoupled, optimizer.clip) == (
        1024, 1e-3, 1e-4, True, 1.0,
    )  # fmt: skip
    assert (config.augment.randaugment, config.augment.mixup, config.schedule.kind) == ((2, 10), 0.2, "cosine")
    assert (schedule.warmup, schedule.total) == (10_000, round(90 * 1_281_167 / 1024))
    assert config.regularisation.dropout == 0 and config.objective.smoothing == 0
    assert config.preprocess.crop * 256 == 224


@pytest.mark.parametrize(
    ("recipe", "known", "epochs", "drops"),
    [
        ("bit", IMAGENET, 90, (30, 60, 80)),
        ("bit", IMAGENET_21K, 90, (30, 60, 80)),
        ("bit-jft", JFT, 40, (10, 23, 30, 37)),
    ],
)
def test_big_transfer(recipe: str, known: Facts, epochs: int, drops: tuple[int, ...]) -> None:
    """1912.11370, section 3.3."""
    config, schedule = plan(recipe, known, "R101x3")
    optimizer = config.optimizer.scale_to(config.batch)
    assert (optimizer.name, optimizer.momentum, optimizer.weight_decay, optimizer.decoupled) == (
        "sgd",
        0.9,
        1e-4,
        False,
    )
    assert optimizer.lr == pytest.approx(0.03 * 4096 / 256) and config.optimizer.scale_to(512).lr == pytest.approx(0.06)
    assert (config.batch, schedule.warmup, config.schedule.milestone_factor) == (4096, 5000, 0.1)
    steps = known.train / 4096
    assert schedule.total == round(epochs * steps)
    assert schedule.milestones == pytest.approx([epoch * steps for epoch in drops], rel=1e-4)
    assert config.objective.loss == ("softmax" if known is IMAGENET else "sigmoid")
    with pytest.raises(ConfigError, match="trains ResNets, but B/16 is"):
        plan(recipe, known, "B/16")


def test_a_masked_autoencoder_at_full_scale() -> None:
    """2111.06377, table 8: 40 epochs of warm-up whatever the length, of 400 to 1,600 epochs, batch 4096, rate 1.5e-4 for 256."""
    config, _ = plan("mae", IMAGENET)
    for epochs in (800, 1600):
        schedule = plan_schedule(replace(config, duration=f"{epochs}ep"), IMAGENET.train)
        assert (schedule.total, schedule.warmup) == (round(epochs * 1_281_167 / 4096), round(40 * 1_281_167 / 4096))
    assert config.batch == 4096 and config.optimizer.scale_to(4096).lr == pytest.approx(1.5e-4 * 16)
    cost = estimate_cost(config, plan_schedule(config, IMAGENET.train), 0, None)
    encoder, block = config.model, 2 * (12 * 512 * 512 * 197 + 2 * 197 * 197 * 512)
    seen = 12 * 2 * (12 * 768 * 768 * 50 + 2 * 50 * 50 * 768) + 2 * 196 * 768 * 768
    forward = seen + 8 * block + 2 * 50 * 768 * 512 + 2 * 196 * 768 * 512
    assert cost.operations == pytest.approx(3 * forward * 4096 * round(800 * 1_281_167 / 4096), rel=1e-3)
    assert 3 * forward < 0.95 * 3 * count_flops(encoder)


def test_memory_in_each_process() -> None:
    model = build_vit_config("B/16", classes=1000)
    config = RunConfig(model=model, batch=512, ema=0.999)
    parameters = count_parameters(model)
    for shard, shards in (("none", 1), ("all", 8), (4, 4)):
        expected = -(-20 * parameters // shards) + estimate_activation_bytes(model, 64, training=True)
        assert estimate_memory(replace(config, shard=shard), 8) == expected
    parts = replace(config, micro_batch=16, recompute=True)
    assert estimate_memory(parts, 8) == 20 * parameters + estimate_activation_bytes(
        model, 16, training=True, recompute=True
    )


RECIPES = ("vit-21k", "vit-jft", "augreg", "plain-s16", "bit", "bit-jft", "mae", "pretrain")


@pytest.mark.parametrize("recipe", RECIPES)
def test_each_dry_runs_with_its_cost_where_it_never_fits(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = DataConfig(
        "formula:fractals?classes=1000&images=400&size=32", labels="optional" if recipe == "mae" else "required"
    )
    known = replace(IMAGENET, train=320_000, size=Size(32, 32))
    config = replace(configure(recipe, RecipeOptions(known, data)), device="cpu", precision="fp32")
    monkeypatch.setattr(trial_run, "read_free_memory", lambda: 0)
    shown = dry_run(config, processes=64)
    assert shown.loss is None and isinstance(shown.cost, Cost) and shown.cost.memory < shown.memory
    lines = str(shown).splitlines()
    assert any(line.startswith("one batch    not tried: this machine lacks the memory") for line in lines)
    (cost,) = [line for line in lines if line.startswith("cost ")]
    assert "hours of an H100 at 40% of 989 TFLOP/s in bf16" in cost and "in each of 64 processes" in cost
    with pytest.raises(ConfigError, match="can't be divided among 7 processes"):
        dry_run(config, processes=7)


def test_a_step_that_takes_long_is_tried_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = dry_run(TINY)
    monkeypatch.setattr(trial_run, "MOST_OPERATIONS", 5.5 * 3 * count_flops(TINY.model))
    part = dry_run(TINY)
    assert (whole.examples, part.examples, part.steps, part.config) == (32, 5, whole.steps, whole.config)
    assert part.loss == pytest.approx(2.3026, abs=1e-3) and "5 of its 32 images" in str(part)
    assert "cost " not in str(whole)
