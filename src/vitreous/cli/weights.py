"""`vitreous convert` and `models`: weights of other code bases, and what can be built."""

from fnmatch import fnmatch

from vitreous.cli.options import Convert, Models
from vitreous.cli.parse import parse
from vitreous.errors import UnknownName

PATCHES = (8, 14, 16, 32)


def convert(arguments: list[str]) -> int:
    """Run `vitreous convert`."""
    options = parse(Convert, arguments, "convert")
    from vitreous.checkpoints.convert import convert as write
    from vitreous.checkpoints.convert import formats
    from vitreous.checkpoints.foreign import Wish
    from vitreous.checkpoints.open import open_model

    if options.to not in formats():
        raise UnknownName("format", options.to, formats())
    wish = Wish(options.family, options.image, options.grid, options.rule, options.allow)
    folder, report = open_model(options.source, wish)
    if report is not None:
        print(report)
    proof = write(folder, options.out, options.to)
    print(f"proof       {proof}")
    print(f"written     {options.out} ({options.to})")
    print(f"next: vitreous inspect {options.out}")
    return 0


def models(arguments: list[str]) -> int:
    """Run `vitreous models`."""
    options = parse(Models, arguments, "models")
    from vitreous.model import count
    from vitreous.model.config import SIZES, named

    names = [f"{size}/{patch}" for size in SIZES for patch in PATCHES]
    chosen = [name for name in names if fnmatch(name, options.pattern)]
    if not chosen:
        raise UnknownName("model", options.pattern, names)
    print(f"{'name':10} {'parameters':>15} {'GFLOPs':>9}  at 224x224, 1000 classes")
    for name in chosen:
        config = named(name)
        print(f"{name:10} {count.parameters(config):15,} {count.flops(config) / 1e9:9.2f}")
    print("any size goes with any patch that divides the image: vitreous.create('S/16', image=(256, 192))")
    print("weights are read from: timm, Hugging Face, Google npz, torchvision, ... (docs/checkpoints.md)")
    return 0
