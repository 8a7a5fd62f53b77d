"""Packed images against each one by itself: logits and gradients in float64, and which image goes where."""

from dataclasses import replace

import pytest
import torch

from vitreous.errors import ConfigError
from vitreous.model.config import BlockConfig, RotaryConfig, ViTConfig
from vitreous.model.factory import create
from vitreous.model.packing import Layout, check_packing, forward_packed
from vitreous.model.resnet_config import ResNetConfig
from vitreous.model.swin_config import SwinConfig

PLAIN = ViTConfig(image=(16, 24), patch=(4, 4), width=32, depth=2, heads=2, mlp_width=48, classes=5)
SIZES = [(16, 24), (8, 8), (20, 12), (4, 40), (16, 24), (36, 4)]
SETTINGS = [
    {},
    {"positions": "sincos2d", "pool": "mean", "class_token": False},
    {"positions": "learned2d", "registers": 2, "positioned_tokens": "class"},
    {"position_placement": "layers", "distillation_token": True},
    {"position_placement": "shared", "embed_norm": True},
    {"positions": "none", "rotary": RotaryConfig("centred", 100.0), "registers": 2},
    {"rotary": RotaryConfig("cells", 100.0), "pool": "map", "block": BlockConfig(qk_norm=True)},
    {"final_norm": "pooled", "pool": "class+mean", "patch_norm": "both"},
]


def random_model(**settings):
    model = create(replace(PLAIN, **settings))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model.eval().double()


def draw_images():
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(3, *size, generator=generator, dtype=torch.float64) for size in SIZES]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize(("budget", "rule"), [(0, "bicubic-antialias"), (27, "bilinear")])
def test_logits_are_those_of_each_image_alone(settings, budget, rule) -> None:
    model, images = random_model(**settings), draw_images()
    with torch.no_grad():
        found = forward_packed(model, images, rule, budget)
        expected = torch.cat([model.resize(tuple(image.shape[1:]), rule)(image[None]) for image in images])
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("settings", SETTINGS[:6])
def test_gradients_are_those_of_each_image_alone(settings) -> None:
    """Those of positions too, which each image's own grid is resized from: by differences of the unpacked model."""
    model, images = random_model(**settings), draw_images()
    with torch.inference_mode():  # leaves nothing behind that gradients can't pass through
        forward_packed(model, images)
    forward_packed(model, images, budget=30).square().sum().backward()
    generator = torch.Generator().manual_seed(3)
    for only in ("", "positions"):
        moved = {name: one for name, one in model.named_parameters() if only in name}
        moved = {name: (one, torch.randn(one.shape, generator=generator).double()) for name, one in moved.items()}
        slope = sum(float((one.grad * way).sum()) for one, way in moved.values())
        sums = []
        for step in (1e-6, -2e-6, 1e-6):
            with torch.no_grad():
                for one, way in moved.values():
                    one.add_(way, alpha=step)
                alone = [model.resize(tuple(image.shape[1:]))(image[None]) for image in images]
            sums.append(float(torch.cat(alone).square().sum()))
        assert slope == pytest.approx((sums[0] - sums[1]) / 2e-6, rel=1e-5, abs=1e-6)
        assert only == "" or moved == {} or slope


def test_an_image_knows_nothing_of_its_neighbours() -> None:
    model, images = random_model(), draw_images()
    with torch.no_grad():
        before = forward_packed(model, images, budget=30)
        images[1] = images[1] * 1e3
        after = forward_packed(model, images, budget=30)
    assert [bool((one == other).all()) for one, other in zip(before, after, strict=True)] == [True, False, *[True] * 4]


def test_images_go_into_the_first_sequence_with_room() -> None:
    layout = Layout((5, 4, 3, 9, 1, 2), budget=8)
    assert layout.sequences == [[0, 2], [1, 4, 5], [3]]
    assert layout.length == 9
    parts = [torch.full((length, 1), float(image)) for image, length in enumerate(layout.lengths)]
    assert layout.join(parts)[..., 0].tolist() == [
        [0, 0, 0, 0, 0, 2, 2, 2, 0], [1, 1, 1, 1, 4, 5, 5, 0, 0], [3] * 9
    ]  # fmt: skip
    assert all(torch.equal(one, other) for one, other in zip(layout.split(layout.join(parts)), parts, strict=True))
    mask = layout.build_mask(torch.device("cpu"))
    assert mask.any(2).all() and mask[1, 7].tolist() == [False] * 7 + [True, True]


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (replace(PLAIN, positions="bias"), "relative positions"),
        (replace(PLAIN, rotary=RotaryConfig("mixed", 10.0)), "learned rotary"),
        (replace(PLAIN, class_token=False, pool="mean", block=BlockConfig(attention="axial")), "axial attention"),
        (ResNetConfig(image=(32, 32), classes=5), "no tokens to pack"),
        (SwinConfig(image=(32, 32), classes=5), "windows need whole grids"),
    ],
)
def test_models_of_one_grid_are_refused(config, why) -> None:
    with pytest.raises(ConfigError, match=why):
        check_packing(config)


def test_what_is_no_image_of_whole_patches_is_refused() -> None:
    model = random_model()
    for images, why in (
        ([], "no images to pack"),
        ([torch.zeros(3, 16, 22)], "3 channels and 16x22 pixels"),
        ([torch.zeros(1, 16, 24)], "1 channels"),
        ([torch.zeros(3, 0, 24)], "0x24"),
    ):
        with pytest.raises(ConfigError, match=why):
            forward_packed(model, images)
