"""The masked autoencoder, held against plain loops; tests/references holds it against transformers'."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vitreous.errors import ConfigError
from vitreous.model.config import BlockConfig, RotaryConfig
from vitreous.model.factory import create
from vitreous.model.names import build_vit_config
from vitreous.objectives.build import build_objective
from vitreous.objectives.config import MaskedAutoencoderConfig
from vitreous.objectives.masked_autoencoder import MaskedAutoencoder

MODEL = build_vit_config("mu/4", image=(8, 16), classes=0, depth=2, registers=2)
SMALL = {"decoder_width": 32, "decoder_depth": 1, "decoder_heads": 2}
IMAGES = torch.randn(3, 3, 8, 16, generator=torch.Generator().manual_seed(0))


def made(model=MODEL, seed: int = 0, **config: object) -> MaskedAutoencoder:
    built = build_objective(MaskedAutoencoderConfig(**(SMALL | config)), create(model), seed=seed)
    assert isinstance(built, MaskedAutoencoder)
    return built


def drawn(built: MaskedAutoencoder, count: int = 3) -> torch.Tensor:
    return built.noise(count, torch.Generator().manual_seed(5))


@pytest.mark.parametrize("normalised", [True, False])
def test_the_loss_is_that_of_plain_loops(normalised: bool) -> None:
    built = made(normalise_targets=normalised).eval()
    noise, model = drawn(built), built.model
    with torch.no_grad():
        loss, numbers = built(IMAGES, noise)
        errors = []
        for image in range(3):
            ranks = np.argsort(noise[image, 0].numpy())
            visible, hidden = sorted(ranks[:2]), sorted(ranks[2:])
            whole = model.embed(IMAGES[image : image + 1])
            z = model.encode(whole[:, [0, 1, 2, *(3 + place for place in visible)]])
            drawn_image = decoded(built, z, visible)
            for place in hidden:
                top, left = place // 4 * 4, place % 4 * 4
                values = IMAGES[image, :, top : top + 4, left : left + 4].double().numpy().reshape(-1)
                if normalised:
                    values = (values - values.mean()) / np.sqrt(values.var(ddof=1) + 1e-6)
                errors.append(np.mean((drawn_image[place] - values) ** 2))
    assert numbers == {}
    assert len(errors) == 18
    assert float(loss) == pytest.approx(np.mean(errors), rel=1e-5)


def decoded(built: MaskedAutoencoder, z: torch.Tensor, visible: list[int]) -> np.ndarray:
    """Return what the decoder makes of one image's visible tokens (in ascending order) for each of 8 patches."""
    decoder = built.decoder
    narrow = decoder.embed(z)[0]
    rows = [*narrow[:3], *(decoder.mask_token for _ in range(8))]
    for rank, place in enumerate(visible):
        rows[3 + place] = narrow[3 + rank]
    sequence = torch.stack(rows)[None] + decoder.positions.vectors()
    for block in decoder.blocks:
        sequence = block(sequence)
    return decoder.predict(decoder.norm(sequence))[0, 3:].double().numpy()


def test_the_encoder_sees_the_visible_patches_alone() -> None:
    built = made().eval()
    noise = drawn(built, 1)
    hidden = noise[0, 0].argsort()[2:]
    changed = IMAGES[:1].clone()
    for place in map(int, hidden):
        changed[:, :, place // 4 * 4 : place // 4 * 4 + 4, place % 4 * 4 : place % 4 * 4 + 4] += 1.0
    kept = noise[:, 0].argsort(dim=1)[:, : built.visible]
    with torch.no_grad():
        seen = [built.model.encode(built.model.assemble(built.model.patches(x), kept)) for x in (IMAGES[:1], changed)]
    assert seen[0].shape == (1, 3 + 2, 32)
    assert torch.equal(*seen)


def test_every_parameter_learns_and_the_seed_decides() -> None:
    built = made().train()
    built(IMAGES, drawn(built))[0].backward()
    idle = [name for name, p in built.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []
    first, same, other = made(), made(), made(seed=1)
    assert all(torch.equal(tensor, same.extras()[name]) for name, tensor in first.extras().items())
    assert not torch.equal(first.decoder.embed.weight, other.decoder.embed.weight)
    assert all(name.startswith("decoder.") for name in first.extras())


@pytest.mark.parametrize(
    "settings",
    [
        {"attention_head_width": 8},
        {"pool": "map", "pool_heads": 8},
        {"pool": "class+mean", "pool_layers": 2},
        {"distillation_token": True, "pre_logits": True, "pre_logits_width": 32},
    ],
)
def test_what_the_encoder_ends_with_is_not_the_decoders(settings: dict) -> None:
    plain = made(replace(MODEL, registers=0), decoder_width=20).extras()
    found = made(replace(MODEL, registers=0, **settings), decoder_width=20).extras()
    assert all(torch.equal(tensor, plain[name]) for name, tensor in found.items())


def test_patches_of_one_grey_pixel_are_not_normalised() -> None:
    model = build_vit_config("mu/1", image=(4, 4), channels=1, classes=0, depth=1)
    with pytest.raises(ConfigError, match=r"one grey pixel have no deviation .* --objective\.no-normalise-targets"):
        made(model)
    built = made(model, normalise_targets=False)
    assert built(IMAGES[:, :1, :4, :4], drawn(built))[0].isfinite()


AXIAL = replace(MODEL, block=BlockConfig(attention="axial"), class_token=False, registers=0, pool="mean")


@pytest.mark.parametrize(
    ("model", "config", "words"),
    [
        (replace(MODEL, positions="relative"), {}, "positions must be added at the input"),
        (replace(MODEL, positions="none", rotary=RotaryConfig("cells")), {}, "positions must be added at the input"),
        (replace(MODEL, position_placement="layers"), {}, "positions must be added at the input"),
        (AXIAL, {}, "needs whole rows and columns; choose --model.block.attention full"),
        (replace(MODEL, classes=5), {}, "set --model.classes 0"),
        (MODEL, {"mask_ratio": 0.0}, r"objective.mask_ratio is 0.0; it must be above 0"),
        (
            MODEL,
            {"decoder_heads": 3},
            r"the decoder \(objective.decoder_width, .decoder_depth, .decoder_heads\) can't be built: width 32",
        ),
        (MODEL, {"decoder_width": 30}, r"the decoder .* divisible by 4"),
    ],
)
def test_what_cannot_be_is_refused(model, config, words) -> None:
    with pytest.raises(ConfigError, match=words):
        made(model, **config)


@pytest.mark.parametrize(("share", "visible"), [(0.75, 2), (0.01, 7), (0.99, 1)])
def test_some_are_hidden_and_some_seen(share: float, visible: int) -> None:
    assert made(mask_ratio=share).visible == visible
