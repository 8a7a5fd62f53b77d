"""From scratch on small data: thousands of images, a laptop, minutes."""

from dataclasses import replace
from typing import Any

from vitreous.images.config import AugmentConfig, PreprocessConfig
from vitreous.model.config import ViTConfig
from vitreous.model.efficientnet_config import build_efficientnet_config
from vitreous.model.kinds import find_kind
from vitreous.model.names import build_vit_config, parse_name
from vitreous.model.resnet_config import HAAR_FILTERS, ResNetConfig, build_resnet_config
from vitreous.model.swin_config import SwinConfig, build_swin_config, fit_windows
from vitreous.objectives.config import ClassifyConfig
from vitreous.recipes.lp_ft import FEW
from vitreous.recipes.options import RecipeOptions
from vitreous.shapes import Size
from vitreous.training.config import ModelConfig, OptimizerConfig, RunConfig, ScheduleConfig

TINY, THUMBNAIL = 16, 64
"""Longest median side, in pixels, of what counts as tiny (digits) and as thumbnails (CIFAR)."""
LEAST_HALVED = 8
"""Rows and columns of patches from which a ViT starts at half of them; half of fewer would be too few to learn from."""
PHOTOGRAPH = 128
"""Side at which the model sees photographs."""
FEW_PHOTOGRAPH = 64
"""Side at which a small ResNet sees photographs if there are fewer than 2,000."""
GENTLE = (1, 1, 1, 2, 1, 2, 1)
"""Strides of an EfficientNet's stages on thumbnails: the last map has an eighth of the rows and columns, not a 32nd."""
NARROW, MEDIUM, WIDE = 16, 24, 32
"""Root channels of the small ResNet: narrow if there are few images, wide from `LONG` minutes on."""
LONG = 10
"""Minutes of training from which on a wider network beats a narrower one, or on thumbnails one that begins with a Haar
transform (docs/notebook.md)."""
STAGES = (48, 192, 192)
"""Channels of the stages behind a Haar transform."""
COLOURS = 4
"""Most colour channels that are transformed: with 8 filters for each, more of them would cost more than all else."""
ROOTS = {"3x3": 48, "2x2": 96}
"""Longest side of the images that each root is for (7x7 for larger ones); the roots' strides are 1, 2 and 4."""

FIRST_SHARE, FIRST_DURATION = 0.75, "50%"
"""Share of the rows and columns that the small ResNet sees at first, and for how long; half of them would be too few."""

MUON = OptimizerConfig(
    name="muon", lr=3e-3, muon_lr=0.01, betas=(0.9, 0.95), weight_decay=0.05, decoupled=False, clip=0.0
)
"""For ViTs."""
CONVOLUTIONS = replace(MUON, muon_lr=0.1)
"""For the small ResNet with group norm, at a batch of 256; Muon's rate goes with the root of the batch."""
BATCH_NORMED = replace(CONVOLUTIONS, muon_momentum=0.85)
"""For the small ResNet with batch norm, likewise."""
ADAMW = OptimizerConfig(name="adamw", lr=1e-3, weight_decay=0.05, decoupled=False, clip=1.0)
"""For ResNets."""


def small(options: RecipeOptions) -> RunConfig:
    """Train a small model from scratch: the best that we found for minutes of training.

    Thumbnails and photographs: a ResNet of three pooled units with batch norm, Muon for their kernels and AdamW for the
    rest, at three quarters of the rows and columns for the first half; for ten minutes and more on thumbnails it begins with a
    Haar transform, and its norms follow the convolutions; with few images a narrower one with group norm, at
    one resolution. Tiny images: a narrow ViT, AdamW, more epochs. A named model: trained as by `small_vit`. The last
    weights are kept: nothing is selected on the validation images.

    Reached (docs/recipes.md): see there for CIFAR-10 in 15 minutes on two cores, and for digits over five seeds.
    """
    if options.model is not None or max(options.facts.size) <= TINY:
        return replace(small_vit(options), recipe="small")
    return configure_convolutions(options)


def small_vit(options: RecipeOptions) -> RunConfig:
    """Train a small ViT from scratch: mean pooling, positions that start from sines and cosines, about 64 tokens.

    Thumbnails and photographs: width 128, depth 6; Muon for the encoder's matrices and AdamW for the rest; nine tenths
    of the steps at half the rows and columns (a quarter of the tokens), the last tenth at the full size, unless the
    model has fewer than 8 x 8 patches. Tiny images: a narrower model, AdamW, more epochs. A named ResNet: AdamW, the
    full size throughout, and on thumbnails a root that keeps rows and columns. A named Swin Transformer: the full size
    throughout, and on thumbnails small patches and windows of 4x4. The last weights are kept: nothing is selected on
    the validation images.
    """
    tiny = max(options.facts.size) <= TINY and options.model is None
    return configure_tiny(options) if tiny else configure_named(options)


def configure_convolutions(options: RecipeOptions) -> RunConfig:
    """Configure a small ResNet for thumbnails and photographs: its first units see maps of about 32 x 32."""
    few = options.facts.train < FEW
    rows, cols = options.image or choose_size(options.facts.size, FEW_PHOTOGRAPH if few else PHOTOGRAPH)
    root = next((root for root, side in ROOTS.items() if max(rows, cols) <= side), "7x7")
    short = options.minutes is not None and options.minutes < LONG
    model = ResNetConfig(
        image=(rows, cols),
        channels=options.planes,
        units=(1, 1, 1),
        classes=len(options.facts.classes),
        root=root,
        root_channels=NARROW if few else MEDIUM if short else WIDE,
        groups=8,
        norm="group" if few else "batch",
        unit="pooled",
        activation="gelu" if few else "relu",
    )
    if root == "3x3" and not few and not short and options.planes <= COLOURS:
        channels = HAAR_FILTERS * options.planes
        model = replace(model, root="haar", root_channels=channels, stage_channels=STAGES, unit="pooled-post")
    config = configure_larger(options, model, batch=256 if few else 128)
    optimizer = CONVOLUTIONS if few else BATCH_NORMED
    rate = round(optimizer.muon_lr * (config.batch / 256) ** 0.5, 4)
    return replace(
        config,
        recipe="small",
        objective=ClassifyConfig(smoothing=0.1),
        optimizer=replace(optimizer, muon_lr=rate),
        low_resolution=1.0 if few else FIRST_SHARE,
        low_resolution_duration=FIRST_DURATION,
    )


def configure_named(options: RecipeOptions) -> RunConfig:
    """Configure the plain ViT for thumbnails and photographs, or the named model."""
    model = choose_shape(options, width=128, depth=6, heads=4, grid=8)
    transformer = isinstance(model, (ViTConfig, SwinConfig))
    return replace(
        configure_larger(options, model, batch=128),
        recipe="small-vit",
        optimizer=MUON if transformer else ADAMW,
        low_resolution=0.5 if isinstance(model, ViTConfig) and min(model.grid) >= LEAST_HALVED else 1.0,
        low_resolution_duration="92%",
    )


def configure_larger(options: RecipeOptions, model: ModelConfig, batch: int) -> RunConfig:
    """Configure what all models share on thumbnails and photographs. `batch`: the largest, an eighth of the images at
    most."""
    thumbnails = max(options.facts.size) <= THUMBNAIL
    length = min(200, max(20, round(3e6 / options.facts.train)))
    return RunConfig(
        data=options.data,
        preprocess=PreprocessConfig(size=model.image, mode=options.mode, crop=1.0 if thumbnails else 0.875),
        augment=AugmentConfig(
            crop="pad" if thumbnails else "inception",
            crop_pad=min(max(1, model.image[0] // 8), min(model.image) - 1),
            crop_area=(0.25, 1.0),
            flip=options.planes >= 3,
        ),
        model=model,
        objective=ClassifyConfig(),
        schedule=ScheduleConfig(kind="linear", warmup="5%"),
        duration=f"{options.minutes:g}min" if options.minutes else f"{length}ep",
        batch=options.batch(min(batch, max(8, options.facts.train // 8))),
        evaluate_every="10%",
        export="last",
    )


def configure_tiny(options: RecipeOptions) -> RunConfig:
    """Configure images of a few pixels, such as digits."""
    model = choose_shape(options, width=64, depth=4, heads=4, grid=4, position_temperature=10.0)
    return RunConfig(
        recipe="small-vit",
        data=options.data,
        preprocess=PreprocessConfig(size=model.image, mode=options.mode, crop=1.0),
        augment=AugmentConfig(
            crop="pad", crop_pad=min(1, min(model.image) - 1), crop_fill="black", flip=False, mixup=0.2
        ),
        model=model,
        objective=ClassifyConfig(smoothing=0.1),
        optimizer=OptimizerConfig(
            name="adamw", lr=2e-3, betas=(0.9, 0.95), weight_decay=0.05, decoupled=False, clip=0.0
        ),
        schedule=ScheduleConfig(kind="linear", warmup="5%"),
        duration=f"{options.minutes:g}min" if options.minutes else "120ep",
        batch=options.batch(min(64, max(8, options.facts.train // 8))),
        evaluate_every="10%",
        export="last",
    )


def choose_shape(
    options: RecipeOptions, width: int, depth: int, heads: int, grid: int, position_temperature: float = 10_000.0
) -> ModelConfig:
    """Choose image and patch so that the shorter side has about `grid` patches, or use the named model."""
    rows, cols = options.image or choose_size(options.facts.size)
    given = {"channels": options.planes, "classes": len(options.facts.classes)}
    if options.model is not None and find_kind(options.model) == "resnet":
        root = "3x3" if max(rows, cols) <= THUMBNAIL else "7x7"
        return build_resnet_config(options.model, image=(rows, cols), root=root, **given)
    if options.model is not None and find_kind(options.model) == "efficientnet":
        shape = {"strides": GENTLE} if max(rows, cols) <= THUMBNAIL else {}
        return build_efficientnet_config(options.model, image=(rows, cols), **shape, **given)
    if options.model is not None and find_kind(options.model) == "swin":
        return choose_swin(options.model, Size(rows, cols), given)
    details = {**given, "pool": "mean", "class_token": False, "position_init": "sincos2d"}
    details["position_temperature"] = position_temperature
    if options.model is not None:
        size = options.choose_size(Size(rows, cols), parse_name(options.model)[1])
        return build_vit_config(options.model, image=tuple(size), **details)
    patch = max(1, min(rows, cols) // grid)
    if options.image is not None:
        patch = next((side for side in range(patch, patch // 2, -1) if rows % side == cols % side == 0), patch)
    size = options.choose_size(Size(rows, cols), Size(patch, patch))
    layers = {"width": width, "depth": depth, "heads": heads, "mlp_width": 4 * width}
    return ViTConfig(image=tuple(size), patch=(patch, patch), **layers, **details)


def choose_swin(name: str, image: Size, given: dict[str, Any]) -> ModelConfig:
    """Choose patches and windows of a Swin Transformer: on thumbnails patches of a sixteenth of the side, and windows of 4x4."""
    if max(image) > THUMBNAIL:
        return build_swin_config(name, image=tuple(image), **given)
    patch = max(1, min(image) // 16)
    config = build_swin_config(name, image=tuple(image), patch=(patch, patch), **given)
    return replace(config, windows=fit_windows(config, (4, 4)))


def choose_size(size: Size, side: int = PHOTOGRAPH) -> Size:
    """Choose the model's input size for images of this median size: their own if they are small, else a square of this
    side."""
    return size if max(size) <= THUMBNAIL else Size(side, side)
