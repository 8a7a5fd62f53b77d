"""`vitreous inspect` and `report`: describe the contents of a path, and redraw a run's page."""

import sys

from vitreous.characters import escape
from vitreous.cli.load_model import keywords, open_model
from vitreous.cli.options.data import Inspect
from vitreous.cli.options.runs import Report
from vitreous.cli.output import free_or_named
from vitreous.cli.parse import parse
from vitreous.errors import ConfigError
from vitreous.training.progress import reporter


def inspect(arguments: list[str]) -> int:
    """Run `vitreous inspect`."""
    options = parse(Inspect, arguments, "inspect")
    if options.review:
        return review(options)
    given = next((name for name in ("weights", "apply", "out") if getattr(options, name) is not None), None)
    if given is not None:
        raise ConfigError(f"--{given} is for --review; add that, or leave it out")
    from vitreous.api.inspection import inspect as describe

    display = reporter(sys.stderr)
    try:
        found = describe(options.path, reporter=display, **keywords(options.load))
    finally:
        display.close()
    print(found)
    return 0


def review(options: Inspect) -> int:
    """Look for problems in labelled images; write a page and, on request, a cleaned manifest."""
    from vitreous.api.review import check_manifest, describe_next
    from vitreous.api.review import review as look
    from vitreous.data.dataset import name_dataset

    if options.apply is not None:
        check_manifest(options.apply)
    out = free_or_named(options.out, f"{name_dataset(options.path)}-review")
    display = reporter(sys.stderr)
    try:
        model = None if options.weights is None else open_model(options.weights, options.load)
        found = look(options.path, model, reporter=display)
    finally:
        display.close()
    print("\n".join(map(escape, str(found).splitlines())))
    print(f"\nreport: {found.save(out)}")
    if options.apply is not None:
        print(found.apply(options.apply))
    print(describe_next(options.path, options.apply, options.weights))
    return 0


def report(arguments: list[str]) -> int:
    """Run `vitreous report`."""
    options = parse(Report, arguments, "report")
    from vitreous.api.reports import report as write

    print(write(options.run))
    return 0
