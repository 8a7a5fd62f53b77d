"""`vitreous explain`: show where a model looks, as overlays and a page."""

import sys
from collections.abc import Sequence
from pathlib import Path

from vitreous.api.names import name_model
from vitreous.characters import escape
from vitreous.cli.load_model import open_model
from vitreous.cli.options.explain import Explain
from vitreous.cli.output import free_or_named
from vitreous.cli.parse import parse
from vitreous.errors import ConfigError
from vitreous.training.progress import reporter

EXPLANATIONS = Path("explanations")


def explain(arguments: list[str]) -> int:
    """Run `vitreous explain`."""
    options = parse(Explain, arguments, "explain")
    if not options.paths:
        raise ConfigError("name the images: files, folders, globs, or - for paths on standard input")
    if options.engine not in ("auto", "torch"):
        raise ConfigError(
            f"explain looks into layers, which only torch can do, not {options.engine}; leave out --engine"
        )
    out = free_or_named(options.out, name_model(options.model), EXPLANATIONS)
    from vitreous.api.explanation import check_page
    from vitreous.api.explanation import explain as look
    from vitreous.image_paths import expand_paths
    from vitreous.images.video import check_every, check_installed

    check_page(options.page, options.faithful)
    check_every(options.every)
    check_installed(options.paths)
    how = {name: getattr(options, name) for name in ("method", "layer", "head", "target", "page", "faithful", "every")}
    model = open_model(options.model, options.load, device=options.device)
    display = reporter()
    try:
        paths = list(expand_paths(options.paths, sys.stdin, options.null))
        found = look(model, paths, out=out, **how, reporter=display)
    finally:
        display.close()
    report_broken(found.broken, found.images + len(found.broken))
    print(found)
    return 1 if found.broken else 0


def report_broken(broken: Sequence[str], total: int) -> None:
    """Report the images that could not be read on standard error."""
    for line in broken:
        print(f"vitreous: {escape(line)}", file=sys.stderr)
    if broken:
        print(f"vitreous: {len(broken):,} of {total:,} images could not be read", file=sys.stderr)
