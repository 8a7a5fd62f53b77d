"""Pre-training as the papers did it, on data of their size: ViT on ImageNet-21k and JFT-300M (2010.11929, table 3), AugReg
(2106.10270), the plain S/16 (2205.01580) and BiT (1912.11370)."""

from collections.abc import Iterator
from dataclasses import replace

from vitreous.errors import ConfigError
from vitreous.images.config import AugmentConfig, PreprocessConfig
from vitreous.model.config import RegularisationConfig
from vitreous.model.kinds import find_kind, name_kind
from vitreous.model.names import build_vit_config, parse_name
from vitreous.model.resnet_config import build_resnet_config
from vitreous.objectives.config import ClassifyConfig
from vitreous.recipes.options import RecipeOptions
from vitreous.shapes import Size
from vitreous.training.config import ModelConfig, OptimizerConfig, RunConfig, ScheduleConfig

BATCH = 4096
JFT_RATES = {
    "B/32": 8e-4, "B/16": 8e-4, "L/32": 6e-4, "L/16": 4e-4, "H/14": 3e-4,
    "R50x1": 1e-3, "R50x2": 1e-3, "R101x1": 8e-4, "R152x1": 6e-4, "R152x2": 6e-4,
    "R50+B/32": 8e-4, "R50+B/16": 8e-4, "R50+L/32": 2e-4, "R50+L/16": 4e-4,
}  # fmt: skip
"""Peak rates on JFT-300M (2010.11929, table 3); a model that isn't there gets B's."""
JFT_LONG = {"L/16": 14, "R50+L/16": 14, "H/14": 14}
"""Epochs on JFT-300M of the models that have more than 7 (table 3: L/16 and R50+L/16 7 or 14)."""
STRENGTHS = {
    "none": ((0, 10.0), 0.0),
    "light1": ((2, 0.0), 0.0),
    "light2": ((2, 10.0), 0.2),
    "medium1": ((2, 15.0), 0.2),
    "medium2": ((2, 15.0), 0.5),
    "strong1": ((2, 20.0), 0.5),
    "strong2": ((2, 20.0), 0.8),
}
"""AugReg's strengths of augmentation: RandAugment's layers and magnitude, and mixup's alpha (google-research/big_vision,
big_vision/configs/vit_i1k.py)."""
CHOSEN = {
    "Ti/16": ("light1", "none"), "S/32": ("light2", "none"), "S/16": ("medium2", "light1"),
    "B/32": ("medium2", "light2"), "B/16": ("medium2", "light2"), "L/16": ("medium2", "medium2"),
}  # fmt: skip
"""The authors' choice of strength for a model, on ImageNet and on ImageNet-21k (google-research/big_vision, big_vision/configs/vit_i1k.py
and vit_i21k.py); a model that isn't there gets B/16's."""
MANY_CLASSES = 10_000
"""Classes from which data is like ImageNet-21k."""
DECAYS = (1e-4, 3e-5)
"""AugReg's weight decays: 0.1 and 0.03 times the peak rate, as in the names of its published files (google-research/vision_transformer,
README.md)."""
REGULARISATIONS = (RegularisationConfig(), RegularisationConfig(dropout=0.1, drop_path=0.1))
"""AugReg's regularisations: none, or dropout and stochastic depth."""


def vit_21k(options: RecipeOptions) -> RunConfig:
    """Train from scratch as the paper does on ImageNet-21k (2010.11929, table 3): 90 epochs of Adam.

    Batch 4096, 10,000 steps of warm-up, then linear decay from 1e-3; weight decay 0.03 (times the rate), dropout 0.1; a sigmoid for each
    class, whose biases start at the classes' frequency (-10 in the authors' code); a tanh layer before the head. The paper's L/16 and
    L/32 also ran 30 epochs (--duration 30ep).

    Reached: by the paper ViT-L/16 85.30% on ImageNet after fine-tuning at 512 px (table 2). Not run here.
    """
    name = options.model or "B/16"
    config = pretrain_as_table_3(options, name, "vit-21k", epochs=90)
    return replace(
        config,
        regularisation=RegularisationConfig(dropout=0.0 if find_kind(name) == "resnet" else 0.1),
        optimizer=OptimizerConfig(name="adamw", lr=1e-3, weight_decay=0.03, decoupled=False, clip=0.0),
    )


def vit_jft(options: RecipeOptions) -> RunConfig:
    """Train from scratch as the paper does on JFT-300M (2010.11929, table 3): 7 or 14 epochs of Adam.

    Batch 4096, 10,000 steps of warm-up, then linear decay from the model's own rate (8e-4 for B, 4e-4 for L/16, 3e-4 for H/14); weight
    decay 0.1 (times the rate), no dropout; a sigmoid for each class, whose biases start at the classes' frequency. ResNets and hybrids
    are trained alike.

    Reached: by the paper ViT-H/14 88.55% and ViT-L/16 87.76% on ImageNet after fine-tuning (table 2). Not run here.
    """
    name = options.model or "B/16"
    return pretrain_as_table_3(options, name, "vit-jft", epochs=JFT_LONG.get(name, 7))


def pretrain_as_table_3(options: RecipeOptions, name: str, recipe: str, epochs: int) -> RunConfig:
    """Configure what the table's rows for large data share, at the rate for JFT-300M."""
    model = build_large_model(options, name, pre_logits=True)
    return RunConfig(
        recipe=recipe,
        data=options.data,
        preprocess=PreprocessConfig(size=model.image, mode=options.mode),
        augment=AugmentConfig(crop="inception", flip=True),
        model=model,
        objective=ClassifyConfig(loss="sigmoid"),
        optimizer=OptimizerConfig(
            name="adamw", lr=JFT_RATES.get(name, JFT_RATES["B/16"]), weight_decay=0.1, decoupled=False, clip=0.0
        ),
        schedule=ScheduleConfig(kind="linear", warmup="10000st,11%"),
        duration=f"{options.minutes:g}min" if options.minutes else f"{epochs}ep",
        batch=options.batch(BATCH),
        export="last",
    )


def build_large_model(options: RecipeOptions, name: str, **settings: object) -> ModelConfig:
    """Return the named ViT, hybrid or ResNet at 224 px, or the size that is asked for."""
    given = {"channels": options.planes, "classes": len(options.facts.classes)}
    if find_kind(name) == "resnet":
        return build_resnet_config(name, image=options.choose_size(Size(224, 224), Size(1, 1)), **given)
    size = options.choose_size(Size(224, 224), parse_name(name)[1])
    return build_vit_config(name, image=size, **given, **settings)


def augreg(options: RecipeOptions) -> RunConfig:
    """Train from scratch as AugReg does (2106.10270): augmentation by the model and the data, weight decay 0.1 times the rate.

    Batch 4096, Adam, 10,000 steps of warm-up, cosine from 1e-3, clip at norm 1, 300 epochs; the strength of RandAugment and mixup that the
    authors' code chooses for the model, on ImageNet or, from 10,000 classes on, ImageNet-21k (a sigmoid for each class); no dropout, and no
    hidden layer before the head. `list_augreg_grid` gives all 28 configurations that the paper compares.

    Reached: by the authors B/16 85.49% and S/16 83.73% on ImageNet at 384 px after ImageNet-21k. Not run here.
    """
    name = options.model or "B/16"
    model = build_large_model(options, name)
    many = len(options.facts.classes) >= MANY_CLASSES
    strength = CHOSEN.get(name, CHOSEN["B/16"])[many]
    config = RunConfig(
        recipe="augreg",
        data=options.data,
        preprocess=PreprocessConfig(size=model.image, mode=options.mode),
        augment=AugmentConfig(crop="inception", flip=True),
        model=model,
        objective=ClassifyConfig(loss="sigmoid" if many else "softmax"),
        optimizer=OptimizerConfig(name="adamw", lr=1e-3, weight_decay=DECAYS[0], clip=1.0),
        schedule=ScheduleConfig(kind="cosine", warmup="10000st,11%"),
        duration=f"{options.minutes:g}min" if options.minutes else "300ep",
        batch=options.batch(BATCH),
        export="last",
    )
    return replace(config, augment=strengthen(config.augment, strength, options))


def strengthen(augment: AugmentConfig, strength: str, options: RecipeOptions) -> AugmentConfig:
    """Return an augmentation of one of AugReg's strengths; RandAugment needs colours in 8 bits."""
    layers, mixup = STRENGTHS[strength]
    colours = options.planes == 3 and not isinstance(options.mode, int)
    return replace(augment, randaugment=layers if colours else (0, 10.0), mixup=mixup)


def list_augreg_grid(options: RecipeOptions) -> Iterator[RunConfig]:
    """Yield AugReg's grid: seven strengths of augmentation, dropout and stochastic depth of 0 or 0.1, two weight decays."""
    config = augreg(options)
    for strength in STRENGTHS:
        for regularisation in REGULARISATIONS:
            for decay in DECAYS:
                yield replace(
                    config,
                    augment=strengthen(config.augment, strength, options),
                    regularisation=regularisation,
                    optimizer=replace(config.optimizer, weight_decay=decay),
                )


def plain_s16(options: RecipeOptions) -> RunConfig:
    """Train the plain ViT-S/16 from scratch on ImageNet (2205.01580): 90 epochs, or 300 with --duration 300ep.

    Batch 1024, Adam, 10,000 steps of warm-up, cosine from 1e-3, weight decay 1e-4 of its own at each step, clip at norm 1; mean pooling,
    fixed positions of sines and cosines, a tanh layer before the head; RandAugment (2, 10) and mixup 0.2; no dropout.

    Source: google-research/big_vision, big_vision/configs/vit_s16_i1k.py.

    Reached: by the authors 76.5% after 90 epochs and 80.0% after 300 (their table 1). Not run here.
    """
    model = build_large_model(
        options, options.model or "S/16", pre_logits=True, pool="mean", class_token=False, positions="sincos2d"
    )
    return RunConfig(
        recipe="plain-s16",
        data=options.data,
        preprocess=PreprocessConfig(size=model.image, mode=options.mode),
        augment=strengthen(AugmentConfig(crop="inception", flip=True), "light2", options),
        model=model,
        objective=ClassifyConfig(),
        optimizer=OptimizerConfig(name="adamw", lr=1e-3, weight_decay=1e-4, clip=1.0),
        schedule=ScheduleConfig(kind="cosine", warmup="10000st,11%"),
        duration=f"{options.minutes:g}min" if options.minutes else "90ep",
        batch=options.batch(1024),
        export="last",
    )


def bit(options: RecipeOptions) -> RunConfig:
    """Train a ResNet from scratch as Big Transfer does on ImageNet and ImageNet-21k (1912.11370, section 3.3): 90 epochs of SGD.

    Batch 4096, momentum 0.9, rate 0.03 for each 256 examples of it, 5,000 steps of warm-up, a tenth of the rate after 30, 60 and 80 epochs;
    weight decay 1e-4 (torch's, through the momentum); from 10,000 classes on a sigmoid for each class (google-research/big_vision,
    big_vision/configs/bit_i21k.py; the rest of that later configuration differs from the paper).

    Reached: by the authors R152x4 81.3% (ImageNet alone) and 85.4% (ImageNet-21k) on ImageNet after fine-tuning. Not run here.
    """
    return pretrain_as_bit(options, "bit", 90, ("33.3333%", "66.6667%", "88.8889%"))


def bit_jft(options: RecipeOptions) -> RunConfig:
    """Train a ResNet from scratch as Big Transfer does on JFT-300M (1912.11370, section 3.3): as `bit`, but 40 epochs, and a tenth of
    the rate after 10, 23, 30 and 37 of them.

    Reached: by the authors R152x4 87.5% on ImageNet after fine-tuning. Not run here.
    """
    return pretrain_as_bit(options, "bit-jft", 40, ("25%", "57.5%", "75%", "92.5%"))


def pretrain_as_bit(options: RecipeOptions, recipe: str, epochs: int, milestones: tuple[str, ...]) -> RunConfig:
    """Configure Big Transfer's training on any data."""
    name = options.model or "R50x1"
    if (kind := find_kind(name)) != "resnet":
        raise ConfigError(f"recipe {recipe} trains ResNets, but {name} is {name_kind(kind)}; name one such as R50x1")
    model = build_large_model(options, name)
    many = len(options.facts.classes) >= MANY_CLASSES
    return RunConfig(
        recipe=recipe,
        data=options.data,
        preprocess=PreprocessConfig(size=model.image, mode=options.mode),
        augment=AugmentConfig(crop="inception", flip=True),
        model=model,
        objective=ClassifyConfig(loss="sigmoid" if many or recipe == "bit-jft" else "softmax"),
        optimizer=OptimizerConfig(
            name="sgd", lr=0.03, batch_rule="linear", base_batch=256, weight_decay=1e-4, decoupled=False, clip=0.0
        ),
        schedule=ScheduleConfig(kind="steps", warmup="5000st,18%", milestones=milestones),
        duration=f"{options.minutes:g}min" if options.minutes else f"{epochs}ep",
        batch=options.batch(BATCH),
        export="last",
    )
