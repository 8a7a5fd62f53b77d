"""`vitreous quantise`: a model in int8, compared with the same model in fp32."""

import json

from vitreous.api.names import EXPORTS, name_model
from vitreous.cli.load_model import keywords
from vitreous.cli.options.deploy import Quantise
from vitreous.cli.output import free_or_named, result_file, write_file
from vitreous.cli.parse import parse
from vitreous.training.progress import reporter


def quantise(arguments: list[str]) -> int:
    """Run `vitreous quantise`."""
    options = parse(Quantise, arguments, "quantise")
    from vitreous.api.quantisation import quantise as write

    out = free_or_named(options.out, f"{name_model(options.model)}-int8", EXPORTS)
    if options.json:
        result_file(options.json, options.overwrite, "--json")
    names = ("to", "dynamic", "calibration", "images", "most_lost", "batch", "device", "broken")
    display = reporter()
    try:
        how = {name: getattr(options, name) for name in names}
        found = write(options.model, options.data, out, **how, reporter=display, **keywords(options.load))
    finally:
        display.close()
    print(found)
    if options.json:
        write_file(options.json, json.dumps(found.to_dict(), indent=1) + "\n")
        print(f"all numbers are in {options.json}")
    return 0
