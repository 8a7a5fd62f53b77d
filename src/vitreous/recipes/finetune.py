"""The paper's fine-tuning (2010.11929, section 4.1, appendix B.1.1, table 4)."""

from dataclasses import replace

from vitreous.images.config import AugmentConfig
from vitreous.objectives.config import ClassifyConfig
from vitreous.recipes.options import RecipeOptions
from vitreous.recipes.transfer import choose_batch, open_weights, retarget_model
from vitreous.shapes import Size
from vitreous.training.config import OptimizerConfig, RunConfig, ScheduleConfig

HIGHER = 384 / 224
"""The paper fine-tunes at 384 px after pre-training at 224."""
LARGE, MEDIUM = 200_000, 10_000
"""Numbers of training images above which data counts as ImageNet-sized, and as CIFAR-sized."""
MOST_EPOCHS = 50
"""Cap of the run's length on small data, where the paper's 500 steps would be hundreds of epochs."""


def finetune(options: RecipeOptions) -> RunConfig:
    """Fine-tune weights as the paper does: SGD with momentum 0.9, cosine, no weight decay, clip at norm 1, higher
    resolution.

    Batch 512, rate 0.01 (table 4 searches a grid: see `list_rates` and --rates), 20,000 steps on ImageNet-sized data,
    10,000 on CIFAR-sized, 500 on Pets-sized, there at most 50 epochs. The head is new and zero-initialised, the tanh
    layer is dropped, and the position grid is interpolated to 12/7 of the resolution that the weights were trained at,
    as from 224 to 384 px. On ImageNet at 512 px and more the paper also averages the weights: --ema 0.9999.

    Reached: by the paper ViT-B/16 (ImageNet-21k) 98.95% on CIFAR-10 and 91.67% on CIFAR-100 (table 5). Not run
    here at that size.
    """
    folder = open_weights(options, "finetune")
    old, examples = folder.model.config, options.facts.train
    model = retarget_model(old, options, Size(*(round(side * HIGHER) for side in old.image)))
    steps = 20_000 if examples > LARGE else 10_000 if examples > MEDIUM else 500
    batch = choose_batch(options)
    if examples <= MEDIUM:
        steps = min(steps, max(1, MOST_EPOCHS * examples // batch))
    warmup = 500 if options.minutes else min(500, steps // 10)
    return RunConfig(
        recipe="finetune",
        data=options.data,
        preprocess=replace(folder.preprocess, size=model.image),
        decode=folder.decode,
        augment=AugmentConfig(crop="inception", flip=True),
        model=model,
        objective=ClassifyConfig(),
        optimizer=OptimizerConfig(name="sgd", lr=0.01, momentum=0.9, weight_decay=0.0, clip=1.0),
        schedule=ScheduleConfig(kind="cosine", warmup=f"{warmup}st,10%"),
        duration=f"{options.minutes:g}min" if options.minutes else f"{steps}st",
        batch=batch,
        export="last",
    )


def list_rates(examples: int) -> tuple[float, ...]:
    """Return the learning rates that the paper tries (table 4), on ImageNet-sized data or on smaller."""
    return (0.003, 0.01, 0.03, 0.06) if examples > LARGE else (0.001, 0.003, 0.01, 0.03)


def choose_tuning_share(examples: int) -> float:
    """Return the share of the training images that the paper holds out to choose by: 1% of ImageNet, 2% of CIFAR, 10%
    of Pets."""
    return 0.01 if examples > LARGE else 0.02 if examples > MEDIUM else 0.1
