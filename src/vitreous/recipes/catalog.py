"""The recipes by name."""

from collections.abc import Callable

from vitreous.errors import UnknownName
from vitreous.recipes.finetune import finetune
from vitreous.recipes.pretrain import pretrain
from vitreous.recipes.request import Request
from vitreous.recipes.small import small
from vitreous.training.config import RunConfig

RECIPES: dict[str, Callable[[Request], RunConfig]] = {"small": small, "finetune": finetune, "pretrain": pretrain}


def configure(recipe: str, request: Request) -> RunConfig:
    """Return the complete configuration of a recipe; raises UnknownName."""
    if recipe not in RECIPES:
        raise UnknownName("recipe", recipe, RECIPES)
    return RECIPES[recipe](request)
