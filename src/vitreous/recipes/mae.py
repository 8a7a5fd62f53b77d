"""Self-supervision by a masked autoencoder (2111.06377, section 4 and appendix A.1)."""

from dataclasses import replace

from vitreous.images.config import IMAGENET_MEAN, IMAGENET_STD, AugmentConfig
from vitreous.objectives.config import MaskedAutoencoderConfig
from vitreous.recipes.options import RecipeOptions
from vitreous.recipes.unlabelled import MANY, build_model, build_preprocess, configure_little_data
from vitreous.training.config import OptimizerConfig, RunConfig, ScheduleConfig


def mae(options: RecipeOptions) -> RunConfig:
    """Train a ViT without labels: hide three quarters of the patches, and reconstruct their (normalised) pixels.

    On hundreds of thousands of images as the authors on ImageNet (table 8): ViT-B/16 with fixed positions, AdamW (0.9,
    0.95), batch 4096, 800 epochs (--duration 400ep to 1600ep), 40 of them warm-up, then cosine from 1.5e-4 for each 256 images of the batch, weight
    decay 0.05; crops of at least a fifth of the area, normalised by ImageNet's constants; a decoder of 8 blocks of
    width 512; initial weights as theirs, except for the patch embedding's bias (zero; theirs is torch's default). On
    less, the model and the length of recipe `small` with a decoder of 2 blocks of half the model's width. The exported
    model has no head and no decoder: fine-tune it, or measure its features. Source: facebookresearch/mae, main_pretrain.py and
    PRETRAIN.md.

    Reached: by the authors ViT-B/16 83.6% on ImageNet after 1,600 epochs and fine-tuning. Our measurements are in
        docs/recipes.md.
    """
    if options.facts.train < MANY:
        config = configure_little_data(options, "mae", MaskedAutoencoderConfig())
        width = max(32, config.model.width // 2 // 32 * 32)
        return replace(
            config, objective=MaskedAutoencoderConfig(decoder_width=width, decoder_depth=2, decoder_heads=width // 16)
        )
    model = build_model(options, positions="sincos2d-mae", position_temperature=10_000.0, init="mae")
    constants = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD} if model.channels == 3 else {}
    return RunConfig(
        recipe="mae",
        data=options.data,
        preprocess=replace(build_preprocess(options, model), **constants),
        augment=AugmentConfig(crop="inception", crop_area=(0.2, 1.0), flip=True),
        model=model,
        objective=MaskedAutoencoderConfig(),
        optimizer=OptimizerConfig(
            name="adamw",
            lr=1.5e-4,
            batch_rule="linear",
            base_batch=256,
            betas=(0.9, 0.95),
            weight_decay=0.05,
            decoupled=False,
            clip=0.0,
        ),
        schedule=ScheduleConfig(kind="cosine", warmup="40ep,5%"),
        duration=f"{options.minutes:g}min" if options.minutes else "800ep",
        batch=4096,
        evaluate_every="5%",
        export="last",
    )
