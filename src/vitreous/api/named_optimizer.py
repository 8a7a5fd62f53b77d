"""Optimizers that a caller names as module:Class: find which was named, and check that it can be used."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitreous.errors import RunError
from vitreous.run_folder import is_run, read_run
from vitreous.settings import from_dict, override_settings
from vitreous.training.config import RunConfig
from vitreous.training.optimizer_trial import try_optimizer


def name_optimizer(settings: Any) -> str | None:
    """Return the optimizer named in settings given in code, a mapping or a RunConfig; None for settings from a file."""
    section = settings.get("optimizer") if isinstance(settings, Mapping) else getattr(settings, "optimizer", None)
    return section.get("name") if isinstance(section, Mapping) else getattr(section, "name", None)


def check_optimizer(settings: Mapping[str, Any]) -> None:
    """Refuse an optimizer of another module that can't be used, before any data is opened; raises ConfigError."""
    if isinstance(settings.get("optimizer"), Mapping):
        try_optimizer(override_settings(RunConfig(), {"optimizer": settings["optimizer"]}).optimizer)


def check_own(run: Path, optimizer: str | None) -> None:
    """Raise RunError for an optimizer other than the run's."""
    if optimizer is None or not is_run(run):
        return
    own = from_dict(RunConfig, read_run(run).config["config"]).optimizer.name
    if own != optimizer:
        raise RunError(
            f"{run} is trained by {own}, not by {optimizer}, and the optimizer can't change; leave out --optimizer"
        )
