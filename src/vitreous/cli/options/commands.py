"""Where each command's options are defined. Imports only the module of the requested command: making a dataclass takes
up to a millisecond."""

from importlib import import_module

OPTIONS = {
    "train": ("training", "Train"),
    "resume": ("training", "Resume"),
    "sweep": ("sweeps", "Sweep"),
    "evaluate": ("evaluate", "Evaluate"),
    "predict": ("predict", "Predict"),
    "embed": ("probes", "Embed"),
    "similar": ("probes", "Similar"),
    "cka": ("probes", "Cka"),
    "explain": ("explain", "Explain"),
    "serve": ("serving", "Serve"),
    "inspect": ("data", "Inspect"),
    "report": ("runs", "Report"),
    "runs": ("runs", "ListRuns"),
    "board": ("runs", "Board"),
    "convert": ("weights", "Convert"),
    "shard": ("data", "Shard"),
    "export": ("deploy", "Export"),
    "quantise": ("deploy", "Quantise"),
    "push": ("weights", "Push"),
    "models": ("weights", "Models"),
    "study": ("study", "Study"),
}
"""The commands that have options: the module of this package and the dataclass in it. The docstrings of its fields are
the help texts."""


def load_options(command: str) -> type:
    """Return the dataclass of a command's options."""
    module, name = OPTIONS[command]
    return getattr(import_module(f"vitreous.cli.options.{module}"), name)
