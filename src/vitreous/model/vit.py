"""The Vision Transformer (2010.11929, figure 1). Read `ViT.forward` beside the figure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vitreous.errors import ConfigError, UnknownName
from vitreous.model.attention import Places
from vitreous.model.config import RegularisationConfig, ViTConfig
from vitreous.model.draws import Dropout, Keys, PatchDropout, Place, fill_places, set_rate
from vitreous.model.encoder import build_blocks, set_drop_path
from vitreous.model.heads import Pool, PreLogits, build_head
from vitreous.model.hooks import gather_outputs
from vitreous.model.layers import build_norm
from vitreous.model.meta_device import rebuild
from vitreous.model.parameters import TABLE, ZEROS, Trunk
from vitreous.model.patches import PatchEmbedding, resample_kernel
from vitreous.model.positions.added import DEFAULT_RULE, AddedPositions, build_positions
from vitreous.model.positions.offset_bias import OffsetBias, build_relative
from vitreous.model.positions.relative import Relative
from vitreous.model.positions.resize import ALL_RULES
from vitreous.model.positions.rotary import MixedRotary, Rotary
from vitreous.shapes import Float, Int32, Int64, Num, Size

POSITIONS = (AddedPositions, Relative, OffsetBias, Rotary, MixedRotary)
"""All modules of positions."""


class ViT(nn.Module):
    """An image is worth rows x cols words.

    The constructor leaves the parameters as they are allocated: `create` initialises them, loading overwrites them.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        token = TABLE if config.init == "mae" else ZEROS
        self.roles = {"class_token": token, "distillation_token": token, "registers": TABLE}
        self.image = Size(*config.image)
        """Rows and columns of the model's current input; see `set_resolution`."""
        self.regularisation = RegularisationConfig()
        """What training leaves out at random; see `regularise`."""
        self.recompute = False
        """Activation checkpointing: recompute blocks in the backward pass, for less memory. Changes no number."""
        self.patches = PatchEmbedding(config)
        self.class_token = nn.Parameter(torch.empty(config.width)) if config.class_token else None
        self.distillation_token = nn.Parameter(torch.empty(config.width)) if config.distillation_token else None
        self.registers = nn.Parameter(torch.empty(config.registers, config.width)) if config.registers else None
        self.positions = build_positions(config)
        self.layer_positions = nn.ModuleList(
            module
            for _ in range(config.depth - 1)
            if config.position_placement == "layers" and (module := build_positions(config))
        )
        self.relative = build_relative(config) if config.position_placement == "shared" else None
        self.rotary = Rotary(config) if config.rotary.kind in ("cells", "centred") else None
        self.embed_norm = build_norm(config) if config.embed_norm else nn.Identity()
        self.keys = Keys()
        """Which examples come next; see `set_examples`."""
        self.dropout, self.patch_dropout = Place(Dropout), Place(PatchDropout)
        self.blocks = build_blocks(config)
        self.norm = build_norm(config, config.features if config.final_norm == "pooled" else None)
        if config.final_norm == "none":
            self.norm = nn.Identity()
        self.pool = Pool(config)
        self.pre_logits = PreLogits(config.features, config.head_inputs) if config.pre_logits else nn.Identity()
        self.head = build_head(config)
        self.distillation_head = build_head(config) if config.distillation_token else None

    @property
    def heads(self) -> dict[str, nn.Module]:
        """The layers that output logits, by name: replaced for other classes, and trained together with LoRA's
        updates."""
        heads = {"head": self.head, "distillation_head": self.distillation_head}
        return {name: head for name, head in heads.items() if head is not None}

    @property
    def trunk(self) -> Trunk:
        """All but the heads and their pooling."""
        tokens = (self.class_token, self.distillation_token, self.registers)
        positions, inside = [one for one in self.modules() if isinstance(one, POSITIONS)], set(self.blocks.modules())
        outside = (one for one in positions if one not in inside)
        front = [self.patches, *outside, *(token for token in tokens if token is not None), self.embed_norm]
        return Trunk(positions, front, list(self.blocks), self.norm)

    @property
    def grid(self) -> Size:
        """Rows and columns of patches at the current resolution."""
        return Size(self.image.rows // self.config.patch[0], self.image.cols // self.config.patch[1])

    def forward(self, images: Num[Tensor, "batch channel row col"]) -> Float[Tensor, "batch label"]:
        """Return logits, or features if the model has no classes. A distilled model's two heads are averaged.

        Raises:
            ConfigError: the images have another size or number of channels than the model.
        """
        return self.logits(self.tokens(images))

    def logits(
        self, z: Float[Tensor, "batch token dim"], sizes: Float[Tensor, "batch token 1"] | None = None
    ) -> Float[Tensor, "batch label"]:
        """Return the logits for the sequence that `tokens` returns; `sizes`: how many patches each token is made of."""
        first, *others = self.logits_by_head(z, sizes)
        return (first + others[0]) / 2 if others else first

    def logits_by_head(
        self, z: Float[Tensor, "batch token dim"], sizes: Float[Tensor, "batch token 1"] | None = None
    ) -> list[Float[Tensor, "batch label"]]:
        """Return the logits of each head for the sequence that `tokens` returns; a distilled model's two have a loss
        each."""
        logits = [self.head(self.represent(z, sizes))]
        return logits if self.distillation_head is None else [*logits, self.distillation_head(z[:, 1])]

    def features(self, images: Num[Tensor, "batch channel row col"]) -> Float[Tensor, "batch features"]:
        """Return the representation of each image, which is the head's input."""
        return self.represent(self.tokens(images))

    def represent(
        self, z: Float[Tensor, "batch token dim"], sizes: Float[Tensor, "batch token 1"] | None = None
    ) -> Float[Tensor, "batch features"]:
        """Return the representation of each image, from the sequence that `tokens` returns."""
        pooled = self.pool(z) if sizes is None else self.pool(z, sizes)
        return self.pre_logits(self.norm(pooled) if self.config.final_norm == "pooled" else pooled)

    def tokens(self, images: Num[Tensor, "batch channel row col"]) -> Float[Tensor, "batch token dim"]:
        """Return the sequence after the last block and, unless it comes after pooling, the final norm.

        If pool_layers is above 1, [class] of earlier blocks follows it.
        """
        return self.encode(self.embed(images))

    def encode(self, z: Float[Tensor, "batch token dim"]) -> Float[Tensor, "batch token2 dim"]:
        """Pass z0 through the blocks and, unless it comes after pooling, the final norm."""
        angles = self.rotary() if self.rotary is not None else None
        places = Places(angles, self.relative, grid=self.grid)
        first, earlier = self.config.depth - self.config.pool_layers, []
        for index, block in enumerate(self.blocks):
            z = self.run_block(block, self.add_positions(z, index), places)
            if first <= index < self.config.depth - 1:
                earlier.append(z[:, :1])
        z = torch.cat([z, *earlier], dim=1) if earlier else z
        return self.norm(z) if self.config.final_norm == "tokens" else z

    def embed(self, images: Num[Tensor, "batch channel row col"]) -> Float[Tensor, "batch token dim"]:
        """Return z0 of equation 1: [class] and the embedded patches, with their positions."""
        self._check(images)
        return self.assemble(self.patches(images))

    def assemble(
        self, z: Float[Tensor, "batch patch dim"], kept: Int64[Tensor, "batch kept"] | None = None
    ) -> Float[Tensor, "batch token dim"]:
        """Return z0 from embedded patches: prefix tokens before them, positions added.

        Args:
            z: embedded patches, row by row; not necessarily those of an image.
            kept: patches of each image that stay in the sequence, in this order, once they have their positions.
        """
        z = self.prepend_prefix(z)
        if self.positions is not None:
            z = self.positions(z)
        z = self._drop_patches(z) if kept is None else self.select_patches(z, kept)
        return self.dropout(self.embed_norm(z))

    def prepend_prefix(self, z: Float[Tensor, "batch patch dim"]) -> Float[Tensor, "batch token dim"]:
        """Put [class], the distillation token and registers before the patches."""
        learned = (self.class_token, self.distillation_token, self.registers)
        prefix = [token.to(z.dtype).expand(z.shape[0], *token.shape[:-1], -1) for token in learned if token is not None]
        return (
            torch.cat([*(part if part.ndim == 3 else part.unsqueeze(1) for part in prefix), z], dim=1) if prefix else z
        )

    def add_positions(self, z: Float[Tensor, "batch token dim"], index: int) -> Float[Tensor, "batch token dim"]:
        """Add positions before a block, if every layer adds them; the first block has them from the input."""
        if index == 0 or self.config.position_placement == "input" or self.positions is None:
            return z
        return self.positions(z) if self.config.position_placement == "shared" else self.layer_positions[index - 1](z)

    def _drop_patches(self, z: Tensor) -> Tensor:
        """Leave out a share of the patches of each image, in training."""
        if not self.training or self.patch_dropout.rate == 0:
            return z
        return self.select_patches(z, self.patch_dropout(z[:, self.config.prefix :]))

    def select_patches(
        self, z: Float[Tensor, "batch token dim"], kept: Int64[Tensor, "batch kept"]
    ) -> Float[Tensor, "batch token2 dim"]:
        """Return the sequence with only these patches of each image, and all prefix tokens."""
        prefix, patches = z[:, : self.config.prefix], z[:, self.config.prefix :]
        return torch.cat([prefix, patches.gather(1, kept[..., None].expand(-1, -1, z.shape[2]))], dim=1)

    def intermediates(
        self, images: Float[Tensor, "batch channel row col"], names: Sequence[str]
    ) -> dict[str, Float[Tensor, "batch ..."]]:
        """Return named intermediates of one forward pass, the same bits as in `forward`.

        Names: "patches" (embedded, before positions), "embedded" (z0), "block.0" ... (the residual stream after each
        block, without the final norm), "norm" (the sequence after the final norm), "pooled", "pre_logits", "logits".

        Raises:
            UnknownName: a name that is none of these, or "norm" of a model without a final norm.
        """
        places: dict[str, nn.Module] = {"patches": self.patches, "embedded": self.dropout}
        places |= {f"block.{index}": block for index, block in enumerate(self.blocks)}
        places |= {"pooled": self.pool, "pre_logits": self.pre_logits, "logits": self}
        if self.config.final_norm != "none":
            places["norm"] = self.norm
        return gather_outputs(self, images, places, names)

    def maps(
        self, images: Float[Tensor, "batch channel row col"], layers: Sequence[int], *, norm: bool = True
    ) -> list[Float[Tensor, "batch grid_row grid_col dim"]]:
        """Return the patches' vectors after some blocks as maps, for detection, segmentation and the like.

        Args:
            images: as in `forward`.
            layers: blocks; 0 is the first, -1 the last.
            norm: pass the vectors through the final norm (as DINOv2 does); downstream the two differ by several
                percent.

        Raises:
            UnknownName: a block that the model doesn't have.
        """
        names = [f"block.{layer + self.config.depth if layer < 0 else layer}" for layer in layers]
        found = self.intermediates(images, names)
        through = self.norm if norm and self.config.final_norm == "tokens" else nn.Identity()
        return [through(found[name])[:, self.config.prefix :].unflatten(1, self.grid) for name in names]

    def repatch(self, patch: tuple[int, int], rule: str = DEFAULT_RULE) -> "ViT":
        """Return this model for patches of another size, on the same grid: images grow or shrink with the patch.

        The kernel is resampled by FlexiViT's pseudo-inverse (2212.08013, section 3.4), so that a patch and its resized
        copy are embedded as similarly as possible. The rule says how that copy is made: FlexiViT's own is "bilinear".

        Raises:
            ConfigError: the norm before the embedding has a scale for each pixel of a patch.
            UnknownName: no such rule.
        """
        if self.config.patch_norm == "both":
            raise ConfigError(
                "patch_norm='both' has a scale for each pixel of a patch, so patches can't change their size"
            )
        image = (self.config.grid.rows * patch[0], self.config.grid.cols * patch[1])
        config = replace(self.config, image=image, patch=tuple(patch))
        kernel = resample_kernel(self.patches.kernel.detach(), Size(*config.patch_shape[1:]), rule)
        return self._rebuild(config, self.state_dict() | {"patches.embed.weight": kernel.flatten(1)})

    def resize(self, image: tuple[int, int], rule: str = DEFAULT_RULE, *, share: bool = False) -> "ViT":
        """Return this model for images of another size; learned positions are interpolated by a named rule.

        `share` reuses all unchanged tensors instead of copying them.

        Raises:
            ConfigError: the patch doesn't divide the image.
            UnknownName: no such rule.
        """
        if rule not in ALL_RULES:
            raise UnknownName("resize rule", rule, ALL_RULES)
        config, weights = replace(self.config, image=tuple(image)), self.state_dict()
        for name, module in self.named_modules():
            if isinstance(module, (AddedPositions, Relative)):
                resized = module.resize(config.grid, rule)
                weights |= {f"{name}.{key}": tensor for key, tensor in resized.items()}
        return self._rebuild(config, weights, share=share)

    def _rebuild(self, config: ViTConfig, weights: Mapping[str, Tensor], *, share: bool = False) -> "ViT":
        """Return this model for another configuration, with these weights, and the same training settings."""
        other = rebuild(self, config, weights, share=share)
        other.regularise(self.regularisation)
        other.recompute = self.recompute
        return other

    def regularise(self, config: RegularisationConfig) -> None:
        """Set what is left out at random in training mode.

        Raises:
            ConfigError: patches would be left out, but this model's positions or attention need them all.
        """
        config.check_model(self.config)
        self.regularisation = config
        set_rate(self, Dropout, config.dropout)
        set_rate(self, PatchDropout, config.patch_dropout)
        set_drop_path(self.blocks, config)
        fill_places(self, self.keys)

    def set_examples(self, keys: Int32[Tensor, " batch"] | None) -> None:
        """Say which examples the next images are, by a number each: what `regularise` leaves out of an example is a
        function of it. None: nobody says so, and torch's generator draws."""
        self.keys.of_examples = keys

    def set_resolution(self, image: Size | None) -> None:
        """Switch to images of this size, with the same patch size; None: the configured one. No parameter changes.

        The positions are averaged over the cells that each coarser cell covers, by a constant matrix that gradients
        pass through, so training at a low resolution trains the full grid.
        """
        image = image or Size(*self.config.image)
        if image == self.image:
            return
        self.image = image
        rows, cols = self.config.patch
        for module in self.modules():
            if isinstance(module, POSITIONS):
                module.place(Size(image.rows // rows, image.cols // cols))

    def run_block(self, block: nn.Module, z: Tensor, places: Places) -> Tensor:
        """Run one block, recomputing it in the backward pass if `recompute` is set."""
        if self.recompute and self.training and torch.is_grad_enabled():
            return cast("Tensor", checkpoint(block, z, places, use_reentrant=False))
        return block(z, places)

    def _check(self, images: Tensor) -> None:
        expected = (self.config.channels, *self.image)
        if tuple(images.shape[1:]) != expected:
            raise ConfigError(
                f"the model expects images of (channel, row, col) = {expected}, not {tuple(images.shape[1:])}; "
                "resize the images, or the model with model.resize((rows, cols))"
            )
