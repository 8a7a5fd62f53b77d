"""What each actor of a job on a cluster loads, and what it computes from its parts."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from vitreous.api.loading import load
from vitreous.cluster import Make
from vitreous.evaluation.probes.cluster_features import write_vectors
from vitreous.evaluation.probes.features import check_layer
from vitreous.predictor import Predictor
from vitreous.runtime.collection import pause_collection


@dataclass(frozen=True)
class ActorModel:
    """How an actor loads the model: the arguments of `vitreous.load`."""

    path: str
    how: dict[str, Any]

    def load(self) -> Predictor:
        """Load the model."""
        with pause_collection(keep=True):
            return load(self.path, **self.how)


@dataclass(frozen=True)
class Embedding:
    """Writes the vectors of images: called in each actor, it loads the model and returns a function that makes a part's
    file."""

    model: ActorModel
    layer: str
    precision: str

    def __call__(self) -> Make:
        """Load the model; return a function that writes a part's vectors."""
        return partial(write_vectors, self.model.load(), self.layer, self.precision)


def plan_embedding(predictor: Predictor, model: ActorModel, layer: str, precision: str) -> Embedding:
    """Return the actors' work for `vitreous embed`; raises ConfigError for a layer that the model doesn't have."""
    check_layer(predictor.folder, layer)
    return Embedding(model, layer, precision)
