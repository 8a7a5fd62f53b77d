"""Parameters and operations of ResNets and of stems in closed form: no torch, no model."""

from collections.abc import Iterator

from vitreous.model.resnet_config import POOLED, ResNetConfig, StemConfig, Unit, plan_stages
from vitreous.shapes import Size


def count_resnet_parameters(config: ResNetConfig) -> int:
    """Return the exact number of learned values."""
    units = sum(_list_convolutions(unit) + _count_norms(unit) for unit in _list_units(config))
    return _list_root(config) + units + 2 * config.features * config.final_norm + (config.features + 1) * config.classes


def count_resnet_flops(config: ResNetConfig) -> int:
    """Return the operations of one image's forward pass: two for each multiply-add of a convolution or of the head."""
    first, size = _compute_root_sizes(config, Size(*config.image))
    root = _list_root(config) * first.rows * first.cols
    return 2 * (root + _count_unit_work(config, size) + config.features * config.classes)


def count_stem_parameters(stem: StemConfig, channels: int) -> int:
    """Return the exact number of a stem's learned values for images with `channels` colour planes."""
    if stem.kind == "conv":
        return sum(9 * inputs * outputs + 2 * outputs for inputs, outputs in _list_pairs(stem, channels))
    if stem.kind == "none":
        return 0
    norms = sum(2 * (2 * unit.inner + unit.outputs * (2 if unit.projects else 1)) for unit in _list_units(stem))
    return _list_root(stem, channels) + 2 * stem.root_outputs + norms + sum(map(_list_convolutions, _list_units(stem)))


def count_stem_flops(stem: StemConfig, channels: int, image: Size) -> int:
    """Return the operations of a stem on one image: two for each multiply-add of a convolution."""
    if stem.kind == "conv":
        work = 0
        for inputs, outputs in _list_pairs(stem, channels):
            image = _halve(image)
            work += 9 * inputs * outputs * image.rows * image.cols
        return 2 * work
    if stem.kind == "none":
        return 0
    first, size = _compute_root_sizes(stem, image)
    return 2 * (_list_root(stem, channels) * first.rows * first.cols + _count_unit_work(stem, size))


def count_convolved_values(config: ResNetConfig | StemConfig, image: Size) -> tuple[int, int]:
    """Return the number of output values of the convolutions for one image: the total, and the largest of one of
    them."""
    made: list[int] = []
    if isinstance(config, StemConfig) and config.kind == "conv":
        for outputs in config.convolutions:
            image = _halve(image)
            made.append(outputs * image.rows * image.cols)
    elif isinstance(config, ResNetConfig) or config.kind == "resnet":
        first, size = _compute_root_sizes(config, image)
        made.append(config.root_outputs * first.rows * first.cols)
        for unit in _list_units(config):
            if unit.kind != "basic":
                made.append(unit.inner * size.rows * size.cols)
            size = _halve(size) if unit.stride == 2 else size
            made += [values * size.rows * size.cols for values in (unit.inner, unit.outputs * (1 + unit.projects))]
    return sum(made), max(made, default=0)


def _list_units(config: ResNetConfig | StemConfig) -> Iterator[Unit]:
    stages = config.stages if isinstance(config, ResNetConfig) else plan_stages(config.units, config.root_outputs)
    return (unit for stage in stages for unit in stage)


def _list_pairs(stem: StemConfig, channels: int) -> Iterator[tuple[int, int]]:
    return zip((channels, *stem.convolutions), stem.convolutions, strict=False)


def _list_convolutions(unit: Unit) -> int:
    projection = unit.inputs * unit.outputs if unit.projects else 0
    if unit.kind != "bottleneck":
        return 9 * (unit.inputs + unit.outputs) * unit.outputs + projection
    return unit.inputs * unit.inner + 9 * unit.inner**2 + unit.inner * unit.outputs + projection


def _count_norms(unit: Unit) -> int:
    if unit.kind == "pooled-post":
        return 4 * unit.outputs
    return 2 * (unit.inputs + (2 if unit.kind == "bottleneck" else 1) * unit.inner)


def _find_root(config: ResNetConfig | StemConfig) -> str:
    return config.root if isinstance(config, ResNetConfig) else "7x7"


def _list_root(config: ResNetConfig | StemConfig, channels: int = 0) -> int:
    channels = config.channels if isinstance(config, ResNetConfig) else channels
    return {"7x7": 49, "3x3": 9, "2x2": 4, "haar": 4}[_find_root(config)] * channels * config.root_outputs


def _compute_root_sizes(config: ResNetConfig | StemConfig, image: Size) -> tuple[Size, Size]:
    """Return rows and columns of the first convolution's map, and of the root's output."""
    half = _halve(image)
    whole = (image, image)
    return {"7x7": (half, _halve(half)), "3x3": whole, "2x2": (half, half), "haar": whole}[_find_root(config)]


def _count_unit_work(config: ResNetConfig | StemConfig, size: Size) -> int:
    """Count multiply-adds of all units. The first convolution of bottleneck and pooled units works before rows and
    columns are halved, all others after."""
    work = 0
    for unit in _list_units(config):
        before = (9 if unit.kind in POOLED else unit.kind == "bottleneck") * unit.inputs * unit.inner
        work += before * size.rows * size.cols
        size = _halve(size) if unit.stride == 2 else size
        work += (_list_convolutions(unit) - before) * size.rows * size.cols
    return work


def _halve(size: Size) -> Size:
    return Size(-(-size.rows // 2), -(-size.cols // 2))
