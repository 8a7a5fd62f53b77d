"""`vitreous study`: the paper's experiments."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from vitreous.cli.options.study import Study
from vitreous.cli.parse import parse
from vitreous.errors import ConfigError
from vitreous.training.progress import reporter

if TYPE_CHECKING:
    from vitreous.studies.engine.run import StudyResult
    from vitreous.training.reporter import Reporter


def study(arguments: list[str]) -> int:
    """Run `vitreous study`."""
    options = parse(Study, arguments, "study")
    from vitreous.studies.catalog import STUDIES

    if options.name is None:
        if not options.list:
            raise ConfigError(f"name a study: {', '.join(STUDIES)}; `vitreous study --list` shows their questions")
        for name, (_, asked) in STUDIES.items():
            print(f"{name:18}{asked}")
        print("next: vitreous study positions   (minutes; --scale gpu or paper for more)")
        return 0
    out = Path(options.out or f"studies/{options.name}-{options.scale}")
    display = reporter()
    try:
        if options.list:
            return list_cells(options, out, display)
        from vitreous.api.studies import study as carry_out

        asked = {"scale": options.scale, "data": options.data, "out": out, "only": options.only}
        return report_result(carry_out(options.name, **asked, reporter=display), options)
    finally:
        display.close()


def list_cells(options: Study, out: Path, display: "Reporter") -> int:
    """Print the names of a study's cells."""
    from vitreous.studies.catalog import find
    from vitreous.studies.engine.data_subset import open_setting

    found = find(str(options.name))
    setting = open_setting(options.scale, options.data, out, display)
    display.close()
    for cell in found.cells(setting):
        print(cell.name)
    return 0


def report_result(ended: "StudyResult", options: Study) -> int:
    """Print a study's result and its folder; return the exit code."""
    data, out = shlex.quote(str(options.data)), shlex.quote(str(ended.folder))
    again = f"vitreous study {options.name} --scale {options.scale} --data {data} --out {out}"
    if ended.signal is not None:
        only = f" --only {shlex.quote(options.only)}" if options.only != Study().only else ""
        print(f"interrupted with {ended.done} of {ended.cells} cells done; continue with: {again}{only}")
        return 128 + ended.signal
    print(f"\n{ended}")
    if ended.done < ended.cells:
        print(f"next: {again}   ({ended.cells - ended.done} cells are left)")
    else:
        print(f"next: look at {ended.folder / 'report.html'}")
    return 0
