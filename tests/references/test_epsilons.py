"""Standardised kernels as small as trained ones are: each origin's own epsilon, at its own place."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.references.test_families_bit import saved as saved_bit
from tests.references.test_families_bit import small
from tests.references.test_families_resnet import hybrid, saved
from tests.support import authors
from tests.support.twins import images
from torch import Tensor, nn

from vitreous.errors import CheckpointError
from vitreous.model.config import ViTConfig
from vitreous.model.convolutions import StdConv
from vitreous.model.meta_device import rebuild
from vitreous.model.resnet_config import (
    BIT_EPSILONS,
    FLAX_EPSILONS,
    TIMM_EPSILONS,
    EpsilonConfig,
    ResNetConfig,
    StemConfig,
)
from vitreous.settings import from_dict
from vitreous.weights.conversion import convert
from vitreous.weights.foreign import load_foreign
from vitreous.weights.loading import open_model
from vitreous.weights.model_folder import load_model, save_model
from vitreous.weights.options import LoadOptions

SCALES = [(0.005, 0.005), (0.0015, 0.0015), (0.001, 0.05)]
"""Deviations of kernels; the last as over the outputs of one trained layer."""
EXACT = 1e-9
"""Of float64, relative to the largest output."""


def relative(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


def pixels(rows: int, cols: int) -> Tensor:
    return nn.functional.interpolate(images(3, 5), (rows, cols)).double() + images(rows, cols).double() / 2


def shrunk(model: nn.Module, low: float, high: float, kind: type) -> nn.Module:
    """Give the standardised kernels of timm's model such deviations."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, kind):
                spread = torch.rand(len(part.weight), 1, 1, 1, generator=generator)
                part.weight.normal_(generator=generator).mul_(low * (high / low) ** spread)
    return model


@pytest.mark.parametrize("scale", SCALES)
def test_big_transfers_files_are_the_authors_function(scale: tuple[float, float], tmp_path: Path) -> None:
    arrays = authors.bit((1, 2)).shrink(*scale)
    folder, report = load_foreign(arrays.save(tmp_path / "bit.npz"))
    assert folder.model.config.epsilons == BIT_EPSILONS
    assert "epsilons: 1e-10 on kernels' variance, 1e-05 in group norm" in report.assumed
    x = pixels(45, 67)
    with torch.inference_mode():
        assert relative(folder.model.double()(x), authors.bit_logits(arrays, (1, 2), x)) < EXACT


@pytest.mark.parametrize("scale", SCALES)
def test_big_transfers_files_as_timm_reads_them(scale: tuple[float, float], tmp_path: Path) -> None:
    file = authors.bit((1, 2)).shrink(*scale).save(tmp_path / "bit.npz")
    twin = small((1, 2))
    twin.load_pretrained(file)
    folder, _ = load_foreign(file, LoadOptions("bit:timm"))
    x = pixels(45, 67)
    with torch.inference_mode():
        assert relative(folder.model.double()(x), twin.double()(x)) < EXACT


@pytest.mark.parametrize("scale", SCALES)
def test_timms_bit(scale: tuple[float, float], tmp_path: Path) -> None:
    from timm.layers import StdConv2d

    twin = shrunk(small((1, 2)), *scale, StdConv2d)
    folder, _ = load_foreign(saved_bit(twin, tmp_path))
    x = pixels(45, 67)
    with torch.inference_mode():
        assert relative(folder.model.double()(x), twin.double()(x)) < EXACT


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("units", [(2, 2, 2, 2), ()], ids=["R26", "R"])
def test_vision_transformers_hybrids_are_the_authors_function(
    scale: tuple[float, float], units: tuple[int, ...], tmp_path: Path
) -> None:
    arrays = authors.hybrid(units, 1 if units else 8).shrink(*scale)
    folder, report = load_foreign(arrays.save(tmp_path / "hybrid.npz"))
    assert folder.model.config.stem.epsilons == FLAX_EPSILONS
    assert "stem's epsilons: 1e-05 on kernels' deviation, 1e-06 in group norm" in report.assumed
    x = pixels(64, 64)
    with torch.inference_mode():
        assert relative(folder.model.double().patches.stem(x), authors.hybrid_maps(arrays, units, x)) < EXACT


def test_hybrids_as_timm_has_them(tmp_path: Path) -> None:
    """Its reader of the authors' npz, and its own files."""
    from timm.layers import StdConv2dSame

    scale = SCALES[-1]
    name, x = "vit_small_r26_s32_224", pixels(64, 64)
    file = authors.hybrid((2, 2, 2, 2), 1).shrink(*scale).save(tmp_path / "hybrid.npz")
    twin = hybrid(name, num_heads=4)
    twin.load_pretrained(file)
    with torch.inference_mode():
        assert relative(load_foreign(file, LoadOptions("timm"))[0].model.double()(x), twin.double()(x)) < EXACT
    twin = shrunk(hybrid(name), *scale, StdConv2dSame)
    ours = load_foreign(saved(twin, tmp_path, config=False) / "model.safetensors")[0].model
    with torch.inference_mode():
        assert relative(ours.double()(x), twin.double()(x)) < EXACT


def test_they_travel_and_older_folders_keep_what_they_had(tmp_path: Path) -> None:
    folder, _ = load_foreign(authors.bit((1, 1)).shrink(0.005, 0.005).save(tmp_path / "bit.npz"))
    save_model(tmp_path / "model", folder)
    assert load_model(tmp_path / "model").model.config == folder.model.config
    assert from_dict(ResNetConfig, {"units": [1, 1]}).epsilons == TIMM_EPSILONS == EpsilonConfig(1e-8, "variance", 1e-5)
    assert from_dict(StemConfig, {"kind": "resnet", "units": [1]}).epsilons == TIMM_EPSILONS


def small_kernels(kind: str) -> authors.Drawn:
    if kind == "hybrid":
        return authors.hybrid((2, 2, 2, 2), 1).shrink(*SCALES[-1])
    return authors.bit((3, 4, 6, 3) if kind == "R50" else (1, 1)).shrink(*SCALES[-1])


@pytest.mark.parametrize(("kind", "read_as", "to"), [("R50", None, "timm-bit"), ("short", "bit:timm", "bit")])
def test_a_format_of_another_epsilon_is_refused_where_it_counts(
    kind: str, read_as: str | None, to: str, tmp_path: Path
) -> None:
    folder, _ = load_foreign(small_kernels(kind).save(tmp_path / "bit.npz"), LoadOptions(read_as, image=(64, 64)))
    out = tmp_path / "out"
    with pytest.raises(CheckpointError, match=r"come back .* off by the epsilons: the model has .* own code"):
        convert(folder, out, to)
    assert not out.exists()


def test_a_hybrid_keeps_the_authors_epsilons_in_their_format(tmp_path: Path) -> None:
    folder, _ = load_foreign(small_kernels("hybrid").save(tmp_path / "hybrid.npz"))
    proof = convert(folder, tmp_path / "out", "google")
    assert (proof.difference, proof.lost) == (0, "")
    folder = replace(folder, model=rebuild(folder.model, with_timms(folder.model.config), folder.model.state_dict()))
    with pytest.raises(CheckpointError, match=r"off by the epsilons: the model has 1e-08 on kernels' variance"):
        convert(folder, tmp_path / "other", "google")


def with_timms(config: ViTConfig) -> ViTConfig:
    return replace(config, stem=replace(config.stem, epsilons=TIMM_EPSILONS))


def test_an_epsilon_that_hardly_counts_is_told(tmp_path: Path) -> None:
    folder, _ = load_foreign(authors.bit((1, 1)).save(tmp_path / "bit.npz"), LoadOptions("bit:timm", image=(64, 64)))
    proof = convert(folder, tmp_path / "out", "bit")
    assert proof.lost == (
        "the epsilons: the model has 1e-08 on kernels' variance, 1e-05 in group norm, but bit's own code "
        "1e-10 on kernels' variance, 1e-05 in group norm; "
        "of the images' transform (bit has its own): scaled to 64x64 here, 224x224 there"
    )
    assert open_model(tmp_path / "out")[0].model.config.epsilons == BIT_EPSILONS


def test_a_kernel_of_zeros_has_a_gradient() -> None:
    given: dict[str, Any] = {"channels": (3, 4), "size": 3, "epsilons": FLAX_EPSILONS}
    layer = StdConv(**given)
    nn.init.zeros_(layer.weight)
    layer(images(8, 8)).sum().backward()
    assert layer.weight.grad is not None
    assert bool(layer.weight.grad.isfinite().all())
