"""Silence libraries whose work vitreous itself reports."""

import logging
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager


@contextmanager
def silence(names: Collection[str]) -> Iterator[None]:
    """Silence the loggers of these names, and all warnings, within the block."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [one.level for one in loggers]
    try:
        for one in loggers:
            one.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
