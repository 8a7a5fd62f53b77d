"""`vitreous study`: the paper's experiments."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from vitreous.cli.options.commands import Study
from vitreous.cli.parse import parse
from vitreous.cli.progress import reporter
from vitreous.errors import ConfigError

if TYPE_CHECKING:
    from vitreous.studies.engine.run import Ended


def study(arguments: list[str]) -> int:
    """Run `vitreous study`."""
    options = parse(Study, arguments, "study")
    from vitreous.studies.catalog import STUDIES, find

    if options.name is None:
        if not options.list:
            raise ConfigError(f"name a study: {', '.join(STUDIES)}; `vitreous study --list` says what each asks")
        for name, (_, asked) in STUDIES.items():
            print(f"{name:18}{asked}")
        print("next: vitreous study positions   (minutes; --scale gpu or paper for more)")
        return 0
    found = find(options.name)
    from vitreous.studies.engine.data_subset import open_setting
    from vitreous.studies.engine.run import run_study

    folder = Path(options.out or f"studies/{options.name}-{options.scale}")
    display = reporter()
    try:
        setting = open_setting(options.scale, options.data, folder, display)
        if options.list:
            display.close()
            for cell in found.cells(setting):
                print(cell.name)
            return 0
        return tell(run_study(found, setting, display, options.only), options)
    finally:
        display.close()


def tell(ended: "Ended", options: Study) -> int:
    """Say what a study came to and where it is; return the exit code."""
    data, out = shlex.quote(str(options.data)), shlex.quote(str(ended.folder))
    again = f"vitreous study {options.name} --scale {options.scale} --data {data} --out {out}"
    if ended.signal is not None:
        only = f" --only {shlex.quote(options.only)}" if options.only != Study().only else ""
        print(f"interrupted with {ended.done} of {ended.cells} cells done; go on with: {again}{only}")
        return 128 + ended.signal
    from vitreous.studies.engine.page import WORDS

    print()
    for verdict in ended.findings.verdicts if ended.findings else ():
        print(f"{WORDS[verdict.seen]}: {verdict.claim}. {verdict.sentence}")
    print(f"  report  {ended.folder / 'report.html'}")
    print(f"  table   {ended.folder / 'table.md'}")
    if ended.done < ended.cells:
        print(f"next: {again}   ({ended.cells - ended.done} cells are left)")
    else:
        print(f"next: look at {ended.folder / 'report.html'}")
    return 0
