"""Known models that vitreous doesn't support, recognised by their names, so that a refusal says what a file is."""

import re
from collections.abc import Mapping
from typing import Any

from vitreous.weights.files import Weights

UNREAD = (
    (
        r"\.lora_(A|B|down|up)\b|\.adapter|\.base_layer\.",
        "a model with adapters (PEFT's merge_and_unload() makes it whole)",
    ),
    (
        r"\.parametrizations\.|weight_[guv]$|weight_orig$",
        "a model whose weights are made of others (weight or spectral norm, pruning: remove the parametrization, and save it again)",
    ),
    (
        r"\.(zero_point|_packed_params.*|SCB|qweight|weight_scale(_inv)?)$",
        "a quantised model; the float one is read",
    ),
    (r"^blocks\.0\.attns\.0\.", "timm's ViT with several attentions and MLPs side by side (vit_*_18x2)"),
    (r"^blocks\.0\.(attn\.)?lambda_q1$", "timm's ViT with differential attention (vit_dwee, vit_dpwee)"),
    (r"^embeds\.proj\.", "timm's NaFlexVit"),
    (r"attn\.(wq|wk)\.|attn\.gate\.", "Sapiens or another gated ViT"),
    (r"blocks_token_only\.", "CaiT"),
    (r"cls_attn_blocks\.", "XCiT"),
    (r"attn\.meta_mlp\.", "timm's SwinV2-CR, a Swin Transformer with other biases and norms"),
    (r"rel_pos_[hw]$", "SAM's or ViTDet's image encoder, whose blocks attend within windows"),
    (r"^visual\.layer1\.0\.|^(visual\.)?attnpool\.", "one of CLIP's ResNets"),
    (r"^(stages|downsample_layers)\.0\..*(dwconv|conv_dw)|convnext", "ConvNeXt"),
    (r"(^|\.)layer1\.0\.conv1\.", "a ResNet with batch norm (torchvision's, timm's)"),
    (r"^features\.0\.|^classifier\.\d\.|^conv_stem\.", "a convolutional network of torchvision's or timm's"),
    (
        r"transformer\.layers\.\d+\.0\.(to_q|to_kv|spatial|temporal)",
        "one of vit-pytorch's other models; of that package, ViT and SimpleViT are supported",
    ),
    (r"videomae|temporal_embed|tubelet", "a model of videos"),
    (r"^(model\.)?(embed_tokens|layers\.0\.self_attn)|^bert\.|^transformer\.h\.0\.", "a language model"),
    (r"query_position_embeddings|class_embed\.|bbox_embed\.", "a detector of the DETR kind"),
    (r"^(model\.)?(model\.)?\d+\.(cv1|m\.0)\.", "a YOLO"),
)
"""Patterns of tensors' names, and whose they are; the first match counts."""


def explain_unknown(weights: Weights) -> str:
    """Describe weights of no known family, as far as their names or the configuration next to them show."""
    named = read_model_name(weights.config)
    looks = next((what for pattern, what in UNREAD if any(re.search(pattern, name) for name in weights.tensors)), "")
    parts = [f"looks like {looks}"] if looks else []
    parts += [f"is called {named!r} by its config.json"] if named else []
    return " and ".join([*parts, "is of no family that vitreous knows"])


def read_model_name(config: Mapping[str, Any]) -> str:
    """Return a config.json's name of the model: timm's architecture, or transformers' type."""
    return str(config.get("architecture") or config.get("model_type") or "")[:80]
