"""`vitreous convert` and `models`: convert weights of other code bases, and list the models that can be built."""

import shlex
import sys

from vitreous.cli.load_model import keywords
from vitreous.cli.options.weights import Convert, Models
from vitreous.cli.parse import parse
from vitreous.errors import ConfigError
from vitreous.training.progress import reporter


def convert(arguments: list[str]) -> int:
    """Run `vitreous convert`."""
    options = parse(Convert, arguments, "convert")
    from vitreous.api.conversion import convert as write

    display = reporter()
    try:
        found = write(options.source, options.out, options.to, reporter=display, **keywords(options.load))
    finally:
        display.close()
    print(found)
    print(f"next: vitreous inspect {shlex.quote(str(options.out))}")
    return 0


def models(arguments: list[str]) -> int:
    """Run `vitreous models`."""
    options = parse(Models, arguments, "models")
    from vitreous.api.catalogue import models as listed

    if options.pretrained and options.compare:
        raise ConfigError("--compare builds untrained models, but --pretrained lists weights; give one of them")
    if options.pretrained:
        print(listed(options.pattern, pretrained=True))
        print("next: vitreous train DATA --recipe finetune --weights NAME, or vitreous embed NAME IMAGES...")
        return 0
    if options.compare:
        display = reporter(sys.stderr)
        try:
            found = listed(options.pattern, compare=True, batch=options.batch, device=options.device, reporter=display)
        finally:
            display.close()
        print(found)
        return 0
    if options.batch is not None or options.device != "auto":
        raise ConfigError("--batch and --device are for --compare; add it, or leave them out")
    print(listed(options.pattern))
    print("next: vitreous inspect FILE, vitreous convert FILE FOLDER, or vitreous train DATA --weights FILE")
    return 0
