"""BiT-HyperRule: fine-tuning without a search (1912.11370, section 3.3, and the authors' bit_hyperrule.py)."""

from dataclasses import replace

from vitreous.images.config import AugmentConfig
from vitreous.objectives.config import ClassifyConfig
from vitreous.recipes.options import RecipeOptions
from vitreous.recipes.transfer import choose_batch, open_weights, retarget_model
from vitreous.shapes import Size
from vitreous.training.config import OptimizerConfig, RunConfig, ScheduleConfig

SMALL_AREA = 96 * 96
"""Pixels below which images count as small."""


def hyperrule(options: RecipeOptions) -> RunConfig:
    """Fine-tune weights of a ResNet or a ViT by rules that depend only on the number of images and their size.

    SGD with momentum 0.9, rate 0.003 at batch 512, no weight decay. Below 20,000 images 500 steps, 100 of them warm-up,
    a tenth of the rate after 200, 300 and 400; below 500,000 images 10,000 steps, above 20,000, of them 500 warm-up, a
    tenth of the rate after 30, 60 and 90%. Mixup of 0.1 from 20,000 images on. Images below 96 x 96 pixels are squashed
    to 160 x 160 and cropped to 128 x 128; larger ones are squashed to 512 x 512 and cropped to 480 x 480.

    Where the code and the paper's text differ, the code is followed: the text has 448 and 384 for large images, except
    for its largest model, R152x4, and drops after 30, 60 and 90% for small data too.

    Reached: by BiT-M R152x4 (ImageNet-21k) 98.9% on CIFAR-10 (1912.11370, table 2). Not run here at that size.
    """
    folder = open_weights(options, "hyperrule")
    examples, (rows, cols) = options.facts.train, options.facts.size
    resized, seen = (160, 128) if rows * cols < SMALL_AREA else (512, 480)
    model = retarget_model(folder.model.config, options, Size(seen, seen))
    few = examples < 20_000
    steps = 500 if few else 10_000 if examples < 500_000 else 20_000
    return RunConfig(
        recipe="hyperrule",
        data=options.data,
        preprocess=replace(folder.preprocess, size=model.image, resize="squash", crop=1.0),
        decode=folder.decode,
        augment=AugmentConfig(crop="window", crop_window=seen / resized, flip=True, mixup=0.0 if few else 0.1),
        model=model,
        objective=ClassifyConfig(),
        optimizer=OptimizerConfig(name="sgd", lr=0.003, momentum=0.9, weight_decay=0.0, clip=0.0),
        schedule=ScheduleConfig(
            kind="steps",
            warmup="20%" if few else f"{500 / steps:.1%}",
            milestones=("40%", "60%", "80%") if few else ("30%", "60%", "90%"),
        ),
        duration=f"{options.minutes:g}min" if options.minutes else f"{steps}st",
        batch=choose_batch(options),
        evaluate_every="10%",
        export="last",
    )
