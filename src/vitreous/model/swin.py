"""The Swin Transformer (2103.14030, figure 3), and its second version (2111.09883): windows of attention, and stages."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from vitreous.errors import UnknownName
from vitreous.model.attention import Places
from vitreous.model.config import RegularisationConfig
from vitreous.model.draws import Dropout, Keys, Place, fill_places, set_rate
from vitreous.model.encoder import Block, set_drop_path
from vitreous.model.heads import Pool, build_head
from vitreous.model.hooks import gather_outputs, name_stages
from vitreous.model.layers import build_norm, check_channels
from vitreous.model.meta_device import rebuild
from vitreous.model.parameters import ZEROS, Dense, Trunk, declare
from vitreous.model.patches import PatchEmbedding
from vitreous.model.positions.added import DEFAULT_RULE
from vitreous.model.positions.offset_bias import OffsetBias
from vitreous.model.positions.relative import Relative
from vitreous.model.positions.resize import ALL_RULES
from vitreous.model.swin_config import SwinConfig, check_swin_training, fit_windows
from vitreous.model.windows import WindowAttention
from vitreous.shapes import Float, Int32, Size

FOUR = "batch (row down) (col across) dim -> batch (row col) (across down dim)"


class PatchMerging(nn.Module):
    """Four patches of 2x2 become one of twice the width: side by side, normalised and mapped; in version 2 normalised
    after it. A grid of odd rows or columns is padded with zeros."""

    def __init__(self, config: SwinConfig, stage: int) -> None:
        super().__init__()
        made = config.stage(stage)
        self.after = config.version == "v2"
        self.reduce = Dense(2 * made.width, made.width, bias=False)
        self.norm = build_norm(made, made.width if self.after else 2 * made.width)

    def forward(self, z: Float[Tensor, "batch token dim"], grid: Size) -> Float[Tensor, "batch token2 dim2"]:
        """Merge the patches of a grid, listed row by row: above left, below left, above right, below right."""
        z = F.pad(z.unflatten(1, tuple(grid)), (0, 0, 0, grid.cols % 2, 0, grid.rows % 2))
        four = rearrange(z, FOUR, down=2, across=2)
        return self.norm(self.reduce(four)) if self.after else self.reduce(self.norm(four))


class SwinStage(nn.Module):
    """Merging, except in the first stage, and blocks whose windows are shifted in turn."""

    def __init__(self, config: SwinConfig, index: int) -> None:
        super().__init__()
        made, second = config.stage(index), config.version == "v2"
        trained = Size(*config.trained_windows[index]) if config.trained_windows else None
        self.merge = PatchMerging(config, index) if index else None
        self.blocks = nn.ModuleList(
            Block(made, WindowAttention(made, shifted=bool(place % 2), cosine=second, trained=trained))
            for place in range(made.depth)
        )
        for block in self.blocks if second else []:  # as in the authors' code, branches begin at zero
            for norm in (block.attention_norm, block.mlp_norm):
                declare(cast("nn.Module", norm), weight=ZEROS)

    def forward(
        self, z: Float[Tensor, "batch token dim"], before: Size, grid: Size, recompute: bool = False
    ) -> Float[Tensor, "batch token2 dim2"]:
        """Pass the patches of the grid before on to this stage's own. `recompute`: blocks, in the backward pass."""
        z = z if self.merge is None else self.merge(z, before)
        places = Places(grid=grid)
        for block in self.blocks:
            if recompute and self.training and torch.is_grad_enabled():
                z = cast("Tensor", checkpoint(block, z, places, use_reentrant=False))
            else:
                z = block(z, places)
        return z


class Swin(nn.Module):
    """A Transformer that attends within windows, in stages of ever coarser patches, for images of any size.

    The constructor leaves the parameters as they are allocated: `create` initialises them, loading overwrites them.
    """

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.config = config
        self.image = Size(*config.image)
        """Rows and columns of the images that masks are kept for; see `set_resolution`."""
        self.recompute = False
        """Activation checkpointing: recompute blocks in the backward pass, for less memory. Changes no number."""
        self.regularisation = RegularisationConfig()
        """What training leaves out at random; see `regularise`."""
        last = config.stage(len(config.depths) - 1)
        self.patches = PatchEmbedding(config.front)
        self.keys = Keys()
        """Which examples come next; see `set_examples`."""
        self.dropout = Place(Dropout)
        self.stages = nn.ModuleList(SwinStage(config, index) for index in range(len(config.depths)))
        self.norm = build_norm(last)
        self.pool = Pool(last)
        self.head = build_head(last)
        self._place()

    @property
    def heads(self) -> dict[str, nn.Module]:
        """The layers that output logits, by name: replaced for other classes."""
        return {"head": self.head}

    @property
    def blocks(self) -> list[Block]:
        """The blocks of all stages, in order."""
        return [cast("Block", block) for stage in self.stages for block in cast("SwinStage", stage).blocks]

    @property
    def trunk(self) -> Trunk:
        """All but the head; a stage's merging belongs to its first block."""
        blocks: list[nn.Module] = []
        for stage in cast("list[SwinStage]", list(self.stages)):
            first, *others = stage.blocks
            blocks += [first if stage.merge is None else nn.ModuleList([stage.merge, first]), *others]
        positions = [module for module in self.modules() if isinstance(module, (Relative, OffsetBias))]
        return Trunk(positions, [self.patches], blocks, self.norm)

    def forward(self, images: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch label"]:
        """Return logits, or features if the model has no classes.

        Raises:
            ConfigError: the images have another number of channels than the model.
        """
        return self.head(self.features(images))

    def features(self, images: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch features"]:
        """Return the representation of each image, which is the head's input: the mean of the last stage's patches."""
        return self.pool(self.tokens(images))

    def tokens(self, images: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch token dim"]:
        """Return the last stage's patches, after the final norm."""
        return self.norm(self.encode(images))

    def encode(self, images: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch token dim"]:
        """Pass images through all stages."""
        check_channels(images, self.config.channels)
        maps = self.config.compute_map_sizes(Size(*images.shape[2:]))
        rows, cols = (count * side for count, side in zip(maps[0], self.config.patch, strict=True))
        images = F.pad(images, (0, cols - images.shape[3], 0, rows - images.shape[2]))
        z = self.dropout(self.patches(images))
        for stage, before, grid in zip(self.stages, [maps[0], *maps], maps, strict=False):
            z = stage(z, before, grid, self.recompute)
        return z

    def intermediates(
        self, images: Float[Tensor, "batch channel row col"], names: Sequence[str]
    ) -> dict[str, Float[Tensor, "batch ..."]]:
        """Return named intermediates of one forward pass, the same bits as in `forward`.

        Names: "patches" (embedded and normalised), "block.0" ... (the residual stream after each block, counted over all
        stages), "stage.0" ... (after each stage's last block), "norm", "pooled", "logits". Patches are listed row by row.

        Raises:
            UnknownName: a name that is none of these.
        """
        places: dict[str, nn.Module] = {"patches": self.patches}
        places |= {f"block.{index}": block for index, block in enumerate(self.blocks)}
        places |= {f"stage.{index}": stage for index, stage in enumerate(self.stages)}
        places |= {"norm": self.norm, "pooled": self.pool, "logits": self.head}
        return gather_outputs(self, images, places, names)

    def maps(
        self, images: Float[Tensor, "batch channel row col"], layers: Sequence[int], *, norm: bool = True
    ) -> list[Float[Tensor, "batch grid_row grid_col dim"]]:
        """Return the maps of some stages, channels last, for detection, segmentation and the like: C2 to C5.

        Args:
            images: as in `forward`.
            layers: stages; 0 is the first, -1 the last; each has its own grid and width.
            norm: pass the last stage's maps through the final norm; earlier stages have none of their own.

        Raises:
            UnknownName: a stage that the model doesn't have.
        """
        names, maps = (
            name_stages(len(self.stages), layers, norm),
            self.config.compute_map_sizes(Size(*images.shape[2:])),
        )
        grids = {f"stage.{place}": grid for place, grid in enumerate(maps)} | {"norm": maps[-1]}
        found = self.intermediates(images, names)
        return [found[name].unflatten(1, tuple(grids[name])) for name in names]

    def resize(self, image: tuple[int, int], rule: str = "", *, share: bool = False) -> "Swin":
        """Return this model, meant for images of another size. Windows stay, so no weight changes, and the rule has no
        effect; see `rewindow`. `share` reuses the tensors themselves instead of copies."""
        return self._rebuild(replace(self.config, image=tuple(image)), share=share)

    def rewindow(self, window: tuple[int, int], rule: str = DEFAULT_RULE) -> "Swin":
        """Return this model with other windows, cut to the maps of its images.

        Version 1 resizes its tables of offsets by the named rule. Version 2 computes biases from offsets, which stay
        scaled by the windows of training: no weight changes.

        Raises:
            UnknownName: no such rule.
        """
        if rule not in ALL_RULES:
            raise UnknownName("resize rule", rule, ALL_RULES)
        old = self.config
        trained = (old.trained_windows or old.windows) if old.version == "v2" else ()
        config = replace(old, windows=fit_windows(old, window), trained_windows=trained)
        weights = self.state_dict()
        for place, stage in enumerate(cast("list[SwinStage]", list(self.stages))):
            for index, block in enumerate(stage.blocks):
                table = cast("Block", block).attention.relative
                if isinstance(table, Relative):
                    resized = table.resize(Size(*config.windows[place]), rule)
                    name = f"stages.{place}.blocks.{index}.attention.relative"
                    weights |= {f"{name}.{key}": tensor for key, tensor in resized.items()}
        return self._rebuild(config, weights)

    def _rebuild(self, config: SwinConfig, weights: dict[str, Tensor] | None = None, *, share: bool = False) -> "Swin":
        other = rebuild(self, config, self.state_dict() if weights is None else weights, share=share)
        other.regularise(self.regularisation)
        other.recompute = self.recompute
        return other

    def regularise(self, config: RegularisationConfig) -> None:
        """Set what is left out at random in training mode; raises ConfigError for patches."""
        check_swin_training(config)
        self.regularisation = config
        set_rate(self, Dropout, config.dropout)
        set_drop_path(self.blocks, config)
        fill_places(self, self.keys)

    def set_examples(self, keys: Int32[Tensor, " batch"] | None) -> None:
        """Say which examples the next images are, by a number each; see `ViT.set_examples`."""
        self.keys.of_examples = keys

    def set_resolution(self, image: Size | None) -> None:
        """Keep masks for images of this size; None: the configured one. No parameter changes: windows stay as they are."""
        image = image or Size(*self.config.image)
        if image != self.image:
            self.image = image
            self._place()

    def _place(self) -> None:
        for stage, grid in zip(self.stages, self.config.compute_map_sizes(self.image), strict=True):
            for block in cast("SwinStage", stage).blocks:
                cast("WindowAttention", cast("Block", block).attention).place(grid)
