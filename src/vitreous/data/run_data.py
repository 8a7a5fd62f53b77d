"""Find a run's data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitreous.data.config import DataConfig
from vitreous.settings import from_dict
from vitreous.storage.relocation import locate


def read_data_config(config: Mapping[str, Any], run: Path) -> DataConfig:
    """Return where a run's data is now, from its config.json; raises ConfigError."""
    settings = config.get("config")
    data = from_dict(DataConfig, settings.get("data") if isinstance(settings, Mapping) else None, "data")
    known = config.get("places")
    return data.relocate(lambda path: locate(path, known, run))
