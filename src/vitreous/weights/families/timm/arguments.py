"""Read timm's config.json beside weights, and check that it is about them: above all `model_args`, the
constructor's."""

from collections.abc import Collection, Mapping
from typing import Any

from vitreous.errors import CheckpointError
from vitreous.model.config import ViTConfig
from vitreous.shapes import Size
from vitreous.weights.families.base import Notes, count_places
from vitreous.weights.families.timm.write import ACTIVATIONS, build_arguments
from vitreous.weights.files import Weights
from vitreous.weights.labels import clean_labels

READ = ("img_size", "no_embed_class", "global_pool", "num_classes")
"""Arguments that the readers use; the head's rows give its number of classes."""
HARMLESS = ("dynamic_img_size", "dynamic_img_pad", "strict_img_size", "weight_init", "fix_init", "head_init_scale")
HARMLESS += ("qkv_fused", "swiglu_align_to", "attn_type", "device", "dtype")
HARMLESS += ("rope_shift_coords", "rope_jitter_coords", "rope_rescale_coords")
"""Arguments that the tensors show, or that don't affect a trained model on images of whole patches."""
NORMS = {"layernorm": "layer", "layernormfp32": "layer", "rmsnorm": "rms"}
"""timm's names of the norms that we have; each has an epsilon of 1e-6."""
RELATIVE = {"bias": "bias", "bias-log": "mlp", "bias-log-swin": "mlp-swin"}
"""timm's names of relative positions, by ours."""
NAMES = {theirs: ours for ours, theirs in ACTIVATIONS.items()} | {"swish": "silu"}
"""timm's names of activations, and ours."""


def read_arguments(weights: Weights) -> Mapping[str, Any]:
    """Return the arguments of the model's constructor in config.json."""
    return {name: value for name, value in (weights.config.get("model_args") or {}).items() if value is not None}


def read_pretrained(weights: Weights) -> Mapping[str, Any]:
    """Return what config.json says about images and labels; older ones say it at their top level."""
    if "pretrained_cfg" in weights.config:
        return weights.config["pretrained_cfg"] or {}
    return weights.config if "architecture" in weights.config else {}


def read_pooling(weights: Weights) -> str | None:
    """Return timm's name of the pooling, if config.json gives it; the constructor's takes precedence."""
    said = read_arguments(weights).get("global_pool")
    return weights.config.get("global_pool") if said is None else said


def refuse_others(weights: Weights, known: Collection[str], what: str) -> None:
    """Refuse what `check_arguments` doesn't compare, for models that aren't ViTs: arguments beyond those known, and other pooling.

    Raises:
        CheckpointError: there is such an argument, or features aren't pooled by their mean.
    """
    unknown = [name for name in read_arguments(weights) if name not in known and not name.endswith("_rate")]
    if unknown:
        raise CheckpointError(
            f"the configuration next to {weights.path} says {', '.join(unknown)} in model_args, which vitreous doesn't know for "
            f"{what}; its outputs might be others"
        )
    headed = any(name in weights.tensors for name in ("head.fc.weight", "classifier.weight"))
    if read_pooling(weights) not in ((None, "avg") if headed else (None, "avg", "")):
        raise CheckpointError(
            f"the configuration next to {weights.path} says global_pool {read_pooling(weights)!r}, but vitreous pools {what} by the mean "
            "('avg') alone"
        )


def read_classes(weights: Weights, count: int) -> tuple[str, ...]:
    """Return the labels in config.json, a list or by number, if there is one for each output."""
    given = read_pretrained(weights)
    names = weights.config.get("label_names") or given.get("label_names") or given.get("labels") or ()
    if isinstance(names, Mapping):
        names = [names.get(str(number)) for number in range(len(names))]
    return clean_labels(names, count) if isinstance(names, (list, tuple)) else ()


def read_size(value: Any) -> tuple[int, int] | None:
    """Return rows and columns of a size of one number or two; None if there is none."""
    if not value:
        return None
    rows, cols = (value, value) if isinstance(value, int) else value
    if min(int(rows), int(cols)) < 1:
        raise CheckpointError(f"config.json names a size of {rows}x{cols}; rows and columns are at least 1 each")
    return int(rows), int(cols)


def count_cells(image: tuple[int, int], patch: tuple[int, int]) -> Size:
    """Return the grid of whole patches."""
    return Size(image[0] // patch[0], image[1] // patch[1])


def read_grid(weights: Weights, patch: tuple[int, int], counts: Collection[int], table: bool = False) -> Size | None:
    """Return the grid that config.json gives: the constructor's, else that of the images if it has as many positions.

    Args:
        weights: with the configuration next to them.
        patch: rows and columns of a patch.
        counts: how many positions may be those of patches.
        table: they are those of offsets between patches.
    """
    if built := read_size(read_arguments(weights).get("img_size")):
        return count_cells(built, patch)
    images = read_images(weights)
    grid = None if images is None else count_cells(images, patch)
    return grid if grid is not None and count_places(grid, table) in counts else None


def read_images(weights: Weights) -> tuple[int, int] | None:
    """Return rows and columns of the images that pretrained_cfg names, which may be older than the model."""
    return read_size((read_pretrained(weights).get("input_size") or (0,))[1:])


def read_details(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return activation, epsilon, heads, and whether there are positions, if the constructor's arguments give them.

    Raises:
        CheckpointError: an activation or a norm that we don't have.
    """
    found: dict[str, Any] = {"heads": int(given["num_heads"])} if "num_heads" in given else {}
    found["positions"] = given.get("pos_embed", "learn") not in ("", "none")
    for name, key, known in (("act_layer", "act", NAMES), ("norm_layer", "norm", NORMS)):
        if name in given:
            if given[name] not in known:
                raise CheckpointError(
                    f"the configuration next to {where} says {name} {given[name]!r}; vitreous knows {', '.join(known)}"
                )
            found[key] = known[given[name]]
    return found | ({"eps": 1e-6} if "norm_layer" in given else {})


def build_constructor_arguments(config: ViTConfig) -> dict[str, Any]:
    """Return the constructor's arguments of timm's ViT and Eva for a model."""
    block, rotary = config.block, config.rotary
    return build_arguments(config) | {
        "qkv_bias": block.qkv_bias != "none",
        "init_values": block.layer_scale,
        "num_kv_heads": config.heads,
        "scale_attn_norm": block.attention_inner_norm,
        "scale_mlp_norm": block.mlp_inner_norm,
        "proj_bias": block.biases,
        "final_norm": config.final_norm != "none",
        "num_reg_tokens": config.registers,
        "swiglu_mlp": block.mlp == "swiglu",
        "scale_mlp": block.mlp_inner_norm,
        "scale_attn_inner": block.attention_inner_norm,
        "use_abs_pos_emb": config.positions == "learned",
        "use_rel_pos_bias": config.positions == "bias" and config.position_placement == "layers",
        "use_shared_rel_pos_bias": config.positions == "bias" and config.position_placement == "shared",
        "use_rot_pos_emb": rotary.kind != "none",
        "use_fc_norm": config.final_norm == "pooled",
        "use_post_transformer_norm": config.final_norm == "tokens",
        "use_post_norm": False,
        "use_pre_transformer_norm": config.embed_norm,
        "rope_temperature": rotary.temperature if rotary.kind in ("cells", "centred") else None,
        "rope_rotate_half": rotary.kind == "centred",
        "rope_type": {"cells": "cat", "centred": "dinov3", "mixed": "mixed"}.get(rotary.kind),
        "rope_grid_offset": rotary.offset,
        "rope_grid_indexing": "xy" if rotary.columns_first or rotary.kind == "mixed" else "ij",
        "attn_only_layer_scale": False,
        "ref_feat_shape": (rotary.reference or "no grid") if rotary.kind == "cells" else None,
        "attn_pool_num_heads": (config.pool_heads or config.heads) if config.pool == "map" else None,
        "pool_include_prefix": config.pool_prefix if config.pool != "class" else None,
        "rel_pos_type": RELATIVE.get(config.positions),
        "shared_rel_pos": config.position_placement == "shared",
        "rel_pos_dim": config.position_mlp_width if config.positions.startswith("bias-log") else None,
    }


def check_arguments(config: ViTConfig, given: Mapping[str, Any], where: str) -> Notes:
    """Check the constructor's arguments against the model from the tensors; return notes on unknown ones.

    Raises:
        CheckpointError: an argument of another model, or of one that we can't build.
    """
    made, notes = build_constructor_arguments(config), []
    for name, value in given.items():
        if name in READ or name in HARMLESS or name.endswith("_rate"):
            continue
        if name == "norm_layer":
            fits, ours = NORMS.get(value) == config.block.norm and config.norm_eps == 1e-6, config.block.norm
            ours = f"{ours} norms of epsilon {config.norm_eps:g}"
        elif name == "act_layer":
            fits, ours = NAMES.get(value) == config.block.activation, config.block.activation
        elif name.endswith(("_layer", "_fn")):
            fits, ours = False, "what is usual, and can build nothing else"
        elif name in made:
            ours = made[name]
            fits = ours is None or agrees(name, value, config, ours)
        else:
            notes.append(f"{name} {str(value)[:40]} of model_args, which vitreous doesn't know, makes no difference")
            continue
        if not fits:
            raise CheckpointError(
                f"the configuration next to {where} says {name} {str(value)[:40]}, but vitreous reads {ours} from "
                "the weights and the architecture's name"
            )
    return tuple(notes)


def agrees(name: str, value: Any, config: ViTConfig, ours: Any) -> bool:
    """Return whether an argument agrees with the tensors, in any notation."""
    if name in ("patch_size", "ref_feat_shape"):
        return not isinstance(ours, str) and read_size(value) == read_size(ours)
    if name == "num_heads":
        return int(value) == ours
    if name == "mlp_ratio":
        return (
            config.block.mlp == "swiglu" or int(config.width * value) == config.mlp_width
        )  # a gated one's is counted differently
    if name == "init_values":
        return bool(value) == bool(ours)
    if name == "pos_embed":
        return (value or "none") == ours
    return bool(value == ours)
