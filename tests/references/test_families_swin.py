"""Swin Transformers of the authors, timm, transformers and torchvision, loaded by us, give their numbers; and what we write,
they read."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.support.twins import CLOSE, difference, logits, randomise, saved
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.errors import CheckpointError
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.model.factory import create
from vitreous.model.swin_config import SwinConfig
from vitreous.shapes import Size
from vitreous.weights.conversion import convert
from vitreous.weights.foreign import load_foreign
from vitreous.weights.loading import open_model
from vitreous.weights.model_folder import ModelFolder
from vitreous.weights.options import LoadOptions

SHAPE: dict[str, Any] = {"depths": (2, 2, 2), "num_heads": (1, 2, 4), "embed_dim": 32}
OURS = SwinConfig(
    image=(64, 64), width=32, depths=(2, 2, 2), heads=(1, 2, 4), windows=((4, 4), (4, 4), (4, 4)), classes=10
)
VERSIONS = ("v1", "v2")


def timms(version: str, **given: Any) -> nn.Module:
    import timm

    name = {"v1": "swin_tiny_patch4_window7_224", "v2": "swinv2_tiny_window8_256"}[version]
    return randomise(timm.create_model(name, **SHAPE | {"img_size": 64, "window_size": 4, "num_classes": 10} | given))


def transformers(version: str, **given: Any) -> nn.Module:
    from transformers import SwinConfig, SwinForImageClassification, Swinv2Config, Swinv2ForImageClassification

    settings = {**SHAPE, "image_size": 64, "window_size": 4, "num_labels": 10} | given
    settings |= {name: list(settings[name]) for name in ("depths", "num_heads")}
    if version == "v1":
        return randomise(SwinForImageClassification(SwinConfig(**settings)))
    return randomise(Swinv2ForImageClassification(Swinv2Config(**settings)))


def torchvisions(version: str, window: int = 4) -> nn.Module:
    from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2

    second = {"block": SwinTransformerBlockV2, "downsample_layer": PatchMergingV2} if version == "v2" else {}
    made = SwinTransformer([4, 4], 32, [2, 2, 2], [1, 2, 4], [window, window], num_classes=10, **second)
    return randomise(made)


def at(folder: ModelFolder, image: tuple[int, int]) -> nn.Module:
    return folder.model.resize(image)


@pytest.mark.parametrize("version", VERSIONS)
def test_timms_file_is_the_same_function(version: str, tmp_path: Path) -> None:
    model = timms(version)
    config = {"architecture": model.pretrained_cfg["architecture"], "model_args": {"img_size": 64, "window_size": 4}}
    folder, report = load_foreign(saved(model.state_dict(), tmp_path, config))
    assert report.origin.startswith("timm-swin")
    assert folder.model.config == replace(OURS, version=version)
    assert difference(folder.model, model) < CLOSE


def test_timms_windows_that_are_not_square_and_grew_after_training(tmp_path: Path) -> None:
    given = {"img_size": (64, 96), "window_size": ((4, 6), (4, 6), (4, 6)), "pretrained_window_sizes": (4, 3, 2)}
    model = timms("v2", **given)
    config = {"architecture": "swinv2_tiny_window8_256", "model_args": given}
    folder, _ = load_foreign(saved(model.state_dict(), tmp_path, config))
    assert folder.model.config.windows == ((4, 6), (4, 6), (4, 6))
    assert folder.model.config.trained_windows == ((4, 4), (3, 3), (2, 2))
    assert difference(folder.model, model) < CLOSE


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("window", [8, (4, 8), 3])
def test_timms_windows_are_cut_to_the_maps_of_the_files_own_patches(version: str, window: Any, tmp_path: Path) -> None:
    given = {"img_size": 36 if window == 3 else 32, "patch_size": 2, "window_size": window, "depths": (2, 1)}
    model = timms(version, **given, num_heads=(2, 4))
    config = {"architecture": model.pretrained_cfg["architecture"], "model_args": given}
    folder, _ = load_foreign(saved(model.state_dict(), tmp_path, config))
    assert difference(folder.model, model) < CLOSE


def test_timms_names_say_windows_and_those_of_training(tmp_path: Path) -> None:
    folder = saved(timms("v2", depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8)).state_dict(), tmp_path)
    name = "timm-swin:swinv2_base_window12to16_192to256"
    config = load_foreign(folder, LoadOptions(family=name))[0].model.config
    assert (config.image, config.windows) == ((256, 256), ((16, 16), (16, 16), (16, 16), (8, 8)))
    assert config.trained_windows == ((12, 12), (12, 12), (12, 12), (6, 6))


def authors(model: nn.Module) -> dict[str, Tensor]:
    """Name a model of timm's as the authors' files do, with their constants: merging at the end of stages, a plain head."""
    found = {}
    for name, tensor in model.state_dict().items():
        parts = name.split(".")
        if "downsample" in parts:
            parts[1] = str(int(parts[1]) - 1)
        found[".".join(parts).replace("head.fc.", "head.")] = tensor
    for name, module in model.named_modules():
        for constant in ("relative_position_index", "relative_coords_table", "attn_mask"):
            value = getattr(module, constant, None)
            if isinstance(value, Tensor):
                found[f"{name}.{constant}"] = value
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_the_authors_file_is_the_same_function(version: str, tmp_path: Path) -> None:
    given = {"img_size": 96, "window_size": 6, "pretrained_window_sizes": (4, 4, 3)} if version == "v2" else {}
    model = timms(version, **given)
    torch.save({"model": authors(model), "epoch": 3}, tmp_path / "swin.pth")
    folder, report = load_foreign(tmp_path / "swin.pth")
    assert report.origin.startswith("swin: microsoft/Swin-Transformer")
    if version == "v2":  # read from the largest offset of the constants
        assert folder.model.config.trained_windows == ((4, 4), (4, 4), (3, 3))
    assert difference(folder.model, model) < CLOSE


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("image", [(64, 64), (82, 86)])
def test_transformers_file_is_the_same_function(version: str, image: tuple[int, int], tmp_path: Path) -> None:
    """The second size is neither whole patches nor whole windows: padded and shifted as the authors' detection code does."""
    model = transformers(version)
    model.save_pretrained(tmp_path)
    folder, report = load_foreign(tmp_path)
    assert report.origin.startswith("huggingface-swin")
    assert folder.model.config == replace(OURS, version=version)
    if version == "v2":  # whose blocks shift by the configured image: say the size
        model = transformers(version, image_size=list(image) if image != (64, 64) else 64)
    assert difference(at(folder, image), logits(model)) < CLOSE


def test_transformers_second_version_with_windows_of_training_and_names_of_modules(tmp_path: Path) -> None:
    model = transformers("v2", image_size=80, window_size=5, pretrained_window_sizes=[4, 4, 3])
    folder, _ = load_foreign(saved(model.state_dict(), tmp_path, model.config.to_dict()))
    assert folder.model.config.windows == ((5, 5), (5, 5), (5, 5))
    assert folder.model.config.trained_windows == ((4, 4), (4, 4), (3, 3))
    assert difference(folder.model, logits(model)) < CLOSE
    first = transformers("v1")
    (tmp_path / "first").mkdir()
    folder, _ = load_foreign(saved(first.state_dict(), tmp_path / "first", first.config.to_dict()))
    assert difference(folder.model, logits(first)) < CLOSE


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("image", [(64, 64), (92, 68), (40, 40)])
def test_torchvisions_file_is_the_same_function(version: str, image: tuple[int, int], tmp_path: Path) -> None:
    """On the smallest images, windows are larger than the last map, and nothing is shifted along it."""
    model = torchvisions(version)
    folder, report = load_foreign(saved(model.state_dict(), tmp_path))
    assert report.origin.startswith("torchvision-swin")
    assert folder.model.config == replace(OURS, version=version)
    assert difference(at(folder, image), model) < CLOSE


def test_torchvisions_transforms_are_those_of_its_weights() -> None:
    from torchvision.models import swin_transformer

    from vitreous.weights.families.swin import SCALED

    for (version, width, blocks), scaled in SCALED.items():
        letter = {(96, 6): "T", (96, 18): "S", (128, 18): "B"}[width, blocks]
        found = getattr(swin_transformer, f"Swin{'_V2' if version == 'v2' else ''}_{letter}_Weights").DEFAULT
        assert found.transforms().resize_size == [scaled]
        assert found.meta["num_params"] > 0


def made(version: str, **given: Any) -> ModelFolder:
    model = randomise(create(replace(OURS, version=version, classes=3, **given)))
    images = PreprocessConfig(size=model.config.image, crop=0.9, interpolation="bicubic")
    return ModelFolder(model, images, DecodeConfig(), ("a", "b", "c"))


@pytest.mark.parametrize("version", VERSIONS)
def test_timm_reads_what_we_write(version: str, tmp_path: Path) -> None:
    import timm

    trained = ((3, 3), (3, 3), (2, 2)) if version == "v2" else ()
    first = made(version, image=(64, 96), windows=((4, 4), (4, 6), (4, 3)), trained_windows=trained)
    assert convert(first, tmp_path / "theirs", "timm-swin").difference == 0
    theirs = timm.create_model(f"local-dir:{tmp_path / 'theirs'}", pretrained=True).eval()
    assert difference(first.model, theirs) < CLOSE
    again, _ = open_model(tmp_path / "theirs")
    assert (again.model.config, again.classes) == (first.model.config, first.classes)
    assert again.preprocess.crop == pytest.approx(first.preprocess.crop, abs=0.01)
    with pytest.raises(CheckpointError, match="timm pads after it has shifted windows"):
        convert(made(version, image=(72, 72)), tmp_path / "other", "timm-swin")


@pytest.mark.parametrize("version", VERSIONS)
def test_transformers_reads_what_we_write(version: str, tmp_path: Path) -> None:
    from transformers import AutoModelForImageClassification

    first = made(version, **({"trained_windows": ((3, 3), (3, 3), (2, 2))} if version == "v2" else {}))
    assert convert(first, tmp_path / "theirs", "huggingface-swin").difference == 0
    theirs = AutoModelForImageClassification.from_pretrained(tmp_path / "theirs").eval()
    assert difference(first.model, logits(theirs)) < CLOSE
    assert open_model(tmp_path / "theirs")[0].model.config == first.model.config
    with pytest.raises(CheckpointError, match="the same in every stage"):
        convert(made(version, windows=((2, 2), (4, 4), (4, 4))), tmp_path / "other", "huggingface-swin")


@pytest.mark.parametrize("version", VERSIONS)
def test_torchvision_reads_what_we_write(version: str, tmp_path: Path) -> None:
    first = made(version)
    assert convert(first, tmp_path / "theirs", "torchvision-swin").difference == 0
    theirs = torchvisions(version)
    theirs.head = nn.Linear(128, 3)
    theirs.load_state_dict(load_file(tmp_path / "theirs" / "model.safetensors"))
    assert difference(first.model, theirs) < CLOSE


@pytest.mark.parametrize("version", VERSIONS)
def test_a_step_of_training_has_timms_loss_and_gradients(version: str, tmp_path: Path) -> None:
    theirs = timms(version)
    folder, _ = load_foreign(
        saved(theirs.state_dict(), tmp_path, {"architecture": "swin", "model_args": {"img_size": 64, "window_size": 4}})
    )
    ours = folder.model.double().train()
    theirs = copy.deepcopy(theirs).double().eval()  # without stochastic depth
    pixels = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = torch.tensor([1, 7, 2])
    losses = [F.cross_entropy(model(pixels), labels) for model in (ours, theirs)]
    assert float(losses[0].detach()) == pytest.approx(float(losses[1].detach()), rel=1e-6)
    for loss in losses:
        loss.backward()
    theirs_by_size = {name: one.grad for name, one in theirs.named_parameters()}
    for mine, their in (
        ("patches.embed.weight", "patch_embed.proj.weight"),
        ("stages.0.blocks.1.attention.qkv.weight", "layers.0.blocks.1.attn.qkv.weight"),
        ("stages.1.merge.reduce.weight", "layers.1.downsample.reduction.weight"),
        ("stages.2.blocks.1.mlp.contract.weight", "layers.2.blocks.1.mlp.fc2.weight"),
        ("stages.1.blocks.0.attention_norm.bias", "layers.1.blocks.0.norm1.bias"),
        *((("stages.0.blocks.1.attention.relative.table", "layers.0.blocks.1.attn.relative_position_bias_table"),) if version == "v1" else (
            ("stages.0.blocks.1.attention.relative.expand.weight", "layers.0.blocks.1.attn.cpb_mlp.0.weight"),
            ("stages.0.blocks.1.attention.q_norm.log_scale", "layers.0.blocks.1.attn.logit_scale"),
            ("stages.2.blocks.0.attention.v_bias", "layers.2.blocks.0.attn.v_bias"))),
        ("head.weight", "head.fc.weight"),
    ):  # fmt: skip
        expected = theirs_by_size[their].flatten()
        found = ours.get_parameter(mine).grad.flatten()
        assert float((found - expected).norm() / expected.norm()) < 1e-4, mine


def test_stages_are_timms_maps(tmp_path: Path) -> None:
    theirs = timms("v1")
    folder, _ = load_foreign(saved(theirs.state_dict(), tmp_path))
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = theirs.forward_intermediates(pixels, norm=True, intermediates_only=True)
        found = folder.model.maps(pixels, [0, 1, 2])
    for ours, map_ in zip(found, expected, strict=True):
        assert float((ours.permute(0, 3, 1, 2) - map_).abs().max()) < CLOSE


def test_what_is_no_swin_we_build_is_refused_with_the_reason(tmp_path: Path) -> None:
    tensors = timms("v1").state_dict()
    other = tensors | {"absolute_pos_embed": torch.zeros(1, 256, 32)}
    with pytest.raises(CheckpointError, match="absolute_pos_embed"):
        load_foreign(saved(other, tmp_path))
    (tmp_path / "table").mkdir()
    name = "layers.0.blocks.0.attn.relative_position_bias_table"
    with pytest.raises(CheckpointError, match="table of 48 offsets"):
        load_foreign(saved(tensors | {name: torch.zeros(48, 1)}, tmp_path / "table"))
    (tmp_path / "stated").mkdir()
    config = {"architecture": "swin_tiny", "model_args": {"img_size": 64, "window_size": [4, 8]}}
    with pytest.raises(CheckpointError, match=r"table of 48 offsets .* a window of 4x8, which is stated, has 105"):
        load_foreign(saved(tensors | {name: torch.zeros(48, 1)}, tmp_path / "stated", config))
    (tmp_path / "args").mkdir()
    with pytest.raises(CheckpointError, match="qk_norm"):
        config = {"architecture": "swin_tiny", "model_args": {"qk_norm": True}}
        load_foreign(saved(tensors, tmp_path / "args", config))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("given", "reason"), [
    ({"hidden_act": "quick_gelu"}, "says hidden_act quick_gelu"),
    ({"layer_norm_eps": 1e-3}, "says layer_norm_eps 0.001"),
    ({"qkv_bias": False}, "its q, k and v have no biases"),
    ({"mlp_ratio": 2.5}, "MLPs are 80 wide, which is no multiple of its width, 32"),
])  # fmt: skip
def test_transformers_swins_that_we_do_not_build_are_refused_with_the_reason(
    version: str, given: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    transformers(version, **given).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=reason):
        load_foreign(tmp_path)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_epsilon_that_transformers_has_in_some_norms_alone_is_not_written(version: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"its norms have epsilon 0\.001"):
        convert(made(version, norm_eps=1e-3), tmp_path / "other", "huggingface-swin")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["swin_tiny_patch4_window7_224", "swin_base_patch4_window12_384", "swinv2_small_window16_256"]
)
def test_published_shapes_at_their_own_size(name: str, tmp_path: Path) -> None:
    import timm

    model = randomise(timm.create_model(name, num_classes=10))
    config = {"architecture": name, "pretrained_cfg": {"input_size": [3, *model.patch_embed.img_size]}}
    folder, _ = load_foreign(saved(model.state_dict(), tmp_path, config))
    assert Size(*folder.model.config.image) == Size(*model.patch_embed.img_size)
    assert difference(folder.model, model) < CLOSE
