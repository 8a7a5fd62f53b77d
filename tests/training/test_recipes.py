"""Recipes: complete configurations that can be carried out, for any data."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitreous.data.config import DataConfig
from vitreous.data.dataset import Facts
from vitreous.errors import ConfigError, UnknownName
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.model.config import RegularisationConfig, ViTConfig
from vitreous.model.count import count_parameters
from vitreous.model.factory import create
from vitreous.model.names import build_vit_config
from vitreous.model.resnet_config import ResNetConfig, build_resnet_config
from vitreous.objectives.config import MaskedAutoencoderConfig, MaskedPatchesConfig
from vitreous.recipes.catalog import RECIPES, UNLABELLED, choose_recipe, configure
from vitreous.recipes.options import RecipeOptions, round_to_multiple
from vitreous.settings import from_dict, to_dict
from vitreous.shapes import Size
from vitreous.training.assembly import plan_schedule
from vitreous.training.config import RunConfig
from vitreous.training.settings_check import check_ranges
from vitreous.weights.model_folder import ModelFolder, save_model


def facts(train=1000, size=(32, 32), channels=3, classes=10):
    names = tuple(f"class {number}" for number in range(classes))
    return Facts(names, train, train // 4 + 1, channels, Size(*size), (train // classes,) * classes)


KINDS = {
    "digits": facts(1437, (8, 8), 1),
    "thumbnails": facts(50_000),
    "grey thumbnails": facts(60_000, (28, 28), 1),
    "photographs": facts(4_000, (375, 500), classes=37),
    "ImageNet": facts(1_281_167, (400, 350), classes=1000),
    "a handful": facts(6, (200, 300), classes=2),
    "one pixel": facts(20, (1, 1), 1, 2),
    "strips": facts(500, (3, 60), classes=2),
}


FROM_WEIGHTS = ("probe", "lp-ft", "finetune", "hyperrule")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Save an untrained model for 224x112 images, pre-trained in the paper's way: with a tanh layer."""
    config = build_vit_config("mu/16", image=(224, 112), classes=5, pre_logits=True)
    path = tmp_path_factory.mktemp("weights") / "model"
    preprocess = PreprocessConfig(size=(224, 112), mean=(0.1,), std=(0.2,))
    save_model(path, ModelFolder(create(config, 0), preprocess, DecodeConfig(max_pixels=10**6), tuple("abcde")))
    return str(path)


def request_for(recipe, kind, weights, **recipe_options):
    return RecipeOptions(
        KINDS[kind], DataConfig("photos"), **({"weights": weights} if recipe in FROM_WEIGHTS else {}), **recipe_options
    )


def check_complete(config, found):
    """Hold a configuration against everything that a run needs of it."""
    assert isinstance(config, RunConfig)
    check_ranges(config)
    assert from_dict(RunConfig, json.loads(json.dumps(to_dict(config)))) == config
    assert config.model.classes == (0 if config.recipe in UNLABELLED else len(found.classes))
    assert tuple(config.preprocess.size) == tuple(config.model.image)
    assert config.model.channels == {"RGB": 3, "L": 1}[config.preprocess.mode]
    if config.augment.crop == "pad":
        assert config.augment.crop_pad < min(config.model.image)
    assert count_parameters(config.model) > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_complete_for_every_kind_of_data(recipe, kind, weights):
    config = configure(recipe, request_for(recipe, kind, weights))
    check_complete(config, KINDS[kind])
    assert (config.recipe, config.data.path) == (recipe, "photos")


@given(
    st.sampled_from(["small", "small-vit", "pretrain", *UNLABELLED]),
    st.integers(2, 2_000_000),
    st.one_of(st.tuples(side, side) for side in (st.integers(1, 16), st.integers(1, 64), st.integers(1, 5000))),
    st.sampled_from([1, 3]),
    st.integers(2, 2000),
)
def test_any_data_gets_a_complete_configuration(recipe, train, size, channels, classes):
    found = facts(train, size, channels, classes)
    config = configure(recipe, RecipeOptions(found))
    check_complete(config, found)
    if isinstance(config.model, ResNetConfig):
        assert max(config.model.image) <= 48 * config.model.root_stride, "the first unit's maps"
    else:
        assert config.model.tokens <= 15 * 64, "the most: patches of one pixel"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("recipe", ["small", "finetune", *UNLABELLED])
def test_the_schedule_fits_into_the_run(recipe, kind, weights):
    config = configure(recipe, request_for(recipe, kind, weights))
    schedule = plan_schedule(config, KINDS[kind].train)
    assert 0 <= schedule.warmup < schedule.total
    assert schedule.share(schedule.total - 1) < 0.6


def test_a_probe_has_no_minutes(weights):
    with pytest.raises(
        ConfigError, match=r"trains without steps.*leave out --minutes 7.5, or use recipe 'lp-ft' or 'finetune'"
    ):
        configure("probe", request_for("probe", "thumbnails", weights, minutes=7.5))


@pytest.mark.parametrize("recipe", sorted(RECIPES.keys() - {"probe"}))
def test_minutes_are_the_duration(recipe, weights):
    assert configure(recipe, request_for(recipe, "thumbnails", weights, minutes=7.5)).duration == "7.5min"
    assert not configure(recipe, request_for(recipe, "thumbnails", weights)).duration.endswith("min")


@pytest.mark.parametrize("minutes", [0, -1.5, float("nan"), float("inf")])
def test_minutes_of_nothing(minutes):
    with pytest.raises(ConfigError, match=r"minutes is .*; it must be (above 0|a finite number above 0), or left out"):
        RecipeOptions(KINDS["digits"], minutes=minutes)


@pytest.mark.parametrize("recipe", ["small", "pretrain"])
def test_a_model_by_name(recipe):
    config = configure(recipe, RecipeOptions(KINDS["photographs"], model="Ti/8", image=Size(64, 96)))
    assert (config.model.width, config.model.depth, config.model.patch) == (192, 12, (8, 8))
    assert config.model.grid == (8, 12)
    with pytest.raises(UnknownName, match="did you mean"):
        configure(recipe, RecipeOptions(KINDS["photographs"], model="Tx/8"))


@pytest.mark.parametrize("recipe", RECIPES)
def test_an_image_size_is_taken_as_it_was_asked_for(recipe, weights):
    config = configure(recipe, request_for(recipe, "photographs", weights, image=Size(96, 160)))
    assert tuple(config.model.image) == tuple(config.preprocess.size) == (96, 160)
    if recipe in ("small", "bit", "bit-jft", "noisy-student"):  # a ResNet sees any
        return
    with pytest.raises(ConfigError, match=r"an image of 97 rows can't be cut into patches of .*such as"):
        configure(recipe, request_for(recipe, "photographs", weights, image=Size(97, 101)))


def test_sizes_that_nobody_asked_for_are_made_to_fit():
    config = configure("small-vit", RecipeOptions(facts(size=(30, 50))))
    assert tuple(config.model.image) == (30, 51)
    assert tuple(configure("small", RecipeOptions(facts(size=(30, 50)))).model.image) == (30, 50)
    assert [round_to_multiple(pixels, 16) for pixels in (1, 16, 23, 25, 384)] == [16, 16, 16, 32, 384]


@pytest.mark.parametrize(("examples", "batch"), [(6, 6), (200, 25), (1437, 64), (10**6, 64)])
def test_small_batches_for_little_data(examples, batch):
    assert configure("small", RecipeOptions(facts(examples, (8, 8)))).batch == batch


def test_unknown_recipe():
    with pytest.raises(UnknownName, match="unknown recipe 'finetun'; did you mean 'finetune'"):
        configure("finetun", RecipeOptions(KINDS["digits"]))


def test_pretraining_is_the_papers():
    config = configure("pretrain", RecipeOptions(KINDS["ImageNet"]))
    assert config.model == ViTConfig(pre_logits=True)
    assert config.regularisation == RegularisationConfig(dropout=0.1)
    made = config.optimizer
    assert (made.name, made.lr, made.betas, made.weight_decay, made.clip) == ("adamw", 3e-3, (0.9, 0.999), 0.3, 1.0)
    schedule = config.schedule
    assert (config.batch, config.duration, schedule.kind, schedule.warmup) == (4096, "300ep", "cosine", "10000st,11%")
    assert plan_schedule(config, 1_281_167).warmup == 10_000
    assert (config.augment.crop, config.augment.mixup, config.augment.randaugment[0]) == ("inception", 0.0, 0)


@pytest.mark.parametrize(
    ("size", "examples", "image", "root", "rate"),
    [
        ((32, 32), 50_000, (32, 32), "haar", 0.0707),
        ((32, 32), 512, (32, 32), "3x3", 0.05),
        ((64, 39), 50_000, (64, 39), "2x2", 0.0707),
        ((500, 375), 50_000, (128, 128), "7x7", 0.0707),
        ((500, 375), 512, (64, 64), "2x2", 0.05),
    ],
)
def test_small_is_a_small_resnet_with_maps_of_its_size(size, examples, image, root, rate):
    config = configure("small", RecipeOptions(facts(examples, size)))
    assert (config.model.unit, config.model.root) == ("pooled-post" if root == "haar" else "pooled", root)
    assert tuple(config.model.image) == tuple(config.preprocess.size) == image
    many, made = examples >= 2_000, config.optimizer
    assert (config.recipe, config.batch, made.name, made.muon_lr) == ("small", min(128, examples // 8), "muon", rate)
    assert (config.model.norm, config.model.activation) == (("batch", "relu") if many else ("group", "gelu"))
    assert (config.low_resolution, made.muon_momentum) == ((0.75, 0.85) if many else (1.0, 0.95))


@pytest.mark.parametrize(
    ("model", "size", "low"),
    [("mu/4", 8, 1.0), ("mu/4", 28, 1.0), ("mu/4", 32, 0.5), ("S/16", 500, 0.5), ("S/32", 500, 1.0)],
)
def test_low_resolution_leaves_enough_patches(model, size, low):
    assert configure("small", RecipeOptions(facts(5_000, (size, size)), model=model)).low_resolution == low


def test_small_takes_what_is_named_as_small_vit_does():
    options = RecipeOptions(KINDS["thumbnails"], model="Ti/4")
    assert replace(configure("small", options), recipe="small-vit") == configure("small-vit", options)
    assert configure("small-vit", RecipeOptions(KINDS["thumbnails"])).model.patch == (4, 4)


def test_resnets_by_name():
    thumbnails = configure("small", RecipeOptions(KINDS["thumbnails"], model="R26x1"))
    photographs = configure("small", RecipeOptions(KINDS["photographs"], model="R50x2"))
    assert (thumbnails.model.units, thumbnails.model.root) == ((2, 2, 2, 2), "3x3")
    assert (photographs.model.width, photographs.model.root, photographs.model.image) == (2, "7x7", (128, 128))
    for config, kind in ((thumbnails, "thumbnails"), (photographs, "photographs")):
        check_complete(config, KINDS[kind])
        assert (config.optimizer.name, config.low_resolution) == ("adamw", 1.0)
    hybrid = configure("small", RecipeOptions(KINDS["photographs"], model="R26+S/32")).model
    assert (hybrid.stem.units, hybrid.grid) == ((2, 2, 2, 2), (4, 4))


def test_pretraining_a_resnet_is_bits():
    config = configure("pretrain", RecipeOptions(KINDS["ImageNet"], model="R101x3"))
    check_complete(config, KINDS["ImageNet"])
    assert config.model == build_resnet_config("R101x3")
    made = config.optimizer.scale_to(config.batch)
    assert (made.name, made.lr, made.momentum, made.weight_decay) == ("sgd", pytest.approx(0.48), 0.9, 1e-4)
    schedule = plan_schedule(config, 1_281_167)
    assert (schedule.total, schedule.warmup) == (28151, 5000)
    assert [schedule.share(round(epoch * 1_281_167 / 4096)) for epoch in (29, 31, 61, 81)] == pytest.approx(
        [1, 0.1, 0.01, 0.001]
    )


def test_masked_patches_are_the_papers():
    config = configure("masked-patches", RecipeOptions(KINDS["ImageNet"]))
    assert config.model == ViTConfig(classes=0)
    assert config.objective == MaskedPatchesConfig("mean", 0.5, 0.8, 0.1)
    made = config.optimizer
    assert (made.name, made.lr, made.betas, made.weight_decay) == ("adamw", 2e-4, (0.9, 0.999), 0.05)
    assert (config.batch, config.duration) == (4096, "1000000st")
    assert (config.schedule.kind, plan_schedule(config, 1_281_167).warmup) == ("cosine", 10_000)


def test_the_masked_autoencoder_is_the_authors():
    config = configure("mae", RecipeOptions(KINDS["ImageNet"]))
    assert config.model == ViTConfig(classes=0, positions="sincos2d-mae", init="mae")
    assert (config.preprocess.mean, config.preprocess.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert config.objective == MaskedAutoencoderConfig(0.75, 512, 8, 16, normalise_targets=True)
    made = config.optimizer.scale_to(config.batch)
    assert (made.lr, made.betas, made.weight_decay) == (pytest.approx(2.4e-3), (0.9, 0.95), 0.05)
    assert (config.batch, config.duration, config.schedule.warmup) == (4096, "800ep", "40ep,5%")
    assert (config.augment.crop, config.augment.crop_area, config.augment.flip) == ("inception", (0.2, 1.0), True)


@pytest.mark.parametrize("recipe", UNLABELLED)
@pytest.mark.parametrize("kind", KINDS)
def test_without_labels_little_data_gets_the_model_of_small_vit(recipe, kind):
    config, small = configure(recipe, RecipeOptions(KINDS[kind])), configure("small-vit", RecipeOptions(KINDS[kind]))
    if kind != "ImageNet":
        assert config.model == replace(small.model, classes=0)
        assert (config.duration, config.batch, config.low_resolution) == (small.duration, small.batch, 1.0)
    with pytest.raises(ConfigError, match="R50x1 is a ResNet, which has no patches to hide"):
        configure(recipe, RecipeOptions(KINDS[kind], model="R50x1"))


def test_finetuning_is_the_papers(weights):
    config = configure("finetune", request_for("finetune", "photographs", weights))
    made = config.optimizer
    assert (made.name, made.lr, made.momentum, made.weight_decay, made.clip) == ("sgd", 0.01, 0.9, 0.0, 1.0)
    assert (config.schedule.kind, config.export, config.model.pre_logits) == ("cosine", "last", False)
    assert tuple(config.model.image) == (384, 192)
    assert (config.model.classes, config.model.width, config.weights) == (37, 32, weights)
    assert (config.preprocess.mean, config.preprocess.std) == ((0.1,), (0.2,))
    assert config.decode.max_pixels == 10**6


@pytest.mark.parametrize(
    ("examples", "duration", "batch"),
    [
        (1_281_167, "20000st", 512),
        (200_000, "10000st", 512),
        (50_000, "10000st", 512),
        (10_001, "10000st", 512),
        (3_680, "359st", 512),
        (640, "200st", 160),
        (6, "50st", 6),
    ],
)
def test_finetuning_is_as_long_as_the_data_is_large(weights, examples, duration, batch):
    config = configure("finetune", RecipeOptions(facts(examples), weights=weights))
    assert (config.duration, config.batch) == (duration, batch)
    assert config.head == "auto"
    assert examples > 10_000 or int(duration.removesuffix("st")) * batch <= 50 * examples


@pytest.mark.parametrize(
    ("examples", "steps", "warmup", "drops", "mixup"),
    [
        (19_999, 500, 100, (200, 300, 400), 0.0),
        (20_000, 10_000, 500, (3_000, 6_000, 9_000), 0.1),
        (499_999, 10_000, 500, (3_000, 6_000, 9_000), 0.1),
        (500_000, 20_000, 500, (6_000, 12_000, 18_000), 0.1),
    ],
)
def test_the_hyperrule_goes_by_the_datas_size(weights, examples, steps, warmup, drops, mixup):
    config = configure("hyperrule", RecipeOptions(facts(examples), weights=weights))
    schedule = plan_schedule(config, examples)
    assert (schedule.total, schedule.warmup, schedule.milestones, config.augment.mixup) == (steps, warmup, drops, mixup)
    made = config.optimizer
    assert (made.name, made.lr, made.momentum, made.weight_decay, made.clip) == ("sgd", 0.003, 0.9, 0.0, 0.0)
    assert (config.batch, config.schedule.milestone_factor, config.objective.smoothing) == (512, 0.1, 0.0)


@pytest.mark.parametrize(
    ("size", "seen", "window"),
    [((32, 32), (128, 128), 0.8), ((95, 97), (128, 128), 0.8), ((96, 96), (480, 480), 480 / 512)],
)
def test_the_hyperrule_goes_by_the_images_size(weights, size, seen, window):
    config = configure("hyperrule", RecipeOptions(facts(1000, size), weights=weights))
    assert (config.model.image, config.preprocess.size, config.preprocess.resize) == (seen, seen, "squash")
    assert (config.preprocess.crop, config.augment.crop, config.augment.crop_window) == (1.0, "window", window)
    assert not config.model.pre_logits


@pytest.mark.parametrize("recipe", FROM_WEIGHTS)
def test_resnets_are_fine_tuned_too(recipe, tmp_path):
    model = ResNetConfig((20, 30), 3, (1,), classes=5, root_channels=32)
    save_model(tmp_path / "m", ModelFolder(create(model), PreprocessConfig((20, 30)), DecodeConfig(), tuple("abcde")))
    config = configure(recipe, RecipeOptions(KINDS["thumbnails"], weights=str(tmp_path / "m")))
    check_complete(config, KINDS["thumbnails"])
    image = {"probe": (20, 30), "lp-ft": (20, 30), "finetune": (34, 51), "hyperrule": (128, 128)}[recipe]
    assert config.model == replace(model, classes=10, image=image)


@pytest.mark.parametrize(("examples", "duration", "batch"), [(1_999, "10ep", 64), (640, "31ep", 64), (6, "50ep", 6)])
def test_lp_ft_begins_with_the_probe(weights, examples, duration, batch):
    few = RecipeOptions(facts(examples), weights=weights)
    config, probe = configure("lp-ft", few), configure("probe", few)
    assert (config.duration, config.batch, config.export) == (duration, batch, "best")
    assert (config.head, config.freeze, probe.freeze, probe.duration) == ("logistic", "none", "trunk", "0st")
    assert (config.model, config.preprocess) == (probe.model, probe.preprocess)
    assert 0 < config.optimizer.layer_decay < 1


def test_finetuning_needs_weights_and_takes_their_model(weights):
    with pytest.raises(ConfigError, match="give --weights MODEL,"):
        configure("finetune", RecipeOptions(KINDS["thumbnails"]))
    with pytest.raises(ConfigError, match="uses the model of its weights; leave out --model S/16"):
        configure("finetune", RecipeOptions(KINDS["thumbnails"], weights=weights, model="S/16"))


@pytest.mark.parametrize(
    ("kind", "recipe_options", "chosen"),
    [
        ("a handful", {}, "probe"),
        ("photographs", {}, "small"),
        ("digits", {}, "small"),
        ("one pixel", {}, "small"),
        ("strips", {}, "probe"),
        ("strips", {"minutes": 3.0}, "lp-ft"),
        ("strips", {"weights": "none"}, "small"),
        ("strips", {"model": "S/16"}, "small"),
        ("strips", {"channels": 3}, "small"),
        ("strips", {"weights": "auto"}, "probe"),
        ("strips", {"weights": "runs/a"}, "probe"),
        ("thumbnails", {"weights": "auto"}, "finetune"),
        ("digits", {"weights": "auto"}, "probe"),
        ("thumbnails", {"minutes": 3.0}, "small"),
    ],
)
def test_the_recipe_that_data_asks_for(kind, recipe_options, chosen):
    assert choose_recipe(RecipeOptions(KINDS[kind], **recipe_options)) == chosen


def test_the_rule_s_edges():
    base = facts(1999, (300, 200))
    assert choose_recipe(RecipeOptions(base), timed=True) == "lp-ft"
    assert {choose_recipe(RecipeOptions(replace(base, channels=number))) for number in (1, 3)} == {"probe"}
    for change in ({"train": 2000}, {"size": Size(16, 9)}, {"channels": 4}, {"multilabel": True}):
        assert choose_recipe(RecipeOptions(replace(base, **change))) == "small"
    named = RecipeOptions(base, weights="runs/a")
    assert choose_recipe(replace(named, facts=replace(base, multilabel=True))) == "finetune"
    for images, recipe in ((1999, "probe"), (2000, "lp-ft"), (10_000, "lp-ft"), (10_001, "finetune")):
        assert choose_recipe(replace(named, facts=replace(base, train=images))) == recipe
