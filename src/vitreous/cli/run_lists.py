"""`vitreous runs`: the runs under a folder as a table."""

import json

from vitreous.cli.options.runs import ListRuns
from vitreous.cli.parse import parse


def runs(arguments: list[str]) -> int:
    """Run `vitreous runs`."""
    options = parse(ListRuns, arguments, "runs")
    from vitreous.api.run_lists import runs as list_runs

    found = list_runs(options.folder, find=options.find, sort=options.sort, compare=options.compare)
    print(json.dumps(found.to_dict(), indent=2) if options.json else found)
    return 0
