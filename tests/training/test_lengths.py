"""Every recipe, of any length: in minutes, epochs or steps, on any number of images."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.pictures import tree
from tests.support.training import Listener
from tests.training.test_recipes import FROM_WEIGHTS, facts, weights  # noqa: F401

import vitreous
from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.errors import ConfigError
from vitreous.images.config import PreprocessConfig
from vitreous.model.config import ViTConfig
from vitreous.model.names import build_vit_config
from vitreous.recipes.catalog import RECIPES, configure
from vitreous.recipes.options import RecipeOptions
from vitreous.run_folder import read_run
from vitreous.training import resolve as resolving
from vitreous.training.assembly import count_low_steps, plan_schedule
from vitreous.training.config import RunConfig, ScheduleConfig
from vitreous.training.resolve import Speed, count_steps, predict_seconds, resolve
from vitreous.training.run import train
from vitreous.training.settings_check import check_ranges

SIZES = (8, 50, 1000, 50_000, 1_281_167)
PAPERS = {
    "lp-ft": {8: 50, 50: 312, 1000: 312},
    "finetune": {8: 50, 50: 156, 1000: 200, 50_000: 10_000, 1_281_167: 20_000},
    "pretrain": {1_281_167: 93_835},
    "mae": {1_281_167: 250_228},
    "masked-patches": {1_281_167: 1_000_000},
}
"""Steps of the recipes' own lengths."""


FIVE_EPOCHS = {"deit": 1024, "deit-iii": 2048, "noisy-student": 15 * 2048}
"""Recipes that warm up for five epochs of ImageNet, and their batches."""


def longest_warmup(recipe: str, examples: int, steps: int) -> float:
    """Return what a recipe's documents say of its warm-up in a run of so many steps."""
    large = examples >= 200_000
    return {
        "lp-ft": steps / 10,
        "finetune": min(500, steps / 10),
        "hyperrule": steps / 5 if examples < 20_000 else steps / 20 if examples < 500_000 else steps / 40,
        **dict.fromkeys(("pretrain", "vit-21k", "vit-jft", "augreg", "plain-s16"), min(10_000, 0.11 * steps)),
        **dict.fromkeys(("bit", "bit-jft"), min(5_000, 0.18 * steps)),
        **{
            name: min(5 * examples / batch, 0.11 * steps) if large else steps / 20
            for name, batch in FIVE_EPOCHS.items()
        },
        "mae": min(40 * examples / 4096, steps / 20) if large else steps / 20,
        "masked-patches": min(10_000, steps / 10) if large else steps / 20,
    }.get(recipe, steps / 20)


def check_length(config: RunConfig, examples: int) -> None:
    """Hold a run's schedule against its recipe's documents, at this length."""
    check_ranges(config)
    schedule = plan_schedule(config, examples)
    assert abs(schedule.warmup - longest_warmup(config.recipe, examples, schedule.total)) <= 1
    assert schedule.warmup + schedule.cooldown <= schedule.total
    shares = [schedule.share(step) for step in (0, schedule.total // 2, schedule.total - 1)]
    assert 0 < min(shares) <= max(shares) <= 1
    assert schedule.total > 1 or shares == [1, 1, 1]
    assert count_low_steps(config, examples, schedule.total) < schedule.total


@pytest.mark.parametrize("examples", SIZES)
@pytest.mark.parametrize("recipe", sorted(RECIPES.keys() - {"probe"}))
def test_any_length_is_a_run(recipe, examples, weights):  # noqa: F811
    request = RecipeOptions(facts(examples, classes=2), **({"weights": weights} if recipe in FROM_WEIGHTS else {}))
    config = configure(recipe, request)
    assert config.batch <= examples
    check_length(config, examples)
    if known := PAPERS.get(recipe, {}).get(examples):
        assert plan_schedule(config, examples).total == known
    for duration in ("1st", "7st", "0.01ep", "5kex"):
        plan_schedule(replace(config, duration=duration), examples)
    timed = configure(recipe, replace(request, minutes=1))
    for minutes, speed in ((1, Speed(8.6, 8.6, 2.0)), (0.02, Speed(0.5, 0.1)), (10_000, Speed(0.004, 0.003, 0.1))):
        steps = count_steps(60 * minutes, timed, examples, speed)
        assert predict_seconds(steps, timed, examples, speed) <= 60 * minutes or steps == 1
        assert predict_seconds(steps + 1, timed, examples, speed) > 60 * minutes
        check_length(replace(timed, duration=f"{steps}st"), examples)


def test_a_resnets_rate_drops_after_its_shares_of_the_run():
    config = configure("pretrain", RecipeOptions(facts(1_281_167), model="R50x1"))
    assert plan_schedule(config, 1_281_167).milestones == (9384, 18767, 25023)  # 30, 60 and 80 of 90 epochs
    assert plan_schedule(replace(config, duration="9st"), 1_281_167).milestones == (3, 6, 8)
    assert plan_schedule(replace(config, duration="1st"), 1_281_167).share(0) == 1


def test_minutes_count_the_low_resolution_in_epochs_too():
    config = RunConfig(batch=10, low_resolution=0.5, low_resolution_duration="5ep")
    # 50 steps of half a second, then 75; or the first ten of those 50 take two seconds more each.
    assert count_steps(100, config, 100, Speed(1.0, 0.5)) == 125
    assert count_steps(100, config, 100, Speed(1.0, 0.5, 2.0)) == 105


@pytest.mark.parametrize(("warmup", "cooldown", "total"), [("50%", "50%", 3), ("5%", "95%", 10), ("25%", "75%", 6)])
def test_shares_that_fill_the_run_fit_in_spite_of_rounding(warmup, cooldown, total):
    config = RunConfig(
        schedule=ScheduleConfig("constant", warmup=warmup, cooldown=cooldown), batch=1, duration=f"{total}st"
    )
    schedule = plan_schedule(config, 10)
    assert schedule.warmup + schedule.cooldown <= total
    assert all(0 < schedule.share(step) <= 1 for step in range(total))


def test_what_was_asked_for_is_held_to():
    config = configure("small-vit", RecipeOptions(facts(1000)))
    asked = replace(config, schedule=ScheduleConfig(warmup="20st"), duration="7st")
    with pytest.raises(ConfigError, match=r"warm-up \(20 steps\) .* are longer than the run \(7 steps\)"):
        plan_schedule(asked, 1000)
    assert count_low_steps(replace(config, low_resolution_duration="100%"), 1000, 4) == 4


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"duration": "0ep"}, "duration is 0ep; it must be above 0"),
        ({"duration": "50%"}, "duration is 50%, a share of the run"),
        ({"duration": "5min,9st"}, "duration is 5min,9st; give epochs"),
        ({"evaluate_every": "0st"}, r"evaluate_every is 0st; it must be above 0 \(100% evaluates at the end alone"),
        ({"checkpoint_every": "0min"}, "checkpoint_every is 0min; it must be above 0"),
        ({"schedule": ScheduleConfig(warmup="5%,1min")}, "schedule.warmup is 5%,1min; give epochs"),
    ],
)
def test_lengths_that_mean_nothing(settings, words):
    with pytest.raises(ConfigError, match=words):
        check_ranges(RunConfig(**settings))


def variants(model: str, images: Path) -> dict[str, RunConfig]:
    """Return every recipe for the digits with a model that takes a moment; those of much data, too, on few images.

    `images` stand in for the digits: ten steps of eight see no more, and a head is fitted to all that there are.
    """
    few, data = open_dataset(DataConfig("digits", holdout=0.02)).facts, DataConfig(str(images), holdout=0.1)
    many = {f"{name}, much data": replace(few, train=300_000) for name in ("mae", "masked-patches", "hyperrule")}
    found = {}
    for name, known in (dict.fromkeys(RECIPES, few) | many).items():
        recipe = name.split(",")[0]
        named = "R26x1" if recipe.startswith("bit") else "mu/4"
        own = {"weights": model} if recipe in FROM_WEIGHTS else {"model": named}
        found[name] = configure(recipe, RecipeOptions(known, data, **own))
    found["pretrain, ResNet"] = configure("pretrain", RecipeOptions(few, data, model="R26x1"))
    return found


def shrunk(config: RunConfig) -> RunConfig:
    """Return a recipe's run on images of 8 x 8 in batches of 8; its schedule, optimizer and objective stay."""
    seen = {"image": (8, 8), "channels": 1}
    if isinstance(config.model, ViTConfig):
        model = replace(config.model, **seen, patch=(4, 4), width=32, depth=1, heads=2, mlp_width=32)
    else:
        model = replace(config.model, **seen, units=(1,), root_channels=32, root="3x3")
    objective = (
        replace(config.objective, decoder_width=16, decoder_heads=2, decoder_depth=1)
        if config.recipe == "mae"
        else config.objective
    )
    return replace(
        config,
        model=model,
        objective=objective,
        preprocess=replace(config.preprocess, size=(8, 8), mode="L", mean=(0.5,), std=(0.5,)),
        augment=replace(config.augment, crop_pad=1),
        weights=None,
        batch=8,
        evaluate_every="100%",
        workers=0,
    )


def test_every_recipe_trains_one_step_and_ten(weights, tmp_path):  # noqa: F811
    digits = tree(tmp_path / "digits", **dict.fromkeys("0123456789", 10))
    for name, config in variants(weights, digits).items():
        for steps in (1, 10):
            refit = config.refit and config.freeze != "trunk"  # which would discard what the steps learned
            config = replace(shrunk(config), duration=f"{steps}st", refit=refit)
            result = train(config, tmp_path / f"{name} {steps}")
            assert result.stopped == "finished", name
            kept = {0, steps} if config.head == "logistic" else {steps}  # the fitted head's, if no step did better
            assert result.metrics["step"] in kept, name


def test_minutes_are_measured_and_become_a_run(monkeypatch):
    monkeypatch.setattr(resolving, "time_step", lambda trial, low: 8.6)
    dataset, listener = open_dataset(DataConfig("digits")), Listener()
    model = build_vit_config("mu/4", image=(8, 8), channels=1, classes=10)
    config = replace(
        configure("small", RecipeOptions(dataset.facts, minutes=1)),
        model=model,
        preprocess=PreprocessConfig((8, 8), mode="L"),
        schedule=ScheduleConfig(warmup="500st,10%"),
    )
    resolved = resolve(config, dataset, listener)
    assert (resolved.duration, plan_schedule(resolved, 1437).warmup) == ("6st", 1)
    assert "so 1 min are 6 steps of 64 images" in listener.messages[-1]


@pytest.mark.slow
def test_finetuning_for_a_minute(tmp_path):
    settings = {"duration": "20st", "evaluate_every": "100%"}
    first = vitreous.train("digits", out=tmp_path / "first", settings=settings).run
    result = vitreous.train("digits", recipe="finetune", weights=first, minutes=1, out=tmp_path / "tuned")
    assert result.stopped == "finished"
    record = read_run(result.run)
    assert record.config["steps"] == result.metrics["step"]
    assert 5 < max(one["seconds"] for one in record.metrics if one["kind"] == "train") < 600
