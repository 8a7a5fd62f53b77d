"""How far a call from Python is: shown where somebody looks, unless the caller chooses otherwise."""

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar, cast

from vitreous.training.progress import choose_display
from vitreous.training.reporter import Reporter

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
_SHOWN: ContextVar[Reporter | None] = ContextVar("shown", default=None)
"""The display of the call that this one is a part of."""


def shows_progress(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Give a function that takes `progress` and `reporter` the reporter that they mean, and close the display that it opens.

    `progress`: True: shown; False: not; None: shown in a notebook and on a terminal. `reporter`: told in place of any display.
    What the function calls of its kind is shown where it is, unless that is passed one of the two itself.
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
