"""The paper's pre-training on ImageNet (2010.11929, section 4.1, appendix B.1, table 3)."""

from vitreous.images.config import AugmentConfig, PreprocessConfig
from vitreous.model.config import RegularisationConfig
from vitreous.model.names import build_vit_config, parse_name
from vitreous.model.resnet_config import build_resnet_config, is_resnet_name
from vitreous.objectives.config import ClassifyConfig
from vitreous.recipes.options import RecipeOptions
from vitreous.shapes import Size
from vitreous.training.config import OptimizerConfig, RunConfig, ScheduleConfig


def pretrain(options: RecipeOptions) -> RunConfig:
    """Train from scratch as the paper trains on ImageNet: 300 epochs, Adam with strong decay, dropout 0.1.

    Adam (0.9, 0.999), batch 4096, 10,000 steps of linear warm-up (at most 11% of the run), then cosine from 3e-3;
    weight decay 0.3 (times the learning rate, as in torch's AdamW); clip at norm 1; 224 px; a tanh layer before the
    head.

    Reached: by the paper ViT-B/16 77.91% and ViT-L/16 76.53% on ImageNet after fine-tuning at 384 px (table 5). Not run
        here: it takes many accelerator-days. For a ResNet, see `pretrain_resnet`. On small data (thousands of images)
        use the recipe `small`.
    """
    if options.model is not None and is_resnet_name(options.model):
        return pretrain_resnet(options, options.model)
    _, patch = parse_name(options.model or "B/16")
    size = options.seen(Size(224, 224), patch)
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
    size, batch = options.seen(Size(224, 224), Size(1, 1)), options.batch(4096)
    return RunConfig(
        recipe="pretrain",
        data=options.data,
        preprocess=PreprocessConfig(size=size, mode=options.mode),
        augment=AugmentConfig(crop="inception", flip=True),
        model=build_resnet_config(name, image=size, channels=options.planes, classes=len(options.facts.classes)),
        objective=ClassifyConfig(),
        optimizer=OptimizerConfig(name="sgd", lr=0.03 * batch / 256, weight_decay=1e-4, decoupled=False, clip=0.0),
        schedule=ScheduleConfig(kind="steps", warmup="5000st,18%", milestones=("33.3333%", "66.6667%", "88.8889%")),
        duration=f"{options.minutes:g}min" if options.minutes else "90ep",
        batch=batch,
        export="last",
    )
