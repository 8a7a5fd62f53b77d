"""Masked patch prediction, held against plain loops."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitreous.data.stream.order import hash_integers
from vitreous.errors import ConfigError
from vitreous.model.config import RotaryConfig
from vitreous.model.factory import create
from vitreous.model.names import build_vit_config
from vitreous.model.resnet_config import ResNetConfig, StemConfig
from vitreous.objectives.build import build_objective
from vitreous.objectives.config import MaskedPatchesConfig
from vitreous.objectives.masked_patches import MaskedPatches, draw_other, quantise_colours
from vitreous.shapes import Size

MODEL = build_vit_config("mu/4", image=(8, 16), classes=0, depth=2)
PIXELS = torch.randint(0, 256, (3, 3, 8, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
IMAGES = PIXELS.float() / 127.5 - 1


def made(model=MODEL, seed: int = 0, **config: object) -> MaskedPatches:
    built = build_objective(MaskedPatchesConfig(**config), create(model), seed=seed)
    assert isinstance(built, MaskedPatches)
    torch.nn.init.normal_(built.head.weight, std=0.5, generator=torch.Generator().manual_seed(1))
    return built


def drawn(built: MaskedPatches, count: int = 3, seed: int = 5) -> torch.Tensor:
    return built.noise(count, torch.Generator().manual_seed(seed))


@given(st.integers(1, 3), st.sampled_from([1, 3]), st.integers(1, 7), st.integers(1, 7), st.integers(0, 99))
@settings(max_examples=25)
def test_colours_are_the_shades_of_the_mean(batch: int, channels: int, rows: int, cols: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (batch, channels, 2 * rows, 3 * cols), dtype=np.uint8)
    found = quantise_colours(torch.from_numpy(pixels), Size(rows, cols), Size(1, 1))
    assert found.shape == (batch, 6, 1)
    for image in range(batch):
        for place in range(6):
            top, left = place // 3 * rows, place % 3 * cols
            expected = 0
            for channel in range(channels):
                total = int(pixels[image, channel, top : top + rows, left : left + cols].astype(int).sum())
                expected = 8 * expected + total // (32 * rows * cols)
            assert int(found[image, place, 0]) == expected


def test_a_small_version_is_four_by_four_means() -> None:
    pixels = torch.randint(0, 256, (2, 3, 16, 32), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    found = quantise_colours(pixels, Size(16, 16), Size(4, 4))
    for place, row, col in ((0, 0, 0), (0, 3, 2), (1, 1, 3)):
        part = pixels[1, :, 4 * row : 4 * row + 4, 16 * place + 4 * col : 16 * place + 4 * col + 4]
        red, green, blue = (int(channel.sum()) // (16 * 32) for channel in part.to(torch.int64))
        assert int(found[1, place, 4 * row + col]) == 64 * red + 8 * green + blue


def test_white_is_the_last_colour_and_black_the_first() -> None:
    pixels = torch.zeros(1, 3, 2, 4, dtype=torch.uint8)
    pixels[..., 2:] = 255
    assert quantise_colours(pixels, Size(2, 2), Size(1, 1)).flatten().tolist() == [0, 511]


def test_channels_that_are_kept_may_reach_beyond_black_and_white() -> None:
    """As bicubic kernels overshoot at edges: each channel stays within its own shades."""
    pixels = torch.tensor([260.0, -3.0, 255.99, 0.0]).view(1, 2, 1, 2)
    assert quantise_colours(pixels, Size(1, 1), Size(1, 1)).flatten().tolist() == [8 * 7 + 7, 0]


def test_half_are_corrupted_by_eighty_ten_ten() -> None:
    built = made(build_vit_config("mu/1", image=(16, 16), classes=0))
    assert built.corrupted == 128
    z = torch.arange(256.0).view(1, 256, 1).expand(40, -1, 32)
    noise = drawn(built, 40)
    with torch.no_grad():
        built.mask_token.fill_(-1.0)
        places = noise[:, 0].argsort(dim=1)[:, :128]
        after = built.corrupt(z, places, noise)[..., 0]
    kind = torch.where(after == -1, 0, torch.where(after == torch.arange(256.0), 2, 1)).gather(1, places)
    shares = [float((kind == which).float().mean()) for which in range(3)]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=4 * (0.8 * 0.2 / kind.numel()) ** 0.5)
    untouched = torch.ones_like(after, dtype=torch.bool).scatter(1, places, False)
    assert torch.equal(after[untouched], z[..., 0][untouched])


def test_another_patch_is_any_but_the_own() -> None:
    places = torch.arange(5).repeat(4000, 1)
    others = draw_other(places, torch.rand((4000, 5), generator=torch.Generator().manual_seed(0)), 5)
    assert not (others == places).any()
    counts = torch.bincount(others.flatten(), minlength=5) / others.numel()
    assert counts.tolist() == pytest.approx([0.2] * 5, abs=0.015)
    assert draw_other(torch.tensor([[0, 1]]), torch.tensor([[0.999999, 0.0]]), 2).tolist() == [[1, 0]]


@pytest.mark.parametrize("target", ["mean", "small", "full"])
def test_the_loss_is_that_of_plain_loops(target: str) -> None:
    built = made(target=target).eval()
    noise = drawn(built)
    with torch.no_grad():
        loss, numbers = built(IMAGES, PIXELS, noise)
        z = built.model.patches(IMAGES).clone()
        whole, places = z.clone(), [[] for _ in range(3)]
        for image in range(3):
            ranks = np.argsort(noise[image, 0].numpy())
            places[image] = [int(place) for place in ranks[:4]]
            for place in places[image]:
                chance = float(noise[image, 1, place])
                if chance < 0.8:
                    z[image, place] = built.mask_token
                elif chance < 0.9:
                    others = [other for other in range(8) if other != place]
                    z[image, place] = whole[image, others[int(noise[image, 2, place] * 7)]]
        tokens = built.model.encode(built.model.assemble(z))[:, 1:]
        expected = []
        for image in range(3):
            for place in places[image]:
                output = built.head(tokens[image, place]).double().numpy()
                top, left = place // 4 * 4, place % 4 * 4
                patch = PIXELS[image, :, top : top + 4, left : left + 4].numpy().astype(np.float64)
                expected.append(expected_loss(target, output, patch))
    assert numbers == {}
    assert float(loss) == pytest.approx(np.mean(expected), rel=1e-5)


def expected_loss(target: str, output: np.ndarray, patch: np.ndarray) -> float:
    """Return the loss of one patch (channel, row, col) of 4 x 4 pixels, 0 to 255."""
    if target == "full":
        return float(np.mean((output - (patch / 127.5 - 1).reshape(-1)) ** 2))
    cells = patch.reshape(3, 1, 16).mean(2) if target == "mean" else patch.reshape(3, 16)
    losses = []
    for cell in range(cells.shape[1]):
        red, green, blue = (int(value // 32) for value in cells[:, cell])
        scores = output[512 * cell : 512 * (cell + 1)]
        losses.append(np.log(np.exp(scores).sum()) - scores[64 * red + 8 * green + blue])
    return float(np.mean(losses))


def test_it_starts_at_the_loss_of_ignorance() -> None:
    built = build_objective(MaskedPatchesConfig(), create(MODEL))
    loss, _ = built(IMAGES, PIXELS, built.noise(3, torch.Generator().manual_seed(0)))
    assert float(loss.detach()) == pytest.approx(np.log(512), rel=1e-6)


def test_every_parameter_learns_and_the_seed_decides() -> None:
    built = made().train()
    built(IMAGES, PIXELS, drawn(built))[0].backward()
    idle = [name for name, p in built.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []
    assert torch.equal(made().mask_token, made().mask_token)
    assert not torch.equal(made().mask_token, made(seed=1).mask_token)


def test_draws_depend_on_the_seed_alone() -> None:
    built = made()
    state = torch.get_rng_state()
    first, second = (built.noise(5, torch.Generator().manual_seed(hash_integers(3, 7))) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(state, torch.get_rng_state())
    assert first.shape == (5, 3, 8)


def test_what_is_trained_beside_the_model_goes_into_checkpoints() -> None:
    first, second = made(), made(seed=1)
    assert set(first.extras()) == {"mask_token", "head.weight", "head.bias"}
    second.load_extras(first.extras())
    assert torch.equal(first.mask_token, second.mask_token)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        second.load_extras({"decoder": torch.zeros(1)})


@pytest.mark.parametrize(
    ("model", "config", "words"),
    [
        (ResNetConfig(units=(1,), classes=0), {}, "which a ResNet doesn't have"),
        (replace(MODEL, stem=StemConfig("conv", convolutions=(8,))), {}, "a stem looks across them"),
        (replace(MODEL, classes=5), {}, "set --model.classes 0"),
        (replace(MODEL, image=(4, 4)), {}, "at least two patches, but the grid is 1x1"),
        (MODEL, {"corrupted_share": 1.0}, r"objective.corrupted_share is 1.0; it must be above 0 and below 1"),
        (MODEL, {"mask_probability": 0.8, "swap_probability": 0.3}, "together at most 1"),
    ],
)
def test_what_cannot_be_is_refused(model, config, words) -> None:
    with pytest.raises(ConfigError, match=words):
        build_objective(MaskedPatchesConfig(**config), create(model))


def test_any_position_will_do() -> None:
    for changed in ({"positions": "relative"}, {"positions": "none", "rotary": RotaryConfig("cells")}):
        built = made(replace(MODEL, **changed))
        assert torch.isfinite(built(IMAGES, PIXELS, drawn(built))[0])
