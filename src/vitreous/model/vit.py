"""The Vision Transformer (2010.11929, figure 1). Read `ViT.forward` beside the figure."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vitreous.errors import ConfigError, UnknownName
from vitreous.model.config import ViTConfig
from vitreous.model.encoder import blocks
from vitreous.model.heads import Pool, PreLogits
from vitreous.model.initialise import initialise
from vitreous.model.patches import PatchEmbedding
from vitreous.model.positions import DEFAULT_RULE, AddedPositions, Learned, positions, resize_grid
from vitreous.shapes import Size


class ViT(nn.Module):
    """An image is worth rows x cols words.

    The constructor leaves the parameters as they are allocated: `create` initialises them, loading overwrites them.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        self.image = Size(*config.image)
        """Rows and columns that the model sees for now; see `at_resolution`."""
        self.patches = PatchEmbedding(Size(*config.patch), config.channels, config.width)
        self.class_token = nn.Parameter(torch.empty(config.width)) if config.class_token else None
        self.positions = positions(config)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = blocks(config)
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.pool = Pool(config)
        self.pre_logits = PreLogits(config.width) if config.pre_logits else nn.Identity()
        self.head = nn.Linear(config.width, config.classes) if config.classes else nn.Identity()

    def forward(self, images: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch label"]:
        """Return logits, or features where the model has no classes.

        Raises:
            ConfigError: the images have another size or number of channels than the model.
        """
        return self.head(self.features(images))

    def features(self, images: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch dim"]:
        """Return what represents each image: what the head reads."""
        return self.pre_logits(self.pool(self.tokens(images)))

    def tokens(self, images: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch token dim"]:
        """Return the sequence after the last block and the final norm."""
        z = self.embed(images)
        for block in self.blocks:
            z = self._run(block, z)
        return self.norm(z)

    def embed(self, images: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch token dim"]:
        """Return z0 of equation 1: [class] and the embedded patches, with their positions."""
        self._check(images)
        z = self.patches(images)
        if self.class_token is not None:
            z = torch.cat([self.class_token.to(z.dtype).expand(len(z), 1, -1), z], dim=1)
        return self.dropout(self.positions(z))

    def intermediates(
        self, images: Float[Tensor, "batch channel row col"], names: Sequence[str]
    ) -> dict[str, Float[Tensor, "batch ..."]]:
        """Return named intermediates of one forward pass, the same bits as in `forward`.

        Names: "patches" (embedded, before positions), "embedded" (z0), "block.0" ... (the residual stream after each
        block, without the final norm), "norm" (the sequence after the final norm), "pooled", "pre_logits", "logits".

        Raises:
            UnknownName: a name that is none of these.
        """
        places = {"patches": self.patches, "embedded": self.dropout}
        places |= {f"block.{index}": block for index, block in enumerate(self.blocks)}
        places |= {"norm": self.norm, "pooled": self.pool, "pre_logits": self.pre_logits, "logits": self.head}
        found: dict[str, Tensor] = {}
        handles = []
        try:
            for name in names:
                if name not in places:
                    raise UnknownName("intermediate", name, places)
                keep = lambda _module, _inputs, output, name=name: found.__setitem__(name, output)  # noqa: E731
                handles.append(places[name].register_forward_hook(keep))
            self(images)
        finally:
            for handle in handles:
                handle.remove()
        return {name: found[name] for name in names}

    def resized(self, image: tuple[int, int], rule: str = DEFAULT_RULE) -> "ViT":
        """Return this model for images of another size; the learned position grid is interpolated by a named rule."""
        config = replace(self.config, image=tuple(image))
        with torch.device("meta"):
            other = ViT(config)
        weights = self.state_dict()
        if isinstance(self.positions, Learned):
            front = int(config.class_token)
            vectors = self.positions.embedding.detach()
            grid = vectors[front:].view(*self.config.grid, -1)
            resized = resize_grid(grid, config.grid, rule).flatten(0, 1)
            weights["positions.embedding"] = torch.cat([vectors[:front], resized])
        other.load_state_dict({name: tensor.clone() for name, tensor in weights.items()}, assign=True)
        return other.to(self.patches.embed.weight.device).train(self.training)

    def at_resolution(self, image: Size | None) -> None:
        """From now on see images of this size, at the same patch size; None: the configured one. No parameter changes.

        The positions are averaged over the cells that each coarser cell covers, by a constant matrix that gradients
        pass through, so training at a low resolution trains the full grid.
        """
        image = image or Size(*self.config.image)
        if image == self.image:
            return
        self.image = image
        if isinstance(self.positions, AddedPositions):
            rows, cols = self.config.patch
            self.positions.place(Size(image.rows // rows, image.cols // cols))

    def _run(self, block: nn.Module, z: Tensor) -> Tensor:
        """Run one block, recomputing it in the backward pass if so configured."""
        if self.config.recompute and self.training and torch.is_grad_enabled():
            return cast("Tensor", checkpoint(block, z, use_reentrant=False))
        return block(z)

    def _check(self, images: Tensor) -> None:
        expected = (self.config.channels, *self.image)
        if tuple(images.shape[1:]) != expected:
            raise ConfigError(
                f"the model expects images of (channel, row, col) = {expected}, not {tuple(images.shape[1:])}; "
                "resize the images, or the model with model.resized((rows, cols))"
            )


def create(config: ViTConfig, seed: int = 0) -> ViT:
    """Return a freshly initialised model: the same seed gives the same weights, and the global generator isn't touched."""
    with torch.random.fork_rng(devices=[]):  # torch's layers draw their own weights, which are overwritten
        model = ViT(config)
    initialise(model, seed)
    return model
