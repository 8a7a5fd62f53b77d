"""`vitreous cka`: compare two models' layers on the same images."""

import shlex

from vitreous.api.names import name_model
from vitreous.cli.load_model import open_model
from vitreous.cli.options.probes import Cka
from vitreous.cli.output import free_or_named
from vitreous.cli.parse import parse
from vitreous.training.progress import reporter


def cka(arguments: list[str]) -> int:
    """Run `vitreous cka`."""
    options = parse(Cka, arguments, "cka")
    from vitreous.api.similarity import cka as compare
    from vitreous.data.dataset import name_dataset
    from vitreous.evaluation.probes.cka import check_images

    check_images(options.images)
    stem = f"{name_model(options.model)}-{name_model(options.other)}-{name_dataset(options.data)}-cka"
    out = free_or_named(options.out, stem)
    how = {name: getattr(options, name) for name in ("images", "unbiased", "batch", "precision", "broken")}
    display = reporter()
    try:
        model = open_model(options.model, options.load, device=options.device)
        other = open_model(options.other, options.load_other.load, device=options.device)
        found = compare(model, other, options.data, **how, reporter=display)
    finally:
        display.close()
    print(f"{found}\n\nreport: {found.save(out)}")
    named, data = shlex.quote(options.model), shlex.quote(options.data)
    print(f"next: vitreous evaluate {named} {data} --protocol knn --layer {found.cka.rows[-1]}")
    return 0
