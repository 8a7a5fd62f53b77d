"""`vitreous.create`: a new model; and opening any kind of model for measuring."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitreous.api.loading import load, open_weights
from vitreous.engines.exported_folder import ExportedFolder
from vitreous.errors import ConfigError
from vitreous.model.factory import Model
from vitreous.model.factory import create as create_model
from vitreous.model.kinds import build_config
from vitreous.predictor import Predictor
from vitreous.training.reporter import Reporter
from vitreous.weights.model_folder import ModelFolder
from vitreous.weights.options import Report
from vitreous.weights.recommended import find_recommended

ModelLike = Predictor | ModelFolder | ExportedFolder | str | Path
"""A loaded model, or what `load` accepts."""


def create(name: str, *, seed: int = 0, **overrides: Any) -> Model:
    """Return a freshly initialised model, e.g. create("S/16", classes=10, image=(256, 192)) or create("R50x1").

    Args:
        name: a size and a patch, e.g. "S/16" or "B/16x8"; a hybrid, e.g. "R50+B/16"; a ResNet, e.g. "R50x1"; "EfficientNet-B0"; or a Swin Transformer,
            e.g. "Swin-T".
        seed: of the initial weights.
        overrides: any field of its configuration: ViTConfig, ResNetConfig, EfficientNetConfig or SwinConfig.

    Raises:
        ConfigError: an unknown name, or settings that don't go together.
    """
    if "pretrained" in overrides:
        raise ConfigError(
            "create makes a freshly initialised model; vitreous.load opens a pre-trained one (vitreous.models(pretrained=True))"
        )
    refuse_weights(name, f"vitreous.load({name!r})")
    return create_model(build_config(name, **overrides), seed)


def refuse_weights(name: str, instead: str) -> None:
    """Refuse the name of pre-trained weights where an architecture is expected; raises ConfigError with what to type
    instead."""
    known = find_recommended(name)
    if known is not None:
        raise ConfigError(
            f"{name!r} are pre-trained weights, but an architecture such as S/16 is expected; for those: {instead}"
        )


def as_predictor(model: ModelLike, device: str = "auto", *, merges: bool = False) -> Predictor:
    """Return a model ready to be measured; a loaded one stays on its device.

    Args:
        model: a loaded model, or what `load` accepts.
        device: for a model that isn't loaded yet.
        merges: whether the measurement accepts merged patches.

    Raises:
        ConfigError: a model that merges patches, for a measurement that needs each patch's place.
    """
    if isinstance(model, Predictor):
        found = model
    elif isinstance(model, (ModelFolder, ExportedFolder)):
        found = Predictor(model, device)
    else:
        found = load(model, device=device)
    if isinstance(found.folder, ModelFolder) and found.folder.merge and not merges:
        raise ConfigError(
            f"{found.path or 'this model'} was loaded with merge={found.folder.merge}, which predictions, evaluations of the model's own "
            "head and exports know; load it without merge for anything else"
        )
    return found


def open_folder(
    model: ModelFolder | Predictor | str | Path, options: Mapping[str, Any], reporter: Reporter
) -> tuple[ModelFolder, str, Report | None]:
    """Open a model to write it in another form.

    Args:
        model: a loaded model, or what `load` accepts.
        options: how its weights are loaded, of one that isn't loaded yet.
        reporter: receives the progress, and the report on the weights.

    Returns:
        The model, where it was loaded from ("" if that is unknown), and the report on its weights, if there is anything to report.

    Raises:
        ConfigError: options for a model that is already loaded, or a loaded export. CheckpointError: nothing that can be loaded, or an
            export.
    """
    if isinstance(model, Predictor | ModelFolder):
        if options:
            raise ConfigError(
                f"{', '.join(options)}: the model is already loaded; give {'these' if len(options) > 1 else 'this'} to vitreous.load"
            )
        if isinstance(model, ModelFolder):
            return model, "", None
        _ = model.model  # an export has none
        assert isinstance(model.folder, ModelFolder)
        return model.folder, model.path, None
    folder, report = open_weights(model, options, reporter)
    if report is not None:
        reporter.message(str(report))
    return folder, str(model), report
