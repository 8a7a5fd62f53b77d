"""The recipes by name."""

from collections.abc import Callable
from dataclasses import replace

from vitreous.errors import UnknownName
from vitreous.objectives.config import ClassifyConfig
from vitreous.recipes.finetune import finetune
from vitreous.recipes.hyperrule import hyperrule
from vitreous.recipes.mae import mae
from vitreous.recipes.masked_patches import masked_patches
from vitreous.recipes.pretrain import pretrain
from vitreous.recipes.probe import probe
from vitreous.recipes.request import Request
from vitreous.recipes.small import small
from vitreous.training.config import RunConfig

RECIPES: dict[str, Callable[[Request], RunConfig]] = {
    "small": small,
    "probe": probe,
    "finetune": finetune,
    "hyperrule": hyperrule,
    "pretrain": pretrain,
    "masked-patches": masked_patches,
    "mae": mae,
}
START = ("weights", "weights_as", "weights_grid", "weights_heads")
"""What a run starts from, whatever the recipe."""
UNLABELLED = ("masked-patches", "mae")
"""Those that need no labels: a folder of images without class folders will do."""


def configure(recipe: str, request: Request) -> RunConfig:
    """Return the complete configuration of a recipe; raises UnknownName.

    Whatever the recipe, training starts from the request's weights; and where an image may have several labels, each gets a
    sigmoid of its own: a softmax would have them exclude one another.
    """
    if recipe not in RECIPES:
        raise UnknownName("recipe", recipe, RECIPES)
    config = replace(RECIPES[recipe](request), **{name: getattr(request, name) for name in START})
    if request.facts.several and isinstance(config.objective, ClassifyConfig):
        return replace(config, objective=replace(config.objective, loss="sigmoid"))
    return config
