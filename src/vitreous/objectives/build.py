"""Build the objective that a configuration names."""

from vitreous.model.factory import Model
from vitreous.objectives.base import Objective
from vitreous.objectives.classification import Classify, Teach
from vitreous.objectives.config import ClassifyConfig, MaskedPatchesConfig, ObjectiveConfig
from vitreous.objectives.masked_autoencoder import MaskedAutoencoder
from vitreous.objectives.masked_patches import MaskedPatches
from vitreous.objectives.multilabel import ClassifyMultilabel


def build_objective(
    config: ObjectiveConfig,
    model: Model,
    counts: tuple[int, ...] = (),
    seed: int = 0,
    multilabel_examples: int = 0,
    teach: Teach | None = None,
) -> Objective:
    """Build an objective around a model.

    Args:
        config: the objective's settings.
        model: the model to train.
        counts: training examples of each class.
        seed: for the initial values of modules that are trained too and discarded afterwards.
        multilabel_examples: number of training examples, if each may have several of the classes; 0: each has one.
        teach: gives a teacher's logits, if each has one class.

    Raises:
        ConfigError: the model can't be trained with this objective.
    """
    if isinstance(config, ClassifyConfig):
        return (
            ClassifyMultilabel(model, config, counts, multilabel_examples)
            if multilabel_examples
            else Classify(model, config, counts, teach)
        )
    if isinstance(config, MaskedPatchesConfig):
        return MaskedPatches(model, config, seed)
    return MaskedAutoencoder(model, config, seed)
