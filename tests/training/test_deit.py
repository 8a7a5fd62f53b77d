"""Recipes deit and deit-iii: the authors' settings, and what they become on little data."""

from dataclasses import replace

import pytest
from tests.training.test_recipes import KINDS

from vitreous.errors import ConfigError
from vitreous.model.config import BlockConfig, ViTConfig
from vitreous.model.names import build_vit_config
from vitreous.recipes.catalog import configure
from vitreous.recipes.options import RecipeOptions
from vitreous.training.assembly import plan_schedule


@pytest.mark.parametrize("teacher", [None, "runs/teacher"])
def test_deit_is_the_authors(teacher):
    config = configure("deit", RecipeOptions(KINDS["ImageNet"], teacher=teacher))
    assert config.model == ViTConfig(classes=1000, distillation_token=teacher is not None)
    assert config.teacher == teacher
    made, augment = config.optimizer, config.augment
    assert made.scale_to(config.batch).lr == pytest.approx(1e-3)
    assert (made.name, made.weight_decay, made.decoupled, made.clip) == ("adamw", 0.05, False, 0.0)
    assert (augment.randaugment, augment.erase, augment.mixup, augment.cutmix, augment.views) == (
        (2, 9),
        0.25,
        0.8,
        1.0,
        3,
    )
    depth = config.regularisation
    assert (config.objective.smoothing, depth.drop_path, depth.drop_path_schedule) == (0.1, 0.1, "linear")
    assert (config.objective.distillation, config.objective.distillation_weight) == ("hard", 0.5)
    schedule = plan_schedule(config, 1_281_167)
    assert (config.batch, config.duration, schedule.warmup) == (1024, "300ep", round(5 * 1_281_167 / 1024))
    assert schedule.share(schedule.total - 1) == pytest.approx(0.01, rel=0.01)


def test_deit_iii_is_the_authors_but_for_the_optimizer():
    config = configure("deit-iii", RecipeOptions(KINDS["ImageNet"], model="S/16"))
    expected = build_vit_config("S/16", classes=1000, positioned_tokens="patches", block=BlockConfig(layer_scale=1e-4))
    assert (config.model, config.regularisation.drop_path) == (expected, 0.05)
    assert config.regularisation.drop_path_schedule == "constant"
    assert (config.objective.loss, config.objective.smoothing, config.objective.head_bias_init) == ("sigmoid", 0.0, 0.0)
    augment = config.augment
    assert (augment.three_augment, augment.colour_jitter, augment.erase, augment.randaugment[0]) == (True, 0.3, 0.0, 0)
    assert (augment.mixup, augment.cutmix, augment.views, config.preprocess.crop) == (0.8, 1.0, 3, 1.0)
    assert (config.batch, config.duration, config.optimizer.weight_decay) == (2048, "800ep", 0.05)


@pytest.mark.parametrize("recipe", ["deit", "deit-iii"])
def test_deit_on_little_data_is_small_vit_with_its_tokens(recipe):
    small = configure("small-vit", RecipeOptions(KINDS["thumbnails"]))
    config = configure(recipe, RecipeOptions(KINDS["thumbnails"], teacher="runs/teacher"))
    token = recipe == "deit"
    scaled = replace(small.model.block, layer_scale=0.0 if token else 1e-4)
    tokens = {"class_token": True, "pool": "class", "distillation_token": token}
    assert config.model == replace(small.model, **tokens, block=scaled)
    assert (config.optimizer, config.duration, config.augment) == (small.optimizer, small.duration, small.augment)
    for name in ("R50x1", "Swin-T", "Axial-S/16"):
        with pytest.raises(ConfigError, match=r"which has no \[class\] token; name a ViT"):
            configure(recipe, RecipeOptions(KINDS["thumbnails"], model=name))
