"""`vitreous.models(compare=True)`: compare model families by size, operations, measured speed, and published
accuracy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vitreous.api.results import Result
from vitreous.errors import ConfigError, check_count
from vitreous.evaluation.published import Published, find_published
from vitreous.evaluation.throughput import Cost, cost
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.model import count
from vitreous.model.factory import create
from vitreous.model.kinds import TITLES, build_config, find_kind
from vitreous.predictor import Predictor
from vitreous.runtime.data_frames import Tabular
from vitreous.runtime.memory import read_memory
from vitreous.storage.limits import format_bytes
from vitreous.training.reporter import Reporter, Silent
from vitreous.weights.adaptation import number_outputs
from vitreous.weights.model_folder import ModelFolder

COMPARED = (
    *("Ti/16", "S/16", "B/16", "R26+S/32", "R50+B/16", "R50x1", "Swin-T", "Swin-S", "SwinV2-T"),
    *("EfficientNet-B0", "EfficientNet-B3", "EfficientNet-B5"),
)
"""The models compared by default: small and medium ones of each family."""
BATCH = 8
"""Images in one pass, unless another number is given."""
SHARE = 2
"""A model and its images may fill this fraction of the memory: one over this number."""


@dataclass(frozen=True)
class ComparedModel:
    """One model: exact counts, its speed here and now, and what its authors and others published."""

    name: str
    family: str
    cost: Cost
    published: tuple[Published, ...]


@dataclass(frozen=True, repr=False)
class ModelComparisonResult(Result, Tabular):
    """Models side by side, at 224x224 pixels (Swin V2: 256x256; EfficientNets: each at its own size) and 1,000
    classes."""

    models: tuple[ComparedModel, ...]

    @property
    def columns(self) -> dict[str, list[Any]]:
        """The models, as columns: name, family, parameters, flops, images_per_second and the best published top-1 in percent
        with its training data and its source (None if none is known)."""
        found: dict[str, list[Any]] = {name: [getattr(one, name) for one in self.models] for name in ("name", "family")}
        found |= {
            name: [getattr(one.cost, name) for one in self.models]
            for name in ("parameters", "flops", "images_per_second")
        }
        best = [one.published[-1] if one.published else None for one in self.models]
        return found | {name: [getattr(one, name, None) for one in best] for name in ("top1", "trained", "source")}

    def __str__(self) -> str:
        lines = [
            f"{'name':16} {'family':17} {'parameters':>12} {'GFLOPs':>8} {'images/s':>9}  (slowest to fastest pass)"
        ]
        for one in self.models:
            low, high = one.cost.range
            lines.append(
                f"{one.name:16} {one.family:17} {one.cost.parameters:12,} {one.cost.flops / 1e9:8.2f} "
                f"{one.cost.images_per_second:9,.1f}  ({low:,.1f} to {high:,.1f})"
            )
        lines.append(
            f"\nspeed: untrained weights, forward pass from pixels in memory; {self.models[0].cost.where}, here and now. GFLOPs: two "
            "operations per multiply-add (papers often count one)"
        )
        lines.append("published top-1 on ImageNet, not measured here:")
        known = [(one.name, figure) for one in self.models for figure in one.published]
        for name, figure in known:
            where = f" at {figure.image} pixels" if figure.image else ""
            lines.append(f"  {name:16} {figure.top1:5.2f}%  {figure.trained}{where}: {figure.source}")
        unknown = [one.name for one in self.models if not one.published]
        if unknown:
            lines.append(f"  none known for {', '.join(unknown)}")
        return "\n".join(lines)


def compare_models(
    names: Sequence[str], batch: int | None = None, device: str = "auto", reporter: Reporter | None = None
) -> ModelComparisonResult:
    """Build each model, time it and release it.

    Args:
        names: as `vitreous.create` takes them.
        batch: images in one pass; None: BATCH.
        device: where to compute.
        reporter: receives the progress.

    Raises:
        ConfigError: a batch below 1, or a model or a batch that fills more than half of the memory; before any is built.
    """
    reporter, batch = reporter or Silent(), BATCH if batch is None else batch
    check_count("batch", batch)
    configs = {name: build_config(name) for name in names}
    for name, config in configs.items():
        need = 4 * count.count_parameters(config) + count.estimate_activation_bytes(config, batch, training=False)
        if need > read_memory() // SHARE:
            raise ConfigError(
                f"{name} needs about {format_bytes(need)} for {batch} images at a time, more than half of this machine's memory "
                f"({format_bytes(read_memory())}); give a smaller --batch, or a pattern without it"
            )
    found = []
    for name, config in configs.items():
        reporter.phase(f"timing {name}")
        classes = number_outputs(config.classes)
        preprocess = PreprocessConfig(size=tuple(config.image))
        folder = ModelFolder(create(config, 0), preprocess, DecodeConfig(), classes)
        timed = cost(Predictor(folder, device, batch, engine="torch"), batch)
        found.append(ComparedModel(name, name_family(name), timed, find_published(name)))
    return ModelComparisonResult(tuple(found))


def name_family(name: str) -> str:
    """Return a model's family in words.

    >>> name_family("R50+B/16"), name_family("SwinV2-T")
    ('hybrid', 'Swin Transformer')
    """
    kind = find_kind(name)
    return "hybrid" if kind == "vit" and "+" in name else "ResNet (BiT)" if kind == "resnet" else TITLES[kind]
