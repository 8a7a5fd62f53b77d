"""The recipes by name."""

from collections.abc import Callable
from dataclasses import replace

from vitreous.errors import UnknownName
from vitreous.objectives.config import ClassifyConfig
from vitreous.recipes.deit import deit, deit_iii
from vitreous.recipes.finetune import MEDIUM, finetune
from vitreous.recipes.hyperrule import hyperrule
from vitreous.recipes.lp_ft import FEW, lp_ft
from vitreous.recipes.mae import mae
from vitreous.recipes.masked_patches import masked_patches
from vitreous.recipes.noisy_student import noisy_student
from vitreous.recipes.options import RecipeOptions
from vitreous.recipes.papers import augreg, bit, bit_jft, plain_s16, vit_21k, vit_jft
from vitreous.recipes.pretrain import pretrain
from vitreous.recipes.probe import probe
from vitreous.recipes.small import TINY, small, small_vit
from vitreous.training.config import START, RunConfig

RECIPES: dict[str, Callable[[RecipeOptions], RunConfig]] = {
    "small": small,
    "small-vit": small_vit,
    "probe": probe,
    "lp-ft": lp_ft,
    "finetune": finetune,
    "hyperrule": hyperrule,
    "pretrain": pretrain,
    "vit-21k": vit_21k,
    "vit-jft": vit_jft,
    "augreg": augreg,
    "plain-s16": plain_s16,
    "bit": bit,
    "bit-jft": bit_jft,
    "deit": deit,
    "deit-iii": deit_iii,
    "masked-patches": masked_patches,
    "mae": mae,
    "noisy-student": noisy_student,
}
FROM_WEIGHTS = ("probe", "lp-ft", "finetune", "hyperrule")
"""Recipes that start from weights."""
MODELS = ("weights", "teacher")
"""Settings that name a model; what they name is recorded, so that it is the same one later."""
UNLABELLED = ("masked-patches", "mae")
"""Recipes that need no labels: a folder of images without class folders suffices."""
SELF_TRAINING = "noisy-student"
"""The recipe that learns from images without labels besides the labelled ones, in several runs."""


AUTO = "auto"
"""As a recipe: chosen by the data (`choose_recipe`); as weights: recommended ones."""
NONE = "none"
"""As weights: from scratch."""


def choose_recipe(options: RecipeOptions, *, timed: bool = False) -> str:
    """Return the recipe for the data and the options if none is named.

    Given weights are fine-tuned: by `lp-ft`, and by the paper's `finetune` where there are more than 10,000 images or
    several labels an image; for fewer than 2,000 images recipe `probe` fits a head to them, unless minutes or another
    duration are given (`timed`).
    Without weights, that few photographs in up to three channels are too few to learn from, so recommended weights are
    used, unless a model, other channels or weights "none" are requested. Everything else is trained from scratch by
    `small`: more images, images of at most 16 pixels a side, several labels an image.
    """
    facts = options.facts
    few = facts.train < FEW and not facts.multilabel
    if options.model is not None or options.weights == NONE:
        return "small"
    photographs = options.channels is None and facts.channels <= 3 and max(facts.size) > TINY
    if options.weights is None and not (few and photographs):
        return "small"
    if few and options.minutes is None and not timed:
        return "probe"
    return "finetune" if facts.multilabel or facts.train > MEDIUM else "lp-ft"


def configure(recipe: str, options: RecipeOptions) -> RunConfig:
    """Return the complete configuration of a recipe; raises UnknownName.

    With any recipe, training starts from the weights in the options, and learns from their teacher. If an image may have several labels, each has a
    sigmoid of its own: a softmax would make them exclude each other.
    """
    if recipe not in RECIPES:
        raise UnknownName("recipe", recipe, RECIPES)
    config = replace(RECIPES[recipe](options), **{name: getattr(options, name) for name in (*START, "teacher")})
    if options.facts.multilabel and isinstance(config.objective, ClassifyConfig):
        return replace(config, objective=replace(config.objective, loss="sigmoid"))
    return config
