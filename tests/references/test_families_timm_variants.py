"""timm's ViTs with other positions or blocks, saved as timm's files and loaded by us, give timm's numbers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.references.test_families_timm import TINY, made, saved
from tests.support.twins import CLOSE, difference, randomise
from torch import Tensor, nn

from vitreous.errors import CheckpointError
from vitreous.weights.foreign import load_foreign
from vitreous.weights.options import LoadOptions

POOLED = {"attn_pool_num_heads": 8}
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "rope": ("timm-rope", "vit_small_patch16_rope_224", {"num_heads": 2}),
    "rope-added": ("timm-rope", "vit_base_patch16_rope_ape_224", {"img_size": (96, 64)}),
    "rope-mixed": ("timm-rope", "vit_small_patch16_rope_mixed_224", {"num_heads": 4}),
    "rope-mixed-added": ("timm-rope", "vit_base_patch16_rope_mixed_ape_224", {"img_size": 96, "num_heads": 2}),
    "pe": ("timm-rope", "vit_pe_core_base_patch16_224", {"img_size": 96, **POOLED}),
    "pe-no-class": ("timm-rope", "vit_pe_core_gigantic_patch14_448", {"img_size": 84, "num_heads": 2, **POOLED}),
    "pe-lang": ("timm-rope", "vit_pe_lang_large_patch14_448", {"img_size": 84, "num_heads": 2}),
    "pe-spatial": ("timm-rope", "vit_pe_spatial_base_patch16_512", {"img_size": (96, 64)}),
    "relpos": ("timm-relpos", "vit_relpos_small_patch16_224", {"img_size": 96, "num_heads": 2}),
    "relpos-shared": ("timm-relpos", "vit_srelpos_small_patch16_224", {"img_size": (96, 64), "num_heads": 2}),
    "relpos-class": ("timm-relpos", "vit_relpos_medium_patch16_cls_224", {"img_size": 96, "num_heads": 4}),
    "relpos-table": (
        "timm-relpos",
        "vit_relpos_base_patch16_clsgap_224",
        {"img_size": 96, "num_heads": 2, "rel_pos_type": "bias"},
    ),
    "relpos-swin": ("timm-relpos", "vit_relpos_base_patch16_224", {"img_size": 96, "rel_pos_type": "mlp-swin"}),
    "relpos-after": ("timm-relpos", "vit_relpos_small_patch16_rpn_224", {"img_size": 96, "num_heads": 2}),
    "after": ("timm", "vit_base_patch16_rpn_224", {"img_size": 96, "num_heads": 2}),
    "parallel": ("timm-parallel", "vit_large_patch14_xp_224", {"img_size": 84, "num_heads": 2}),
    "parallel-scaled": ("timm-parallel", "vit_pwee_patch16_reg1_gap_256", {"img_size": 96}),
}


def drawn(case: str, **more: Any) -> nn.Module:
    """A model whose positions matter: biases of the logits of the order of 1, frequencies as they start."""
    _, name, settings = CASES[case]
    settings = settings | more
    heads = settings.get("num_heads", 1)
    width = 128 if "attn_pool_num_heads" in settings else 64 * heads
    import timm

    torch.manual_seed(0)  # the frequencies' draws
    model = timm.create_model(name, **TINY | settings | {"embed_dim": width, "num_heads": width // 64})
    frequencies = {key: tensor.detach().clone() for key, tensor in model.named_parameters() if key == "rope.freqs"}
    randomise(model)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key in frequencies:
                parameter.copy_(frequencies[key])
            elif "bias_table" in key:
                parameter.mul_(4)
    return model


@pytest.mark.parametrize("case", list(CASES))
def test_logits_equal_timms(case: str, tmp_path: Path) -> None:
    family, _, _ = CASES[case]
    model = drawn(case)
    folder, report = load_foreign(saved(model, tmp_path))
    assert (report.origin.split(":")[0], report.unused, report.new) == (family, (), ())
    assert difference(folder.model, model) < CLOSE
    patch = model.patch_embed.patch_size[0]
    size = (9 * patch, 4 * patch)
    folder, _ = load_foreign(tmp_path, LoadOptions(image=size))
    model.set_input_size(img_size=size)
    assert difference(folder.model, model) < CLOSE


BARE = ("rope", "rope-mixed-added", "pe", "relpos-swin", "relpos-table", "parallel")


@pytest.mark.parametrize("case", BARE)
def test_names_and_shapes_alone_tell_what_it_is(case: str, tmp_path: Path) -> None:
    model = drawn(case, **({"ref_feat_shape": (6, 6)} if case == "pe" else {}))
    path = saved(model, tmp_path, config=False)
    size = tuple(model.patch_embed.img_size)
    folder, report = load_foreign(path, LoadOptions(image=size))
    assert report.assumed
    assert difference(folder.model, model) < CLOSE


def test_other_parallel_blocks_are_refused(tmp_path: Path) -> None:
    model = made("vit_dpwee_patch16_reg1_gap_256", img_size=96, num_heads=2)
    with pytest.raises(CheckpointError, match=r"aren't supported|no family"):
        load_foreign(saved(model, tmp_path))


@pytest.mark.parametrize("case", ["pe", "pe-spatial"])
def test_perception_encoders_own_file_equals_timms_reading(case: str, tmp_path: Path) -> None:
    from timm.models.eva import _convert_pe

    settings = {"ref_feat_shape": (6, 6), "img_size": 96} if case == "pe" else {"img_size": (96, 80)}
    twin = drawn(case, **settings)
    tensors = dict(twin.state_dict())
    renames = [
        ("patch_embed.proj", "conv1"),
        ("norm_pre", "ln_pre"),
        ("norm1", "ln_1"),
        ("norm2", "ln_2"),
        ("attn.qkv.", "attn.in_proj_"),
        ("attn.proj", "attn.out_proj"),
        ("blocks.", "transformer.resblocks."),
        ("mlp.fc1", "mlp.c_fc"),
        ("mlp.fc2", "mlp.c_proj"),
    ]
    found: dict[str, Tensor] = {"transformer.resblocks.0.ln_1.weight": torch.zeros(3)}
    for name, tensor in tensors.items():
        theirs = name if not name.startswith("norm.") else name.replace("norm.", "ln_post.")
        for timms, authors in renames:
            theirs = theirs.replace(timms, authors)
        theirs = theirs.replace("attn_pool.norm", "attn_pool.layernorm")
        if name.startswith("attn_pool.q."):
            both = torch.cat([tensor, tensors[name.replace(".q.", ".kv.")]])
            found["visual." + theirs.replace("pool.q.", "pool.attn.in_proj_")] = both
        elif name.startswith("attn_pool.proj."):
            found["visual." + theirs.replace("pool.proj", "pool.attn.out_proj")] = tensor
        elif name == "head.weight":
            found["visual.proj"] = tensor.T.contiguous()
        elif name in ("cls_token", "pos_embed", "attn_pool.latent"):
            lone = {
                "cls_token": "class_embedding",
                "pos_embed": "positional_embedding",
                "attn_pool.latent": "attn_pool.probe",
            }
            found["visual." + lone[name]] = tensor.squeeze() if "pool" not in name else tensor
        elif not name.startswith(("attn_pool.kv.", "head.")):
            found["visual." + theirs] = tensor
    twin.load_state_dict(_convert_pe(found, twin))  # the projection has no bias there
    torch.save(found, tmp_path / "pe.pt")
    if case == "pe":
        folder, report = load_foreign(tmp_path / "pe.pt")
        assert (report.origin.split(":")[0], report.ignored, folder.classes[0]) == ("pe", 1, "embedding 0")
        assert difference(folder.model, twin.eval()) < CLOSE
    else:
        with pytest.raises(CheckpointError, match="square"):
            load_foreign(tmp_path / "pe.pt")
