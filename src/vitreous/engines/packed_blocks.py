"""Parts of a ViT on a CPU around packed dense layers: pixels to tokens, and encoder blocks. They compute the same functions in
fewer passes.

A block with plain attention (no rotary or relative positions, no norms of q, k or of the heads' outputs) calls torch's functions
directly instead of its submodules, whose calls take as long as the arithmetic in small models.
"""

import copy
from typing import cast

import torch
from torch import Tensor, nn

from vitreous.engines.int8_linear import AnyPacking, Int8Linear, find_steps, get_attending_type, get_rest, pack_layer
from vitreous.engines.packed_attention import LN2, attend_from_first, attend_to_all
from vitreous.engines.packed_linear import PackedLinear
from vitreous.images.config import PreprocessConfig
from vitreous.images.tensors import normalize
from vitreous.model.attention import NOWHERE, Attention, Places
from vitreous.model.encoder import Block
from vitreous.model.patches import PatchEmbedding
from vitreous.shapes import Float, UInt8

AnyLinear = PackedLinear | Int8Linear


def centre(pixels: UInt8[Tensor, "..."], dtype: torch.dtype) -> Float[Tensor, "..."] | UInt8[Tensor, "..."]:
    """Return pixels minus 128: whole numbers that bfloat16 can hold too. In uint8 they are the pixels themselves, whose
    zero point is 128."""
    return pixels if dtype == torch.uint8 else pixels.bitwise_xor(128).view(torch.int8).to(dtype)


PIXELS = (-128.0, 127.0)
"""Range of centred pixels, which are exact in int8."""


class PackedPatches(nn.Module):
    """Turn centred pixels into embedded patches: normalising is part of the product, whose factors are whole numbers.

    Args:
        patches: the patch layer, without a stem and without a norm before the product.
        preprocess: how its images are normalised.
        packing: how its weight is laid out.
        name: the product's name in the model.
    """

    def __init__(
        self, patches: PatchEmbedding, preprocess: PreprocessConfig, packing: AnyPacking, name: str = "patches.embed"
    ) -> None:
        super().__init__()
        self.patch, self.norm = patches.patch, patches.norm
        kernel = patches.kernel.detach().double()
        scale, shift = (
            torch.tensor(values, dtype=torch.float64).view(-1, 1, 1)
            for values in preprocess.compute_scale(patches.channels)
        )
        bias = (kernel * (128 * scale - shift)).sum((1, 2, 3))
        if patches.embed.bias is not None:
            bias += patches.embed.bias.detach()
        weight = (kernel * scale).permute(0, 2, 3, 1).flatten(1)
        self.embed = pack_layer(name, weight.float(), bias.float(), packing)
        exact = isinstance(self.embed, Int8Linear) and (self.embed.scale, self.embed.zero) == find_steps(PIXELS)
        self.takes = torch.uint8 if exact else get_rest(packing).dtype
        """Type of the centred pixels."""

    def forward(
        self, pixels: Float[Tensor, "batch channel row col"] | UInt8[Tensor, "batch channel row col"]
    ) -> Float[Tensor, "batch token dim"]:
        """Cut images into patches and embed these."""
        rows, cols = self.patch
        cells = pixels.unflatten(3, (-1, cols)).unflatten(2, (-1, rows))
        values = (
            cells.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
        )  # (row, col, channel), as in the images' memory
        return self.norm(self.embed(values))


class NormalizedFirst(nn.Module):
    """Turn centred pixels into embedded patches as the model itself does."""

    def __init__(self, patches: nn.Module, preprocess: PreprocessConfig, takes: torch.dtype) -> None:
        super().__init__()
        self.patches, self.preprocess, self.takes = patches, preprocess, takes

    def forward(self, pixels: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch token dim"]:
        """Normalise images, cut them into patches and embed these."""
        return self.patches(normalize(pixels.float() + 128, self.preprocess))


class PackedBlock(nn.Module):
    """A pre-norm encoder block with sequential branches, whose products include the residual additions."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block

    def forward(
        self, z: Float[Tensor, "batch token dim"], places: Places = NOWHERE
    ) -> Float[Tensor, "batch token dim"]:
        """As `Block.forward`."""
        block = self.block
        assert block.mlp_norm is not None
        out, contract = cast("AnyLinear", block.attention.out), cast("AnyLinear", block.mlp.contract)
        z = out.add(block.attention.gather(block.attention_norm(z), places), z)
        return contract.add(block.mlp.compute_hidden(block.mlp_norm(z)), z)


class PlainBlock(nn.Module):
    """A `PackedBlock` with plain attention; its residual stream is in the packing's precision. The weights of q include
    its scale and `LN2`.

    Args:
        block: the block, whose dense layers are packed except for qkv.
        qkv: the original layer.
        bias: the bias of all three parts.
        packing: how weights are laid out.
        first: compute only the first token, since nothing later reads others.
    """

    def __init__(
        self,
        name: str,
        block: Block,
        qkv: Float[Tensor, "dim3 dim"],
        bias: Float[Tensor, " dim3"] | None,
        packing: AnyPacking,
        first: bool,
    ) -> None:
        super().__init__()
        assert block.mlp_norm is not None
        name = f"{name}.attention.qkv"
        self.dtype, self.attends = get_rest(packing).dtype, get_attending_type(name, packing)
        self.width, self.heads, self.first = qkv.shape[1], block.attention.heads, first
        self.norms = (keep_norm(block.attention_norm, self.dtype), keep_norm(block.mlp_norm, self.dtype))
        self.out, self.contract = cast("AnyLinear", block.attention.out), cast("AnyLinear", block.mlp.contract)
        self.mlp = block.mlp
        expand, whole = cast("AnyLinear", block.mlp.expand), needs_module(block)
        if not whole and isinstance(expand, Int8Linear) and isinstance(self.contract, Int8Linear):
            expand.join(self.contract)
        width = len(qkv) // 3
        scale = torch.ones(len(qkv), 1)
        scale[:width] = (width // self.heads) ** -0.5 / LN2[self.attends]
        weight, bias = qkv.detach() * scale, None if bias is None else bias.detach() * scale[:, 0]
        cut = width if first else 0
        before, behind = (None, None) if bias is None else (bias[:cut], bias[cut:])
        self.query = pack_layer(name, weight[:cut], before, packing, gives=self.attends) if first else None
        self.qkv = pack_layer(name, weight[cut:], behind, packing, gives=self.attends)
        # bound once: looking up a module's parts and calling it takes as long as a small layer's arithmetic
        self.project, self.add_attended, self.add_mlp = self.qkv.forward, self.out.add, self.contract.add
        self.compute_hidden = self.mlp.compute_hidden if whole else expand.forward

    def forward(
        self, z: Float[Tensor, "batch token dim"], places: Places = NOWHERE
    ) -> Float[Tensor, "batch token2 dim"]:
        """As `Block.forward`, in the packing's precision; only for the first token if no other is read."""
        if not torch.is_autocast_enabled("cpu"):
            return self._compute(z.to(self.dtype))
        with torch.autocast("cpu", enabled=False):
            return self._compute(z.to(self.dtype))

    def _compute(self, z: Float[Tensor, "batch token dim"]) -> Float[Tensor, "batch token2 dim"]:
        normed = run_norm(z, self.norms[0])
        projected = self.project(normed)
        if self.query is None:
            gathered = attend_to_all(projected, self.heads, self.dtype)
        else:
            gathered = attend_from_first(self.query(normed[:, :1].contiguous()), projected, self.heads)
            z = z[:, :1].contiguous()
        z = self.add_attended(gathered, z)
        return self.add_mlp(self.compute_hidden(run_norm(z, self.norms[1])), z)


Norm = tuple[list[int], Tensor | None, Tensor | None, float] | nn.Module


def keep_norm(norm: nn.Module, dtype: torch.dtype) -> Norm:
    """Return a LayerNorm's arguments in a precision, or a copy of any other norm in it."""
    if type(norm) is not nn.LayerNorm:
        return copy.deepcopy(norm).to(dtype)
    weight, bias = (None if value is None else value.detach().to(dtype) for value in (norm.weight, norm.bias))
    return list(norm.normalized_shape), weight, bias, norm.eps


def run_norm(z: Float[Tensor, "batch token dim"], norm: Norm) -> Float[Tensor, "batch token dim"]:
    """Normalise."""
    return norm(z) if isinstance(norm, nn.Module) else torch.layer_norm(z, *norm)


def needs_module(block: Block) -> bool:
    """Return whether a block's MLP is more than two layers, the first with its activation in the product."""
    mlp = block.mlp
    return mlp.gated or type(mlp.act) is not nn.Identity or type(mlp.norm) is not nn.Identity


def attends_plainly(attention: nn.Module) -> bool:
    """Return whether a layer attends with q, k and v just as they are projected; positions shared by all layers don't
    count."""
    if type(attention) is not Attention:
        return False
    identities = (attention.q_norm, attention.k_norm, attention.norm)
    return (
        attention.relative is None and attention.rotary is None and all(type(one) is nn.Identity for one in identities)
    )
