"""Parameters, operations and memory of EfficientNets in closed form: no torch, no model."""

from collections.abc import Iterator

from vitreous.model.efficientnet_config import EfficientNetConfig, InvertedUnit, plan_efficientnet
from vitreous.shapes import Size


def count_efficientnet_parameters(config: EfficientNetConfig) -> int:
    """Return the exact number of learned values; running statistics are none."""
    units = sum(_count_unit(unit) for unit, _, _ in _list_units(config))
    root = (9 * config.channels + 2) * config.root_channels
    last = (config.widths[-1] + 2) * config.last_channels
    return root + units + last + (config.features + 1) * config.classes


def count_efficientnet_flops(config: EfficientNetConfig) -> int:
    """Return the operations of one image's forward pass: two for each multiply-add of a convolution or of the head."""
    size = _halve(Size(*config.image))
    work = 9 * config.channels * config.root_channels * size.rows * size.cols
    for unit, before, size in _list_units(config):
        expands = unit.inputs * unit.inner * (unit.inner != unit.inputs)
        work += expands * before.rows * before.cols + 2 * unit.inner * unit.squeezed
        work += (unit.kernel**2 + unit.outputs) * unit.inner * size.rows * size.cols
    work += config.widths[-1] * config.last_channels * size.rows * size.cols
    return 2 * (work + config.features * config.classes)


def count_kept_efficientnet_values(config: EfficientNetConfig, *, training: bool) -> int:
    """Return the values of one image that are alive at once: in training, of each convolution its output, the norm's, and,
    after a depthwise one, the product with the excitation."""
    size = _halve(Size(*config.image))
    made = [3 * config.root_channels * size.rows * size.cols]
    for unit, before, size in _list_units(config):
        if unit.inner != unit.inputs:
            made.append(3 * unit.inner * before.rows * before.cols)
        made += [4 * unit.inner * size.rows * size.cols, 2 * unit.outputs * size.rows * size.cols]
    made.append(3 * config.last_channels * size.rows * size.cols)
    return sum(made) if training else 2 * max(made)


def _list_units(config: EfficientNetConfig) -> Iterator[tuple[InvertedUnit, Size, Size]]:
    """Yield every unit with rows and columns of its input and of its output."""
    size = _halve(Size(*config.image))
    for stage in plan_efficientnet(config):
        for unit in stage:
            before, size = size, _halve(size) if unit.stride == 2 else size
            yield unit, before, size


def _count_unit(unit: InvertedUnit) -> int:
    expand = (unit.inputs + 2) * unit.inner if unit.inner != unit.inputs else 0
    depthwise = (unit.kernel**2 + 2) * unit.inner
    excitation = (unit.inner + 1) * unit.squeezed + (unit.squeezed + 1) * unit.inner
    return expand + depthwise + excitation + (unit.inner + 2) * unit.outputs


def _halve(size: Size) -> Size:
    return Size(-(-size.rows // 2), -(-size.cols // 2))
