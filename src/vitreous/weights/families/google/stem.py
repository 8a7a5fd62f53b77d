"""The ResNet below the paper's hybrids, as google-research/vision_transformer names it in its npz files."""

from collections.abc import Mapping

from torch import Tensor

from vitreous.model.config import ViTConfig
from vitreous.model.resnet_config import FLAX_EPSILONS, ROOT, TIMM_EPSILONS, StemConfig
from vitreous.weights.mapping import Layout, Rule, count_units

KERNEL = Layout(lambda tensor: tensor.permute(3, 2, 0, 1), lambda tensor: tensor.permute(2, 3, 1, 0))
"""(row, col, in, out) for our (out, in, row, col)."""
FLAT = Layout(lambda tensor: tensor.flatten(), lambda tensor: tensor)
"""Group norm's values, which older files hold as (1, 1, 1, channel)."""
UNIT = (
    ("conv1", "norm1", "1"),
    ("conv2", "norm2", "2"),
    ("conv3", "last_norm", "3"),
    ("project", "project_norm", "_proj"),
)
"""For a unit: our convolution, our norm after it, and the ending of both names there."""


def read_stem(tensors: Mapping[str, Tensor], timm: bool) -> StemConfig:
    """Return the ResNet before the patch embedding, if there is one, with the authors' epsilons or timm's."""
    if "conv_root/kernel" not in tensors:
        return StemConfig()
    units = count_units(tensors, "block{stage}/unit{unit}/", first=1)
    width = max(1, tensors["conv_root/kernel"].shape[3] // ROOT)
    return StemConfig("resnet", units, width, epsilons=TIMM_EPSILONS if timm else FLAX_EPSILONS)


def read_patch(
    tensors: Mapping[str, Tensor], stem: StemConfig, rows: int, cols: int, channels: int
) -> tuple[int, int, int]:
    """Return a patch's rows and columns in pixels and the images' colour channels, from those of the stem's map."""
    if stem.kind == "none":
        return rows, cols, channels
    return rows * stem.stride, cols * stem.stride, tensors["conv_root/kernel"].shape[2]


def stem_rules(config: ViTConfig) -> list[Rule]:
    """Return the rules of a hybrid's stem."""
    if config.stem.kind != "resnet":
        return []
    rules = convolution_and_norm("patches.stem.conv", "patches.stem.norm", "", "_root")
    for stage, count in enumerate(config.stem.units):
        for unit in range(count):
            ours, theirs = f"patches.stem.stages.{stage}.{unit}", f"block{stage + 1}/unit{unit + 1}/"
            for kernel, norm, ending in UNIT:
                rules += convolution_and_norm(f"{ours}.{kernel}", f"{ours}.{norm}", theirs, ending)
    return rules


def convolution_and_norm(kernel: str, norm: str, folder: str, ending: str) -> list[Rule]:
    """Return the rules of a convolution and of the norm after it."""
    return [
        Rule(f"{kernel}.weight", (f"{folder}conv{ending}/kernel",), KERNEL),
        Rule(f"{norm}.weight", (f"{folder}gn{ending}/scale",), FLAT),
        Rule(f"{norm}.bias", (f"{folder}gn{ending}/bias",), FLAT),
    ]
