"""`vitreous.models`: the models that can be built, the origins of weights that can be read, and recommended models."""

from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any, Literal, overload

from vitreous.api.model_comparison import COMPARED, ModelComparisonResult, compare_models
from vitreous.api.progress import shows_progress
from vitreous.api.results import Result
from vitreous.errors import ConfigError, UnknownName
from vitreous.model import count
from vitreous.model.efficientnet_config import EFFICIENTNET_NAMES
from vitreous.model.kinds import build_config
from vitreous.model.names import SIZES
from vitreous.model.swin_config import SWIN_NAMES
from vitreous.runtime.data_frames import Tabular
from vitreous.training.reporter import Reporter
from vitreous.weights.families.base import Family
from vitreous.weights.foreign import list_families
from vitreous.weights.recommended import RECOMMENDED, Recommended

PATCHES = (8, 14, 16, 32)
AXIAL = ("Axial-B/32", "Axial-B/16")
HYBRIDS = ("R+Ti/16", "R26+S/32", "R50+B/32", "R50+B/16", "R50+L/32", "R50+L/16")
RESNETS = tuple(f"R{layers}x{width}" for layers in (50, 101, 152, 200) for width in (1, 2, 3, 4))


@dataclass(frozen=True)
class ModelSize:
    """A model of the catalogue, at 224x224 pixels (Swin V2: 256x256; EfficientNets: each its own) and 1,000 classes."""

    name: str
    parameters: int
    flops: int
    """Operations of one image's forward pass: two for each multiply-add."""


@dataclass(frozen=True, repr=False)
class ModelsResult(Result, Tabular):
    """Models that can be built, and the origins of weights that can be read."""

    models: tuple[ModelSize, ...]
    families: tuple[Family, ...]

    @property
    def columns(self) -> dict[str, list[Any]]:
        """The models, as columns: name, parameters, flops."""
        return {name: [getattr(one, name) for one in self.models] for name in ("name", "parameters", "flops")}

    def __str__(self) -> str:
        lines = [f"{'name':10} {'parameters':>15} {'GFLOPs':>9}   at 224x224 (SwinV2: 256x256), 1000 classes"]
        lines += [f"{one.name:10} {one.parameters:15,} {one.flops / 1e9:9.2f}" for one in self.models]
        lines.append("\nany size goes with any patch that divides the image: vitreous.create('S/16', image=(256, 192))")
        lines.append("weights are read from:")
        for family in self.families:
            lines.append(f"  {family.name:16} {family.title}{', written too' if family.unwritable else ''}")
        return "\n".join(lines)


@dataclass(frozen=True, repr=False)
class PretrainedResult(Result, Tabular):
    """Recommended pre-trained models; any of their names can be given where a model or weights are named."""

    models: tuple[Recommended, ...]

    @property
    def columns(self) -> dict[str, list[Any]]:
        """The models, as columns: their facts, and the published top-1 in percent with how, at which resolution and by whom it
        was measured (None where none is published)."""
        names = ("name", "repository", "parameters", "bytes", "licence", "gated", "resolution", "image", "good_for")
        found: dict[str, list[Any]] = {name: [getattr(one, name) for one in self.models] for name in names}
        figures = {"top1": "top1", "measured_by": "how", "measured_at": "image", "source": "source"}
        return found | {
            column: [getattr(one.accuracy, name, None) for one in self.models] for column, name in figures.items()
        }

    def __str__(self) -> str:
        lines = [f"{'name':10} {'download':>9} {'pixels':>6}  {'licence':15} {'top-1':>6}  on ImageNet"]
        for one in self.models:
            found = one.accuracy
            top1, how = (
                (f"{found.top1:.1f}%", f"{found.how}, {found.image} pixels: {found.source}") if found else ("", "")
            )
            size = f"{one.bytes / 1e6:,.0f} MB"
            lines.append(f"{one.name:10} {size:>9} {one.resolution:6}  {one.licence:15} {top1:>6}  {how}")
            lines.append(f"{'':10} {one.repository}: {one.good_for}")
        return "\n".join(
            [*lines, "\ndownloaded once, then used from the cache; docs/pretrained.md describes mirrors and tokens"]
        )


@overload
def models(pattern: str = "*", *, pretrained: Literal[False] = False) -> ModelsResult: ...
@overload
def models(pattern: str = "*", *, pretrained: Literal[True]) -> PretrainedResult: ...
@overload
def models(
    pattern: str = "*",
    *,
    compare: Literal[True],
    batch: int | None = None,
    device: str = "auto",
    progress: bool | None = None,
    reporter: Reporter | None = None,
) -> ModelComparisonResult: ...
@shows_progress
def models(
    pattern: str = "*",
    *,
    pretrained: bool = False,
    compare: bool = False,
    batch: int | None = None,
    device: str = "auto",
    progress: bool | None = None,
    reporter: Reporter | None = None,
) -> ModelsResult | PretrainedResult | ModelComparisonResult:
    """List the models that can be built, with their exact sizes, and the origins of weights that can be read.

    >>> [(one.name, one.parameters) for one in models("B/16").models]
    [('B/16', 86567656)]
    >>> [(one.name, one.repository) for one in models("mae*", pretrained=True).models]
    [('mae-b', 'timm/vit_base_patch16_224.mae')]
    >>> vitreous.models("Swin-*", compare=True).to_pandas()                              # doctest: +SKIP

    Args:
        pattern: names to list, such as `*/16` or `R50*`; of pre-trained models also `timm/*`.
        pretrained: list the recommended pre-trained models instead.
        compare: measure the speed of each as well, and add published accuracies with their sources; for the pattern "*" of
            a dozen models of all families.
        batch: with compare: images in one pass; None: 8.
        device: with compare: auto, cpu, cuda or mps.
        progress: show progress; None: only in a notebook or on a terminal.
        reporter: receives the progress instead of that display.

    Raises:
        UnknownName: no model has such a name.
        ConfigError: pretrained and compare together, or a model that this machine's memory can't hold.
    """
    if not compare and (batch is not None or device != "auto"):
        raise ConfigError("batch and device are those of a comparison; add compare=True, or leave them out")
    if pretrained and compare:
        raise ConfigError("compare builds untrained models, and pretrained lists weights; give one of them")
    if pretrained:
        return list_pretrained(pattern)
    names = [
        *(f"{size}/{patch}" for size in SIZES for patch in PATCHES),
        *AXIAL,
        *HYBRIDS,
        *RESNETS,
        *EFFICIENTNET_NAMES,
        *SWIN_NAMES,
    ]
    chosen = [name for name in names if fnmatch(name, pattern)]
    if not chosen:
        raise UnknownName("model", pattern, names)
    if compare:
        return compare_models(COMPARED if pattern == "*" else chosen, batch, device, reporter)
    configs = {name: build_config(name) for name in chosen}
    sizes = (ModelSize(name, count.count_parameters(one), count.count_flops(one)) for name, one in configs.items())
    return ModelsResult(tuple(sizes), tuple(list_families().values()))


def list_pretrained(pattern: str) -> PretrainedResult:
    """List the recommended models whose short name or repository matches a pattern; raises UnknownName."""
    found = tuple(one for one in RECOMMENDED if fnmatch(one.name, pattern) or fnmatch(one.repository, pattern))
    if not found:
        raise UnknownName("pre-trained model", pattern, [one.name for one in RECOMMENDED])
    return PretrainedResult(found)
