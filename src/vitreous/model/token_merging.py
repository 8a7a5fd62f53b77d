"""Token merging at inference (ToMe, 2210.09461): merge a few similar patches in every block, without training."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.errors import ConfigError
from vitreous.model.attention import NOWHERE, Heads, attend
from vitreous.model.encoder import Block
from vitreous.model.vit import ViT


class Merging(nn.Module):
    """A ViT that merges `each` pairs of tokens in every block.

    Logits change a little and come sooner; measure both rather than assume. Prefix tokens are never merged. With `each`
    0 it is the model itself.
    """

    def __init__(self, model: ViT, each: int) -> None:
        super().__init__()
        config = model.config
        if each < 0:
            raise ConfigError(f"each is {each}, the pairs of tokens to merge in each block; it must be 0 or more")
        if config.rotary.kind != "none" or config.in_attention or config.position_placement != "input":
            raise ConfigError(
                "merged tokens have no place of their own; token merging needs positions added at the input"
            )
        if config.block.attention == "axial":
            raise ConfigError("axial attention needs whole rows and columns, but merged tokens leave holes in them")
        if config.block.norm_order == "after" or config.pool_layers > 1:
            raise ConfigError(
                "token merging needs branches that are normalised before, and a single block whose outputs are used"
            )
        if config.block.parallel:
            raise ConfigError("token merging happens between attention and MLP, which parallel blocks don't separate")
        self.model, self.each = model, each

    def forward(self, images: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch label"]:
        """Return logits."""
        model = self.model
        z = model.embed(images)
        size = torch.ones(*z.shape[:2], 1, device=z.device, dtype=z.dtype)
        for block in model.blocks:
            assert isinstance(block, Block)
            z, size = self._block(block, z, size)
        return model.logits(model.norm(z) if model.config.final_norm == "tokens" else z)

    def _block(self, block: Block, z: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        attention = block.attention
        heads = attention.heads_of(attention.project(block.attention_norm(z)), NOWHERE)
        # A merged token has the weight of all that it combines (section 3, proportional attention).
        weighed = Heads(heads.q, heads.k, heads.v, size.log().mT[:, None].expand(-1, 1, z.shape[1], -1))
        gathered = attention.norm(attend(weighed).transpose(1, 2).flatten(2))
        z = z + block.attention_scale(attention.out(gathered))
        z, size = merge_pairs(z, size, heads.k.mean(dim=1), self.each, self.model.config.prefix)
        assert block.mlp_norm is not None
        return z + block.mlp_scale(block.mlp(block.mlp_norm(z))), size


def merge_pairs(
    z: Float[Tensor, "batch token dim"],
    size: Float[Tensor, "batch token 1"],
    keys: Float[Tensor, "batch token head_dim"],
    each: int,
    prefix: int,
) -> tuple[Float[Tensor, "batch token2 dim"], Float[Tensor, "batch token2 1"]]:
    """Merge the `each` most similar pairs between even and odd patches, by the mean weighted by size (appendix D)."""
    patches = z.shape[1] - prefix
    each = min(each, patches // 2)
    if each == 0:
        return z, size
    unit = F.normalize(keys[:, prefix:], dim=2)
    likeness = unit[:, ::2] @ unit[:, 1::2].mT
    best, partner = likeness.max(dim=2)
    order = best.argsort(dim=1, descending=True)
    away, stay = order[:, :each], order[:, each:].sort(dim=1).values
    target = partner.gather(1, away)
    found = []
    for values in (z * size, size):
        front, rest = values[:, :prefix], values[:, prefix:]
        even, odd = rest[:, ::2], rest[:, 1::2]
        wide = (-1, -1, values.shape[2])
        moved = odd.scatter_add(1, target[..., None].expand(*wide), even.gather(1, away[..., None].expand(*wide)))
        found.append(torch.cat([front, even.gather(1, stay[..., None].expand(*wide)), moved], dim=1))
    total, size = found
    return total / size, size
