"""Progress of a call from Python: shown in a notebook or on a terminal, unless the caller chooses otherwise."""

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar, cast

from vitreous.training.progress import choose_display
from vitreous.training.reporter import Reporter

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
_SHOWN: ContextVar[Reporter | None] = ContextVar("shown", default=None)
"""The display of the enclosing call."""


def shows_progress(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate a function so that it accepts `progress` and `reporter`; it gets the resulting reporter, which is closed afterwards.

    `progress`: True: shown; False: not shown; None: shown in a notebook or on a terminal. `reporter`: receives the progress
    instead of a display. Decorated functions that it calls use the same display, unless they are given one of the two.
    """

    @functools.wraps(function)
    def shown(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        options = cast(dict[str, Any], named)
        outer, progress, reporter = _SHOWN.get(), options.get("progress"), options.get("reporter")
        chosen = reporter or (outer if progress is None else None) or choose_display(progress)
        options["reporter"] = chosen
        before = _SHOWN.set(chosen)
        try:
            return function(*arguments, **named)
        finally:
            _SHOWN.reset(before)
            if chosen is not reporter and chosen is not outer:
                chosen.close()

    return shown
