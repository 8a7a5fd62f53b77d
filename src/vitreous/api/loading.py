"""`vitreous.load`: open a model from whatever holds its weights, ready to predict. Imports torch only if torch
computes."""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vitreous.api.progress import shows_progress
from vitreous.engines.exported_folder import ExportedFolder, load_export
from vitreous.errors import ConfigError, UnknownName
from vitreous.images.config import choose_decoding
from vitreous.prediction import DecisionOptions
from vitreous.predictor import Predictor
from vitreous.runtime.collection import pause_collection
from vitreous.training.reporter import Reporter
from vitreous.weights.exported import find_export
from vitreous.weights.options import LoadOptions, Report

if TYPE_CHECKING:
    from vitreous.weights.model_folder import ModelFolder


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
    engine: str = "auto",
    decode: str | None = None,
    merge: int = 0,
    compile: bool = False,
    progress: bool | None = None,
    reporter: Reporter | None = None,
    **options: Any,
) -> Predictor:
    """Open a model folder or a run folder, or weights of any known origin, ready to predict.

    Without a head, it offers `.features`, `.tokens` and `.maps`; calling it raises an error that says so. Its `.model` is the
    plain torch module; its `.report` describes changes to the weights, if any.

    >>> vitreous.load("weights.npz", labels=("cat", "dog"), image=(384, 384))            # doctest: +SKIP
    >>> vitreous.load("dino.pth").features("a.jpg")                                      # doctest: +SKIP

    Args:
        path: a folder (also an exported model's), a file of weights, owner/name on the Hugging Face Hub, or a short
            name (`vitreous.models(pretrained=True)`).
        device: auto, cpu, cuda or mps.
        batch: most images in one pass through the model when it classifies.
        precision: fp32; bf16 (autocast); int8, for a model from `vitreous.quantise`; auto: bf16 on hardware with fast bf16
            arithmetic.
        top: classes listed in each prediction, most probable first.
        threshold: probability below which an image is "unknown"; for multilabel models, the probability from which a
            class is predicted (None: one half).
        engine: auto, torch, onnxruntime or openvino. An exported model runs in its own engine, without torch.
        decode: exact: decode images at full size; reduced: decode large JPEGs at 1/2, 1/4 or 1/8 of their size, but at
            least twice the model's input on each side; several times as fast for photographs of many megapixels. None:
            as the model says (exact).
        tta: none; flip: average the probabilities of each image and its mirror image.
        merge: pairs of similar patches that each block of a ViT merges (token merging, ToMe): faster, and a little less
            accurate; `vitreous.evaluate(..., merge_curve=())` measures how much. 0: none.
        compile: on an NVIDIA GPU, compile the model with torch.compile: faster, after some ten seconds for each batch
            size that occurs twice.
        progress: show progress; None: only in a notebook or on a terminal.
        reporter: receives the progress of downloads instead of that display.
        options: how the weights are loaded: family ("openai"; --as on the command line), grid (rows, cols) and heads if
            the file doesn't state them, image (rows, cols), rule, allow, labels (names, or a file of them), channels,
            channel_rule;
            classes: a new head of zeros, for this number of classes or for these; see
            `vitreous.weights.options.LoadOptions`.

    Raises:
        CheckpointError: there is nothing that can be loaded.
        ConfigError: an option that can't be met, a threshold out of range, patches that can't be merged, or `compile` for a
            device or an export that can't be compiled.
            UnknownName: there is no such option.
    """
    decision = DecisionOptions(threshold, tta)
    with pause_collection():
        folder, report = open_anything(path, options, reporter)
        folder = replace(folder, decode=choose_decoding(folder.decode, decode, folder.preprocess.size))
        folder = set_merge(folder, merge, path)
        predictor = Predictor(folder, device, batch, precision, top, engine, compile=compile)
    predictor.report, predictor.path, predictor.decision = report, str(path), decision
    predictor.load_options = {name: value for name, value in {**options, "decode": decode}.items() if value}
    return predictor


from_pretrained = load
"""An alias of `load`, under the name that transformers and huggingface_hub use."""


def open_anything(
    path: str | Path, options: Mapping[str, Any], reporter: Reporter | None = None
) -> "tuple[ModelFolder | ExportedFolder, Report | None]":
    """Open an exported model, or a model as `open_weights` does; raises ConfigError for options that don't apply to an
    export."""
    if not isinstance(path, (str, Path)) or path == "":
        raise ConfigError(
            f"the model to load is {path!r}; give a path or a name, as str or Path (a variable that isn't set, or a model that is loaded already?)"
        )
    if (export := find_export(Path(path))) is None:
        return open_weights(path, options, reporter)
    given = sorted(name for name, value in options.items() if value)
    if given:
        raise ConfigError(
            f"{path} is an exported model, whose graph is fixed; leave out {', '.join(given)}, or export again with them"
        )
    return load_export(export), None


def set_merge(folder: "ModelFolder | ExportedFolder", merge: int, path: str | Path) -> "ModelFolder | ExportedFolder":
    """Return a model whose blocks merge this many pairs of patches; raises ConfigError for one that can't."""
    if isinstance(folder, ExportedFolder):
        if merge not in (0, folder.merge):
            raise ConfigError(
                f"{path} is an exported model, whose graph is fixed; leave out merge, or export again with merge {merge}"
            )
        return folder
    return replace(folder, merge=merge) if merge else folder


def open_weights(
    path: str | Path, options: Mapping[str, Any], reporter: Reporter | None = None
) -> "tuple[ModelFolder, Report | None]":
    """Open a model as `load` does, without a device for it; also return the report on its weights."""
    from vitreous.weights.labels import read_labels
    from vitreous.weights.loading import open_model

    known = [field.name for field in fields(LoadOptions)]
    for name in options:
        if name not in known:
            raise UnknownName(
                "argument of load",
                name,
                [
                    *known,
                    "device",
                    "batch",
                    "precision",
                    "top",
                    "threshold",
                    "tta",
                    "engine",
                    "decode",
                    "merge",
                    "compile",
                ],
            )
    given = dict(options)
    for name in ("labels", "classes"):
        if isinstance(given.get(name), (str, Path)):
            given[name] = read_labels(str(given[name]))
        elif isinstance(given.get(name), list):
            given[name] = tuple(given[name])
    return open_model(path, LoadOptions(**given), reporter)
