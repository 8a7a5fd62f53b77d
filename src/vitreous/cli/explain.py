"""`vitreous explain`: what a model looks at, as overlays and a page."""

import sys
from pathlib import Path

from vitreous.cli.evaluate import model_name
from vitreous.cli.options import Explain
from vitreous.cli.parse import parse
from vitreous.cli.progress import reporter
from vitreous.cli.taken import open_taken
from vitreous.data.report import printable
from vitreous.errors import ConfigError

EXPLANATIONS = Path("explanations")


def explain(arguments: list[str]) -> int:
    """Run `vitreous explain`."""
    options = parse(Explain, arguments, "explain")
    if not options.paths:
        raise ConfigError("name the images: files, folders, globs, or - for paths on standard input")
    out = result_folder(options)
    for name in ("page", "faithful"):
        if getattr(options, name) < (name == "page"):
            raise ConfigError(
                f"--{name} is {getattr(options, name)}; it must be {'1 or more' if name == 'page' else '0 (none) or more'}"
            )
    from vitreous.explaining.explain import opened
    from vitreous.explaining.findings import Wish
    from vitreous.explaining.methods import Choice, settled
    from vitreous.explaining.write import PAGE, write_explanation
    from vitreous.paths import expand_paths

    ready = opened(open_taken(options.model, options.taken), options.device)
    choice = settled(Choice(options.method, options.layer, options.head, options.target), ready.folder)
    paths = list(expand_paths(options.paths, sys.stdin))
    display = reporter()

    def progress(doing: str, done: int) -> None:
        display.phase(doing)
        if done and doing == "looking":
            display.progress(done, len(paths), {})

    try:
        wish = Wish(choice, options.page, options.faithful)
        found = write_explanation(out, ready, paths, wish, model_name(options.model), progress)
    finally:
        display.close()
    for line in found.broken:
        print(f"vitreous: {printable(line)}", file=sys.stderr)
    if found.broken:
        print(f"vitreous: {len(found.broken):,} of {len(paths):,} images could not be read", file=sys.stderr)
    print(f"overlays   {found.count:,} of {choice.method}, in {out / 'maps'}")
    print(f"page       {out / PAGE}")
    return 1 if found.broken else 0


def result_folder(options: Explain) -> Path:
    """Return the folder to write, new or empty; by default the next free one of explanations/.

    Raises:
        ConfigError: the named folder holds something, or is a file.
    """
    from vitreous.api import free_folder

    if options.out is None:
        return free_folder(EXPLANATIONS, model_name(options.model))
    path = Path(options.out)
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{path} is a file; --out must name a new or empty folder")
    if path.is_dir() and any(path.iterdir()):
        raise ConfigError(f"{path} is not empty; choose another folder with --out")
    return path
