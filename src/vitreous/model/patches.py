"""Images to patches and back (2010.11929, section 3.1)."""

import math

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.model.config import ViTConfig
from vitreous.model.layers import build_norm
from vitreous.model.parameters import FILTER, KERNEL, declare
from vitreous.model.positions.resize import DEFAULT_RULE, resize_matrix
from vitreous.model.stems import build_stem
from vitreous.shapes import Float, Size

AXES = "batch channel (grid_row row) (grid_col col)"
FLAT = "batch (grid_row grid_col) (channel row col)"


def cut_patches(images: Float[Tensor, "batch channel row col"], patch: Size) -> Float[Tensor, "batch token value"]:
    """Cut images into patches, row by row from the top left; each is flattened as (channel, row, col)."""
    return rearrange(images, f"{AXES} -> {FLAT}", row=patch.rows, col=patch.cols)


def join_patches(
    patches: Float[Tensor, "batch token value"], patch: Size, grid: Size
) -> Float[Tensor, "batch channel row col"]:
    """Join patches again: the inverse of `cut_patches`. `grid` is the number of patches down and across."""
    sizes = {"row": patch.rows, "col": patch.cols, "grid_row": grid.rows, "grid_col": grid.cols}
    return rearrange(patches, f"{FLAT} -> {AXES}", **sizes)


class PatchEmbedding(nn.Module):
    """One linear map for every patch: the E of equation 1. Its weight is (dim, channel x row x col).

    A hybrid's patches are cut from its stem's map; `patch` and `channels` are then that map's.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.channels, *patch = config.patch_shape
        self.patch = Size(*patch)
        self.stem = build_stem(config.stem, config.channels)
        values = math.prod(config.patch_shape)
        self.norm_before = build_norm(config, values) if config.patch_norm == "both" else nn.Identity()
        embed = nn.Linear(values, config.width, bias=config.patch_bias)
        self.embed = declare(embed, weight=KERNEL if config.init == "mae" else FILTER)
        self.norm = build_norm(config) if config.patch_norm != "none" else nn.Identity()

    def forward(self, images: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch token dim"]:
        """Cut and embed: the same as a convolution whose kernel and stride are the patch, unless patches are
        normalised."""
        return self.embed_patches(cut_patches(self.stem(images), self.patch))

    def embed_patches(self, patches: Float[Tensor, "batch token value"]) -> Float[Tensor, "batch token dim"]:
        """Embed patches that are cut already."""
        return self.norm(self.embed(self.norm_before(patches)))

    @property
    def kernel(self) -> Float[Tensor, "dim channel row col"]:
        """The weight as a convolution kernel."""
        return self.embed.weight.unflatten(1, (self.channels, *self.patch))


def convolve(
    embedding: PatchEmbedding, images: Float[Tensor, "batch channel row col"]
) -> Float[Tensor, "batch token dim"]:
    """Embed through a convolution instead: the same numbers, for comparison and for large images."""
    return (
        F.conv2d(embedding.stem(images), embedding.kernel, embedding.embed.bias, stride=embedding.patch).flatten(2).mT
    )


def resample_kernel(
    kernel: Float[Tensor, "dim channel row col"], patch: Size, rule: str = DEFAULT_RULE
) -> Float[Tensor, "dim channel row2 col2"]:
    """Resample a patch embedding's kernel to another patch size (FlexiViT, 2212.08013, section 3.4 and appendix A).

    With B the matrix that resizes a patch, the new kernel is pinv(B') w: of all kernels, the one whose embedding of the
    resized patch differs least from the old embedding of the patch itself. If the patch grows, there is no difference.
    """
    start = Size(*kernel.shape[2:])
    if start == patch:
        return kernel
    inverse = torch.linalg.pinv(resize_matrix(start, patch, rule).T)
    values = kernel.flatten(2).cpu().double() @ inverse.T
    return values.to(kernel).unflatten(2, tuple(patch))
