"""Load a command's model, and report changes to its weights."""

import shlex
import sys
from typing import TYPE_CHECKING, Any

from vitreous.cli.options.loading import Load
from vitreous.errors import ConfigError
from vitreous.runtime.collection import pause_collection
from vitreous.training.progress import reporter

if TYPE_CHECKING:
    from vitreous.predictor import Predictor


def keywords(options: Load) -> dict[str, Any]:
    """Return the options that were given, as `vitreous.load` accepts them."""
    return {name: value for name, value in vars(options).items() if value not in (None, ())}


def open_model(model: str, options: Load, **how: Any) -> "Predictor":
    """Load a model; the report goes to standard error, since standard output may be data.

    Args:
        model: as typed.
        options: how its weights are loaded.
        how: device, batch and other arguments of `vitreous.load`.
    """
    from vitreous.api.loading import load

    display = reporter(sys.stderr)
    try:
        with pause_collection(keep=True):
            predictor = load(model, reporter=display, **how, **keywords(options))
    finally:
        display.close()
    if predictor.report is not None:
        print(predictor.report, file=sys.stderr)
    return predictor


def tell_engine(predictor: "Predictor", verbose: bool) -> None:
    """Report on standard error which engine computed, if it was requested or was chosen by measuring."""
    engine = predictor.engine
    chosen = getattr(engine, "chosen", "")
    if verbose:
        threads = f", {engine.threads} threads" if str(engine.device) == "cpu" else ""
        print(f"vitreous: computed by {engine.name} in {engine.precision} on {engine.device}{threads}", file=sys.stderr)
    for note in (*((chosen,) if chosen else ()), *(engine.notes if verbose else ())):
        print(f"vitreous: {note}", file=sys.stderr)


def open_classifier(model: str, options: Load, **how: Any) -> "Predictor":
    """Load a model for classification; raises ConfigError if it has no head, and says what it can be used for."""
    predictor = open_model(model, options, **how)
    if not predictor.folder.classes:
        named = shlex.quote(model)
        raise ConfigError(
            f"{model} has no head, so it can't classify; next: vitreous embed {named} IMAGES..., vitreous evaluate {named} DATA "
            f"--protocol knn, or vitreous train DATA --recipe finetune --weights {named}"
        )
    return predictor
