"""Open the model that a command was given, as it shall be taken, and tell what became of its weights."""

import sys
from typing import TYPE_CHECKING

from vitreous.cli.taken_options import Taken
from vitreous.errors import ConfigError

if TYPE_CHECKING:
    from vitreous.checkpoints.folder import ModelFolder
    from vitreous.checkpoints.wish import Wish
    from vitreous.cli.options import Evaluate


def wish_of(taken: Taken) -> "Wish":
    """Return what was wished; raises UserError for a name that there is not, or labels that can't be read."""
    from vitreous.checkpoints.wish import Wish, listed

    labels = None if taken.labels is None else listed(taken.labels)
    return Wish(taken.family, taken.image, taken.rule, taken.allow, labels, taken.channels, taken.channel_rule)


def open_other(options: "Evaluate") -> "ModelFolder | None":
    """Load the model of --compare, if there is one; raises ConfigError for --other-as without it."""
    if options.compare is None:
        if options.other_as is not None:
            raise ConfigError("--other-as says what the weights of --compare are; give both, or neither")
        return None
    return open_taken(options.compare, Taken(family=options.other_as))


def open_taken(model: str, taken: Taken) -> "ModelFolder":
    """Load a model; the report goes to standard error, since standard output may be data."""
    from vitreous.checkpoints.open import open_model

    folder, report = open_model(model, wish_of(taken))
    if report is not None:
        print(report, file=sys.stderr)
    return folder
