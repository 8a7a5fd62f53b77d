"""`vitreous.models`: what can be built, and whose weights can be read."""

from dataclasses import dataclass
from fnmatch import fnmatch

from vitreous.api.results import Result
from vitreous.errors import UnknownName
from vitreous.model import count
from vitreous.model.names import SIZES, build_vit_config
from vitreous.model.resnet_config import build_resnet_config
from vitreous.weights.families.base import Family
from vitreous.weights.foreign import list_families

PATCHES = (8, 14, 16, 32)
AXIAL = ("Axial-B/32", "Axial-B/16")
HYBRIDS = ("R+Ti/16", "R26+S/32", "R50+B/32", "R50+B/16", "R50+L/32", "R50+L/16")
RESNETS = tuple(f"R{layers}x{width}" for layers in (50, 101, 152, 200) for width in (1, 2, 3, 4))


@dataclass(frozen=True)
class ModelSize:
    """A model of the catalogue, at 224x224 pixels and 1,000 classes."""

    name: str
    parameters: int
    flops: int
    """Operations of one image's forward pass: two for each multiply-add."""


@dataclass(frozen=True)
class ModelsResult(Result):
    """Models that can be built, and the origins of weights that can be read."""

    models: tuple[ModelSize, ...]
    families: tuple[Family, ...]

    def __str__(self) -> str:
        lines = [f"{'name':10} {'parameters':>15} {'GFLOPs':>9}   at 224x224, 1000 classes"]
        lines += [f"{one.name:10} {one.parameters:15,} {one.flops / 1e9:9.2f}" for one in self.models]
        lines.append("\nany size goes with any patch that divides the image: vitreous.create('S/16', image=(256, 192))")
        lines.append("weights are read from:")
        for family in self.families:
            lines.append(f"  {family.name:14} {family.title}{', written too' if family.unwritable else ''}")
        return "\n".join(lines)


def models(pattern: str = "*") -> ModelsResult:
    """List the models that can be built, with their exact sizes, and the origins of weights that can be read.

    >>> [(one.name, one.parameters) for one in models("B/16").models]
    [('B/16', 86567656)]

    Args:
        pattern: names to list, such as "*/16" or "R50*".

    Raises:
        UnknownName: no model is called so.
    """
    names = [*(f"{size}/{patch}" for size in SIZES for patch in PATCHES), *AXIAL, *HYBRIDS, *RESNETS]
    chosen = [name for name in names if fnmatch(name, pattern)]
    if not chosen:
        raise UnknownName("model", pattern, names)
    configs = {name: build_resnet_config(name) if name in RESNETS else build_vit_config(name) for name in chosen}
    sizes = (ModelSize(name, count.count_parameters(one), count.count_flops(one)) for name, one in configs.items())
    return ModelsResult(tuple(sizes), tuple(list_families().values()))
