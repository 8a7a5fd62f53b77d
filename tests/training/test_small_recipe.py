"""The small ResNet of recipe `small`: by the images, the minutes and the colours that there are."""

import pytest
from tests.training.test_recipes import facts

from vitreous.recipes.catalog import configure
from vitreous.recipes.options import RecipeOptions


@pytest.mark.parametrize(
    ("examples", "minutes", "channels"),
    [(50_000, None, 192), (2_000, 10.0, 192), (50_000, 9.9, 96), (1_999, None, 64), (1_999, 60.0, 64)],
)
def test_small_is_wider_where_there_is_time_and_where_there_are_images(examples, minutes, channels):
    config = configure("small", RecipeOptions(facts(examples, (32, 32)), minutes=minutes))
    assert [unit.outputs for stage in config.model.stages for unit in stage][1] == channels


@pytest.mark.parametrize(("channels", "root"), [(1, "haar"), (4, "haar"), (5, "3x3"), (200, "3x3")])
def test_small_transforms_a_few_colours_and_no_spectrum(channels, root):
    config = configure("small", RecipeOptions(facts(50_000, (32, 32)), channels=channels))
    assert (config.model.root, config.model.root_channels) == (root, 8 * channels if root == "haar" else 32)
