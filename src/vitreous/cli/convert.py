"""`vitreous convert` and `models`: weights of other code bases, and what can be built."""

import shlex
from fnmatch import fnmatch

from vitreous.cli.load_model import wish_of
from vitreous.cli.options.commands import Convert, Models
from vitreous.cli.parse import parse
from vitreous.errors import UnknownName

PATCHES = (8, 14, 16, 32)
AXIAL = ("Axial-B/32", "Axial-B/16")
HYBRIDS = ("R+Ti/16", "R26+S/32", "R50+B/32", "R50+B/16", "R50+L/32", "R50+L/16")
RESNETS = tuple(f"R{layers}x{width}" for layers in (50, 101, 152, 200) for width in (1, 2, 3, 4))


def convert(arguments: list[str]) -> int:
    """Run `vitreous convert`."""
    options = parse(Convert, arguments, "convert")
    from vitreous.weights.conversion import convert as write
    from vitreous.weights.conversion import formats
    from vitreous.weights.loading import open_model

    if options.to not in formats():
        raise UnknownName("format", options.to, formats())
    folder, report = open_model(options.source, wish_of(options.taken))
    if report is not None:
        print(report)
    proof = write(folder, options.out, options.to)
    print(f"proof       {proof}")
    if proof.lost:
        print(f"lost        {proof.lost}")
    print(f"written     {options.out} ({options.to})")
    print(f"next: vitreous inspect {shlex.quote(str(options.out))}")
    return 0


def models(arguments: list[str]) -> int:
    """Run `vitreous models`."""
    options = parse(Models, arguments, "models")
    from vitreous.model import count
    from vitreous.model.config import SIZES, named
    from vitreous.model.resnet_config import named_resnet
    from vitreous.weights.foreign import families

    plain = [f"{size}/{patch}" for size in SIZES for patch in PATCHES]
    names = [*plain, *AXIAL, *HYBRIDS, *RESNETS]
    chosen = [name for name in names if fnmatch(name, options.pattern)]
    if not chosen:
        raise UnknownName("model", options.pattern, names)
    print(f"{'name':10} {'parameters':>15} {'GFLOPs':>9}   at 224x224, 1000 classes")
    for name in chosen:
        config = named_resnet(name) if name in RESNETS else named(name)
        total, work = count.parameters(config), count.flops(config)
        print(f"{name:10} {total:15,} {work / 1e9:9.2f}")
    print("\nany size goes with any patch that divides the image: vitreous.create('S/16', image=(256, 192))")
    print("weights are read from:")
    for family in families().values():
        print(f"  {family.name:14} {family.title}{', written too' if family.unwritable else ''}")
    print("next: vitreous inspect FILE, vitreous convert FILE FOLDER, or vitreous train DATA --weights FILE")
    return 0
