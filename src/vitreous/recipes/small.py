"""From scratch on small data: thousands of images, a laptop."""

from vitreous.images.config import AugmentConfig, PreprocessConfig
from vitreous.model.config import ViTConfig
from vitreous.objectives.config import ClassifyConfig
from vitreous.recipes.request import Request
from vitreous.training.config import OptimizerConfig, RunConfig, ScheduleConfig


def small(request: Request) -> RunConfig:
    """Train a small ViT from scratch."""
    facts = request.facts
    return RunConfig(
        recipe="small",
        data=request.data,
        weights=request.weights,
        preprocess=PreprocessConfig(size=(8, 8), mode="L" if facts.channels == 1 else "RGB", crop=1.0),
        augment=AugmentConfig(crop="pad", crop_pad=1, flip=False),
        model=ViTConfig(
            image=(8, 8),
            patch=(2, 2),
            channels=facts.channels,
            width=96,
            depth=4,
            heads=3,
            mlp=384,
            classes=len(facts.classes),
        ),
        objective=ClassifyConfig(smoothing=0.1),
        optimizer=OptimizerConfig(name="muon", lr=3e-3, muon_lr=0.02, weight_decay=0.05),
        schedule=ScheduleConfig(kind="linear", warmup="5%"),
        duration=f"{request.minutes:g}min" if request.minutes else "20ep",
        batch=128,
        export="last",
    )
