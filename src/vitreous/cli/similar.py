"""`vitreous similar`: find the images most similar to a given one among those that `vitreous embed` wrote."""

import csv
import sys

from vitreous.characters import escape
from vitreous.cli.load_model import keywords, open_model
from vitreous.cli.options.probes import Similar
from vitreous.cli.output import result_folder
from vitreous.cli.parse import parse
from vitreous.cli.prediction_formats import encode_line
from vitreous.errors import ConfigError


def similar(arguments: list[str]) -> int:
    """Run `vitreous similar`."""
    options = parse(Similar, arguments, "similar")
    if options.model is None and (given := keywords(options.load)):
        raise ConfigError(
            f"--{next(iter(given)).replace('_', '-')} describes the weights of --model; add --model, or leave it out"
        )
    out = None if options.out is None else result_folder(options.out)
    from vitreous.api.search import similar as search

    model = None if options.model is None else open_model(options.model, options.load, device=options.device)
    found = search(options.query, options.embeddings, model, top=options.top, device=options.device)
    if options.format == "csv":
        show = escape if sys.stdout.isatty() else str
        rows = [list(found.columns), *zip(*found.columns.values(), strict=True)]
        csv.writer(sys.stdout).writerows([show(str(cell)) for cell in row] for row in rows)
    elif options.format == "jsonl":
        for row in found.rows:
            print(encode_line(row, sys.stdout))
    else:
        print("\n".join(map(escape, str(found).splitlines())))
    if out is not None:
        print(f"vitreous: report: {found.save(out)}", file=sys.stderr)
    return 0
