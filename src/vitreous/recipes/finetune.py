"""The paper's fine-tuning (2010.11929, section 4.1, appendix B.1.1, table 4)."""

from dataclasses import replace

from vitreous.checkpoints.open import open_model
from vitreous.errors import ConfigError
from vitreous.images.config import AugmentConfig
from vitreous.model.config import ViTConfig
from vitreous.objectives.config import ClassifyConfig
from vitreous.recipes.request import Request
from vitreous.shapes import Size
from vitreous.training.config import OptimizerConfig, RunConfig, ScheduleConfig

HIGHER = 384 / 224
"""The paper fine-tunes at 384 px what it pre-trained at 224."""
MOST_EPOCHS = 50
"""Cap of the run's length: on small sets the paper's thousands of steps would be thousands of epochs."""


def finetune(request: Request) -> RunConfig:
    """Fine-tune weights as the paper does: SGD with momentum 0.9, cosine, no weight decay, clip at norm 1, higher resolution.

    Batch 512, rate 0.01 (table 4 searches {0.001, 0.003, 0.01, 0.03} on CIFAR, up to 0.06 on ImageNet), 20,000 steps
    on ImageNet-sized data, 10,000 on CIFAR-sized, 500 on Pets-sized; never more than 50 epochs here. The head is new and
    zero-initialised, the tanh layer is dropped, and the position grid is interpolated to 12/7 of the resolution that
    the weights were trained at, as from 224 to 384 px.

    Reached: by the paper ViT-B/16 (ImageNet-21k) 98.95% on CIFAR-10 and 91.67% on CIFAR-100 (table 5). The run
    that vitreous measured itself is in docs/recipes.md.
    """
    if request.weights is None:
        raise ConfigError("recipe 'finetune' starts from weights; give --weights MODEL_FOLDER, or use recipe 'small'")
    if request.model is not None:
        raise ConfigError(
            f"recipe 'finetune' takes the model of its weights; leave out --model {request.model}, or use recipe 'small'"
        )
    folder, _ = open_model(request.weights)
    old = folder.model.config
    classes, examples = len(request.facts.classes), request.facts.train
    patch = Size(*old.patch) if isinstance(old, ViTConfig) else Size(1, 1)
    size = request.seen(Size(*(round(side * HIGHER) for side in old.image)), patch)
    model = replace(old, image=tuple(size), classes=classes)
    if isinstance(model, ViTConfig):
        model = replace(model, pre_logits=False)
    steps = 20_000 if examples > 200_000 else 10_000 if examples > 10_000 else 500
    batch = min(512, max(16, examples // 4))
    steps = min(steps, max(1, MOST_EPOCHS * examples // batch))
    return RunConfig(
        recipe="finetune",
        data=request.data,
        weights=request.weights,
        preprocess=replace(folder.preprocess, size=size),
        decode=folder.decode,
        augment=AugmentConfig(crop="inception", flip=True),
        model=model,
        objective=ClassifyConfig(),
        optimizer=OptimizerConfig(name="sgd", lr=0.01, momentum=0.9, weight_decay=0.0, clip=1.0),
        schedule=ScheduleConfig(kind="cosine", warmup=f"{min(500, steps // 10)}st"),
        duration=f"{request.minutes:g}min" if request.minutes else f"{steps}st",
        batch=batch,
        export="last",
    )
