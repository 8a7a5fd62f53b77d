"""Files of BiT's ResNets, loaded by us, give timm's numbers; what we write, timm reads."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.support import authors
from tests.support.twins import images, randomise
from torch import nn

from vitreous.errors import CheckpointError
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.model.factory import create
from vitreous.model.resnet import ResNet
from vitreous.model.resnet_config import BIT_EPSILONS, ResNetConfig, build_resnet_config
from vitreous.predictor import Predictor
from vitreous.weights.conversion import convert
from vitreous.weights.foreign import load_foreign
from vitreous.weights.loading import open_model
from vitreous.weights.model_folder import ModelFolder, load_model, save_model
from vitreous.weights.options import LoadOptions

CLOSE = 1e-5
"""Largest difference that counts as the same function, relative to the largest output: BiT's residual stream is large."""
SIZES = [(64, 64), (64, 96), (45, 67)]
"""The last isn't a multiple of the stride: the padding shows."""


def small(units: tuple[int, ...] = (1, 2), width: int = 1, **given: Any) -> nn.Module:
    """timm's class with fewer units, made as timm makes BiT."""
    from timm.layers import StdConv2d
    from timm.models.resnetv2 import ResNetV2

    channels = tuple(256 * 2**stage for stage in range(len(units)))
    kind = {"stem_type": "fixed", "conv_layer": partial(StdConv2d, eps=1e-8), "num_classes": authors.CLASSES}
    return randomise(ResNetV2(list(units), channels, width_factor=width, **kind | given))


def difference(ours: nn.Module, theirs: nn.Module, size: tuple[int, int], channels: int = 3) -> float:
    pixels = nn.functional.interpolate(images(3, 5, channels), size) + images(*size, channels) / 2  # averages differ
    pixels = pixels.to(next(ours.parameters()).dtype)
    with torch.inference_mode():
        own, other = ours(pixels), theirs(pixels)
    assert own.shape == other.shape
    largest = other.abs().max()
    assert (other[0] - other[1]).abs().mean() > 1000 * CLOSE * largest, "the outputs hardly depend on the image"
    return float((own - other).abs().max() / largest)


def saved(model: nn.Module, folder: Path, cfg: dict[str, Any] | None = None, name: str = "resnetv2_50x1_bit") -> Path:
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "model.safetensors")
    if cfg is not None:
        (folder / "config.json").write_text(json.dumps({"architecture": name, "pretrained_cfg": cfg}))
    return folder


@pytest.mark.parametrize("shape", [{}, {"units": (2, 1, 1)}, {"units": (1,), "width": 3}, {"in_chans": 1}])
def test_timms_files_are_told_by_their_tensors(shape: dict[str, Any], tmp_path: Path) -> None:
    twin = small(**shape)
    folder, report = load_foreign(saved(twin, tmp_path))
    config = folder.model.config
    assert isinstance(config, ResNetConfig)
    assert (config.units, config.width) == (shape.get("units", (1, 2)), shape.get("width", 1))
    assert report.origin.startswith("timm-bit:")
    assert any("224 pixels" in note for note in report.assumed)
    for size in SIZES:
        assert difference(folder.model, twin, size, config.channels) < CLOSE


def test_timms_architecture_by_its_name(tmp_path: Path) -> None:
    import timm

    twin = randomise(timm.create_model("resnetv2_50x1_bit", num_classes=10))
    cfg = {
        "input_size": [3, 448, 448],
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
    }
    torch.save({"state_dict": twin.state_dict()}, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnetv2_50x1_bit", "pretrained_cfg": cfg}))
    folder, report = load_foreign(tmp_path)
    assert folder.model.config == build_resnet_config("R50x1", classes=10, image=(448, 448))
    assert folder.preprocess == PreprocessConfig(
        (448, 448), "RGB", "short", 1.0, "bilinear", (0.5,) * 3, (0.5,) * 3, rounding="timm"
    )
    assert (report.model, report.assumed) == ("R50x1 for 448x448 images (10 classes)", ())
    for size in SIZES:
        assert difference(folder.model, twin, size) < CLOSE


def test_another_resnet_of_timms_is_refused(tmp_path: Path) -> None:
    import timm

    with pytest.raises(CheckpointError, match="resnetv2_50x1_gn is not one of BiT's"):
        load_foreign(saved(small(), tmp_path, {}, "resnetv2_50x1_gn"))
    for name in ("resnetv2_50", "resnetv2_50d_gn"):
        with torch.device("meta"):
            tensors = timm.create_model(name, num_classes=3).state_dict()
        other = tmp_path / name
        other.mkdir()
        save_file(
            {key: torch.ones(tensor.shape) for key, tensor in tensors.items()},
            other / "a.safetensors",
        )
        with pytest.raises(CheckpointError, match="is of no family that vitreous knows"):
            load_foreign(other)


@pytest.mark.parametrize(("units", "width"), [((1, 2), 1), ((1, 1), 2), ((11,), 1)])
def test_googles_files_are_read_as_timm_reads_them(units: tuple[int, ...], width: int, tmp_path: Path) -> None:
    file = authors.bit(units, width).save(tmp_path / "bit.npz")
    twin = small(units, width)
    twin.load_pretrained(file)
    folder, report = load_foreign(file, LoadOptions("bit:timm"))
    assert folder.model.config == ResNetConfig((224, 224), 3, units, width, authors.CLASSES)
    assert report.origin == "bit: google-research/big_transfer npz"
    assert (folder.preprocess.resize, folder.preprocess.crop, folder.preprocess.mean) == ("squash", 1.0, (0.5,))
    for size in SIZES:
        assert difference(folder.model, twin, size) < CLOSE


def test_a_whole_r50x1_of_googles(tmp_path: Path) -> None:
    import timm

    file = authors.bit((3, 4, 6, 3)).save(tmp_path / "BiT-M-R50x1.npz")
    twin = timm.create_model("resnetv2_50x1_bit", num_classes=authors.CLASSES).eval()
    twin.load_pretrained(file)
    folder, report = load_foreign(file, LoadOptions(image=(480, 480)))
    assert (folder.model.config.image, folder.preprocess.size, report.resized) == ((480, 480), (480, 480), "")
    # in float64: fifty layers of float32 are 1.02e-5 apart on a processor without AVX-512
    assert difference(folder.model.double(), twin.double(), (64, 96)) < CLOSE


def test_without_its_head_it_gives_features(tmp_path: Path) -> None:
    arrays = authors.bit((1, 1))
    for name in [name for name in arrays if "/head/" in name]:
        del arrays[name]
    folder, report = load_foreign(arrays.save(tmp_path / "bit.npz"))
    assert (report.head, folder.classes) == ("none", ())
    assert folder.model(images(32, 32)).shape == (2, 512)


def test_a_unit_without_its_tensors_is_told(tmp_path: Path) -> None:
    arrays = authors.bit((1, 1))
    del arrays["resnet/block2/unit01/a/proj/standardized_conv2d/kernel"]
    with pytest.raises(CheckpointError, match=r"lacks 1 tensors .* such as stages.1.0.project.weight"):
        load_foreign(arrays.save(tmp_path / "bit.npz"))


def made(config: ResNetConfig) -> ModelFolder:
    model = create(config)
    randomise(model)
    names = tuple(f"animal {number}" for number in range(config.classes))
    images = PreprocessConfig(
        config.image, resize="squash", crop=1.0, interpolation="bilinear", mean=(0.5,), std=(0.25,)
    )
    return ModelFolder(model, images, DecodeConfig(), names)


def same(one: ModelFolder, other: ModelFolder) -> None:
    ours, theirs = one.model.state_dict(), other.model.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_timm_reads_what_we_write(tmp_path: Path) -> None:
    import timm

    first = made(build_resnet_config("R50x1", image=(64, 96), classes=10))
    assert convert(first, tmp_path / "timm", "timm-bit").difference == 0
    theirs = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True).eval()
    assert difference(first.model, theirs, (64, 96)) < CLOSE
    again, _ = open_model(tmp_path / "timm")
    same(first, again)
    assert (again.classes, again.model.config) == (first.classes, first.model.config)
    assert (again.preprocess.resize, again.preprocess.size, again.preprocess.std) == ("squash", (64, 96), (0.25,))


def test_timm_reads_the_npz_that_we_write(tmp_path: Path) -> None:
    first = made(ResNetConfig((224, 224), 3, (1, 2), 1, authors.CLASSES, epsilons=BIT_EPSILONS))
    assert convert(first, tmp_path / "bit", "bit").difference == 0
    twin = small((1, 2))
    twin.load_pretrained(tmp_path / "bit" / "model.npz")
    assert difference(first.model, twin, (64, 96)) < CLOSE
    same(first, open_model(tmp_path / "bit")[0])


def test_what_timm_has_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="timm has only resnetv2_50x1_bit, "):
        convert(made(ResNetConfig((32, 32), 3, (1, 2), 1, 3)), tmp_path / "out", "timm-bit")
    with pytest.raises(CheckpointError, match=r"these do: vitreous, bit$"):
        convert(made(ResNetConfig((32, 32), 3, (1, 2), 1, 3)), tmp_path / "out", "timm")


def test_a_root_that_bit_has_not_is_refused(tmp_path: Path) -> None:
    small = made(ResNetConfig((32, 32), 3, (1, 2), 1, 3, root="3x3"))
    for name in ("bit", "timm-bit"):
        with pytest.raises(CheckpointError, match=r"timm has only|a root of 7x7 and 64 channels, not 3x3 and 64"):
            convert(small, tmp_path / "out", name)


def test_it_becomes_a_model_folder_that_predicts(tmp_path: Path) -> None:
    folder, _ = load_foreign(authors.bit((1, 2)).save(tmp_path / "bit.npz"), LoadOptions(image=(32, 32)))
    save_model(tmp_path / "model", folder)
    again = load_model(tmp_path / "model")
    assert isinstance(again.model, ResNet)
    same(folder, again)
    assert again.origin["family"] == "bit"
    pixels = (torch.rand(32, 32, 3, generator=torch.Generator().manual_seed(0)) * 255).byte().numpy()
    with torch.inference_mode():
        label = int(folder.model(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1).argmax())
    assert Predictor.load(tmp_path / "model", device="cpu")(pixels).label == f"class {label}"
