"""AIMv2: timm's and transformers' models, saved as theirs and loaded by us, give their numbers; Apple's own by timm's reading."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.references.test_families_huggingface import TEXT, WIDE
from tests.references.test_families_timm import made, saved
from tests.support.twins import CLOSE, difference, randomise
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.weights.foreign import load_foreign
from vitreous.weights.options import LoadOptions

NAME = "aimv2_large_patch14_224"
TIMM: dict[str, dict[str, Any]] = {"published": {}, "biases": {"qkv_bias": True, "proj_bias": True, "mlp_ratio": 2}}


def told(folder: Path, **arguments: Any) -> Path:
    """Write into config.json what the constructor was called with."""
    document = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(document | {"model_args": arguments}))
    return folder


@pytest.mark.parametrize("case", list(TIMM))
def test_logits_equal_timms(case: str, tmp_path: Path) -> None:
    model = made(NAME, img_size=84, num_heads=2, **TIMM[case])
    folder, report = load_foreign(told(saved(model, tmp_path), num_heads=2))
    assert (report.origin.split(":")[0], report.unused, report.new) == ("aimv2", (), ())
    assert folder.preprocess.mean[0] == pytest.approx(0.48145466)
    assert difference(folder.model, model) < CLOSE
    folder, _ = load_foreign(tmp_path, LoadOptions(image=(126, 56)))
    model.set_input_size(img_size=(126, 56))
    assert difference(folder.model, model) < CLOSE


def test_apples_own_names_equal_timms_reading(tmp_path: Path) -> None:
    from timm.models.vision_transformer import _convert_aimv2

    model = made(NAME, img_size=84, num_heads=2, num_classes=0)  # width 128: one head of 128 values is assumed
    swaps = [
        ("patch_embed.", "preprocessor.patchifier."),
        ("pos_embed", "preprocessor.pos_embed"),
        ("norm1.", "norm_1."),
    ]
    swaps += [
        ("norm2.", "norm_2."),
        ("mlp.fc1_g.", "mlp.fc1."),
        ("mlp.fc1_x.", "mlp.fc3."),
        ("blocks.", "trunk.blocks."),
    ]
    found: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        theirs = name.replace("norm.", "trunk.post_trunk_norm.") if name.startswith("norm.") else name
        for timms, apples in swaps:
            theirs = theirs.replace(timms, apples)
        found[theirs] = tensor
    twin = made(NAME, img_size=84, num_heads=1, embed_dim=128, num_classes=0)
    twin.load_state_dict(_convert_aimv2(found, twin))
    torch.save(found, tmp_path / "aimv2.pth")
    folder, report = load_foreign(tmp_path / "aimv2.pth")
    assert any("1 heads, as is usual at width 128" in note for note in report.assumed)
    assert difference(folder.model, twin) < CLOSE


HF: dict[str, tuple[str, dict[str, Any]]] = {
    "head": ("Aimv2VisionModel", {}),
    "native": ("Aimv2VisionModel", {"is_native": True, "qkv_bias": True, "mlp_bias": True, "rms_norm_eps": 1e-4}),
    "mean": ("Aimv2VisionModel", {"use_head": False, "num_channels": 1}),
    "whole": ("Aimv2Model", {}),
}


def hugging(case: str) -> nn.Module:
    import transformers

    kind, more = HF[case]
    if kind == "Aimv2Model":
        config = transformers.Aimv2Config(text_config=TEXT, vision_config=WIDE | more, projection_dim=12)
        return randomise(transformers.Aimv2Model(config))
    return randomise(transformers.Aimv2VisionModel(transformers.Aimv2VisionConfig(**WIDE | more)))


def theirs(case: str, model: nn.Module, pixels: Tensor) -> Tensor:
    if case == "whole":
        return model.get_image_features(pixels).pooler_output
    found = model(pixels)
    return found.last_hidden_state.mean(dim=1) if case == "mean" else found.pooler_output


@pytest.mark.parametrize("case", list(HF))
def test_outputs_equal_transformers(case: str, tmp_path: Path) -> None:
    model = hugging(case)
    model.save_pretrained(tmp_path)
    folder, report = load_foreign(tmp_path)
    assert (report.origin.split(":")[0], report.unused, report.new) == ("hf-aimv2", (), ())
    assert difference(folder.model, lambda pixels: theirs(case, model, pixels)) < CLOSE
    folder, _ = load_foreign(tmp_path, LoadOptions(image=(56, 40)))
    if case != "native":  # transformers' positions are of one size: here they are resized by timm's rule, as its are
        tower = model.vision_model if case == "whole" else model
        places = tower.embeddings.position_embedding
        grid = places.weight.detach().T.unflatten(1, (4, 4))[None]
        grid = F.interpolate(grid, size=(7, 5), mode="bicubic", antialias=True)[0].flatten(1).T
        places.weight = nn.Parameter(grid.contiguous())
        tower.embeddings.position_ids = torch.arange(35)[None]
    assert difference(folder.model, lambda pixels: theirs(case, model, pixels)) < CLOSE
