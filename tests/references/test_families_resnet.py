"""Files of the paper's hybrids, loaded by us, give timm's numbers; what we write, timm reads."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.support import authors
from tests.support.twins import CLOSE, difference, randomise
from torch import Tensor, nn

from vitreous.errors import CheckpointError
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.model.config import BlockConfig, ViTConfig
from vitreous.model.factory import create
from vitreous.model.meta_device import rebuild
from vitreous.model.resnet_config import FLAX_EPSILONS, TIMM_EPSILONS, StemConfig
from vitreous.weights.conversion import convert
from vitreous.weights.foreign import load_foreign
from vitreous.weights.loading import open_model
from vitreous.weights.model_folder import ModelFolder
from vitreous.weights.options import LoadOptions

SHORT: dict[str, Any] = {"embed_dim": 64, "depth": 2, "num_heads": 1, "num_classes": 10, "img_size": 64}
TIMM = {
    "vit_tiny_r_s16_p8_224": ((), (32, 32)),
    "vit_small_r26_s32_224": ((2, 2, 2, 2), (32, 32)),
    "vit_base_r50_s16_224": ((3, 4, 9), (16, 16)),
    "vit_large_r50_s32_224": ((3, 4, 6, 3), (32, 32)),
}


def names(all_of: Iterable[str]) -> list[Any]:
    """Return parameters, the large ones marked slow."""
    return [pytest.param(name, marks=[pytest.mark.slow] if "r50" in name else []) for name in all_of]


def hybrid(name: str, **given: Any) -> nn.Module:
    import timm

    return randomise(timm.create_model(name, **SHORT | given))


def saved(model: nn.Module, folder: Path, config: bool = True) -> Path:
    """Write timm's own file, with or without its config.json."""
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "model.safetensors")
    cfg = {"input_size": (3, *model.patch_embed.img_size), "crop_pct": 0.95, "mean": [0.4, 0.5, 0.6]}
    if config:
        document = {"architecture": model.pretrained_cfg["architecture"], "global_pool": "token", "pretrained_cfg": cfg}
        (folder / "config.json").write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize("name", names(TIMM))
def test_timms_hybrids_are_told_by_their_tensors(name: str, tmp_path: Path) -> None:
    model = hybrid(name)
    folder, report = load_foreign(saved(model, tmp_path, config=False))
    config = folder.model.config
    assert (config.stem.units, config.patch, config.image) == (*TIMM[name], (64, 64))
    assert report.origin.startswith("timm:")
    assert difference(folder.model, model) < CLOSE


@pytest.mark.parametrize("name", names(["vit_tiny_r_s16_p8_224", "vit_small_r26_s32_224", "vit_base_r50_s16_224"]))
def test_timms_hybrids_on_images_that_are_not_square(name: str, tmp_path: Path) -> None:
    model = hybrid(name, img_size=(64, 96), in_chans=4)
    folder, report = load_foreign(saved(model, tmp_path))
    assert folder.model.config.image == (64, 96)
    assert folder.preprocess.mean == pytest.approx((0.5,))  # of (0.4, 0.5, 0.6)
    assert "mean and deviation of each of the 4 channels: the average of the given ones" in report.assumed
    assert difference(folder.model, model) < CLOSE


def test_a_hybrid_on_another_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="a hybrid on another network than the paper's"):
        load_foreign(saved(hybrid("vit_small_resnet26d_224"), tmp_path))


def made(units: tuple[int, ...], cells: int = 1, **given: Any) -> ModelFolder:
    stem = given.pop("stem", StemConfig("resnet", units))
    patch = (stem.stride * cells, stem.stride * cells)
    shape = {"width": 64, "depth": 2, "heads": 4, "mlp_width": 96, "classes": 3}
    model = create(ViTConfig(**{"image": (2 * patch[0], 3 * patch[1]), "patch": patch, "stem": stem} | shape | given))
    randomise(model)
    return ModelFolder(model, PreprocessConfig(size=model.config.image), DecodeConfig(), ("a", "b", "c"))


@pytest.mark.parametrize(
    ("units", "cells"), [((), 8), ((2, 2, 2, 2), 1), pytest.param((3, 4, 9), 1, marks=pytest.mark.slow)]
)
def test_timm_reads_the_hybrids_that_we_write(units: tuple[int, ...], cells: int, tmp_path: Path) -> None:
    import timm

    first = made(units, cells)
    assert convert(first, tmp_path / "timm", "timm").difference == 0
    theirs = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True).eval()
    assert difference(first.model, theirs) < CLOSE
    again, _ = open_model(tmp_path / "timm")
    assert again.model.config == first.model.config
    for key, tensor in first.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[key], tensor), key


def test_a_stem_that_timm_has_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="timm has no architecture with this stem"):
        convert(made((1, 1)), tmp_path / "timm", "timm")


GOOGLE = {name: TIMM[name] for name in ("vit_tiny_r_s16_p8_224", "vit_small_r26_s32_224", "vit_base_r50_s16_224")}


@pytest.mark.parametrize("name", names(GOOGLE))
def test_the_authors_hybrids_are_read_as_timm_reads_them(name: str, tmp_path: Path) -> None:
    units, patch = GOOGLE[name]
    file = authors.hybrid(units, 1 if units else 8).save(tmp_path / "hybrid.npz")
    twin = hybrid(name, num_heads=4)
    twin.load_pretrained(file)
    folder, report = load_foreign(file, LoadOptions("timm"))
    config = folder.model.config
    assert (config.stem.units, config.patch, config.image, config.heads) == (units, patch, (64, 64), 4)
    assert report.origin.startswith("google:")
    assert "stem's epsilons: 1e-08 on kernels' variance, 1e-05 in group norm" in report.assumed
    assert difference(folder.model, twin) < CLOSE


def test_the_authors_hybrids_pre_logits(tmp_path: Path) -> None:
    """timm leaves that layer out, so it is computed here, from the file."""
    arrays = authors.hybrid((2, 2, 2, 2), 1, pre_logits=True)
    file = arrays.save(tmp_path / "hybrid.npz")
    twin = hybrid("vit_small_r26_s32_224", num_heads=4)
    twin.load_pretrained(file)

    def with_pre_logits(pixels: Tensor) -> Tensor:
        z = twin.forward_head(twin.forward_features(pixels), pre_logits=True)
        z = torch.tanh(z @ torch.from_numpy(arrays["pre_logits/kernel"]) + torch.from_numpy(arrays["pre_logits/bias"]))
        return twin.head(z)

    folder, _ = load_foreign(file, LoadOptions("timm"))
    assert difference(folder.model, with_pre_logits) < CLOSE


def test_names_of_the_authors_newer_code_mean_the_same(tmp_path: Path) -> None:
    arrays = authors.hybrid((1, 1), 2)
    one, _ = load_foreign(arrays.save(tmp_path / "one.npz"), LoadOptions("flax"))
    other, _ = load_foreign(authors.newer(arrays).save(tmp_path / "other.npz"), LoadOptions("flax"))
    assert other.model.config == one.model.config
    for key, tensor in one.model.state_dict().items():
        assert torch.equal(other.model.state_dict()[key], tensor), key


def test_a_hybrid_written_for_google_is_read_by_timm_and_comes_back(tmp_path: Path) -> None:
    shape = {
        "image": (64, 64),
        "patch": (32, 32),
        "mlp_width": 256,
        "classes": 10,
        "block": BlockConfig(activation="gelu-tanh"),
    }
    shape["stem"] = StemConfig("resnet", (2, 2, 2, 2), epsilons=FLAX_EPSILONS)
    first = made((2, 2, 2, 2), **shape)
    first = ModelFolder(first.model, first.preprocess, first.decode, tuple("abcdefghij"))
    assert convert(first, tmp_path / "google", "google").difference == 0
    twin = hybrid("vit_small_r26_s32_224", num_heads=4, act_layer="gelu_tanh")
    twin.load_pretrained(tmp_path / "google" / "model.npz")
    stem = replace(first.model.config.stem, epsilons=TIMM_EPSILONS)
    as_timm = rebuild(first.model, replace(first.model.config, stem=stem), first.model.state_dict())
    assert difference(as_timm, twin) < CLOSE


@pytest.mark.parametrize("number", ["999999999", "9" * 5000])
@pytest.mark.parametrize("name", ["blocks.{}.norm1.weight", "patch_embed.backbone.stages.{}.blocks.0.norm1.weight"])
def test_a_name_that_counts_a_billion_blocks_is_refused(name: str, number: str, tmp_path: Path) -> None:
    tensors = {key: tensor.contiguous() for key, tensor in hybrid("vit_tiny_r_s16_p8_224").state_dict().items()}
    save_file(tensors | {name.format(number): torch.zeros(64)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"blocks or more, but there are only|a tensor of the impossible name"):
        load_foreign(tmp_path)
