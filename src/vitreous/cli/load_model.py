"""Open the model that a command was given, as it shall be taken, and tell what became of its weights."""

import shlex
import sys
from typing import TYPE_CHECKING

from vitreous.cli.taken_options import Taken
from vitreous.errors import ConfigError

if TYPE_CHECKING:
    from vitreous.cli.options.commands import Evaluate
    from vitreous.weights.model_folder import ModelFolder
    from vitreous.weights.options import Wish


def wish_of(taken: Taken) -> "Wish":
    """Return what was wished; raises UserError for a name that there is not, or labels that can't be read."""
    from vitreous.weights.labels import listed
    from vitreous.weights.options import Wish

    given = {name: value for name, value in vars(taken).items() if name != "labels"}
    return Wish(**given, labels=None if taken.labels is None else listed(taken.labels))


def open_other(options: "Evaluate") -> "ModelFolder | None":
    """Load the model of --compare, if there is one; raises ConfigError for --other-as and the like without it."""
    if options.compare is not None:
        return open_taken(options.compare, options.other_taken.taken)
    for name, value in vars(options.other_taken).items():
        if value is not None:
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option} says what the weights of --compare are; give both, or neither")
    return None


def open_classifier(model: str, taken: Taken) -> "ModelFolder":
    """Load a model that shall classify; raises ConfigError if it has no head, with what can be done with it."""
    folder = open_taken(model, taken)
    if not folder.classes:
        named = shlex.quote(model)
        raise ConfigError(
            f"{model} has no head, so it can't classify; next: vitreous embed {named} IMAGES..., vitreous evaluate {named} DATA "
            f"--protocol knn, or vitreous train DATA --recipe finetune --weights {named}"
        )
    return folder


def open_taken(model: str, taken: Taken) -> "ModelFolder":
    """Load a model; the report goes to standard error, since standard output may be data."""
    from vitreous.weights.loading import open_model

    folder, report = open_model(model, wish_of(taken))
    if report is not None:
        print(report, file=sys.stderr)
    return folder
