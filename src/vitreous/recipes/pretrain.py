"""The paper's pre-training on ImageNet (2010.11929, section 4.1, appendix B.1, table 3)."""

from vitreous.images.config import AugmentConfig, PreprocessConfig
from vitreous.model.config import RegularisationConfig
from vitreous.model.efficientnet_config import SCALINGS, build_efficientnet_config
from vitreous.model.kinds import find_kind
from vitreous.model.names import build_vit_config, parse_name
from vitreous.model.resnet_config import build_resnet_config
from vitreous.model.swin_config import build_swin_config
from vitreous.objectives.config import ClassifyConfig
from vitreous.recipes.options import RecipeOptions
from vitreous.shapes import Size
from vitreous.training.config import OptimizerConfig, RunConfig, ScheduleConfig

DEPTHS = {"T": 0.2, "S": 0.3, "B": 0.5, "L": 0.2}
"""Stochastic depth of the authors' Swin Transformers, by size (2103.14030, appendix A2.1; L on ImageNet-22K)."""


def pretrain(options: RecipeOptions) -> RunConfig:
    """Train from scratch as the paper trains on ImageNet: 300 epochs, Adam with strong decay, dropout 0.1.

    Adam (0.9, 0.999), batch 4096, 10,000 steps of linear warm-up (at most 11% of the run), then cosine from 3e-3;
    weight decay 0.3 (times the learning rate, as in torch's AdamW); clip at norm 1; 224 px; a tanh layer before the
    head.

    Reached: by the paper ViT-B/16 77.91% and ViT-L/16 76.53% on ImageNet after fine-tuning at 384 px (table 5). Not run
        here: it takes many accelerator-days. For a ResNet, an EfficientNet or a Swin Transformer, see
        `pretrain_resnet`, `pretrain_efficientnet` and `pretrain_swin`. On small data (thousands of images) use the recipe `small`.
    """
    kind = find_kind(options.model or "B/16")
    if kind != "vit":
        others = {"resnet": pretrain_resnet, "efficientnet": pretrain_efficientnet, "swin": pretrain_swin}
        return others[kind](options, str(options.model))
    _, patch = parse_name(options.model or "B/16")
    size = options.choose_size(Size(224, 224), patch)
    batch = options.batch(4096)
    return RunConfig(
        recipe="pretrain",
        data=options.data,
        preprocess=PreprocessConfig(size=size, mode=options.mode),
        augment=AugmentConfig(crop="inception", flip=True),
        model=build_vit_config(
            options.model or "B/16",
            image=size,
            channels=options.planes,
            classes=len(options.facts.classes),
            pre_logits=True,
        ),
        regularisation=RegularisationConfig(dropout=0.1),
        objective=ClassifyConfig(),
        optimizer=OptimizerConfig(name="adamw", lr=3e-3, weight_decay=0.3, decoupled=False, clip=1.0),
        schedule=ScheduleConfig(kind="cosine", warmup="10000st,11%"),
        duration=f"{options.minutes:g}min" if options.minutes else "300ep",
        batch=batch,
        export="last",
    )


def pretrain_resnet(options: RecipeOptions, name: str) -> RunConfig:
    """Train a ResNet from scratch as BiT does on ImageNet (1912.11370, section 3.3): 90 epochs of SGD with momentum.

    Batch 4096, rate 0.03 for each 256 examples of it, 5,000 steps of linear warm-up (at most 18% of the run), a tenth
    of the rate after 30, 60 and 80 of the 90 epochs; weight decay 1e-4 (torch's, through the momentum); 224 px. The
    paper trained its own ResNets with Adam instead (2010.11929, appendix B, table 3: R50x1 on JFT-300M by rate 1e-3,
    weight decay 0.1, linear decay).

    Reached: by BiT-S R152x4 81.3% on ImageNet after fine-tuning (1912.11370, table 2). Not run here.
    """
    size, batch = options.choose_size(Size(224, 224), Size(1, 1)), options.batch(4096)
    return RunConfig(
        recipe="pretrain",
        data=options.data,
        preprocess=PreprocessConfig(size=size, mode=options.mode),
        augment=AugmentConfig(crop="inception", flip=True),
        model=build_resnet_config(name, image=size, channels=options.planes, classes=len(options.facts.classes)),
        objective=ClassifyConfig(),
        optimizer=OptimizerConfig(
            name="sgd", lr=0.03, batch_rule="linear", base_batch=256, weight_decay=1e-4, decoupled=False, clip=0.0
        ),
        schedule=ScheduleConfig(kind="steps", warmup="5000st,18%", milestones=("33.3333%", "66.6667%", "88.8889%")),
        duration=f"{options.minutes:g}min" if options.minutes else "90ep",
        batch=batch,
        export="last",
    )


def pretrain_efficientnet(options: RecipeOptions, name: str) -> RunConfig:
    """Train an EfficientNet from scratch on ImageNet: 350 epochs, and the authors' regularisation (1905.11946, section 5.2).

    Weight decay 1e-5, a moving average of the weights (0.9999), dropout 0.2 to 0.5 and images by the size's name, stochastic depth 0.2, label smoothing
    0.1, RandAugment (2, 9) for their AutoAugment. The authors' optimiser is RMSProp with a rate that falls by steps; here it is SGD
    with momentum, of rate 0.1 for each 256 examples of a batch of 4096, and cosine decay after 5 epochs of warm-up.

    Reached: by the authors B0 77.1% and B7 84.3% on ImageNet (table 2), by their optimiser. Not run here.
    """
    model = build_efficientnet_config(name)  # refuses an unknown name
    size, batch = options.choose_size(Size(*model.image), Size(1, 1)), options.batch(4096)
    colours = options.planes == 3 and not isinstance(options.mode, int)
    return RunConfig(
        recipe="pretrain",
        data=options.data,
        preprocess=PreprocessConfig(size=size, mode=options.mode),
        augment=AugmentConfig(
            crop="inception", crop_area=(0.08, 1.0), flip=True, randaugment=(2, 9) if colours else (0, 10.0)
        ),
        model=build_efficientnet_config(
            name, image=tuple(size), channels=options.planes, classes=len(options.facts.classes)
        ),
        regularisation=RegularisationConfig(dropout=SCALINGS[name.partition("-")[2]].dropout, drop_path=0.2),
        objective=ClassifyConfig(smoothing=0.1),
        optimizer=OptimizerConfig(
            name="sgd", lr=0.1, batch_rule="linear", base_batch=256, weight_decay=1e-5, decoupled=False, clip=0.0
        ),
        schedule=ScheduleConfig(kind="cosine", warmup="5ep,11%"),
        ema=0.9999,
        duration=f"{options.minutes:g}min" if options.minutes else "350ep",
        batch=batch,
        export="last",
    )


def pretrain_swin(options: RecipeOptions, name: str) -> RunConfig:
    """Train a Swin Transformer from scratch as its authors do on ImageNet (2103.14030, appendix A2.1): 300 epochs of AdamW.

    Batch 1024, 20 epochs of linear warm-up, cosine from 1e-3 (for fewer images in a batch in proportion), weight decay 0.05,
    clip at norm 5; RandAugment (2, 9), mixup 0.8 or cutmix 1.0, random erasing 0.25, label smoothing 0.1; stochastic depth 0.2, 0.3 and 0.5 for
    sizes T, S and B; 224 px, Swin V2 256.

    Reached: by the authors Swin-T 81.3%, S 83.0% and B 83.5% on ImageNet (table 1); SwinV2-T 81.8%, S 83.7% and B 84.2% at
    256 px (their repository). Not run here.
    """
    model = build_swin_config(name)  # refuses an unknown name
    size, batch = options.choose_size(Size(*model.image), Size(1, 1)), options.batch(1024)
    return RunConfig(
        recipe="pretrain",
        data=options.data,
        preprocess=PreprocessConfig(size=size, mode=options.mode),
        augment=AugmentConfig(
            crop="inception",
            crop_area=(0.08, 1.0),
            flip=True,
            randaugment=(2, 9) if options.planes == 3 and not isinstance(options.mode, int) else (0, 10.0),
            erase=0.25,
            mixup=0.8,
            cutmix=1.0,
        ),
        model=build_swin_config(name, image=tuple(size), channels=options.planes, classes=len(options.facts.classes)),
        regularisation=RegularisationConfig(drop_path=DEPTHS[name[-1]]),
        objective=ClassifyConfig(smoothing=0.1),
        optimizer=OptimizerConfig(
            name="adamw", lr=1e-3, batch_rule="linear", base_batch=1024, weight_decay=0.05, decoupled=False, clip=5.0
        ),
        schedule=ScheduleConfig(kind="cosine", warmup="20ep,11%"),
        duration=f"{options.minutes:g}min" if options.minutes else "300ep",
        batch=batch,
        export="last",
    )
