"""The same random weights in timm's BiT and hybrids give the same numbers."""

import copy

import pytest
import torch
from torch import Tensor, nn

from vitreous.model import count
from vitreous.model.count_resnet import count_resnet_parameters
from vitreous.model.factory import create
from vitreous.model.names import build_vit_config
from vitreous.model.resnet import ResNet
from vitreous.model.resnet_config import build_resnet_config
from vitreous.model.vit import ViT

SIZES = [(96, 160), (97, 131), pytest.param((224, 224), marks=pytest.mark.slow)]
"""The second isn't a multiple of the stride: the padding shows."""


def randomise(model: nn.Module, seed: int = 1) -> None:
    """Draw every parameter at random: a zero head or zero biases would hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.02
            parameter.copy_(1 + noise if "norm" in key and key.endswith("weight") else parameter + noise)


def images(rows: int, cols: int, channels: int = 3) -> Tensor:
    return torch.randn(2, channels, rows, cols, generator=torch.Generator().manual_seed(2))


def bit_to_timm(ours: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {}
    for name, tensor in ours.items():
        name = name.replace("root.", "stem.").replace("project.", "downsample.conv.").replace("head.", "head.fc.")
        if name.startswith("stages."):
            stage, unit, rest = name.removeprefix("stages.").split(".", 2)
            name = f"stages.{stage}.blocks.{unit}.{rest}"
        found[name] = tensor[:, :, None, None] if name == "head.fc.weight" else tensor
    return found


@pytest.fixture(scope="module")
def bit() -> tuple[ResNet, nn.Module]:
    import timm

    model = create(build_resnet_config("R50x1"))
    randomise(model)
    twin = timm.create_model("resnetv2_50x1_bit", pretrained=False)
    twin.load_state_dict(bit_to_timm(model.state_dict()))
    return model.eval(), twin.eval()


def relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize("size", SIZES)
def test_bits_logits_equal_timms(bit: tuple[ResNet, nn.Module], size: tuple[int, int]) -> None:
    model, twin = bit
    with torch.inference_mode():
        assert relative(model(images(*size)), twin(images(*size))) < 1e-5


def test_bits_stages_equal_timms(bit: tuple[ResNet, nn.Module]) -> None:
    model, twin = bit
    with torch.inference_mode():
        found = model.intermediates(images(64, 96), ["stage.0", "stage.1", "stage.2", "stage.3", "norm"])
        last, (_, *stages) = twin.forward_intermediates(images(64, 96))
    for index, stage in enumerate(stages):
        assert relative(found[f"stage.{index}"], stage) < 1e-5
    assert relative(found["norm"], last) < 1e-5


def test_bits_gradients_equal_timms(bit: tuple[ResNet, nn.Module]) -> None:
    """In float64: in float32, rounding decides which ReLUs of so many are open."""
    model, twin = (copy.deepcopy(one).double() for one in bit)
    for one in (model, twin):
        nn.functional.cross_entropy(one(images(64, 96).double()), torch.tensor([1, 7])).backward()
    theirs = {name: parameter.grad for name, parameter in twin.named_parameters()}
    ours = bit_to_timm({name: parameter.grad for name, parameter in model.named_parameters()})
    assert ours.keys() == theirs.keys()
    assert {name: off for name in ours if (off := relative(ours[name], theirs[name])) > 1e-9} == {}


@pytest.mark.parametrize("name", ["R50x1", "R50x3", "R101x1", "R101x3", "R152x2", "R152x4"])
def test_parameters_are_as_many_as_timms(name: str) -> None:
    import timm

    with torch.device("meta"):
        twin = timm.create_model(f"resnetv2_{name[1:]}_bit", pretrained=False)
    assert count_resnet_parameters(build_resnet_config(name)) == sum(
        parameter.numel() for parameter in twin.parameters()
    )


HYBRIDS = {
    "R+Ti/16": "vit_tiny_r_s16_p8_224",
    "R26+S/32": "vit_small_r26_s32_224",
    "R50+B/16": "vit_base_r50_s16_224",
    "R50+L/32": "vit_large_r50_s32_224",
}
NAMES = (
    ("patches.embed.", "patch_embed.proj."),
    ("patches.stem.conv.", "patch_embed.backbone.stem.conv."),
    ("patches.stem.norm.", "patch_embed.backbone.stem.norm."),
    ("project.", "downsample.conv."),
    ("project_norm.", "downsample.norm."),
    ("last_norm.", "norm3."),
    ("attention_norm.", "norm1."),
    ("mlp_norm.", "norm2."),
    ("attention.qkv.", "attn.qkv."),
    ("attention.out.", "attn.proj."),
    ("mlp.expand.", "mlp.fc1."),
    ("mlp.contract.", "mlp.fc2."),
)


def hybrid_to_timm(model: ViT) -> dict[str, Tensor]:
    found = {}
    for name, tensor in model.state_dict().items():
        if name.startswith("patches.stem.stages."):
            stage, unit, rest = name.removeprefix("patches.stem.stages.").split(".", 2)
            name = f"patch_embed.backbone.stages.{stage}.blocks.{unit}.{rest}"
        for ours, theirs in NAMES:
            name = name.replace(ours, theirs)
        found[name] = tensor
    if not model.config.stem.units:  # timm's backbone is the root alone there
        found = {name.replace("backbone.stem.", "backbone."): tensor for name, tensor in found.items()}
    found["cls_token"] = found.pop("class_token").view(1, 1, -1)
    found["pos_embed"] = found.pop("positions.embedding")[None]
    found["patch_embed.proj.weight"] = model.patches.kernel.detach()
    return found


def hybrids(name: str, size: tuple[int, int], **overrides: int) -> tuple[ViT, nn.Module]:
    import timm

    model = create(build_vit_config(name, image=size, **overrides))
    randomise(model)
    twin = timm.create_model(HYBRIDS[name], pretrained=False, num_classes=1000, img_size=size, **overrides)
    twin.load_state_dict(hybrid_to_timm(model))
    return model.eval(), twin.eval()


@pytest.mark.parametrize("size", [(96, 96), (64, 160)])
@pytest.mark.parametrize("name", ["R+Ti/16", "R26+S/32", pytest.param("R50+B/16", marks=pytest.mark.slow)])
def test_hybrids_logits_equal_timms(name: str, size: tuple[int, int]) -> None:
    """The whole stem and two blocks after it; the slow test below has all blocks."""
    same_logits(*hybrids(name, size, depth=2), size)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(224, 224), (160, 256)])
@pytest.mark.parametrize("name", ["R+Ti/16", "R26+S/32", "R50+B/16"])
def test_whole_hybrids_logits_equal_timms(name: str, size: tuple[int, int]) -> None:
    same_logits(*hybrids(name, size), size)


def same_logits(model: ViT, twin: nn.Module, size: tuple[int, int]) -> None:
    with torch.inference_mode():
        assert float((model(images(*size)) - twin(images(*size))).abs().max()) < 1e-5
        assert relative(model.tokens(images(*size)), twin.forward_features(images(*size))) < 1e-5


@pytest.mark.parametrize("name", HYBRIDS)
def test_hybrids_have_as_many_parameters_as_timms(name: str) -> None:
    import timm

    with torch.device("meta"):
        twin = timm.create_model(HYBRIDS[name], pretrained=False, num_classes=1000)
    assert count.count_parameters(build_vit_config(name)) == sum(parameter.numel() for parameter in twin.parameters())
