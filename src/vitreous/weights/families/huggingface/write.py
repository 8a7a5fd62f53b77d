"""The files written with weights for transformers, config.json and preprocessor_config.json; and models that it
can't hold."""

from typing import Any

from vitreous.images.config import PreprocessConfig
from vitreous.images.preprocess import compute_uncropped
from vitreous.model.config import BlockConfig, ViTConfig
from vitreous.weights.families.base import MULTI_LABEL, explain_not_plain
from vitreous.weights.families.huggingface.config_json import ACTIVATIONS
from vitreous.weights.families.huggingface.preprocessor import KERNELS
from vitreous.weights.model_folder import ModelFolder

NAMES = {"gelu": "gelu", "gelu-tanh": "gelu_pytorch_tanh", "quick-gelu": "quick_gelu", "silu": "silu"}
FIXED = (
    "pool",
    "class_token",
    "registers",
    "positions",
    "position_placement",
    "positioned_tokens",
    "patch_norm",
    "rotary",
    "patch_bias",
    "embed_norm",
    "final_norm",
    "head_bias",
    "stem",
)
"""Settings with only one possible value in transformers' ViT."""
assert set(NAMES.values()) <= set(ACTIVATIONS)


def explain_unwritable(config: ViTConfig) -> str | None:
    """Say what transformers' ViT and DeiT can't express, if anything."""
    unlike = explain_not_plain(config, FIXED, "transformers' ViT")
    if unlike:
        return unlike
    made = config.block
    if made.qkv_bias == "no-key":
        return "q and v have biases but k has none"
    if made != BlockConfig(activation=made.activation, qkv_bias=made.qkv_bias):
        return "its blocks are not the paper's (norms, biases, gates or scales differ)"
    if config.distillation_token and not config.classes:
        return "it has a distillation token but no heads"
    if config.pre_logits and config.classes:
        return "it has a tanh layer before the head; transformers has that layer only in a model without head"
    return None


def sidecars(folder: ModelFolder) -> dict[str, dict[str, Any]]:
    """Return the JSON files, as `AutoModel...from_pretrained` and `AutoImageProcessor.from_pretrained` read them."""
    config = folder.model.config
    kind = "deit" if config.distillation_token else "vit"
    plain = "ViTForImageClassification" if config.classes else "ViTModel"
    document: dict[str, Any] = {
        "architectures": ["DeiTForImageClassificationWithTeacher" if config.distillation_token else plain],
        "model_type": kind,
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "intermediate_size": config.mlp_width,
        "hidden_act": NAMES[config.block.activation],
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": config.norm_eps,
        "image_size": format_side(config.image),
        "patch_size": format_side(config.patch),
        "num_channels": config.channels,
        "qkv_bias": config.block.qkv_bias == "all",
    }
    document |= {"pooler_output_size": config.pre_logits_width} if config.pre_logits_width else {}
    document |= describe_labels(folder)
    return {"config.json": document, "preprocessor_config.json": build_processor(folder.preprocess, config.channels)}


def describe_labels(folder: ModelFolder) -> dict[str, Any]:
    """Return what config.json says of a head's classes; nothing without a head."""
    if not folder.model.config.classes:
        return {}
    found: dict[str, Any] = {"id2label": {str(number): name for number, name in enumerate(folder.classes)}}
    if folder.multilabel:
        found["problem_type"] = MULTI_LABEL
    return {**found, "label2id": {name: number for number, name in enumerate(folder.classes)}}


def format_side(size: tuple[int, int]) -> int | list[int]:
    """Return one number for a square."""
    return size[0] if size[0] == size[1] else list(size)


def build_processor(images: PreprocessConfig, channels: int) -> dict[str, Any]:
    """Return the equivalent image processor; its class depends on how images are resized and cropped."""
    rows, cols = images.size
    squash = images.resize == "squash"
    whole = compute_uncropped(images)._asdict()
    size = {"height": whole["rows"], "width": whole["cols"]} if squash else {"shortest_edge": whole["rows"]}
    document = {
        "image_processor_type": "DeiTImageProcessor" if squash else "CLIPImageProcessor",
        "do_resize": True,
        "size": size,
        "resample": next(number for number, name in KERNELS.items() if name == images.interpolation),
        "do_center_crop": True,
        "crop_size": {"height": rows, "width": cols},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": spread_channels(images.mean, channels),
        "image_std": spread_channels(images.std, channels),
    }
    return document | {"do_convert_rgb": images.mode == "RGB"}


def spread_channels(values: tuple[float, ...], channels: int) -> list[float]:
    """Return one value per channel."""
    return list(values) if len(values) > 1 else [values[0]] * channels
