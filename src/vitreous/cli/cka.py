"""`vitreous cka`: compare two models' layers on the same images."""

import shlex

from vitreous.cli.evaluate import free_or_named, model_name
from vitreous.cli.load_model import open_taken
from vitreous.cli.options.probes import Cka
from vitreous.cli.parse import parse
from vitreous.cli.progress import reporter
from vitreous.errors import ConfigError


def cka(arguments: list[str]) -> int:
    """Run `vitreous cka`."""
    options = parse(Cka, arguments, "cka")
    from vitreous.data.dataset import called, open_source
    from vitreous.data.sources.subset import subset
    from vitreous.evaluation.probes.cka import LEAST
    from vitreous.evaluation.probes.cka import cka as compare
    from vitreous.evaluation.probes.features import FeatureOptions
    from vitreous.reports.blocks import Outcome, write_outcome
    from vitreous.reports.evaluation.cka import cka_data, cka_parts, cka_said

    if options.images < LEAST:
        raise ConfigError(f"images is {options.images}; it must be at least {LEAST}")
    names = (model_name(options.model), model_name(options.other))
    if names[0] == names[1]:
        names = (names[0], f"{names[1]} (the other)" if options.model != options.other else names[1])
    out = free_or_named(options.out, f"{names[0]}-{model_name(options.other)}-{called(options.data)}-cka")
    display = reporter()
    try:
        models = (
            open_taken(options.model, options.taken),
            open_taken(options.other, options.other_taken.taken),
        )
        display.phase("opening the data")
        source = subset(open_source(options.data, None, models[0].decode, options.broken), options.images)
        display.phase(f"comparing on {len(source):,} images")
        how = FeatureOptions(precision=options.precision, batch=options.batch, device=options.device)
        found = compare(models, source, how, options.unbiased, lambda done, total: display.progress(done, total, {}))
    finally:
        display.close()
    print(cka_said(found, names))
    lead = (
        f"Linear CKA of the layers of {options.model} and {options.other}, on {len(source):,} images of {options.data}."
    )
    data = {"protocol": "cka", "model": options.model, "other": options.other, "data": options.data}
    report = Outcome(
        f"{names[0]} and {names[1]} on {called(options.data)}: CKA",
        lead,
        cka_parts(found, names),
        data | cka_data(found),
    )
    print(f"\nreport: {write_outcome(out, report)}")
    model, data_set = shlex.quote(options.model), shlex.quote(options.data)
    print(f"next: vitreous evaluate {model} {data_set} --protocol knn --layer {found.rows[-1]}")
    return 0
