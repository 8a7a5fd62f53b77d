"""`vitreous export`: write a model for another runtime, with a numeric proof."""

from vitreous.api.names import EXPORTS, name_model
from vitreous.cli.load_model import keywords
from vitreous.cli.options.deploy import Export
from vitreous.cli.output import free_or_named
from vitreous.cli.parse import parse
from vitreous.training.progress import reporter


def export(arguments: list[str]) -> int:
    """Run `vitreous export`."""
    options = parse(Export, arguments, "export")
    from vitreous.api.exports import export as write

    out = free_or_named(options.out, f"{name_model(options.model)}-{options.to}", EXPORTS)
    how = {
        name: getattr(options, name)
        for name in ("outputs", "preprocess_inside", "dynamic_image", "precision", "merge", "data")
    }
    display = reporter()
    try:
        found = write(options.model, options.to, out, **how, reporter=display, **keywords(options.load))
    finally:
        display.close()
    print(found)
    return 0
