"""Token merging at inference (ToMe, 2210.09461): merge a few similar patches in every block, without training."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.errors import ConfigError
from vitreous.model.attention import NOWHERE, attend
from vitreous.model.config import ViTConfig
from vitreous.model.convnet import ConvNet
from vitreous.model.count_vit import count_merged_patches
from vitreous.model.encoder import Block
from vitreous.model.kinds import name_kind
from vitreous.model.swin import Swin
from vitreous.model.vit import ViT
from vitreous.shapes import Float


class Merging(nn.Module):
    """A ViT that merges `each` pairs of patches in every block, or in late blocks as many as there still are.

    Logits change a little and come sooner; measure both rather than assume. Prefix tokens are never merged. With `each`
    0 it is the model itself.

    Raises:
        ConfigError: a model, or a number of pairs, that can't be merged.
    """

    def __init__(self, model: ViT, each: int) -> None:
        super().__init__()
        check_merging(model, each)
        self.model, self.each = model, each

    @property
    def config(self) -> ViTConfig:
        """That of the model."""
        return self.model.config

    def forward(self, images: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch label"]:
        """Return logits."""
        return self.model.logits(*self.tokens(images))

    def features(self, images: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch features"]:
        """Return the representation of each image, which is the head's input."""
        return self.model.represent(*self.tokens(images))

    def tokens(
        self, images: Float[Tensor, "batch channel row col"]
    ) -> tuple[Float[Tensor, "batch token dim"], Float[Tensor, "batch token 1"]]:
        """Return the sequence after the last block and, unless it comes after pooling, the final norm; and of how many
        patches each token is made."""
        model = self.model
        z = model.embed(images)
        size = torch.ones(*z.shape[:2], 1, device=z.device, dtype=z.dtype)
        for index, block in enumerate(model.blocks):
            assert isinstance(block, Block)
            z, size = self._block(block, z, size, bool(index))
        return (model.norm(z) if model.config.final_norm == "tokens" else z), size

    def _block(self, block: Block, z: Tensor, size: Tensor, merged: bool) -> tuple[Tensor, Tensor]:
        attention = block.attention
        heads = attention.compute_heads(attention.project(block.attention_norm(z)), NOWHERE)
        if merged:  # a token weighs as much as all that it is made of (section 3, proportional attention)
            heads = heads._replace(bias=weigh(size, z.shape[1]))
        z = z + block.attention_scale(attention.mix(attend(heads)))
        z, size = merge_pairs(z, size, heads.k.mean(dim=1), self.each, self.model.config.prefix)
        assert block.mlp_norm is not None
        return z + block.mlp_scale(block.mlp(block.mlp_norm(z))), size


def check_merging(model: nn.Module, each: int) -> None:
    """Raise ConfigError for a model whose patches can't be merged, or that many pairs in a block."""
    if type(each) is not int or each < 0:
        raise ConfigError(
            f"merge is {each!r}, the pairs of patches to merge in each block; it must be a whole number, 0 or more"
        )
    if isinstance(model, ConvNet):
        raise ConfigError(f"{name_kind(model.config.KIND)} has no tokens to merge; leave out merge")
    if isinstance(model, Swin):
        raise ConfigError("windows need whole grids of patches, but merged tokens leave holes in them; leave out merge")
    assert isinstance(model, ViT)
    why, patches = explain_unmergeable(model.config), model.grid.rows * model.grid.cols
    if why:
        raise ConfigError(f"{why}; leave out merge")
    if each > patches // 2:
        raise ConfigError(
            f"merge is {each}, but a block can merge at most half of this model's {patches} patches: {patches // 2} pairs; "
            f"{max(1, patches // (model.config.depth + 1))} leave enough for all of its {model.config.depth} blocks"
        )


def explain_unmergeable(config: ViTConfig) -> str:
    """Return why a ViT's patches can't be merged; "" if they can."""
    if config.rotary.kind != "none" or config.in_attention or config.position_placement != "input":
        return "merged tokens have no place of their own; token merging needs positions added at the input"
    if config.block.attention == "axial":
        return "axial attention needs whole rows and columns, but merged tokens leave holes in them"
    if config.block.norm_order == "after" or config.pool_layers > 1:
        return "token merging needs branches that are normalised before, and a single block whose outputs are used"
    if config.block.parallel:
        return "token merging happens between attention and MLP, which parallel blocks don't separate"
    return ""


def weigh(size: Float[Tensor, "batch token 1"], queries: int) -> Float[Tensor, "batch 1 query token"]:
    """Return the bias by which a token of several patches is attended to as often as all of them."""
    return size.log().mT[:, None].expand(-1, 1, queries, -1)


def merge_pairs(
    z: Float[Tensor, "batch token dim"],
    size: Float[Tensor, "batch token 1"],
    keys: Float[Tensor, "batch token head_dim"],
    each: int,
    prefix: int,
) -> tuple[Float[Tensor, "batch token2 dim"], Float[Tensor, "batch token2 1"]]:
    """Merge the `each` most similar pairs of patches, by the mean weighted by size (appendix D).

    As in the authors' code, tokens at even places of the sequence are merged into those at odd ones, and what is left of the even
    ones keeps its order only behind a prefix.
    """
    patches = z.shape[1] - prefix
    each = patches - count_merged_patches(patches, each, 1)
    if each == 0:
        return z, size
    first = prefix % 2
    unit = F.normalize(keys[:, prefix:], dim=2)
    likeness = unit[:, first::2] @ unit[:, 1 - first :: 2].mT
    best, partner = likeness.max(dim=2)
    order = best.argsort(dim=1, descending=True)
    away, stay = order[:, :each], order[:, each:]
    stay = stay.sort(dim=1).values if prefix else stay
    target = partner.gather(1, away)
    found = []
    for values in (z * size, size):
        front, rest = values[:, :prefix], values[:, prefix:]
        even, odd = rest[:, first::2], rest[:, 1 - first :: 2]
        wide = (-1, -1, values.shape[2])
        moved = odd.scatter_add(1, target[..., None].expand(*wide), even.gather(1, away[..., None].expand(*wide)))
        found.append(torch.cat([front, even.gather(1, stay[..., None].expand(*wide)), moved], dim=1))
    total, size = found
    return total / size, size
