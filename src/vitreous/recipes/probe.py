"""A linear probe as a model: frozen features of pre-trained weights, and a head fitted by logistic regression."""

from dataclasses import replace

from vitreous.errors import ConfigError
from vitreous.images.config import AugmentConfig
from vitreous.model.config import ViTConfig
from vitreous.model.count import count_flops
from vitreous.objectives.config import ClassifyConfig
from vitreous.recipes.options import RecipeOptions
from vitreous.recipes.transfer import choose_batch, open_weights, retarget_model
from vitreous.shapes import Size
from vitreous.training.config import ModelConfig, OptimizerConfig, RunConfig, ScheduleConfig
from vitreous.weights.auto_weights import find_image


def probe(options: RecipeOptions) -> RunConfig:
    """Fit a head to the frozen features of pre-trained weights: seconds for a hundred images, and no step of training.

    The weights see images at the resolution that they were trained at, or one that suffices for their features
    (docs/pretrained.md). The head is a logistic regression, its l2 chosen by cross-validation on the training images
    (`evaluation/probes/logistic.py`). The result is a model folder like any other.

    Reached: see docs/recipes.md.
    """
    refuse_minutes(options.minutes)
    return configure_probe(options, "probe")


def refuse_minutes(minutes: float | None) -> None:
    """Raise ConfigError if minutes are given."""
    if minutes is not None:
        raise ConfigError(
            f"recipe 'probe' trains without steps, in moments; leave out --minutes {minutes:g}, or use recipe 'lp-ft' or 'finetune'"
        )


VIEWS, WORK = 4, 2e12
"""Most augmented views of an image that a head learns from, and a limit on the operations for the views of all
images."""


def choose_views(model: ModelConfig, images: int) -> int:
    """Return the number of augmented views: up to four, if a small model or few images make them cheap.

    They gain three points for the starter weights on a hundred photographs (docs/notebook.md), and little for a large
    model's features.
    """
    return min(VIEWS, int(WORK / (count_flops(model) * images)))


def configure_probe(options: RecipeOptions, recipe: str) -> RunConfig:
    """Configure a head on frozen features, for any recipe that begins with one."""
    folder = open_weights(options, recipe)
    image = find_image(options.weights or "") or folder.model.config.image
    model = retarget_model(folder.model.config, options, Size(*image))
    return RunConfig(
        recipe=recipe,
        data=options.data,
        preprocess=replace(folder.preprocess, size=model.image),
        decode=folder.decode,
        augment=AugmentConfig(crop="inception", crop_area=(0.35, 1.0), flip=True),
        model=replace(model, head_bias=True) if isinstance(model, ViTConfig) else model,
        objective=ClassifyConfig(),
        optimizer=OptimizerConfig(name="sgd", lr=0.01, momentum=0.9, weight_decay=0.0),
        schedule=ScheduleConfig(kind="constant", warmup="0%"),
        freeze="trunk",
        head="logistic",
        head_views=choose_views(model, options.facts.train),
        refit=options.facts.held_out,
        duration="0st",
        batch=choose_batch(options),
        export="best",
    )
