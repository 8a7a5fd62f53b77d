"""Loaded models made to see other channels or to know fewer classes: the function stays what it was said to be."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import vitreous
from vitreous.errors import ConfigError, UnknownName
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.images.tensors import normalize
from vitreous.model.config import ViTConfig
from vitreous.model.factory import create
from vitreous.model.resnet_config import ResNetConfig, StemConfig
from vitreous.model.swin_config import build_swin_config
from vitreous.weights.adaptation import adapt, knows_all, slice_head
from vitreous.weights.channels import change_channels
from vitreous.weights.labels import read_labels
from vitreous.weights.loading import open_model
from vitreous.weights.model_folder import ModelFolder, load_model, save_model
from vitreous.weights.options import LoadOptions

SMALL = ViTConfig(image=(8, 12), patch=(4, 4), width=16, depth=1, heads=2, mlp_width=8, classes=3)
CLASSES = ("cat", "dog, hound", "tench, Tinca tinca")
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def folder_of(config: Any = SMALL, **images: Any) -> ModelFolder:
    model = create(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    mode = "L" if config.channels == 1 else "RGB"
    preprocess = PreprocessConfig(size=tuple(config.image), mode=mode, **images)
    return ModelFolder(model.eval(), preprocess, DecodeConfig(), CLASSES[: config.classes], {}, "bilinear")


def outputs(folder: ModelFolder, pixels: Tensor) -> Tensor:
    with torch.inference_mode():
        return folder.model(normalize(pixels, folder.preprocess))


def grey(channels: int, seed: int = 0) -> Tensor:
    pixels = torch.randint(256, (4, 1, 8, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return pixels.expand(-1, channels, -1, -1)


def test_a_grey_image_is_the_same_to_a_model_that_sees_one_channel() -> None:
    fractions = st.floats(0.1, 0.9).map(lambda value: round(value, 3))
    colours = st.tuples(fractions, fractions, fractions)

    @settings(max_examples=25, deadline=None)
    @given(colours, colours, st.booleans(), st.integers(0, 100))
    def check(mean: tuple[float, ...], std: tuple[float, ...], bias: bool, seed: int) -> None:
        folder = folder_of(replace(SMALL, patch_bias=bias), mean=mean, std=std)
        expected = outputs(folder, grey(3, seed))
        one, said = change_channels(folder, 1)
        assert said.startswith("3 -> 1 by sum")
        assert ("absorbed into kernel and bias" in said) == (len(set(mean)) > 1)
        assert ("deviation absorbed into" in said) == (len(set(zip(mean, std, strict=True))) > 1)
        assert one.preprocess.mode == "L"
        assert one.model.config.channels == 1
        assert (outputs(one, grey(1, seed)) - expected).abs().max() < 2e-5 * max(1, expected.abs().max())

    check()


@pytest.mark.parametrize("images", [{}, IMAGENET])
@pytest.mark.parametrize(("channels", "rule"), [(4, "sum"), (2, "sum"), (6, "tile"), (3, "tile")])
def test_other_counts_keep_the_function_on_grey_images(channels: int, rule: str, images: dict[str, Any]) -> None:
    folder = folder_of(**images)
    expected = outputs(folder, grey(3))
    other, said = change_channels(folder, channels, rule)
    assert said.startswith(f"3 -> {channels} by {rule}")
    assert (outputs(other, grey(channels)) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("images", [{}, IMAGENET])
def test_further_channels_of_zeros_change_nothing_whatever_they_show(images: dict[str, Any]) -> None:
    folder = folder_of(**images)
    pixels = torch.randint(256, (4, 5, 8, 12), dtype=torch.uint8)
    expected = outputs(folder, pixels[:, :3])
    five, said = change_channels(folder, 5)
    assert said == "3 -> 5 by zero"
    assert (outputs(five, pixels) - expected).abs().max() < 1e-6
    with pytest.raises(ConfigError, match="only adds channels; for 2 of 5 use sum or tile"):
        change_channels(five, 2, "zero")


def test_a_grey_model_sees_colours_by_their_mean() -> None:
    folder = folder_of(replace(SMALL, channels=1))
    expected = outputs(folder, grey(1))
    three, said = change_channels(folder, 3)
    assert (said, three.preprocess.mode) == ("1 -> 3 by sum", "RGB")
    assert (outputs(three, grey(3)) - expected).abs().max() < 1e-5


CONV = StemConfig("conv", (), 1, (8, 8))


def test_stems_are_adapted_and_say_what_they_cannot_keep() -> None:
    hybrid = folder_of(replace(SMALL, image=(64, 64), patch=(32, 32), stem=StemConfig("resnet", (1,), 1)), **IMAGENET)
    one, said = change_channels(hybrid, 1)
    assert "standardised afterwards" in said
    assert "which this first layer can't absorb" in said
    assert one.model(torch.zeros(1, 1, 64, 64)).shape == (1, 3)
    resnet, said = change_channels(folder_of(ResNetConfig(image=(32, 48), units=(1,), classes=3)), 4)
    assert "3 -> 4 by zero; these kernels are standardised" in said
    assert resnet.model(torch.zeros(1, 4, 32, 48)).shape == (1, 3)
    conv = folder_of(replace(SMALL, image=(16, 24), stem=CONV))
    pixels = torch.randint(256, (2, 1, 16, 24), dtype=torch.uint8)
    expected = outputs(conv, pixels.expand(-1, 3, -1, -1))
    one, said = change_channels(conv, 1)
    assert said == "3 -> 1 by sum"
    assert (outputs(one, pixels) - expected).abs().max() < 1e-5


def test_a_head_is_sliced_by_labels_and_by_synonyms() -> None:
    folder = folder_of(replace(SMALL, distillation_token=True))
    expected = outputs(folder, grey(3))
    two, said = slice_head(folder, ("Tinca tinca", "cat"))
    assert (said, two.classes) == ("sliced: 2 of 3 classes", ("Tinca tinca", "cat"))
    assert torch.equal(outputs(two, grey(3)), expected[:, [2, 0]])


def test_labels_that_do_not_settle_a_class_are_refused() -> None:
    folder = folder_of()
    with pytest.raises(UnknownName, match="unknown class 'dgo'"):
        slice_head(folder, ("dgo",))
    with pytest.raises(ConfigError, match="'cat' is named twice"):
        slice_head(folder, ("cat", "cat"))
    twins = replace(folder, classes=("crane, bird", "crane, machine", "x"))
    with pytest.raises(ConfigError, match="2 classes are called 'crane'"):
        slice_head(twins, ("crane",))
    with pytest.raises(ConfigError, match="no head"):
        slice_head(replace(folder_of(replace(SMALL, classes=0)), classes=()), ("cat",))
    assert knows_all(("a", "b", "b"), ("a",))
    assert not knows_all(("a", "b", "b"), ("b",))
    assert not knows_all(("a", "b"), ("a", "c"))


def test_wishes_are_checked_and_lists_of_labels_read(tmp_path: Path) -> None:
    assert read_labels("cat, dog ,") == ("cat", "dog")
    (tmp_path / "labels.txt").write_text("tench, Tinca tinca\ncat\n\n")
    assert read_labels(str(tmp_path / "labels.txt")) == ("tench, Tinca tinca", "cat")
    with pytest.raises(ConfigError, match="names no class"):
        read_labels(" , ")
    (tmp_path / "bad").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ConfigError, match="can't read the labels"):
        read_labels(str(tmp_path / "bad"))
    with pytest.raises(UnknownName, match="rule for channels 'sums'"):
        LoadOptions(channel_rule="sums")
    with pytest.raises(UnknownName, match="difference to allow 'mising'"):
        LoadOptions(allow=("mising",))
    for channels in (0, 1025):
        with pytest.raises(ConfigError, match=f"channels is {channels}; it must be 1 to 1024"):
            LoadOptions(channels=channels)
    with pytest.raises(UnknownName, match="resize rule 'bicubics'"):
        adapt(folder_of(), LoadOptions(rule="bicubics"))


def test_our_own_folders_take_wishes_too_and_report_them(tmp_path: Path) -> None:
    save_model(tmp_path / "model", folder_of())
    assert open_model(tmp_path / "model")[1] is None
    folder, report = open_model(tmp_path / "model", LoadOptions(image=(16, 12), labels=("cat",), channels=1))
    assert report is not None
    assert report.resized == "2x3 -> 4x3 by bilinear"
    assert (report.channels, report.head) == ("3 -> 1 by sum", "sliced: 1 of 3 classes")
    assert folder.preprocess.size == (16, 12)
    with pytest.raises(ConfigError, match="leave out --as"):
        open_model(tmp_path / "model", LoadOptions(family="timm"))
    save_model(tmp_path / "again", folder)
    again = load_model(tmp_path / "again")
    pixels = torch.randint(256, (2, 1, 16, 12), dtype=torch.uint8)
    assert torch.equal(outputs(again, pixels), outputs(folder, pixels))


def test_python_wishes_by_name(tmp_path: Path) -> None:
    save_model(tmp_path / "model", folder_of())
    predictor = vitreous.load(tmp_path / "model", labels=("cat", "dog"), channels=1)
    found = predictor(np.zeros((20, 30, 3), np.uint8))
    assert {label for label, _ in found.top} == {"cat", "dog"}
    assert predictor.report is not None
    assert "sliced: 2 of 3" in str(predictor.report)
    with pytest.raises(UnknownName, match="unknown argument of load 'label'"):
        vitreous.load(tmp_path / "model", label="cat")


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_swin_transformer_gets_other_windows_as_it_is_loaded(version: str, tmp_path: Path) -> None:
    kind = "Swin-T" if version == "v1" else "SwinV2-T"
    shape = {"image": (32, 64), "patch": (2, 2), "width": 16, "depths": (1, 2), "heads": (2, 4), "classes": 3}
    folder = folder_of(build_swin_config(kind, windows=((4, 4), (4, 4)), **shape))
    save_model(tmp_path / "swin", folder)
    found, report = open_model(tmp_path / "swin", LoadOptions(window=(8, 16)))
    assert found.model.config.windows == ((8, 16), (8, 16))
    assert report is not None and "windows 4x4, 4x4 -> 8x16, 8x16, offsets by" in report.resized
    images = torch.randn(2, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(found.model(images), folder.model.rewindow((8, 16), found.resize)(images))
        assert not torch.allclose(found.model(images), folder.model(images), atol=1e-4)
    assert open_model(tmp_path / "swin", LoadOptions(window=(4, 4)))[1] is None
    vitreous.convert(tmp_path / "swin", tmp_path / "other", window=(8, 16))
    assert load_model(tmp_path / "other").model.config.windows == ((8, 16), (8, 16))


def test_windows_are_for_swin_transformers(tmp_path: Path) -> None:
    save_model(tmp_path / "vit", folder_of())
    with pytest.raises(ConfigError, match=r"--window 4 4 is for the windows of a Swin Transformer, but this is a ViT"):
        open_model(tmp_path / "vit", LoadOptions(window=(4, 4)))
    with pytest.raises(ConfigError, match=r"window is \(0, 4\); expected rows and columns"):
        LoadOptions(window=(0, 4))
