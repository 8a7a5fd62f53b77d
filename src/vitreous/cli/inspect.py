"""`vitreous inspect` and `report`: what a path holds, and a run's page again."""

import sys

from vitreous.cli.load_model import keywords
from vitreous.cli.options.commands import Inspect, Report
from vitreous.cli.parse import parse
from vitreous.cli.progress import reporter


def inspect(arguments: list[str]) -> int:
    """Run `vitreous inspect`."""
    options = parse(Inspect, arguments, "inspect")
    from vitreous.api.inspection import inspect as describe

    display = reporter(sys.stderr)
    try:
        found = describe(options.path, reporter=display, **keywords(options.load))
    finally:
        display.close()
    print(found)
    return 0


def report(arguments: list[str]) -> int:
    """Run `vitreous report`."""
    options = parse(Report, arguments, "report")
    from vitreous.api.reports import report as write

    print(write(options.run))
    return 0
