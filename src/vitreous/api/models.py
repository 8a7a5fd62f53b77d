"""`vitreous.create` and `vitreous.load`: a new model, or one from any kind of weights."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from vitreous.api.progress import shows_progress
from vitreous.errors import ConfigError, UnknownName
from vitreous.model.factory import Model, build_config
from vitreous.model.factory import create as create_model
from vitreous.prediction import DecisionOptions
from vitreous.predictor import Predictor
from vitreous.training.reporter import Reporter
from vitreous.weights.labels import read_labels
from vitreous.weights.loading import open_model
from vitreous.weights.model_folder import ModelFolder
from vitreous.weights.options import LoadOptions, Report
from vitreous.weights.recommended import find_recommended

ModelLike = Predictor | ModelFolder | str | Path
"""A loaded model, or what `load` takes."""


def create(name: str, *, seed: int = 0, **overrides: Any) -> Model:
    """Return a freshly initialised model, e.g. create("S/16", classes=10, image=(256, 192)) or create("R50x1").

    Args:
        name: a size and a patch, e.g. "S/16" or "B/16x8"; a hybrid, e.g. "R50+B/16"; or a ResNet, e.g. "R50x1".
        seed: of the initial weights.
        overrides: any field of ViTConfig, or of ResNetConfig for a ResNet.

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


@shows_progress
def load(
    path: str | Path,
    *,
    device: str = "auto",
    batch: int = 32,
    precision: str = "fp32",
    top: int = 5,
    threshold: float | None = None,
    tta: Literal["none", "flip"] = "none",
    progress: bool | None = None,
    reporter: Reporter | None = None,
    **options: Any,
) -> Predictor:
    """Open a model folder or a run folder, or weights of any known origin, ready to predict.

    Without a head it offers `.features`, `.tokens` and `.maps`, and a call explains that. Its `.model` is the plain
    torch module; its `.report` describes changes to the weights, if any.

    >>> vitreous.load("weights.npz", labels=("cat", "dog"), image=(384, 384))            # doctest: +SKIP
    >>> vitreous.load("dino.pth").features("a.jpg")                                      # doctest: +SKIP

    Args:
        path: a folder, a file of weights, owner/name on the Hugging Face Hub, or a short name (`vitreous.models(pretrained=True)`).
        device: auto, cpu, cuda or mps.
        batch: most images that pass through the model at once when it classifies.
        precision: fp32; bf16 (autocast); auto: bf16 where the hardware multiplies it natively.
        top: classes listed in each prediction, most probable first.
        threshold: probability below which a label is "unknown"; where an image may have several classes, from which a class
            is there (None: one half).
        tta: flip: the mean of the probabilities of each image and of its mirror image; none.
        progress: show how far the work is; None: in a notebook and on a terminal.
        reporter: told what is downloaded, and how far that is, in place of that display.
        options: how the weights are taken: family ("openai"; --as on the command line), grid (rows, cols) and heads where the
            file doesn't tell them, image (rows, cols), rule, allow, labels (names, or a file of them), channels, channel_rule;
            classes: a new head of zeros for so many classes, or for these; see `vitreous.weights.options.LoadOptions`.

    Raises:
        CheckpointError: nothing there that can be loaded.
        ConfigError: an option that can't be met, or a threshold out of range; UnknownName: there is no such option.
    """
    decision = DecisionOptions(threshold, tta)
    folder, report = open_weights(path, options, reporter)
    predictor = Predictor(folder, device, batch, precision, top)
    predictor.report, predictor.path, predictor.decision = report, str(path), decision
    predictor.load_options = {name: value for name, value in options.items() if value}
    return predictor


from_pretrained = load
"""An alias of `load`: the name that transformers and huggingface_hub use."""


def open_weights(
    path: str | Path, options: Mapping[str, Any], reporter: Reporter | None = None
) -> tuple[ModelFolder, Report | None]:
    """Open a model as `load` does, without a device for it; also return the report on its weights."""
    known = [field.name for field in fields(LoadOptions)]
    for name in options:
        if name not in known:
            raise UnknownName(
                "argument of load", name, [*known, "device", "batch", "precision", "top", "threshold", "tta"]
            )
    given = dict(options)
    for name in ("labels", "classes"):
        if isinstance(given.get(name), (str, Path)):
            given[name] = read_labels(str(given[name]))
        elif isinstance(given.get(name), list):
            given[name] = tuple(given[name])
    return open_model(path, LoadOptions(**given), reporter)


def as_predictor(model: ModelLike, device: str = "auto") -> Predictor:
    """Return a model that is ready to be measured; a loaded one stays on its own device."""
    if isinstance(model, Predictor):
        return model
    return Predictor(model, device) if isinstance(model, ModelFolder) else load(model, device=device)
