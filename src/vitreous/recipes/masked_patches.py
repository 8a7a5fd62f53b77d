"""Self-supervision as in the paper: masked patch prediction (2010.11929, section 4.6 and appendix B.1.2)."""

from vitreous.images.config import AugmentConfig
from vitreous.objectives.config import MaskedPatchesConfig
from vitreous.recipes.options import RecipeOptions
from vitreous.recipes.unlabelled import MANY, build_model, build_preprocess, configure_little_data
from vitreous.training.config import OptimizerConfig, RunConfig, ScheduleConfig


def masked_patches(options: RecipeOptions) -> RunConfig:
    """Train a ViT without labels: corrupt half of the patch embeddings, predict the mean colours of those patches.

    On hundreds of thousands of images as the paper does on JFT-300M: ViT-B/16, Adam, batch 4096, 1,000,000 steps (the
    authors gain little after 100,000, and as much from ImageNet), 10,000 of them warm-up (a tenth of a shorter run),
    then cosine from 2e-4. Weight decay 0.05 and clipping at norm 1 are not from the paper, which states neither here.
    On less, the model and the length of recipe `small`. The exported model has no head: fine-tune it, or measure its
    features.

    Reached: by the paper ViT-B/16 79.9% on ImageNet after fine-tuning, 2 points above training from scratch. For
        results of minutes on a laptop, see docs/recipes.md, section mae.
    """
    if options.facts.train < MANY:
        return configure_little_data(options, "masked-patches", MaskedPatchesConfig())
    model = build_model(options)
    return RunConfig(
        recipe="masked-patches",
        data=options.data,
        preprocess=build_preprocess(options, model),
        augment=AugmentConfig(crop="inception", flip=True),
        model=model,
        objective=MaskedPatchesConfig(),
        optimizer=OptimizerConfig(name="adamw", lr=2e-4, weight_decay=0.05, decoupled=False, clip=1.0),
        schedule=ScheduleConfig(kind="cosine", warmup="10000st,10%"),
        duration=f"{options.minutes:g}min" if options.minutes else "1000000st",
        batch=4096,
        evaluate_every="5%",
        export="last",
    )
