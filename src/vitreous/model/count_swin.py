"""Parameters, operations and memory of Swin Transformers in closed form: no torch, no model."""

import math

from vitreous.model.count_vit import count_attention, count_mlp, count_norm, count_positions
from vitreous.model.swin_config import SwinConfig
from vitreous.shapes import Size


def count_swin_parameters(config: SwinConfig) -> int:
    """Return the exact number of learned values."""
    patches = (math.prod(config.patch) * config.channels + 1 + 2) * config.width
    stages = sum(_count_stage(config, index) for index in range(len(config.depths)))
    return patches + stages + 2 * config.features + (config.features + 1) * config.classes


def _count_stage(config: SwinConfig, index: int) -> int:
    made = config.stage(index)
    scales = made.heads if config.version == "v2" else 0
    block = count_attention(made) + count_mlp(made, made.mlp_width) + 2 * count_norm(made, made.width) + scales
    merging = made.width * (2 * made.width + (2 if config.version == "v2" else 4)) if index else 0
    return merging + count_positions(made) + made.depth * block


def count_swin_flops(config: SwinConfig) -> int:
    """Return the operations of one image's forward pass: two for each multiply-add of a matrix product."""
    grids = config.maps
    work = math.prod(grids[0]) * math.prod(config.patch) * config.channels * config.width
    for index, grid in enumerate(grids):
        made = config.stage(index)
        width, window, cells = made.width, made.grid, math.prod(grid)
        padded = math.prod(pad_to_windows(grid, window))
        attention = padded * (3 * width * width + 2 * math.prod(window) * width) + cells * width * width
        block = attention + cells * 2 * width * made.mlp_width
        if config.version == "v2":
            offsets = (2 * window.rows - 1) * (2 * window.cols - 1)
            block += offsets * made.position_mlp_width * (2 + made.heads)
        work += made.depth * block + (cells * 2 * width * width if index else 0)
    return 2 * (work + config.features * config.classes)


def count_kept_swin_values(config: SwinConfig, *, training: bool, recompute: bool = False) -> int:
    """Estimate the values that are held at once for one image: see `count.estimate_activation_bytes`."""
    kept, largest = 0, 0
    for index, grid in enumerate(config.maps):
        made = config.stage(index)
        padded, cells = math.prod(pad_to_windows(grid, made.grid)), math.prod(grid)
        block = padded * (10 * made.width + 2 * made.heads * math.prod(made.grid)) + 2 * cells * made.mlp_width
        kept += made.depth * (cells * made.width if recompute else block)
        largest = max(largest, block)
    return kept + largest if training else 2 * largest


def pad_to_windows(grid: Size, window: Size) -> Size:
    """Return a grid of patches in whole windows."""
    return Size(*(-(-count // side) * side for count, side in zip(grid, window, strict=True)))
