"""Images of several sizes in one sequence (NaViT, 2307.06304): each attends only to its own tokens."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitreous.errors import ConfigError
from vitreous.model.attention import Places
from vitreous.model.positions.added import DEFAULT_RULE
from vitreous.model.positions.rotary import Angles
from vitreous.model.vit import ViT
from vitreous.shapes import Size


def forward_packed(
    model: ViT, images: Sequence[Float[Tensor, "channel _ _"]], rule: str = DEFAULT_RULE
) -> Float[Tensor, "batch label"]:
    """Return the model's logits for images of any sizes, which pass through the encoder as one sequence.

    The same function as `model.resize(size, rule)` on each image by itself; the mask of the attention is block-diagonal.

    Args:
        model: a ViT; rows and columns of each image must be multiples of its patch.
        images: (channel, row, col) each.
        rule: how learned positions are resized to each image's grid.

    Raises:
        ConfigError: no images, a size that the patch doesn't divide, or a model with relative positions or axial attention.
    """
    if not images:
        raise ConfigError("there are no images to pack; give at least one")
    if model.config.in_attention:
        raise ConfigError(
            "relative positions depend on one grid, so images with several can't be packed; choose "
            "a model with added positions"
        )
    if model.config.rotary.kind == "mixed" or model.config.pool_layers > 1:
        raise ConfigError(
            "learned rotary positions and [class] of several blocks belong to one grid, so such a model can't "
            "pack images"
        )
    if model.config.block.attention == "axial":
        raise ConfigError("axial attention runs along the lines of one grid, so images with several can't be packed")
    sized = {size: model.resize(size, rule) for size in {get_size(image) for image in images}}
    parts = [sized[get_size(image)].embed(image[None]) for image in images]
    lengths = [part.shape[1] for part in parts]
    z = torch.cat(parts, dim=1)
    places = Places(compute_angles(model, sized, images), mask=build_mask(lengths, z.device))
    for index, block in enumerate(model.blocks):
        if index and model.config.position_placement != "input":
            owners = zip(images, z.split(lengths, dim=1), strict=True)
            z = torch.cat([sized[get_size(image)].add_positions(part, index) for image, part in owners], dim=1)
        z = block(z, places)
    z = model.norm(z) if model.config.final_norm == "tokens" else z
    return torch.cat([model.logits(part) for part in z.split(lengths, dim=1)])


def get_size(image: Float[Tensor, "channel _ _"]) -> Size:
    """Return an image's rows and columns."""
    return Size(*image.shape[1:])


def build_mask(lengths: Sequence[int], device: torch.device) -> Bool[Tensor, "query key"]:
    """Return the block-diagonal mask: True where a query may attend."""
    owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).to(device)
    return owner[:, None] == owner[None, :]


def compute_angles(model: ViT, sized: dict[Size, ViT], images: Sequence[Tensor]) -> Angles | None:
    """Return the rotation of every token of the sequence; prefix tokens aren't rotated."""
    if model.rotary is None:
        return None
    waves = []
    for image in images:
        rotary = sized[get_size(image)].rotary
        assert rotary is not None
        still = rotary.cos.new_ones(model.config.prefix, rotary.cos.shape[1])
        waves.append((torch.cat([still, rotary.cos]), torch.cat([0 * still, rotary.sin])))
    return Angles(torch.cat([cos for cos, _ in waves]), torch.cat([sin for _, sin in waves]))
