"""timm's models, saved as timm's files and loaded by us, give timm's numbers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.support.twins import CLOSE, difference, randomise
from torch import nn

from vitreous.errors import CheckpointError
from vitreous.weights.files import Weights
from vitreous.weights.foreign import load_foreign, recognise
from vitreous.weights.options import LoadOptions

TINY: dict[str, Any] = {"embed_dim": 64, "depth": 2, "num_heads": 1, "num_classes": 10}
KEPT = ("mean", "std", "input_size", "crop_pct", "interpolation", "crop_mode")
PLAIN = {
    "vit_tiny_patch16_224": {"num_heads": 4},
    "vit_base_patch16_clip_quickgelu_224": {},
    "vit_base_patch16_siglip_224": {},
    "vit_base_patch16_reg4_gap_256": {},
    "vit_small_patch14_reg4_dinov2": {"img_size": 112},
    "deit_tiny_distilled_patch16_224": {},
    "deit3_small_patch16_224": {},
}
EVA = {
    "vit_small_patch16_dinov3": {},
    "vit_small_plus_patch16_dinov3": {},
    "vit_small_patch16_dinov3_qkvb": {},
    "eva02_tiny_patch14_224": {},
    "eva02_base_patch14_448": {"img_size": 112},
    "eva02_base_patch16_clip_224": {},
    "eva_giant_patch14_224": {},
    "vit_medium_patch16_rope_reg1_gap_256": {},
}


def made(name: str, **given: Any) -> nn.Module:
    import timm

    return randomise(timm.create_model(name, **TINY | {"embed_dim": 64 * given.get("num_heads", 1)} | given))


def saved(model: nn.Module, folder: Path, config: bool = True) -> Path:
    """Write timm's own file, with or without its config.json."""
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "model.safetensors")
    size = (3, *model.patch_embed.img_size) if model.patch_embed.img_size else model.pretrained_cfg["input_size"]
    cfg = {key: value for key, value in model.pretrained_cfg.items() if key in KEPT} | {"input_size": size}
    document = {"architecture": model.pretrained_cfg["architecture"], "global_pool": model.global_pool}
    if config:
        (folder / "config.json").write_text(json.dumps(document | {"pretrained_cfg": cfg}))
    return folder


@pytest.mark.parametrize("name", [*PLAIN, *EVA])
def test_logits_equal_timms(name: str, tmp_path: Path) -> None:
    model = made(name, **(PLAIN | EVA)[name])
    folder, report = load_foreign(saved(model, tmp_path))
    assert report.origin.startswith("timm-eva" if name in EVA else "timm:")
    assert difference(folder.model, model) < CLOSE


@pytest.mark.parametrize("name", [*PLAIN, *EVA])
def test_logits_equal_timms_on_images_that_are_not_square(name: str, tmp_path: Path) -> None:
    model = made(name, **(PLAIN | EVA)[name])
    patch = model.patch_embed.patch_size[0]
    size = (9 * patch, 13 * patch)
    folder, _ = load_foreign(saved(model, tmp_path), LoadOptions(image=size))
    model.set_input_size(img_size=size)
    assert difference(folder.model, model) < CLOSE


@pytest.mark.parametrize("name", list(EVA))
def test_names_and_shapes_alone_tell_which_eva_it_is(name: str, tmp_path: Path) -> None:
    model = made(name, **EVA[name])
    load_options = LoadOptions(image=(256, 256)) if "pos_embed" not in model.state_dict() else LoadOptions()
    folder, report = load_foreign(saved(model, tmp_path, config=False), load_options)
    assert any("epsilon" in note for note in report.assumed)
    assert difference(folder.model, model) < CLOSE


def test_rotary_positions_matter_to_these_models(tmp_path: Path) -> None:
    """What the comparison above would not see if attention were uniform."""
    model = made("eva02_tiny_patch14_224")
    theirs = saved(model, tmp_path)
    document = json.loads((theirs / "config.json").read_text())
    (theirs / "config.json").write_text(json.dumps(document | {"architecture": "eva_giant_patch14_224"}))
    folder, _ = load_foreign(theirs)
    assert difference(folder.model, model) > 1e-2


@pytest.mark.parametrize("name", ["vit_small_patch16_18x2_224", "vit_dwee_patch16_reg1_gap_256"])
@pytest.mark.parametrize("config", [True, False])
def test_a_model_that_we_cannot_build_is_refused(name: str, config: bool, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"can't build|isn't read|no family"):
        load_foreign(saved(made(name), tmp_path, config))


def test_labels_and_preprocessing_travel(tmp_path: Path) -> None:
    folder = saved(made("vit_small_patch16_dinov3"), tmp_path)
    document = json.loads((folder / "config.json").read_text())
    document |= {"label_names": [f"animal {number}" for number in range(10)]}
    (folder / "config.json").write_text(json.dumps(document))
    found, _ = load_foreign(folder)
    assert found.classes[3] == "animal 3"
    assert found.preprocess.mean == (0.485, 0.456, 0.406)
    assert (found.preprocess.crop, found.preprocess.size) == (1.0, (256, 256))


ODD = [
    "vit_base_patch16_clip_224",
    "vit_huge_patch14_clip_quickgelu_224",
    "vit_giantopt_patch16_siglip_256",
    "vit_so400m_patch16_siglip_gap_256",
    "vit_so400m_patch14_siglip_224",
    "vit_base_patch32_siglip_256",
    "vit_large_patch16_siglip_512",
    "vit_giant_patch14_dinov2",
    "beit3_base_patch16_224",
    "test_vit3",
    "vit_small_patch16_36x1_224",
    "vit_so150m_patch16_reg4_map_256",
    "eva_giant_patch14_224",
    "vit_huge_plus_patch16_dinov3",
    "vit_7b_patch16_dinov3",
    "vit_pe_core_gigantic_patch14_448",
    "vit_pe_spatial_tiny_patch16_512",
    "vit_large_patch16_rope_mixed_224",
    "vit_srelpos_medium_patch16_224",
    "beit_large_patch16_512",
    "vit_giant_patch16_lingbot",
]


@pytest.mark.parametrize("depth", [{"depth": 3}, pytest.param({}, id="whole", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ODD)
def test_what_shapes_do_not_tell_is_as_timm_has_it(name: str, depth: dict[str, int]) -> None:
    """At full width, without weights: heads, epsilon, activation, pooling and normalisation of unusual architectures."""
    import timm

    with torch.device("meta"):
        model = timm.create_model(name, **depth)
    size, block = model.pretrained_cfg["input_size"], model.blocks[0]
    cfg = {"input_size": size, "mean": model.pretrained_cfg["mean"]}
    weights = Weights(
        Path("model.safetensors"),
        model.state_dict(),
        {"architecture": name, "global_pool": model.global_pool, "pretrained_cfg": cfg},
    )
    foreign = recognise(weights).interpret(weights, None)
    found = foreign.model
    assert (found.heads, found.norm_eps) == (block.attn.num_heads, block.norm1.eps)
    assert found.depth == len(model.blocks)
    assert found.pool == {"token": "class", "avg": "mean", "map": "map"}[model.global_pool]
    assert foreign.preprocess.size == size[1:]
    acts = {
        "GELU(approximate='none')": "gelu",
        "GELU()": "gelu",
        "GELUTanh()": "gelu-tanh",
        "QuickGELU()": "quick-gelu",
    }
    assert found.block.mlp == "swiglu" or found.block.activation == acts[str(block.mlp.act)]


@pytest.mark.parametrize("kernel", ["lanczos", "bilinear", "hamming"])
def test_images_are_resized_by_timms_kernel_or_it_is_told(kernel: str, tmp_path: Path) -> None:
    saved(made("vit_small_patch16_224"), tmp_path)
    document = json.loads((tmp_path / "config.json").read_text())
    document["pretrained_cfg"]["interpolation"] = kernel
    (tmp_path / "config.json").write_text(json.dumps(document))
    folder, report = load_foreign(tmp_path)
    told = any("kernel; the original one (hamming) isn't supported" in line for line in report.assumed)
    assert (folder.preprocess.interpolation, told) == (("bicubic", True) if kernel == "hamming" else (kernel, False))
