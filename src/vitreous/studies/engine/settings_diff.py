"""Compare the settings of a study's existing folder with those that the study has now.

The settings themselves are compared, not their hashes. A setting added since then takes its default, which is the
former behaviour (see `settings.from_dict`), so the folder of an older vitreous can be continued. A default that has
changed since then is a difference, and is reported.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from vitreous.data.config import DataConfig
from vitreous.errors import ConfigError
from vitreous.settings import from_dict, to_dict
from vitreous.training.config import RunConfig

MOST = 3
"""Most settings named in a message."""


def explain_difference(stored: Any, now: RunConfig | DataConfig, run: Mapping[str, Any] | None = None) -> str:
    """Explain how the settings of a study.json differ from today's; "" if they are the same.

    Args:
        stored: as `settings.to_dict` returned them; or, in earlier versions, `hash_settings` of all of them.
        now: those of the study.
        run: those in the run's own config.json, resolved, which show what settings existed when it was written.
    """
    if isinstance(stored, str):
        same = stored in (hash_settings(to_dict(now)), hash_settings(select_known(now, run or {})))
        return "" if same else "their hash is another (as where another vitreous wrote it)"
    if stored is None:
        return "nothing is noted of them"
    try:
        then = from_dict(type(now), stored)
    except ConfigError as error:
        return str(error)
    found = list(list_differences(to_dict(then), to_dict(now)))
    more = f" and {len(found) - MOST} more" if len(found) > MOST else ""
    return ", ".join(found[:MOST]) + more


def list_differences(there: Mapping[str, Any], here: Mapping[str, Any], within: str = "") -> Iterator[str]:
    """Yield each setting that differs, with both values: "optimizer.lr 0.001 there, 0.002 here"."""
    for name in {**there, **here}:
        old, new = there.get(name), here.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from list_differences(old, new, f"{within}{name}.")
        elif old != new:
            yield f"{within}{name} {format_setting(old)} there, {format_setting(new)} here"


def format_setting(value: Any) -> str:
    """Format a setting for a message."""
    return "settings of its own" if isinstance(value, Mapping) else json.dumps(value)


def select_known(now: RunConfig | DataConfig, run: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings without those that a run's lack, if these are at their defaults; otherwise all."""
    known = select_names(to_dict(now), run)
    try:
        return known if from_dict(type(now), known) == now else to_dict(now)
    except ConfigError:
        return to_dict(now)


def select_names(settings: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings whose names are known, recursively."""
    return {
        name: select_names(value, known[name])
        if isinstance(value, Mapping) and isinstance(known[name], Mapping)
        else value
        for name, value in settings.items()
        if name in known
    }


def hash_settings(settings: Mapping[str, Any]) -> str:
    """Hash settings, as studies first recorded them."""
    return hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=16).hexdigest()
