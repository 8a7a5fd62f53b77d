"""A batch that is larger than the data, and what is said and recorded of it."""

from dataclasses import replace

import pytest
from PIL import Image
from tests.support.training import TINY, Listener
from tests.training.test_recipes import facts

from vitreous.data.config import DataConfig
from vitreous.model.names import build_vit_config
from vitreous.recipes.catalog import configure
from vitreous.recipes.options import RecipeOptions
from vitreous.run_folder import read_run


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Make ten images of two classes, of which eight are for training."""
    folder = tmp_path_factory.mktemp("few")
    for number in range(10):
        (folder / "ab"[number % 2]).mkdir(exist_ok=True)
        Image.new("L", (8, 8), number * 20).save(folder / "ab"[number % 2] / f"{number}.png")
    return folder


def go_on_few(go, few, **changed):
    """Train two classes on eight images; return the result and what was said."""
    listener = Listener()
    model = build_vit_config("mu/4", image=(8, 8), channels=1, classes=2)
    return go(replace(TINY, data=DataConfig(str(few)), model=model), listener, **changed), listener.messages


def test_a_batch_larger_than_the_data_is_said_and_its_epochs_are_those_that_were_seen(go, few, reported):
    result, said = go_on_few(go, few, batch=64, duration="2st", evaluate_every="1st")
    words = "the batch of 64 is larger than the 8 training images: each step is 8 epochs, the run 16"
    assert [text for text in said if words in text]
    record = read_run(result.run)
    assert [(one["step"], one["epoch"]) for one in record.metrics if one["kind"] == "train"] == [(1, 8), (2, 16)]
    assert "16.0 epochs" in (result.run / "report.html").read_text()


def test_a_batch_of_the_data_is_an_epoch_a_step(go, few):
    result, said = go_on_few(go, few, batch=8, duration="3ep", evaluate_every="1ep")
    assert not [text for text in said if "larger" in text]
    evaluations = [one for one in read_run(result.run).metrics if one["kind"] == "evaluation"]
    assert [(one["step"], one["epoch"]) for one in evaluations] == [(1, 1), (2, 2), (3, 3)]


def test_nothing_is_said_of_five_answers_where_there_are_two_classes(go, few, reported):
    result, _ = go_on_few(go, few, batch=8, duration="2st", evaluate_every="1st")
    assert "top5" not in result.metrics
    assert all("top5" not in one for one in read_run(result.run).metrics)
    assert "top-5" not in (result.run / "report.html").read_text()


@pytest.mark.parametrize("recipe", ["small", "pretrain", "masked-patches", "mae"])
@pytest.mark.parametrize("model", [None, "R26x1"])
def test_recipes_take_no_batch_larger_than_the_data(recipe, model):
    if model and recipe in ("masked-patches", "mae"):
        pytest.skip("a ResNet has no patches")
    config = configure(recipe, RecipeOptions(facts(7, classes=2), model=model))
    assert config.batch == 7
    if recipe == "pretrain" and model:
        assert config.optimizer.scale_to(7).lr == pytest.approx(0.03 * 7 / 256)


@pytest.mark.parametrize(
    ("recipe", "model", "rate", "images"),
    [
        ("pretrain", "R50x1", 0.03, 256),
        ("pretrain", "EfficientNet-B0", 0.1, 256),
        ("pretrain", "Swin-T", 1e-3, 1024),
        ("mae", "B/16", 1.5e-4, 256),
        ("noisy-student", "EfficientNet-B7", 0.1, 256 * 15),
        ("bit", "R50x1", 0.03, 256),
    ],
)
def test_rates_for_so_many_images_follow_a_batch_that_is_given(recipe, model, rate, images):
    """The recipe's own batch has the papers' rate; another one, set by --batch, a rate in proportion."""
    config = configure(
        recipe,
        RecipeOptions(facts(1_281_167, classes=1000), model=model, teacher="runs/a" if "noisy" in recipe else None),
    )
    for batch in (config.batch, 240):
        assert replace(config, batch=batch).optimizer.scale_to(batch).lr == pytest.approx(rate * batch / images)
