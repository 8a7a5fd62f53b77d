"""The recipes by name."""

from collections.abc import Callable

from vitreous.errors import UnknownName
from vitreous.recipes.finetune import finetune
from vitreous.recipes.hyperrule import hyperrule
from vitreous.recipes.mae import mae
from vitreous.recipes.masked_patches import masked_patches
from vitreous.recipes.pretrain import pretrain
from vitreous.recipes.request import Request
from vitreous.recipes.small import small
from vitreous.training.config import RunConfig

RECIPES: dict[str, Callable[[Request], RunConfig]] = {
    "small": small,
    "finetune": finetune,
    "hyperrule": hyperrule,
    "pretrain": pretrain,
    "masked-patches": masked_patches,
    "mae": mae,
}
UNLABELLED = ("masked-patches", "mae")
"""Those that need no labels: a folder of images without class folders will do."""


def configure(recipe: str, request: Request) -> RunConfig:
    """Return the complete configuration of a recipe; raises UnknownName."""
    if recipe not in RECIPES:
        raise UnknownName("recipe", recipe, RECIPES)
    return RECIPES[recipe](request)
