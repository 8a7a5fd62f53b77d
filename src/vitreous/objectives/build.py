"""The objective that a configuration names."""

from vitreous.model.factory import Model
from vitreous.objectives.base import Objective
from vitreous.objectives.classification import Classify
from vitreous.objectives.config import ClassifyConfig, MaskedPatchesConfig, ObjectiveConfig
from vitreous.objectives.masked_autoencoder import MaskedAutoencoder
from vitreous.objectives.masked_patches import MaskedPatches
from vitreous.objectives.multilabel import ClassifyMultilabel


def build_objective(
    config: ObjectiveConfig, model: Model, counts: tuple[int, ...] = (), seed: int = 0, multilabel_examples: int = 0
) -> Objective:
    """Build an objective around a model.

    Args:
        config: which one.
        model: what is trained.
        counts: training examples of each class.
        seed: of whatever else is trained, which is thrown away afterwards.
        multilabel_examples: training examples, where each may have several of the classes; 0: each has one.

    Raises:
        ConfigError: the model can't be trained so.
    """
    if isinstance(config, ClassifyConfig):
        return (
            ClassifyMultilabel(model, config, counts, multilabel_examples)
            if multilabel_examples
            else Classify(model, config, counts)
        )
    if isinstance(config, MaskedPatchesConfig):
        return MaskedPatches(model, config, seed)
    return MaskedAutoencoder(model, config, seed)
