"""The config.json written with weights for timm; and models that timm can't hold."""

from dataclasses import replace
from typing import Any

from vitreous.images.config import PreprocessConfig
from vitreous.images.preprocess import compute_uncropped
from vitreous.model.config import BlockConfig, ViTConfig
from vitreous.model.kinds import Config
from vitreous.weights.families.timm.hybrid import ENTRIES, explain_unwritable_stem, find_first_conv
from vitreous.weights.model_folder import ModelFolder

POOLS = {"class": "token", "mean": "avg", "max": "max", "map": "map"}
NAMES = {
    192: "vit_tiny_patch16_224", 384: "vit_small_patch16_224", 768: "vit_base_patch16_224", 1024: "vit_large_patch16_224",
    1280: "vit_huge_patch14_224", 1408: "vit_giant_patch14_224", 1664: "vit_gigantic_patch14_224",
}  # fmt: skip
"""timm's architectures by width: model_args give all the rest, patches included."""
DISTILLED = {192: "deit_tiny_distilled_patch16_224", 384: "deit_small_distilled_patch16_224"}
FIXED = ("attention", "norm", "norm_order", "mlp", "mlp_inner_norm", "attention_inner_norm", "parallel", "biases")
"""Settings of blocks with only one possible value in timm's VisionTransformer, as it is written here."""
CROP_MODES = {"short": "center", "squash": "squash", "border": "border"}
ACTIVATIONS = {"gelu": "gelu", "gelu-tanh": "gelu_tanh", "quick-gelu": "quick_gelu", "silu": "silu"}


def explain_unwritable(config: ViTConfig) -> str | None:
    """Say what timm's VisionTransformer can't express, if anything."""
    made, plain, learned = config.block, BlockConfig(), config.positions in ("learned", "none")
    for name in FIXED:
        if getattr(made, name) != getattr(plain, name):
            return f"block.{name} is {getattr(made, name)!r}"
    for unlike, reason in (
        (made.qkv_bias == "no-key", "q and v have biases but k has none"),
        (config.attention_width != config.width, "its heads don't share its width"),
        (config.patch_norm != "none", "its patches are normalised"),
        (
            not learned or config.position_placement != "input" or config.rotary.kind != "none",
            "its positions are not learned ones, added at the input",
        ),
        (
            config.patch_bias == config.embed_norm,
            "timm's patch embedding has a bias exactly when no norm comes before the first block",
        ),
        (
            config.norm_eps != 1e-6,
            f"its norms have epsilon {config.norm_eps:g}, and a config.json can't say so",
        ),
    ):
        if unlike:
            return reason
    return explain_unwritable_head(config) or explain_unwritable_stem(config)


def explain_unwritable_head(config: ViTConfig) -> str | None:
    """Say what of a model's tokens, pooling and head timm can't express, if anything; its pooling has the blocks' heads and MLP."""
    heads, hidden = config.pool_heads or config.heads, config.pool_mlp_width or config.mlp_width
    mapped = config.pool == "map"
    for unlike, reason in (
        (
            config.pool == "class+mean" or config.final_norm == "none" or not config.head_bias,
            "its head is of another kind",
        ),
        (config.distillation_token and config.registers, "it has a distillation token and registers"),
        (
            config.distillation_token and config.positioned_tokens == "patches",
            "it has a distillation token, and positions for patches alone",
        ),
        (mapped and config.pool_plain, "its attention pooling has no map of the query and no MLP"),
        (
            mapped and (heads, hidden) != (config.heads, config.mlp_width),
            f"its attention pooling has {heads} heads and an MLP {hidden} wide, but timm's has those of the blocks, {config.heads} and "
            f"{config.mlp_width}",
        ),
        (config.pre_logits, "it has a tanh layer before the head; fine-tune it first, or leave the layer out"),
    ):
        if unlike:
            return reason
    return None


def find_timm_name(config: ViTConfig) -> str:
    """Return an architecture of timm's that config.json can turn into this model."""
    if config.stem.kind != "none":
        return ENTRIES[config.stem.units]
    if config.distillation_token:
        return DISTILLED.get(config.width, "deit_base_distilled_patch16_224")
    return NAMES.get(config.width, NAMES[768])


def sidecars(folder: ModelFolder) -> dict[str, dict[str, Any]]:
    """Return config.json, as `timm.create_model("local-dir:FOLDER", pretrained=True)` reads it."""
    config = folder.model.config
    classifier = ["head", "head_dist"] if config.distillation_token else "head"
    transform = build_transform(config, folder.preprocess, find_first_conv(config.stem), classifier)
    how = {"global_pool": POOLS[config.pool], "model_args": build_arguments(config)}
    return build_document(folder, find_timm_name(config), config.width, transform, how)


def build_document(
    folder: ModelFolder, architecture: str, features: int, transform: dict[str, Any], how: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return config.json of an architecture: `how` it pools, and the arguments of its constructor if there are any."""
    document = {"architecture": architecture, "num_classes": folder.model.config.classes, "num_features": features}
    document |= {**how, "pretrained_cfg": transform, "label_names": list(folder.classes)}
    return {"config.json": document}


def build_arguments(config: ViTConfig) -> dict[str, Any]:
    """Return the arguments of the model's constructor."""
    _, *patch = config.patch_shape
    return {
        "img_size": list(config.image),
        "patch_size": patch[0] if patch[0] == patch[1] else patch,
        "in_chans": config.channels,
        "embed_dim": config.width,
        "depth": config.depth,
        "num_heads": config.heads,
        "mlp_ratio": find_ratio(config.width, config.mlp_width),
        "global_pool": POOLS[config.pool],
        "class_token": config.class_token,
        "reg_tokens": config.registers,
        "no_embed_class": config.positioned_tokens == "patches",
        **({"pool_include_prefix": True} if config.pool_prefix and config.pool != "class" else {}),
        "init_values": config.block.layer_scale or None,
        "qkv_bias": config.block.qkv_bias == "all",
        "qk_norm": config.block.qk_norm,
        "pre_norm": config.embed_norm,
        "fc_norm": config.final_norm == "pooled",
        "final_norm": True,
        "act_layer": ACTIVATIONS[config.block.activation],
        "pos_embed": "learn" if config.positions == "learned" else "none",
    }


def build_transform(
    config: Config, images: PreprocessConfig, first_conv: str, classifier: str | list[str]
) -> dict[str, Any]:
    """Return the evaluation transform, and timm's names of the model's first and last layer."""
    return {
        "input_size": [config.channels, *config.image],
        "mean": list(images.mean),
        "std": list(images.std),
        "crop_pct": find_crop(images),
        "crop_mode": CROP_MODES[images.resize],
        "interpolation": images.interpolation,
        "first_conv": first_conv,
        "classifier": classifier,
        "num_classes": config.classes,
    }


def find_crop(images: PreprocessConfig) -> float:
    """Return a number by which timm divides, rounding down, to get the size that images are scaled to."""
    whole, rows = compute_uncropped(images), images.size[0]
    if compute_uncropped(replace(images, rounding="timm")) == whole:
        return images.crop
    return rows / (whole.rows + 0.5)


def find_ratio(width: int, hidden: int) -> float:
    """Return a number by which timm multiplies the width, rounding down, to get the hidden width."""
    exact = hidden / width
    return exact if int(width * exact) == hidden else (hidden + 0.5) / width
