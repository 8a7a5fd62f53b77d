"""LoRA, another patch size, images of several sizes in one sequence."""

from dataclasses import replace

import pytest
import torch

from vitreous.errors import ConfigError
from vitreous.model.config import RotaryConfig, ViTConfig
from vitreous.model.factory import create
from vitreous.model.lora import add_lora, merge_lora, merge_state, unmerge_lora
from vitreous.model.packing import forward_packed
from vitreous.model.patches import resample_kernel
from vitreous.model.positions.resize import resize_matrix
from vitreous.model.vit import ViT
from vitreous.shapes import Size

PLAIN = ViTConfig(image=(16, 24), patch=(4, 4), width=32, depth=3, heads=2, mlp_width=48, classes=5)


def random_model(**settings: object) -> ViT:
    model = create(replace(PLAIN, **settings))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def images(count: int = 2, rows: int = 16, cols: int = 24) -> torch.Tensor:
    return torch.randn(count, 3, rows, cols, generator=torch.Generator().manual_seed(2))


def test_lora_starts_as_the_model_and_trains_little() -> None:
    model = random_model()
    before = model(images())
    add_lora(model, rank=4, alpha=8)
    assert torch.equal(model(images()), before)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name.rpartition(".")[2] for name in trained if not name.startswith("head")} == {"down", "up"}
    assert sum("up" in name for name in trained) == 3 * 4


def test_lora_leaves_the_mlps_of_positions() -> None:
    model = random_model(positions="bias-log")
    before = model(images())
    add_lora(model, rank=4)
    assert sum(name.endswith(".up") for name in model.state_dict()) == 3 * 4
    torch.testing.assert_close(model(images()), before)


def test_lora_merges_and_unmerges() -> None:
    model = random_model()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    add_lora(model, rank=2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".up"):
                parameter.normal_(std=0.1)
        adapted = model(images())
        merge_lora(model)
        torch.testing.assert_close(model(images()), adapted, atol=1e-5, rtol=1e-5)
        plain = random_model()
        plain.load_state_dict(merge_state(model))
        assert torch.equal(plain(images()), model(images()))
        unmerge_lora(model)
        assert torch.equal(model(images()), adapted)
        plain.load_state_dict(merge_state(model))
        torch.testing.assert_close(plain(images()), adapted, atol=1e-5, rtol=1e-5)
    for name, tensor in model.state_dict().items():
        if ".base." in name:
            assert torch.equal(tensor, weights[name.replace(".base.", ".")])


def test_lora_refuses_nonsense() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        add_lora(random_model(), rank=0)
    with pytest.raises(ConfigError, match="wraps qkv, out, expand, contract, not head"):
        add_lora(random_model(), rank=2, layers=("qkv", "head"))


def test_a_model_with_lora_is_not_rebuilt() -> None:
    model = random_model()
    add_lora(model, rank=2)
    with pytest.raises(ConfigError, match=r"load merge_state\(model\) into a plain model"):
        model.resize((8, 8))


def test_a_grown_kernel_embeds_a_grown_patch_alike() -> None:
    """Where the patch grows, the resampled kernel embeds its resized copy exactly as before (2212.08013, section 3.4)."""
    kernel, patch = torch.randn(8, 3, 4, 5), torch.randn(3, 4, 5)
    grown = (resize_matrix(Size(4, 5), Size(7, 9)).float() @ patch.flatten(1).T).T.reshape(3, 7, 9)
    found = resample_kernel(kernel, Size(7, 9))
    torch.testing.assert_close((found * grown).sum((1, 2, 3)), (kernel * patch).sum((1, 2, 3)), atol=1e-4, rtol=1e-4)


def test_another_patch_size_on_the_same_grid() -> None:
    model = random_model().repatch((8, 6))
    assert model.config.image == (32, 36)
    assert model(images(rows=32, cols=36)).shape == (2, 5)
    with pytest.raises(ConfigError, match="a scale for each pixel of a patch"):
        random_model(patch_norm="both").repatch((8, 6))


SETTINGS = [
    {},
    {"positions": "sincos2d", "pool": "mean", "class_token": False},
    {"positions": "learned2d", "registers": 2},
    {"positions": "learned", "position_placement": "layers"},
    {"positions": "none", "rotary": RotaryConfig("centred", 100.0), "registers": 2},
    {"positions": "none", "position_placement": "layers"},
    {"pool": "map"},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_packed_images_are_classified_as_each_by_itself(settings: dict) -> None:
    model = random_model(**settings)
    sizes = [(16, 24), (8, 8), (20, 12), (16, 24)]
    several = [images(1, *size)[0] + number for number, size in enumerate(sizes)]
    with torch.no_grad():
        found = forward_packed(model, several)
        expected = torch.cat([model.resize(size)(image[None]) for size, image in zip(sizes, several, strict=True)])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_relative_positions_cannot_be_packed() -> None:
    with pytest.raises(ConfigError, match="relative positions"):
        forward_packed(random_model(positions="bias"), [images()[0]])
