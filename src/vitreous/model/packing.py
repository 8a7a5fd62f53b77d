"""Images of several sizes in one sequence (NaViT, 2307.06304): each attends only to its own tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vitreous.errors import ConfigError
from vitreous.model.attention import Places, build_bias
from vitreous.model.config import ViTConfig
from vitreous.model.kinds import Config, name_kind
from vitreous.model.patches import cut_patches
from vitreous.model.positions.added import DEFAULT_RULE, AddedPositions
from vitreous.model.positions.rotary import Angles, Rotary
from vitreous.model.swin_config import SwinConfig
from vitreous.model.vit import ViT
from vitreous.shapes import Bool, Float, Shaped, Size


class PackedImages(NamedTuple):
    """Images to be packed, in place of a batch of one size."""

    images: Sequence[Float[Tensor, "channel _ _"]]
    """Normalised pixels."""
    budget: int
    """Tokens of a sequence at most, if no image is longer."""


class TokenCounts(NamedTuple):
    """The tokens of some images: their own, those of the sequences that they are packed into, and those that padding gives."""

    own: int
    packed: int
    padded: int
    """All images padded to the largest, in rows and columns."""
    padded_sequences: int
    """All images' sequences padded to the longest."""


@dataclass(frozen=True)
class Layout:
    """Which images share a sequence.

    Each goes, in the order given, into the first sequence that has room for it; an image that is longer than the budget has a
    sequence of its own.
    """

    lengths: tuple[int, ...]
    """Tokens of each image."""
    budget: int
    """Tokens of a sequence at most, if no image is longer."""

    @cached_property
    def sequences(self) -> list[list[int]]:
        """The images of each sequence, by number."""
        found: list[list[int]] = []
        filled: list[int] = []
        for image, length in enumerate(self.lengths):
            place = next((one for one, full in enumerate(filled) if full + length <= self.budget), len(found))
            if place == len(found):
                found.append([])
                filled.append(0)
            found[place].append(image)
            filled[place] += length
        return found

    @cached_property
    def length(self) -> int:
        """Tokens of the longest sequence, which the others are padded to."""
        return max(sum(self.lengths[image] for image in images) for images in self.sequences)

    def join(self, parts: Sequence[Shaped[Tensor, "_ dim"]]) -> Shaped[Tensor, "batch token dim"]:
        """Put the images' tokens into their sequences, with zeros behind them."""
        joined = [torch.cat([parts[image] for image in images]) for images in self.sequences]
        return torch.stack([F.pad(one, (0, 0, 0, self.length - len(one))) for one in joined])

    def split(self, z: Shaped[Tensor, "batch token dim"]) -> list[Shaped[Tensor, "_ dim"]]:
        """Return the tokens of each image: the inverse of `join`."""
        found = {}
        for one, images in zip(z, self.sequences, strict=True):
            lengths = [self.lengths[image] for image in images]
            found |= dict(zip(images, one[: sum(lengths)].split(lengths), strict=True))
        return [found[image] for image in range(len(self.lengths))]

    def build_mask(self, device: torch.device) -> Bool[Tensor, "batch query key"]:
        """Return True where a query may attend: to its own image; padding only to padding."""
        owner = self.join([torch.full((length, 1), image + 1) for image, length in enumerate(self.lengths)])[..., 0]
        return (owner[:, :, None] == owner[:, None, :]).to(device)


def forward_packed(
    model: ViT,
    images: Sequence[Float[Tensor, "channel _ _"]],
    rule: str = DEFAULT_RULE,
    budget: int = 0,
) -> Float[Tensor, "image label"]:
    """Return the model's logits for images of any sizes, which pass through the encoder in few sequences.

    The same function as `model.resize(size, rule)` on each image by itself; the mask of the attention is block-diagonal.

    Args:
        model: a ViT; rows and columns of each image must be multiples of its patch.
        images: (channel, row, col) each.
        rule: how learned positions are resized to each image's grid; gradients reach them.
        budget: tokens of a sequence at most, if no image is longer; 0: all images in one sequence.

    Raises:
        ConfigError: no images, a size that the patch doesn't divide, or a model that `check_packing` refuses.
    """
    check_packing(model.config)
    if not images:
        raise ConfigError("there are no images to pack; give at least one")
    grids = [find_grid(model.config, image) for image in images]
    cut = [cut_patches(model.patches.stem(image[None]), model.patches.patch) for image in images]
    embedded = model.patches.embed_patches(torch.cat(cut, dim=1)).split([part.shape[1] for part in cut], dim=1)
    parts = [model.prepend_prefix(part)[0] for part in embedded]
    lengths = tuple(map(len, parts))
    layout = Layout(lengths, budget or sum(lengths))
    z = layout.join(parts)
    places = Places(join_angles(model, grids, layout), bias=build_bias(layout.build_mask(z.device)))
    for index, block in enumerate(model.blocks):
        z = add_positions(model, z, index, (grids, layout, rule))
        z = model.dropout(model.embed_norm(z)) if index == 0 else z
        z = model.run_block(block, z, places)
    z = model.norm(z) if model.config.final_norm == "tokens" else z
    return classify(model, layout.split(z))


def check_packing(config: Config) -> None:
    """Raise ConfigError for a model that can't take images of several sizes in one sequence."""
    if isinstance(config, SwinConfig):
        raise ConfigError("windows need whole grids of patches, so images can't be packed; choose a Vision Transformer")
    if not isinstance(config, ViTConfig):
        raise ConfigError(f"{name_kind(config.KIND)} has no tokens to pack; choose a Vision Transformer")
    if config.in_attention:
        raise ConfigError(
            "relative positions depend on one grid, so images with several can't be packed; choose "
            "a model with added positions"
        )
    if config.rotary.kind == "mixed" or config.pool_layers > 1:
        raise ConfigError(
            "learned rotary positions and [class] of several blocks belong to one grid, so such a model can't "
            "pack images"
        )
    if config.block.attention == "axial":
        raise ConfigError("axial attention runs along the lines of one grid, so images with several can't be packed")


def count_length(config: ViTConfig, size: Size) -> int:
    """Return the tokens of an image of this size in pixels, whole patches: its patches and the prefix."""
    rows, cols = config.patch
    return size.rows // rows * (size.cols // cols) + config.prefix


def count_packed(config: ViTConfig, sizes: Sequence[Size], layout: Layout) -> TokenCounts:
    """Return the tokens of images of these sizes in pixels, whole patches each, that are laid out so."""
    largest = Size(max(size.rows for size in sizes), max(size.cols for size in sizes))
    packed, images = len(layout.sequences) * layout.length, len(sizes)
    return TokenCounts(
        sum(layout.lengths), packed, images * count_length(config, largest), images * max(layout.lengths)
    )


def find_grid(config: ViTConfig, image: Float[Tensor, "channel _ _"]) -> Size:
    """Return the rows and columns of an image's patches; raises ConfigError if it isn't made of whole ones."""
    size, (rows, cols) = Size(*image.shape[1:]), config.patch
    if len(image) != config.channels or size.rows % rows or size.cols % cols or not min(size):
        raise ConfigError(
            f"an image to pack has {len(image)} channels and {size} pixels; expected {config.channels} channels, and whole "
            f"patches of {Size(rows, cols)}"
        )
    return Size(size.rows // rows, size.cols // cols)


def add_positions(
    model: ViT,
    z: Float[Tensor, "batch token dim"],
    index: int,
    among: tuple[Sequence[Size], Layout, str],
) -> Float[Tensor, "batch token dim"]:
    """Add positions before a block: to each image those of its own grid. `among`: grids, layout and the rule of resizing."""
    grids, layout, rule = among
    if model.positions is None or (index and model.config.position_placement == "input"):
        return z
    layered = index and model.config.position_placement == "layers"
    module = model.layer_positions[index - 1] if layered else model.positions
    assert isinstance(module, AddedPositions)
    vectors = {grid: module.vectors_on(grid, rule) for grid in set(grids)}
    return z + layout.join([vectors[grid] for grid in grids]).to(z.dtype)


def join_angles(model: ViT, grids: Sequence[Size], layout: Layout) -> Angles | None:
    """Return the rotation of every token of each sequence; prefix tokens and padding aren't rotated."""
    if model.rotary is None:
        return None
    device, waves = model.rotary.cos.device, {grid: find_angles(model.config, grid) for grid in set(grids)}
    cos, sin = (layout.join([waves[grid][which] for grid in grids]).to(device)[:, None] for which in (0, 1))
    return Angles(cos, sin)


@lru_cache(maxsize=128)
def find_angles(config: ViTConfig, grid: Size) -> Angles:
    """Return the rotation of an image's tokens on a grid, prefix tokens included."""
    patch = config.patch
    with torch.inference_mode(False):  # gradients may pass through it the next time
        cos, sin = Rotary(replace(config, image=(grid.rows * patch[0], grid.cols * patch[1])))()
        still = cos.new_ones(config.prefix, cos.shape[1])
        return Angles(torch.cat([still, cos]), torch.cat([0 * still, sin]))


def classify(model: ViT, parts: Sequence[Float[Tensor, "_ dim"]]) -> Float[Tensor, "_ label"]:
    """Return each image's logits from its own tokens; images of one length go through the head together."""
    lengths = [len(part) for part in parts]
    groups = [[image for image, own in enumerate(lengths) if own == length] for length in dict.fromkeys(lengths)]
    found = torch.cat([model.logits(torch.stack([parts[image] for image in group])) for group in groups])
    places = torch.tensor([image for group in groups for image in group], device=found.device)
    return found[places.argsort()]
