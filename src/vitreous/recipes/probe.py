"""A linear probe, made a model: features of pre-trained weights, frozen, and a head by logistic regression."""

from dataclasses import replace

from vitreous.errors import ConfigError
from vitreous.images.config import AugmentConfig
from vitreous.model.config import ViTConfig
from vitreous.objectives.config import ClassifyConfig
from vitreous.recipes.request import Request
from vitreous.recipes.transfer import choose_batch, open_weights, retarget_model
from vitreous.shapes import Size
from vitreous.training.config import OptimizerConfig, RunConfig, ScheduleConfig


def probe(request: Request) -> RunConfig:
    """Fit a head to the frozen features of pre-trained weights: seconds for a hundred images, and no step of training.

    The weights see images at the resolution that they were made for. The head is a logistic regression, its l2 chosen by
    cross-validation on the training images (`evaluation/probes/logistic.py`). What comes out is a model folder like any other.

    Reached: see docs/recipes.md.
    """
    if request.minutes is not None:
        raise ConfigError(
            f"recipe 'probe' takes no steps, and moments; leave out --minutes {request.minutes:g}, or use recipe 'finetune'"
        )
    return configure_probe(request)


def configure_probe(request: Request) -> RunConfig:
    """Configure a head on frozen features, whatever follows it."""
    folder = open_weights(request, "probe")
    model = retarget_model(folder.model.config, request, Size(*folder.model.config.image))
    return RunConfig(
        recipe="probe",
        data=request.data,
        preprocess=replace(folder.preprocess, size=model.image),
        decode=folder.decode,
        augment=AugmentConfig(crop="inception", crop_area=(0.35, 1.0), flip=True),
        model=replace(model, head_bias=True) if isinstance(model, ViTConfig) else model,
        objective=ClassifyConfig(),
        optimizer=OptimizerConfig(name="sgd", lr=0.01, momentum=0.9, weight_decay=0.0),
        schedule=ScheduleConfig(kind="constant", warmup="0%"),
        freeze="trunk",
        head="logistic",
        duration="0st",
        batch=choose_batch(request),
        export="best",
    )
