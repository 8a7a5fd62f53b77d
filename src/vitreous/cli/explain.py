"""`vitreous explain`: what a model looks at, as overlays and a page."""

import sys
from collections.abc import Sequence
from pathlib import Path

from vitreous.api.names import model_name
from vitreous.cli.load_model import open_taken
from vitreous.cli.options.commands import Explain
from vitreous.cli.output import free_or_named
from vitreous.cli.parse import parse
from vitreous.cli.progress import reporter
from vitreous.data.listing.scan_report import printable
from vitreous.errors import ConfigError

EXPLANATIONS = Path("explanations")


def explain(arguments: list[str]) -> int:
    """Run `vitreous explain`."""
    options = parse(Explain, arguments, "explain")
    if not options.paths:
        raise ConfigError("name the images: files, folders, globs, or - for paths on standard input")
    if options.page < 1:
        raise ConfigError(f"--page is {options.page}; it must be 1 or more")
    if options.faithful < 0:
        raise ConfigError(f"--faithful is {options.faithful}; it must be 0 (none) or more")
    out = free_or_named(options.out, model_name(options.model), EXPLANATIONS)
    from vitreous.image_paths import expand_paths
    from vitreous.insight.explanation import opened
    from vitreous.insight.methods import Choice, settled
    from vitreous.reports.explanation.contents import Wish
    from vitreous.reports.explanation.page import PAGE, write_explanation

    ready = opened(open_taken(options.model, options.load), options.device)
    choice = settled(Choice(options.method, options.layer, options.head, options.target), ready.folder)
    paths = list(expand_paths(options.paths, sys.stdin, options.null))
    display = reporter()

    def progress(doing: str, done: int) -> None:
        looking = doing == "looking"
        display.phase(doing if looking or not done else f"{doing} {done}")
        if looking:
            display.progress(done, len(paths), {})

    try:
        wish = Wish(choice, options.page, options.faithful)
        found = write_explanation(out, ready, paths, wish, model_name(options.model), progress)
    finally:
        display.close()
    tell_broken(found.broken, len(paths))
    print(f"overlays   {found.count:,} of {choice.method}, in {out / 'maps'}")
    print(f"page       {out / PAGE}")
    return 1 if found.broken else 0


def tell_broken(broken: Sequence[str], total: int) -> None:
    """Name the images that could not be read, on standard error."""
    for line in broken:
        print(f"vitreous: {printable(line)}", file=sys.stderr)
    if broken:
        print(f"vitreous: {len(broken):,} of {total:,} images could not be read", file=sys.stderr)
