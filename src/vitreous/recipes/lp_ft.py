"""Linear probing, then fine-tuning (LP-FT, 2202.10054): for few images."""

from dataclasses import replace

from vitreous.objectives.config import ClassifyConfig
from vitreous.recipes.options import RecipeOptions
from vitreous.recipes.probe import configure_probe
from vitreous.training.config import OptimizerConfig, RunConfig, ScheduleConfig

FEW = 2_000
"""Number of training images below which a model trained from scratch learns too little."""


def lp_ft(options: RecipeOptions) -> RunConfig:
    """Fine-tune on few images: the head first, then all of the model at small rates, and never worse than the head
    alone.

    Linear probing, then fine-tuning (2202.10054): the head is fitted to the frozen features and measured; then AdamW
    trains everything, each block at a smaller rate than the one above it (BEiT, 2106.08254, appendix H), and the
    weights are averaged over the steps. The best of all evaluations on the validation images is kept, that of the
    fitted head included.

    Reached: see docs/recipes.md.
    """
    start = configure_probe(options, "lp-ft")
    images = options.facts.train
    batch = options.batch(min(64, max(8, images // 8)))
    return replace(
        start,
        augment=replace(start.augment, crop_area=(0.5, 1.0)),
        objective=ClassifyConfig(smoothing=0.1),
        optimizer=OptimizerConfig(
            name="adamw", lr=3e-4, weight_decay=0.05, decoupled=False, clip=1.0, layer_decay=0.75
        ),
        schedule=ScheduleConfig(kind="cosine", warmup="10%"),
        freeze="none",
        ema=0.99,
        duration=f"{options.minutes:g}min" if options.minutes else f"{max(10, min(50, 20_000 // images))}ep",
        batch=batch,
        evaluate_every="10%",
    )
