"""The paper's pre-training on ImageNet (2010.11929, section 4.1, appendix B.1, table 3)."""

from vitreous.images.config import AugmentConfig, PreprocessConfig
from vitreous.model.config import named, parse_name
from vitreous.objectives.config import ClassifyConfig
from vitreous.recipes.request import Request
from vitreous.shapes import Size
from vitreous.training.config import OptimizerConfig, RunConfig, ScheduleConfig


def pretrain(request: Request) -> RunConfig:
    """Train from scratch as the paper trains on ImageNet: 300 epochs, Adam with strong decay, dropout 0.1.

    Adam (0.9, 0.999), batch 4096, 10,000 steps of linear warm-up, then cosine from 3e-3; weight decay 0.3
    (times the learning rate, as in torch's AdamW); clip at norm 1; 224 px; a tanh layer before the head.

    Reached: by the paper ViT-B/16 77.91% and ViT-L/16 76.53% on ImageNet after fine-tuning at 384 px (table 5). Not
    run here: that takes many accelerator-days. On small data (thousands of images) use the recipe `small`.
    """
    _, patch = parse_name(request.model or "B/16")
    size = request.seen(Size(224, 224), patch)
    mode = "L" if request.facts.channels == 1 else "RGB"
    return RunConfig(
        recipe="pretrain",
        data=request.data,
        weights=request.weights,
        preprocess=PreprocessConfig(size=size, mode=mode),
        augment=AugmentConfig(crop="inception", flip=True),
        model=named(
            request.model or "B/16",
            image=size,
            channels=request.facts.channels,
            classes=len(request.facts.classes),
            pre_logits=True,
            dropout=0.1,
        ),
        objective=ClassifyConfig(),
        optimizer=OptimizerConfig(name="adamw", lr=3e-3, weight_decay=0.3, decoupled=False, clip=1.0),
        schedule=ScheduleConfig(kind="cosine", warmup="10000st"),
        duration=f"{request.minutes:g}min" if request.minutes else "300ep",
        batch=4096,
        export="last",
    )
