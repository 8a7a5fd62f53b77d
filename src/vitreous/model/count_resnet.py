"""Parameters and operations of ResNets and of stems in closed form: no torch, no model."""

from collections.abc import Iterator

from vitreous.model.resnet_config import ROOT, ResNetConfig, StemConfig, Unit, stages
from vitreous.shapes import Size


def resnet_parameters(config: ResNetConfig) -> int:
    """Return the exact number of learned values."""
    units = sum(_convolutions(unit) + 2 * (unit.inputs + 2 * unit.inner) for unit in _units(config))
    return _root(config.channels, config.width) + units + 2 * config.features + (config.features + 1) * config.classes


def resnet_flops(config: ResNetConfig) -> int:
    """Return the operations of one image's forward pass: two for each multiply-add of a convolution or of the head."""
    image = Size(*config.image)
    root = _root_work(config.channels, config.width, image)
    return 2 * (root + _unit_work(config, image) + config.features * config.classes)


def stem_parameters(stem: StemConfig, channels: int) -> int:
    """Return the exact number of learned values of a stem for images with `channels` colour planes."""
    if stem.kind == "conv":
        return sum(9 * inputs * outputs + 2 * outputs for inputs, outputs in _pairs(stem, channels))
    if stem.kind == "none":
        return 0
    norms = sum(2 * (2 * unit.inner + unit.outputs * (2 if unit.first else 1)) for unit in _units(stem))
    return _root(channels, stem.width) + 2 * ROOT * stem.width + norms + sum(map(_convolutions, _units(stem)))


def stem_flops(stem: StemConfig, channels: int, image: Size) -> int:
    """Return the operations of a stem on one image: two for each multiply-add of a convolution."""
    if stem.kind == "conv":
        work = 0
        for inputs, outputs in _pairs(stem, channels):
            image = _halved(image)
            work += 9 * inputs * outputs * image.rows * image.cols
        return 2 * work
    if stem.kind == "none":
        return 0
    return 2 * (_root_work(channels, stem.width, image) + _unit_work(stem, image))


def stem_values(stem: StemConfig, image: Size) -> tuple[int, int]:
    """Return how many values a stem's convolutions put out for one image: all together, and the most of one of them."""
    made: list[int] = []
    if stem.kind == "conv":
        for outputs in stem.convolutions:
            image = _halved(image)
            made.append(outputs * image.rows * image.cols)
    elif stem.kind == "resnet":
        made.append(ROOT * stem.width * _halved(image).rows * _halved(image).cols)
        size = _halved(_halved(image))
        for unit in _units(stem):
            made.append(unit.inner * size.rows * size.cols)
            size = _halved(size) if unit.stride == 2 else size
            made += [values * size.rows * size.cols for values in (unit.inner, unit.outputs * (1 + unit.first))]
    return sum(made), max(made, default=0)


def _units(config: ResNetConfig | StemConfig) -> Iterator[Unit]:
    return (unit for stage in stages(config.units, config.width) for unit in stage)


def _pairs(stem: StemConfig, channels: int) -> Iterator[tuple[int, int]]:
    return zip((channels, *stem.convolutions), stem.convolutions, strict=False)


def _convolutions(unit: Unit) -> int:
    projection = unit.inputs * unit.outputs if unit.first else 0
    return unit.inputs * unit.inner + 9 * unit.inner**2 + unit.inner * unit.outputs + projection


def _root(channels: int, width: int) -> int:
    return 49 * channels * ROOT * width


def _root_work(channels: int, width: int, image: Size) -> int:
    rows, cols = _halved(image)
    return _root(channels, width) * rows * cols


def _unit_work(config: ResNetConfig | StemConfig, image: Size) -> int:
    """Count multiply-adds of all units; the first convolution of a unit works before its stride, the others after."""
    size, work = _halved(_halved(image)), 0
    for unit in _units(config):
        before = unit.inputs * unit.inner
        work += before * size.rows * size.cols
        size = _halved(size) if unit.stride == 2 else size
        work += (_convolutions(unit) - before) * size.rows * size.cols
    return work


def _halved(size: Size) -> Size:
    return Size(-(-size.rows // 2), -(-size.cols // 2))
