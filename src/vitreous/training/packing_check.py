"""Which settings of a run go with packed images."""

import math

from vitreous.errors import ConfigError
from vitreous.model.config import ViTConfig
from vitreous.model.packing import check_packing
from vitreous.objectives.config import ClassifyConfig
from vitreous.training.config import RunConfig


def check_packed(config: RunConfig) -> None:
    """Refuse models that can't pack images, and settings that need images of one size; raises ConfigError."""
    model, augment, regularisation = config.model, config.augment, config.regularisation
    if not isinstance(config.objective, ClassifyConfig):
        raise ConfigError(f"objective {config.objective.KIND} hides patches of one grid; leave out packed")
    check_packing(model)
    assert isinstance(model, ViTConfig)
    if model.distillation_token or config.teacher is not None:
        raise ConfigError("packed images are learned from their labels alone; leave out packed, or the teacher")
    least, most = max(model.patch), math.isqrt(math.prod(model.image))
    if not least <= config.packed <= most:
        raise ConfigError(
            f"packed is {config.packed}, the smallest side of an image in pixels; it must be {least}, a patch's side, to {most}, "
            "the model's own (--image)"
        )
    if augment.crop not in ("inception", "eval"):
        raise ConfigError(
            f"augment.crop is {augment.crop}, but packed images keep their aspect; choose inception or eval"
        )
    remedies = {
        "--augment.mixup 0": augment.mixup,
        "--augment.cutmix 0": augment.cutmix,
        "--augment.on cpu": augment.on != "cpu",
        "--regularisation.dropout 0": regularisation.dropout,
        "--regularisation.drop-path 0": regularisation.drop_path,
        "--regularisation.patch-dropout 0": regularisation.patch_dropout,
        "--low-resolution 1": config.low_resolution < 1,
        "--no-compile": config.compile,
        "--shard none": config.shard != "none",
    }
    given = [remedy for remedy, on in remedies.items() if on]
    if given:
        raise ConfigError(
            f"packed images have several sizes and share sequences; set {' '.join(given)}, or leave out packed"
        )
