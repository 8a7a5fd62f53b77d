"""facebookresearch's own files: DINO, DINOv2, DINOv3, MAE, DeiT.

They have timm's names with a few exceptions. DINO's backbones, MAE's fine-tuned models and DeiT's have only timm's, and
are read as timm's unless they contain a prediction head or a decoder; --as dino, mae or deit uses their own resize rule
and normalisation.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from vitreous.errors import CheckpointError
from vitreous.images.config import PreprocessConfig
from vitreous.model.config import ViTConfig
from vitreous.weights.families.base import IMAGENET, Family, ForeignModel, has_tensor
from vitreous.weights.families.timm import eva, vit
from vitreous.weights.files import Weights
from vitreous.weights.mapping import Rule, Table

PROJECTION = r"(^|\.)(dino_|ibot_)?head\.(mlp|last_layer)"
TRAINING = (PROJECTION, r"^student\.")
"""The heads of self-supervised training, and the rest of the student, which no classifier needs."""
Names = Sequence[tuple[str, str]]
DINOV2 = (("register_tokens", "reg_token"), ("mlp.w12.", "mlp.fc1."), ("mlp.w3.", "mlp.fc2."))
DINOV3 = (
    ("storage_tokens", "reg_token"),
    ("ls1.gamma", "gamma_1"),
    ("ls2.gamma", "gamma_2"),
    ("mlp.w1.", "mlp.fc1_g."),
    ("mlp.w2.", "mlp.fc1_x."),
    ("mlp.w3.", "mlp.fc2."),
)
"""Their names, and timm's."""
DEIT3 = "it is DeiT-III's; timm's vit_*_rope_ape have the same names and need their config.json"
GATED = ("mlp.w",)
"""Names of gated MLPs only: timm's fc2 is fc2 elsewhere."""


def simplify_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove the number of a chunk of blocks: blocks.0.5. is block 5."""
    return {re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name): tensor for name, tensor in tensors.items()}


def rename_to_timm(tensors: Mapping[str, Tensor], names: Names) -> dict[str, Tensor]:
    """Return tensors under timm's names."""
    found = {}
    for name, tensor in tensors.items():
        for theirs, timms in names:
            name = name.replace(theirs, timms)
        found[name] = tensor
    return found


def rename_table(table: Table, names: Names, gated: bool) -> list[Rule]:
    """Return a table for timm with their names."""
    rules = []
    for rule in table:
        names_here = rule.theirs
        for theirs, timms in names:
            if gated or not theirs.startswith(GATED):
                names_here = tuple(name.replace(timms, theirs) for name in names_here)
        rules.append(replace(rule, theirs=names_here))
    return rules


def is_encoder(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether these are a ViT's names at all."""
    return "patch_embed.proj.weight" in tensors and "blocks.0.attn.qkv.weight" in tensors


def build_preprocess(config: ViTConfig) -> PreprocessConfig:
    """Return their evaluation transform: the short side to 256 for 224, bicubic, ImageNet's mean and deviation.

    MAE and DeiT round size / crop down, as timm does; DINO's is always 256 for 224.
    """
    return PreprocessConfig(size=config.image, rounding="timm", crop=0.875, interpolation="bicubic", **IMAGENET)


def read_as_timm(weights: Weights, tensors: dict[str, Tensor], names: Names, like: str) -> ForeignModel:
    """Read as timm would read the same tensors, then apply their own names and transform."""
    module = eva if like == "dinov3" else vit
    found = module.interpret(replace(weights, tensors=rename_to_timm(tensors, names), config={}), like)
    return replace(found, tensors=tensors, preprocess=build_preprocess(found.model))


def recognise_dino(weights: Weights) -> float:
    """A ViT beside DINO's projection head: more certain than timm's names alone."""
    tensors = simplify_names(weights.tensors)
    named = is_encoder(tensors) and has_tensor(tensors, PROJECTION) and "mask_token" not in tensors
    return 1.5 if named else 0.0


def interpret_dino(weights: Weights, name: str | None) -> ForeignModel:
    """Read DINO."""
    found = read_as_timm(weights, simplify_names(weights.tensors), (), "dino")
    return replace(found, resize="bicubic-offset", ignored=TRAINING)


def recognise_dinov2(weights: Weights) -> float:
    """A ViT with layer scale and a mask token of one row."""
    tensors = simplify_names(weights.tensors)
    mask = tensors.get("mask_token")
    return float(is_encoder(tensors) and mask is not None and mask.ndim == 2 and "pos_embed" in tensors)


def interpret_dinov2(weights: Weights, name: str | None) -> ForeignModel:
    """Read DINOv2; with registers the positions are resized with antialias, without them by DINO's rule."""
    found = read_as_timm(weights, simplify_names(weights.tensors), DINOV2, "dinov2")
    rule = "bicubic-antialias" if found.model.registers else "bicubic-offset"
    return replace(found, resize=rule, ignored=(r"^mask_token$", *TRAINING))


def dinov2_table(config: ViTConfig) -> Table:
    """Return DINOv2's rules."""
    return rename_table(vit.table(config), DINOV2, config.block.mlp == "swiglu")


def recognise_dinov3(weights: Weights) -> float:
    """A ViT with storage tokens or the wavelengths of rotary positions."""
    tensors = simplify_names(weights.tensors)
    return float(is_encoder(tensors) and ("storage_tokens" in tensors or "rope_embed.periods" in tensors))


def interpret_dinov3(weights: Weights, name: str | None) -> ForeignModel:
    """Read DINOv3: its keys' biases are masked, its wavelengths are in the file, and [class] represents the image."""
    tensors, where = simplify_names(weights.tensors), str(weights.path)
    masked = {}
    for key, tensor in tensors.items():
        if key.endswith("qkv.bias") and f"{key}_mask" in tensors:
            masked |= {key.replace("qkv.bias", f"{part}_bias"): tensor for part in "qv"}
        else:
            masked[key] = tensor
    found = read_as_timm(weights, masked, DINOV3, "dinov3")
    assert isinstance(found.model, ViTConfig)
    rounded = is_rounded(tensors.get("rope_embed.periods"), found.model, where)
    side = 224 // found.model.patch[0] * found.model.patch[0]
    config = replace(found.model, image=(side, side), pool="class", rotary=replace(found.model.rotary, rounded=rounded))
    assumed = tuple(note for note in found.assumed if not note.startswith("it pools"))
    ignored = (r"^mask_token$", r"bias_mask$", r"^local_cls_norm\.", r"^rope_embed\.", *TRAINING)
    found = replace(found, model=config, preprocess=build_preprocess(config), tensors=tensors, assumed=assumed)
    return replace(found, ignored=ignored)


def is_rounded(periods: Tensor | None, config: ViTConfig, where: str) -> bool:
    """Return whether the file's wavelengths are the formula's rounded to bfloat16, or the formula's own.

    Raises:
        CheckpointError: they are neither.
    """
    if periods is None:
        return False
    quarter = config.width // config.heads // 4
    exact = config.rotary.temperature ** (torch.arange(quarter, dtype=torch.float64) / quarter)
    found = periods.double()
    for rounded in (False, True):
        wanted = exact.bfloat16().double() if rounded else exact
        if found.shape == wanted.shape and torch.allclose(found, wanted, rtol=1e-6, atol=0.0):
            return rounded
    raise CheckpointError(f"{where}: the wavelengths of its rotary positions aren't those of a temperature of 100")


def dinov3_table(config: ViTConfig) -> Table:
    """Return DINOv3's rules: q's and v's biases are thirds of one tensor."""
    bias = ("blocks.{i}.attn.qkv.bias",)
    thirds = [Rule("blocks.{i}.attention.q_bias", bias, part=(0, 1, 3))]
    thirds += [Rule("blocks.{i}.attention.v_bias", bias, part=(2, 3, 3))]
    return [*thirds, *rename_table(eva.table(config), DINOV3, config.block.mlp == "swiglu")]


def recognise_mae(weights: Weights) -> float:
    """A ViT beside MAE's decoder."""
    tensors = simplify_names(weights.tensors)
    return float(is_encoder(tensors) and "decoder_embed.weight" in tensors)


def interpret_mae(weights: Weights, name: str | None) -> ForeignModel:
    """Read MAE's encoder, or a model fine-tuned from one (which pools by the mean, and normalises afterwards)."""
    found = read_as_timm(weights, simplify_names(weights.tensors), (), "mae")
    return replace(found, resize="bicubic", ignored=(r"^decoder_", r"^mask_token$"))


def recognise_deit(weights: Weights) -> float:
    """DeiT-III's spelling of LayerScale; DeiT's names are timm's."""
    tensors = simplify_names(weights.tensors)
    return float(is_encoder(tensors) and eva.is_deit3(tensors) and "architecture" not in weights.config)


def interpret_deit(weights: Weights, name: str | None) -> ForeignModel:
    """Read DeiT or DeiT-III."""
    tensors = simplify_names(weights.tensors)
    found = read_as_timm(weights, vit.simplify_names(tensors), (), "deit")
    crop = 1.0 if found.model.block.layer_scale else 0.875
    assumed = (*found.assumed, DEIT3) if eva.is_deit3(tensors) else found.assumed
    return replace(found, resize="bicubic", preprocess=replace(found.preprocess, crop=crop), assumed=assumed)


FAMILIES = (
    Family("dino", "facebookresearch/dino", recognise_dino, interpret_dino, vit.table),
    Family("dinov2", "facebookresearch/dinov2", recognise_dinov2, interpret_dinov2, dinov2_table),
    Family("dinov3", "facebookresearch/dinov3", recognise_dinov3, interpret_dinov3, dinov3_table),
    Family("mae", "facebookresearch/mae", recognise_mae, interpret_mae, vit.table),
    Family("deit", "facebookresearch/deit (DeiT, DeiT-III)", recognise_deit, interpret_deit, vit.table),
)
DINO_FAMILY, DINOV2_FAMILY, DINOV3_FAMILY, MAE_FAMILY, DEIT_FAMILY = FAMILIES
