"""The authors' own files: same numbers as an independent reader of them (timm's, or torchvision's own model)."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.twins import CLOSE, difference, randomise
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.errors import CheckpointError
from vitreous.weights.foreign import load_foreign
from vitreous.weights.options import LoadOptions

TINY: dict[str, Any] = {"embed_dim": 64, "depth": 3, "num_heads": 1}
Tensors = dict[str, Tensor]


def like_timm(name: str, tensors: Tensors, **settings: Any) -> nn.Module:
    """timm's model, filled by timm's own reader of the authors' names."""
    import timm
    from timm.models.eva import Eva
    from timm.models.eva import checkpoint_filter_fn as read_eva
    from timm.models.vision_transformer import checkpoint_filter_fn as read_vit

    model = timm.create_model(name, **TINY | settings)
    read = read_eva if isinstance(model, Eva) else read_vit
    model.load_state_dict(read(dict(tensors), model))
    return model.eval()


def random_tensors(name: str, **settings: Any) -> Tensors:
    """A random model of timm's, under timm's names."""
    import timm

    return dict(randomise(timm.create_model(name, **TINY | settings)).state_dict())


def renamed(tensors: Tensors, *pairs: tuple[str, str]) -> Tensors:
    found = {}
    for name, tensor in tensors.items():
        for old, new in pairs:
            name = name.replace(old, new)
        found[name] = tensor
    return found


def written(tensors: Any, folder: Path, name: str = "weights.pth") -> Path:
    torch.save(tensors, folder / name)
    return folder / name


def resized_as_dino(positions: Tensor, rows: int, cols: int) -> Tensor:
    """DINO's own resize of its square grid: scale factors with a tenth of a cell added, bicubic."""
    token, grid = positions[:, :1], positions[:, 1:]
    side = round(grid.shape[1] ** 0.5)
    grid = grid.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, scale_factor=((rows + 0.1) / side, (cols + 0.1) / side), mode="bicubic")
    return torch.cat([token, grid.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def dino_tensors() -> Tensors:
    names = random_tensors("vit_small_patch16_224", img_size=96, num_classes=0)
    return names


def dinov2_tensors(name: str, **settings: Any) -> Tensors:
    """DINOv2's names; with registers [class] has a position of its own there, which timm adds to the token."""
    tensors = random_tensors(name, img_size=84, num_classes=0, **settings)
    width = tensors["cls_token"].shape[2]
    if "reg_token" in tensors:
        tensors["register_tokens"] = tensors.pop("reg_token")
        tensors["pos_embed"] = torch.cat([torch.randn(1, 1, width), tensors["pos_embed"]], dim=1)
    if tensors["blocks.0.mlp.fc1.weight"].shape[0] == 2 * tensors["blocks.0.mlp.fc2.weight"].shape[1]:
        tensors = renamed(tensors, ("mlp.fc1", "mlp.w12"), ("mlp.fc2", "mlp.w3"))
    return tensors | {"mask_token": torch.zeros(1, width)}


GATED = {"embed_dim": 96}  # timm's hidden width must be even
DINOV2 = {
    "vit_small_patch14_dinov2": {},
    "vit_small_patch14_reg4_dinov2": {},
    "vit_giant_patch14_reg4_dinov2": GATED,
    "vit_giant_patch14_dinov2": GATED,
}


@pytest.mark.parametrize("name", list(DINOV2))
def test_dinov2_equals_timms_reading(name: str, tmp_path: Path) -> None:
    tensors = dinov2_tensors(name, **DINOV2[name])
    folder, report = load_foreign(written(tensors, tmp_path))
    assert (report.origin.split(":")[0], report.ignored) == ("dinov2", 1)
    assert difference(folder.model, like_timm(name, tensors, img_size=84, num_classes=0, **DINOV2[name])) < CLOSE


def test_dinov2_is_resized_as_its_authors_do(tmp_path: Path) -> None:
    tensors = dinov2_tensors("vit_small_patch14_dinov2")
    folder, report = load_foreign(written(tensors, tmp_path), LoadOptions(image=(56, 126)))
    assert "bicubic-offset" in report.resized
    placed = tensors | {"pos_embed": resized_as_dino(tensors["pos_embed"], 4, 9)}
    settings = {"img_size": (56, 126), "num_classes": 0}
    assert difference(folder.model, like_timm("vit_small_patch14_dinov2", placed, **settings)) < CLOSE


def test_dinov2_with_registers_is_resized_as_its_authors_do(tmp_path: Path) -> None:
    name, tensors = "vit_small_patch14_reg4_dinov2", dinov2_tensors("vit_small_patch14_reg4_dinov2")
    folder, report = load_foreign(written(tensors, tmp_path), LoadOptions(image=(56, 126)))
    assert "bicubic-antialias" in report.resized
    twin = like_timm(name, tensors, img_size=84, num_classes=0)
    twin.set_input_size(img_size=(56, 126))  # timm's resize is the same rule
    assert difference(folder.model, twin) < CLOSE


def test_a_training_checkpoint_gives_its_teacher(tmp_path: Path) -> None:
    """Blocks in chunks, prefixes, projection heads, a student: as DINOv2's training leaves them."""
    tensors, settings = dinov2_tensors("vit_small_patch14_dinov2"), {"img_size": 84, "num_classes": 0}
    chunks = {f"blocks.{index}.": f"blocks.{index // 2}.{index}." for index in range(3)}
    saved = {f"teacher.backbone.{key}": tensor for key, tensor in renamed(tensors, *chunks.items()).items()}
    saved |= {f"student.backbone.{key}": torch.zeros_like(tensor) for key, tensor in tensors.items()}
    saved["teacher.dino_head.mlp.0.weight"] = torch.zeros(4, 64)
    folder, report = load_foreign(written({"model": saved}, tmp_path))
    assert report.ignored == len(tensors) + 2
    assert difference(folder.model, like_timm("vit_small_patch14_dinov2", tensors, **settings)) < CLOSE


def test_dino_with_its_head_is_recognised_and_resized_as_its_authors_do(tmp_path: Path) -> None:
    tensors, name = dino_tensors(), "vit_small_patch16_224"
    saved = {f"backbone.{key}": tensor for key, tensor in tensors.items()}
    saved |= {"head.mlp.0.weight": torch.zeros(4, 64), "head.last_layer.weight_v": torch.zeros(4, 4)}
    path = written({"student": {}, "teacher": saved, "epoch": 1}, tmp_path)
    folder, report = load_foreign(path)
    assert report.origin.startswith("dino:")
    assert folder.preprocess.mean[0] == 0.485
    assert difference(folder.model, like_timm(name, tensors, img_size=96, num_classes=0)) < CLOSE
    placed = tensors | {"pos_embed": resized_as_dino(tensors["pos_embed"], 4, 7)}
    folder, report = load_foreign(path, LoadOptions(image=(64, 112)))
    assert "bicubic-offset" in report.resized
    assert difference(folder.model, like_timm(name, placed, img_size=(64, 112), num_classes=0)) < CLOSE


def test_bare_shared_names_are_read_as_timms_and_the_report_says_so(tmp_path: Path) -> None:
    path = written(dino_tensors(), tmp_path)
    folder, report = load_foreign(path)
    assert report.origin.startswith("timm:")
    assert any("--as deit, dino or mae" in note for note in report.assumed)
    again, report = load_foreign(path, LoadOptions(family="dino"))
    assert not any("--as" in note for note in report.assumed)
    assert (folder.resize, again.resize) == ("bicubic-antialias", "bicubic-offset")
    assert difference(again.model, folder.model) == 0.0


def dinov3_tensors(name: str, rounded: bool) -> Tensors:
    """DINOv3's names: one bias for q, k and v whose middle third a mask keeps out, and the wavelengths."""
    tensors = random_tensors(name, img_size=96, num_classes=0)
    pairs = [("reg_token", "storage_tokens"), ("gamma_1", "ls1.gamma"), ("gamma_2", "ls2.gamma")]
    pairs += [("mlp.fc1_g", "mlp.w1"), ("mlp.fc1_x", "mlp.w2")]
    pairs += [("mlp.fc2", "mlp.w3")] if "blocks.0.mlp.fc1_g.weight" in tensors else []
    tensors = renamed(tensors, *pairs)
    for block in range(TINY["depth"]):
        own = f"blocks.{block}.attn"
        if f"{own}.q_bias" in tensors:
            q, v = tensors.pop(f"{own}.q_bias"), tensors.pop(f"{own}.v_bias")
            tensors[f"{own}.qkv.bias"] = torch.cat([q, torch.randn(64), v])
            tensors[f"{own}.qkv.bias_mask"] = torch.cat([torch.ones(64), torch.zeros(64), torch.ones(64)])
    periods = 100.0 ** (torch.arange(16) / 16)
    tensors["rope_embed.periods"] = periods.bfloat16().float() if rounded else periods
    return tensors | {"mask_token": torch.zeros(1, 64), "local_cls_norm.weight": torch.ones(64)}


def dinov3_twin(name: str, tensors: Tensors, size: tuple[int, int], rounded: bool) -> nn.Module:
    twin = like_timm(name, tensors, img_size=96, num_classes=0, global_pool="token")
    twin.set_input_size(img_size=size)
    if rounded:  # timm computes the wavelengths; here it gets those of the file
        twin.rope.periods.copy_(tensors["rope_embed.periods"])
        twin.rope.pos_embed_cached = None
    return twin


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("name", ["vit_small_patch16_dinov3_qkvb", "vit_small_plus_patch16_dinov3"])
def test_dinov3_equals_timms_reading(name: str, rounded: bool, tmp_path: Path) -> None:
    tensors = dinov3_tensors(name, rounded)
    for size in ((224, 224), (96, 160)):
        folder, report = load_foreign(written(tensors, tmp_path), LoadOptions(image=size))
        assert report.origin.startswith("dinov3:")
        assert folder.model.config.rotary.rounded == rounded
        assert difference(folder.model, dinov3_twin(name, tensors, size, rounded)) < CLOSE


def test_rounded_wavelengths_change_the_numbers(tmp_path: Path) -> None:
    """Why they are read from the file: what timm and transformers compute isn't quite DINOv3's function."""
    name = "vit_small_patch16_dinov3_qkvb"
    tensors = dinov3_tensors(name, rounded=True)
    folder, _ = load_foreign(written(tensors, tmp_path))
    assert difference(folder.model, dinov3_twin(name, tensors, (224, 224), rounded=False)) > 1e-3


def test_other_wavelengths_are_refused(tmp_path: Path) -> None:
    tensors = dinov3_tensors("vit_small_patch16_dinov3_qkvb", rounded=False)
    tensors["rope_embed.periods"] = 2 * tensors["rope_embed.periods"]
    with pytest.raises(CheckpointError, match="wavelengths"):
        load_foreign(written(tensors, tmp_path))


def test_mae_encoders_and_fine_tuned_models_equal_timms(tmp_path: Path) -> None:
    name = "vit_base_patch16_224"
    tensors = random_tensors(name, img_size=96, num_classes=0)
    decoder = {"decoder_embed.weight": torch.zeros(8, 64), "mask_token": torch.zeros(1, 1, 8)}
    folder, report = load_foreign(written({"model": tensors | decoder}, tmp_path))
    assert (report.origin[:4], report.ignored, folder.resize) == ("mae:", 2, "bicubic")
    assert difference(folder.model, like_timm(name, tensors, img_size=96, num_classes=0)) < CLOSE
    tuned = random_tensors(name, img_size=96, num_classes=5, global_pool="avg")
    assert "fc_norm.weight" in tuned
    folder, report = load_foreign(written({"model": tuned}, tmp_path), LoadOptions(family="mae", image=(64, 112)))
    assert report.resized.endswith("by bicubic")
    placed = tuned | {"pos_embed": resized_by_bicubic(tuned["pos_embed"], 4, 7)}
    settings = {"img_size": (64, 112), "num_classes": 5, "global_pool": "avg"}
    assert difference(folder.model, like_timm(name, placed, **settings)) < CLOSE


def resized_by_bicubic(positions: Tensor, rows: int, cols: int) -> Tensor:
    """MAE's and DeiT's own resize (util/pos_embed.py)."""
    token, grid = positions[:, :1], positions[:, 1:]
    side = round(grid.shape[1] ** 0.5)
    grid = grid.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(rows, cols), mode="bicubic", align_corners=False)
    return torch.cat([token, grid.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "deit3_small_patch16_224"])
def test_deit_is_read_by_name(name: str, tmp_path: Path) -> None:
    tensors = random_tensors(name, img_size=96, num_classes=5)
    folder, report = load_foreign(written({"model": tensors}, tmp_path), LoadOptions(family="deit"))
    assert report.origin.startswith("deit:")
    assert (folder.resize, folder.preprocess.mean[0]) == ("bicubic", 0.485)
    assert difference(folder.model, like_timm(name, tensors, img_size=96, num_classes=5)) < CLOSE


CLIP_NAMES = (
    ("patch_embed.proj", "conv1"),
    ("pos_embed", "positional_embedding"),
    ("cls_token", "class_embedding"),
    ("norm_pre", "ln_pre"),
    ("norm1", "ln_1"),
    ("norm2", "ln_2"),
    ("attn.qkv.", "attn.in_proj_"),
    ("attn.proj", "attn.out_proj"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
    ("blocks.", "transformer.resblocks."),
)


def clip_tensors(size: int | tuple[int, int] = 96) -> Tensors:
    """OpenAI's names, beside a text tower's."""
    tensors = random_tensors("vit_base_patch16_clip_224", img_size=size, num_classes=12)
    tensors = renamed({name: tensor for name, tensor in tensors.items() if name != "head.bias"}, *CLIP_NAMES)
    tensors = {
        name if not name.startswith("norm.") else f"ln_post.{name[5:]}": tensor for name, tensor in tensors.items()
    }
    tensors["proj"] = tensors.pop("head.weight").T.contiguous()
    tensors["class_embedding"] = tensors["class_embedding"][0, 0]
    tensors["positional_embedding"] = tensors["positional_embedding"][0]
    text = {"positional_embedding": torch.zeros(7, 8), "transformer.resblocks.0.ln_1.weight": torch.zeros(8)}
    text |= {"token_embedding.weight": torch.zeros(5, 8), "logit_scale": torch.zeros([])}
    return {f"visual.{name}": tensor for name, tensor in tensors.items()} | text


CLIPS = {"openai": "vit_base_patch16_clip_quickgelu_224", "openclip": "vit_base_patch16_clip_224"}


@pytest.mark.parametrize("variant", list(CLIPS))
def test_clip_towers_equal_timms_reading(variant: str, tmp_path: Path) -> None:
    tensors = clip_tensors()
    folder, report = load_foreign(written(tensors, tmp_path), LoadOptions(family=variant))
    assert (report.ignored, folder.classes[0]) == (4, "embedding 0")
    twin = like_timm(CLIPS[variant], tensors, img_size=96, num_classes=12)
    assert difference(folder.model, twin) < CLOSE
    wide, _ = load_foreign(written(tensors, tmp_path), LoadOptions(family=variant, image=(64, 112)))
    twin.set_input_size(img_size=(64, 112))
    assert difference(wide.model, twin) < CLOSE


def test_clip_without_a_config_asks_which_one_it_is(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="--as openai or --as openclip"):
        load_foreign(written(clip_tensors(), tmp_path))
    openai = clip_tensors() | {"input_resolution": torch.tensor(96)}
    folder, _ = load_foreign(written(openai, tmp_path))
    assert folder.model.config.block.activation == "quick-gelu"


def test_an_open_clip_config_is_followed(tmp_path: Path) -> None:
    import json

    vision = {"image_size": 96, "layers": 3, "width": 64, "patch_size": 16, "head_width": 64}
    document = {"model_cfg": {"embed_dim": 12, "vision_cfg": vision, "quick_gelu": True}}
    document |= {"preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(document))
    tensors = clip_tensors()
    folder, report = load_foreign(written(tensors, tmp_path, "open_clip_pytorch_model.bin").parent)
    assert report.assumed == ()
    assert (folder.preprocess.resize, folder.preprocess.mean) == ("squash", (0.5, 0.5, 0.5))
    assert difference(folder.model, like_timm(CLIPS["openai"], tensors, img_size=96, num_classes=12)) < CLOSE


TRUNKS = {"vit_base_patch16_siglip_224": 0, "eva02_base_patch16_clip_224": 12, "vit_pe_core_base_patch16_224": 12}


@pytest.mark.parametrize("name", list(TRUNKS))
def test_timms_towers_inside_openclip_equal_timms_reading(name: str, tmp_path: Path) -> None:
    import json

    import timm

    inner = random_tensors(name, img_size=96, num_classes=0)
    tensors = {f"visual.trunk.{key}": tensor for key, tensor in inner.items()} | {
        "text.token.weight": torch.zeros(2, 2)
    }
    twin = randomise(timm.create_model(name, **TINY, img_size=96, num_classes=TRUNKS[name]))
    twin.load_state_dict(inner, strict=False)
    if TRUNKS[name]:
        tensors["visual.head.proj.weight"] = twin.head.weight.detach()
        twin.head.bias.data.zero_()
    vision = {"timm_model_name": name, "image_size": 96}
    document = {"model_cfg": {"vision_cfg": vision}, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(document))
    folder, report = load_foreign(written(tensors, tmp_path, "open_clip_pytorch_model.bin").parent)
    assert (report.origin.split(":")[0], report.ignored) == ("openclip-timm", 1)
    assert difference(folder.model, twin) < CLOSE


def torchvision_model(image: int, classes: int = 5, **settings: Any) -> nn.Module:
    from torchvision.models.vision_transformer import VisionTransformer

    sizes = {"patch_size": 16, "num_layers": 2, "num_heads": 2, "hidden_dim": 128, "mlp_dim": 96}
    model = VisionTransformer(image_size=image, num_classes=classes, **sizes | settings)
    return randomise(model)


@pytest.mark.parametrize("settings", [{}, {"representation_size": 128}])
def test_torchvision_equals_its_own_model(settings: dict[str, Any], tmp_path: Path) -> None:
    model = torchvision_model(96, **settings)
    folder, report = load_foreign(written(model.state_dict(), tmp_path))
    assert report.origin.startswith("torchvision:")
    assert difference(folder.model, model) < CLOSE


@pytest.mark.parametrize(("kind", "name"), [
    ("ViT_H_14", "IMAGENET1K_SWAG_LINEAR_V1"), ("ViT_B_16", "IMAGENET1K_SWAG_LINEAR_V1"), ("ViT_B_16", "IMAGENET1K_V1"),
    ("ViT_L_16", "IMAGENET1K_V1"), ("ViT_B_16", "IMAGENET1K_SWAG_E2E_V1"),
])  # fmt: skip
def test_torchvisions_transforms_are_those_of_its_weights(kind: str, name: str, tmp_path: Path) -> None:
    from torchvision import models

    weights = getattr(models, f"{kind}_Weights")[name]
    theirs, patch = weights.transforms(), int(kind[-2:])
    width = {"B": 768, "L": 1024, "H": 1280}[kind[4]]
    (side,) = theirs.crop_size
    model = torchvision_model(side, patch_size=patch, hidden_dim=width, num_heads=width // 64, num_layers=1, mlp_dim=64)
    folder, report = load_foreign(written(model.state_dict(), tmp_path, weights.url.rpartition("/")[2]))
    ours = folder.preprocess
    assert ours.crop == pytest.approx(side / theirs.resize_size[0])
    assert ours.interpolation == theirs.interpolation.value
    assert any("those of SWAG" in note for note in report.assumed) == (name == "IMAGENET1K_V1")


def test_torchvisions_published_names_and_its_resize(tmp_path: Path) -> None:
    from torchvision.models.vision_transformer import interpolate_embeddings

    model = torchvision_model(96)
    legacy = renamed(dict(model.state_dict()), ("mlp.0.", "mlp.linear_1."), ("mlp.3.", "mlp.linear_2."))
    folder, report = load_foreign(written(legacy, tmp_path), LoadOptions(image=(144, 144)))
    assert "bicubic-corners" in report.resized
    larger = torchvision_model(144)
    larger.load_state_dict(interpolate_embeddings(144, 16, model.state_dict()))
    assert difference(folder.model, larger) < CLOSE


def test_what_is_written_for_torchvision_loads_into_its_model(tmp_path: Path) -> None:
    from vitreous.weights.families.torchvision import table
    from vitreous.weights.mapping import write_tensors

    model = torchvision_model(96)
    folder, _ = load_foreign(written(model.state_dict(), tmp_path))
    back, left = write_tensors(table(folder.model.config), folder.model.state_dict(), 2)
    assert left == []
    assert all(torch.equal(tensor, back[name]) for name, tensor in model.state_dict().items())
    assert set(back) == set(model.state_dict())
