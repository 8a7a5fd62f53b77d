"""Silence of other people's libraries while they do a job whose outcome a line of ours says."""

import logging
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager


@contextmanager
def silence(names: Collection[str]) -> Iterator[None]:
    """Keep from the user, within the block, what loggers of these names log, and all warnings."""
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
