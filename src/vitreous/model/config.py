"""The shapes of Vision Transformers, and their regularisation: settings only, no torch. Their names are in
`model/names.py`."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from vitreous.errors import ConfigError
from vitreous.model.resnet_config import StemConfig
from vitreous.settings import check_settings
from vitreous.shapes import Size

Positions = Literal[
    "learned", "learned2d", "sincos2d", "sincos2d-mae", "relative", "bias", "bias-log", "bias-log-swin", "none"
]
Pool = Literal["class", "mean", "max", "map", "class+mean"]
TRAINING_SETTINGS = ("dropout", "drop_path", "patch_dropout", "recompute")
"""Settings that belonged to the architecture in files of layout 1, and belong to the run today (`RunConfig`); no output
depends on them."""


@dataclass(frozen=True)
class BlockConfig:
    """The design of the encoder's blocks. The defaults are the paper's."""

    attention: Literal["full", "axial"] = "full"
    """What a patch attends to. full: all tokens. axial (appendix D.6): the patches of its row in the first block, those
    of its column in the second, and so on alternately."""
    norm: Literal["layer", "rms"] = "layer"
    """Layer norm, or RMS norm (1910.07467), wherever the model normalises."""
    activation: Literal["gelu", "gelu-tanh", "quick-gelu", "silu"] = "gelu"
    """Activation: exact GELU, its tanh approximation (flax's default), x sigmoid(1.702 x) (OpenAI's CLIP), or SiLU."""
    mlp: Literal["plain", "swiglu"] = "plain"
    """plain: contract(act(expand(z))). swiglu (2002.05202): contract(act(gate(z)) * value(z)), gate and value in one map."""
    mlp_inner_norm: bool = False
    """Normalise the hidden layer before contracting it (EVA-02)."""
    qkv_bias: Literal["all", "no-key", "none"] = "all"
    """Which of q, k and v have biases."""
    biases: bool = True
    """Biases of the attention's output map and of the MLP."""
    qk_norm: bool = False
    """Normalise q and k of each head (2302.05442)."""
    attention_inner_norm: bool = False
    """Normalise the heads' outputs before the output map (EVA-02 and NormFormer)."""
    layer_scale: float = 0.0
    """Initial value of a learned scale on each branch (CaiT, 2103.17239); 0: none."""
    norm_order: Literal["before", "after"] = "before"
    """Normalise the input of a branch (as in the paper), or its output (Swin v2's residual post-norm)."""
    parallel: bool = False
    """Attention and MLP side by side on one norm's output (2302.05442) instead of one after the other."""

    RENAMED: ClassVar[dict[str, str]] = {
        "act": "activation",
        "mlp_norm": "mlp_inner_norm",
        "attention_norm": "attention_inner_norm",
    }
    """Settings that had another name in files of layout 1."""

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class RotaryConfig:
    """Rotary positions in two dimensions: q and k of each patch are rotated by its row and column."""

    kind: Literal["none", "cells", "centred", "mixed"] = "none"
    """none. cells (EVA-02): angles count cells of the reference grid, and neighbouring values are rotated together.
    centred (DINOv3): coordinates run from -1 to 1, and the two halves of a head are rotated together. mixed
    (2403.13298): like cells, but by row and column at the same time, with frequencies that each head of each block
    learns."""
    temperature: float = 10_000.0
    """Ratio of the longest to the shortest wavelength (DINOv3: 100); with mixed, of the initial wavelengths."""
    reference: tuple[int, int] | None = None
    """cells: rows and columns of the grid for which the angles were trained; other grids are scaled to it. None: no
    scaling."""
    rounded: bool = False
    """centred: round wavelengths to bfloat16, as in DINOv3's own files (others compute them exactly)."""
    offset: float = 0.0
    """cells: offset added to rows and columns before they are scaled to the reference (Perception Encoder: 1)."""
    columns_first: bool = False
    """cells: columns rotate the first half of a head's values and rows the second, rather than the reverse."""

    def __post_init__(self) -> None:
        check_settings(self)
        if self.temperature <= 0:
            raise ConfigError(f"rotary.temperature is {self.temperature:g}; it must be above 0")
        if self.reference is not None and min(self.reference) < 1:
            raise ConfigError(f"rotary.reference is {self.reference}; its rows and columns must be at least 1")


@dataclass(frozen=True)
class RegularisationConfig:
    """What a model leaves out at random during training. These settings are not part of an architecture: no model
    folder holds them."""

    dropout: float = 0.0
    """Dropout after the positions and after every dense layer except qkv; in a ResNet or EfficientNet, before the head.
    0 to below 1."""
    drop_path: float = 0.0
    """Stochastic depth (1603.09382): the rate of the last block or unit, 0 to below 1."""
    drop_path_schedule: Literal["linear", "constant"] = "linear"
    """How that rate varies with depth: rising linearly from 0 at the first block, or the same in every block."""
    patch_dropout: float = 0.0
    """Share of the patches left out in training, drawn for each image separately (FLIP, 2212.00794), 0 to below 1."""

    def __post_init__(self) -> None:
        check_settings(self)
        for name in ("dropout", "drop_path", "patch_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(
                    f"regularisation.{name} is {getattr(self, name):g}; it must be at least 0 and below 1"
                )

    def check_model(self, model: "ViTConfig") -> None:
        """Raise ConfigError if a model can't be trained with these settings."""
        if not self.patch_dropout:
            return
        if model.rotary.kind != "none" or model.in_attention or model.position_placement != "input":
            raise ConfigError(
                "patch_dropout needs positions that are added at the input, since blocks can't tell which patches are left; set it to 0"
            )
        if model.block.attention == "axial":
            raise ConfigError(
                "patch_dropout leaves holes in the grid, but axial attention needs whole rows and columns; set it to 0"
            )


@dataclass(frozen=True)
class ViTConfig:
    """One Vision Transformer, completely described. The defaults are ViT-B/16 as in the paper."""

    KIND: ClassVar[str] = "vit"
    LARGEST: ClassVar[dict[str, int]] = {
        **dict.fromkeys(("image", "patch", "width", "heads", "registers"), 2**17),
        "channels": 2**12,
        "depth": 10_000,
        "mlp_width": 2**20,
        "classes": 10**8,
    }
    """Largest values for which a model is built."""
    image: tuple[int, int] = (224, 224)
    """Rows and columns of the images, in pixels."""
    patch: tuple[int, int] = (16, 16)
    """Rows and columns of a patch, in pixels; must divide the image."""
    channels: int = 3
    """Colour channels of the images."""
    stem: StemConfig = field(default_factory=StemConfig)
    width: int = 768
    """Width of the residual stream (the paper's D)."""
    depth: int = 12
    """Number of encoder blocks (the paper's L). Axial blocks come in pairs; each pair does the work of one block of
    full attention."""
    heads: int = 12
    """Attention heads; must divide the width, unless attention_head_width is set."""
    attention_head_width: int = 0
    """Width of each head in the blocks (vit-pytorch: dim_head); 0: the width divided by the heads."""
    mlp_width: int = 3072
    """Hidden width of the MLP."""
    classes: int = 1000
    """Outputs of the head; 0 leaves the head out and returns features."""
    pool: Pool = "class"
    """What represents the image: the [class] token's output; the mean or maximum over the patches' outputs; map:
    attention pooling with a learned query (2106.04560); class+mean: both, concatenated (DINOv2's classifiers)."""
    pool_mlp_width: int = 0
    """Hidden width of the MLP after attention pooling; 0: as in the blocks."""
    pool_heads: int = 0
    """Heads of attention pooling; 0: as in the blocks."""
    pool_plain: bool = False
    """Attention pooling with the query itself, without a linear map of it and without an MLP afterwards (AIM)."""
    pool_prefix: bool = False
    """mean, max, map: pool over [class] and registers too, not only over the patches."""
    pool_layers: int = 1
    """class+mean: number of last blocks whose [class] tokens are used, each normalised, and concatenated (DINOv2's
    linear heads: 1 or 4)."""
    class_token: bool = True
    """Put a learned [class] token at the front of the sequence; pool="class" needs it."""
    distillation_token: bool = False
    """Put a learned distillation token after [class], with its own head (DeiT, 2012.12877); the two heads are
    averaged."""
    registers: int = 0
    """Learned tokens after those, discarded at the end (2309.16588)."""
    positions: Positions = "learned"
    """Position embedding. Added to the tokens: learned (1-D, as in the paper), learned2d (half for the row, half for
    the column), sincos2d (MoCo v3, big_vision), sincos2d-mae (MAE's frequencies). In the attention: relative (as in the
    paper: query times an embedding of the 1-D offset), bias (one per head and 2-D offset: Swin, BEiT), bias-log (the
    same, computed by an MLP from the offset's logarithm: timm), bias-log-swin (Swin v2's). Or none."""
    position_mlp_width: int = 128
    """bias-log: hidden width of the MLP from offsets to biases."""
    position_placement: Literal["input", "layers", "shared"] = "input"
    """Where positions are added (table 8). input: at the input. layers: in every layer, each with its own. shared: in
    every layer, all with the same. Relative positions and biases act in every layer: with layers (input means the same)
    or shared."""
    positioned_tokens: Literal["all", "class", "patches"] = "all"
    """Which tokens have added positions. all: all of them. class: [class] and patches, but not registers (DINOv2).
    patches: only patches (DeiT-III)."""
    position_init: Literal["normal", "sincos2d"] = "normal"
    """Learned positions start from normal draws with standard deviation 0.02, or from the 2-D sines and cosines."""
    init: Literal["paper", "mae"] = "paper"
    """Distribution of new weights. paper: as in the authors' code (vit_jax), but without its truncation of draws at two
    standard deviations. mae (2111.06377): Xavier's for the patch embedding as well, [class] from normal draws with
    standard deviation 0.02, and biases of zero."""
    position_temperature: float = 10_000.0
    """Ratio of the longest to the shortest wavelength of the sines; small grids need a small ratio."""
    rotary: RotaryConfig = field(default_factory=RotaryConfig)
    block: BlockConfig = field(default_factory=BlockConfig)
    patch_norm: Literal["none", "after", "both"] = "none"
    """Normalise each patch after it is embedded (AIM), or its pixels before as well (vit-pytorch)."""
    patch_bias: bool = True
    """Bias of the patch embedding (CLIP has none)."""
    embed_norm: bool = False
    """Normalise the sequence before the first block (CLIP)."""
    final_norm: Literal["tokens", "pooled", "none"] = "tokens"
    """Where the final norm is applied. tokens: to the sequence (equation 4). pooled: after pooling. none: nowhere."""
    head_bias: bool = True
    """Bias of the head (CLIP's projection has none)."""
    pre_logits: bool = False
    """A tanh layer before the head, as in the paper's pre-training."""
    pre_logits_width: int = 0
    """Width of that layer; 0: the width of its input (big_vision: rep_size)."""
    norm_eps: float = 1e-6
    """Epsilon of every layer norm."""

    RENAMED: ClassVar[dict[str, str]] = {
        "mlp": "mlp_width",
        "head_width": "attention_head_width",
        "pool_mlp": "pool_mlp_width",
        "distillation": "distillation_token",
        "position_hidden": "position_mlp_width",
        "positions_at": "position_placement",
        "position_tokens": "positioned_tokens",
        "norm_at": "final_norm",
        "start": "init",
    }
    """Settings that had another name in files of layout 1."""

    def __post_init__(self) -> None:
        check_settings(self)
        if min(self.patch) < 1:
            raise ConfigError(f"patch is {self.patch}; it must be at least 1")
        for size, patch, axis in zip(self.image, self.patch, ("rows", "cols"), strict=True):
            if size < 1 or size % patch:
                near = max(patch, round(size / patch) * patch)
                raise ConfigError(
                    f"an image of {size} {axis} can't be cut into patches of {patch}; use an image size that is a "
                    f"multiple of the patch, such as {near}"
                )
        if self.heads < 1 or (self.width % self.heads and not self.attention_head_width):
            raise ConfigError(
                f"width {self.width} can't be divided among {self.heads} heads; heads must divide the width"
            )
        if self.pool in ("class", "class+mean") and not self.class_token:
            raise ConfigError(f"pool={self.pool!r} needs class_token=True; or choose pool='mean'")
        if self.distillation_token and not (self.class_token and self.pool == "class"):
            raise ConfigError("a distillation token needs class_token=True and pool='class'")
        if self.distillation_token and (self.final_norm == "pooled" or self.head_inputs != self.width):
            raise ConfigError(
                f"the distillation token's head reads the normalised sequence, {self.width} wide; set final_norm='tokens' or "
                "'none', and pre_logits_width=0"
            )
        self._check_ranges()
        self._check_pool()
        self._check_positions()
        self._check_stem()
        self._check_axial()

    def _check_pool(self) -> None:
        if self.pool == "map" and self.width % (self.pool_heads or self.heads):
            raise ConfigError(
                f"width {self.width} can't be divided among {self.pool_heads or self.heads} heads of the pooling; "
                "they must divide the width"
            )
        if self.pool_layers > 1 and self.pool != "class+mean":
            raise ConfigError(f"pool_layers={self.pool_layers} is for pool='class+mean', not for {self.pool!r}")
        if self.pool_layers > self.depth:
            raise ConfigError(f"pool_layers is {self.pool_layers}, but there are only {self.depth} blocks")
        if self.pool_layers > 1 and self.final_norm == "pooled":
            raise ConfigError("pool_layers above 1 needs final_norm='tokens' or 'none'")
        if self.block.parallel and self.block.norm_order == "after":
            raise ConfigError(
                "parallel branches share one norm before them, but norm_order='after' needs a norm after each; choose one of the two"
            )

    def _check_ranges(self) -> None:
        for name in ("channels", "width", "depth", "mlp_width", "pool_layers", "position_mlp_width"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in (
            "classes",
            "registers",
            "pool_mlp_width",
            "pool_heads",
            "attention_head_width",
            "pre_logits_width",
        ):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be 0 (none) or more")
        if self.norm_eps < 0:
            raise ConfigError(f"norm_eps is {self.norm_eps:g}; it must be at least 0")
        if self.position_temperature <= 0:
            raise ConfigError(f"position_temperature is {self.position_temperature:g}; it must be above 0")

    def _check_positions(self) -> None:
        if ("sincos2d" in (self.positions, self.position_init) or self.positions == "sincos2d-mae") and self.width % 4:
            raise ConfigError(f"2-D sin-cos positions need a width divisible by 4, not {self.width}")
        if self.positions == "learned2d" and self.width % 2:
            raise ConfigError(
                f"width is {self.width}, but learned2d gives half of it to rows and half to columns; it must be even"
            )
        if self.rotary.kind != "none" and self.per_head % 4:
            raise ConfigError(f"2-D rotary positions need a head width divisible by 4, not {self.per_head}")
        if self.position_init == "sincos2d" and self.positions not in ("learned", "sincos2d"):
            raise ConfigError(
                f"position_init='sincos2d' is for learned positions, not for {self.positions!r}; set position_init='normal'"
            )

    def _check_stem(self) -> None:
        stride = self.stem.stride
        if self.patch[0] % stride or self.patch[1] % stride:
            raise ConfigError(
                f"each cell of the stem's map covers {stride} pixels per side, so a patch of {Size(*self.patch)} pixels can't be "
                f"cut from it; use a patch that is a multiple of {stride}"
            )

    def _check_axial(self) -> None:
        if self.block.attention == "full":
            return
        if self.prefix:
            raise ConfigError(
                "axial attention runs along the rows and columns of the patches, where [class] and registers "
                "have no place; set class_token=False and registers=0, and choose pool='mean', 'max' or 'map'"
            )
        if self.depth % 2:
            raise ConfigError(
                f"axial blocks come in pairs, rows and then columns, so depth {self.depth} must be even, "
                f"such as {self.depth + 1}"
            )
        if self.in_attention:
            raise ConfigError(
                f"positions={self.positions!r} uses offsets between all tokens, but axial attention compares "
                "only those of one row or column; choose learned, sincos2d or rotary positions"
            )
        if self.rotary.kind == "mixed":
            raise ConfigError(
                "axial attention needs rotary positions with fixed frequencies; choose cells or centred, not mixed"
            )

    @property
    def patch_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of the patch embedding's input: pixels, or cells of the stem's map."""
        rows, cols = (side // self.stem.stride for side in self.patch)
        return self.stem.outputs(self.channels), rows, cols

    @property
    def grid(self) -> Size:
        """Rows and columns of patches."""
        return Size(self.image[0] // self.patch[0], self.image[1] // self.patch[1])

    @property
    def prefix(self) -> int:
        """Tokens before the patches: [class], distillation, registers."""
        return self.class_token + self.distillation_token + self.registers

    @property
    def placed_prefix(self) -> int:
        """Tokens before the patches that have an added position; they come first."""
        return {"all": self.prefix, "class": self.class_token + self.distillation_token, "patches": 0}[
            self.positioned_tokens
        ]

    @property
    def per_head(self) -> int:
        """Width of each head."""
        return self.attention_head_width or self.width // self.heads

    @property
    def attention_width(self) -> int:
        """Width of all heads together."""
        return self.heads * self.per_head

    @property
    def in_attention(self) -> bool:
        """Whether positions act on the attention's logits."""
        return self.positions in ("relative", "bias", "bias-log", "bias-log-swin")

    @property
    def tokens(self) -> int:
        """Length of the sequence, [class] and other prefix tokens included."""
        return self.grid.rows * self.grid.cols + self.prefix

    @property
    def features(self) -> int:
        """Width of the image's representation."""
        return (1 + self.pool_layers) * self.width if self.pool == "class+mean" else self.width

    @property
    def head_inputs(self) -> int:
        """Width of the head's input: the representation, or the layer before the head."""
        return (self.pre_logits_width or self.features) if self.pre_logits else self.features
