"""Descriptions of the served models."""

from typing import Any

from vitreous.errors import ConfigError
from vitreous.serving.models import Loaded, ServedModel
from vitreous.settings import to_dict


def describe_model(model: ServedModel) -> dict[str, Any]:
    """Return the description of a model as JSON values; most of it is missing until it is loaded."""
    state = {
        "name": model.source.name,
        "version": model.loaded.version if model.loaded else 0,
        "ready": model.loaded is not None,
        "failure": model.failure,
    }
    return {**state, **(describe_loaded(model.loaded) if model.loaded else NOTHING)}


NOTHING: dict[str, Any] = {
    "description": "", "labels": [], "multilabel": False, "preprocess": {}, "origin": {}, "engine": "", "precision": "",
    "device": "", "grid": None, "layers": None, "heads": None, "methods": [], "classifies": False, "embeds": False,
}  # fmt: skip
"""The values for a model that is being loaded."""


def describe_loaded(loaded: Loaded) -> dict[str, Any]:
    """Return the description of one version of a model."""
    folder, engine = loaded.predictor.folder, loaded.predictor.engine
    return {
        "description": folder.description,
        "labels": list(folder.classes),
        "multilabel": folder.multilabel,
        "preprocess": to_dict(folder.preprocess),
        "origin": folder.origin,
        "engine": engine.name,
        "precision": engine.precision,
        "device": str(engine.device),
        **describe_inside(loaded),
        "classifies": loaded.classifies,
        "embeds": loaded.embeds,
    }


def describe_inside(loaded: Loaded) -> dict[str, Any]:
    """Return which parts of a model can be inspected; none for an exported model."""
    try:
        model = loaded.predictor.model
    except ConfigError:
        return {"grid": None, "layers": None, "heads": None, "methods": []}
    from vitreous.insight.methods import count_layers, list_fitting

    grid = getattr(model, "grid", None)
    return {
        "grid": None if grid is None else list(grid),
        "layers": count_layers(model),
        "heads": getattr(model.config, "heads", None),
        "methods": list_fitting(loaded.predictor.folder),
    }
