"""Convert: what is written, its owner's library reads, to the bit; and so do we."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vitreous.errors import CheckpointError, UnknownName
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.model.config import BlockConfig, ViTConfig
from vitreous.model.factory import create
from vitreous.weights.conversion import convert
from vitreous.weights.loading import open_model
from vitreous.weights.model_folder import ModelFolder

PLAIN = ViTConfig(image=(32, 48), patch=(8, 8), width=64, depth=2, heads=4, mlp_width=96, classes=3)
SQUARE = replace(PLAIN, image=(32, 32))
CLASSES = ("a", "b", "c")


def folder(config: ViTConfig) -> ModelFolder:
    model = create(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return ModelFolder(model.eval(), PreprocessConfig(size=config.image), DecodeConfig(), CLASSES)


def images(config: ViTConfig) -> torch.Tensor:
    return torch.randn(2, 3, *config.image, generator=torch.Generator().manual_seed(2))


TIMM = {
    "plain": PLAIN,
    "registers": replace(PLAIN, registers=2, positioned_tokens="patches"),
    "distilled": replace(PLAIN, distillation_token=True),
    "mean, layer scale, qk norm": replace(
        PLAIN, pool="mean", class_token=False, final_norm="pooled", block=BlockConfig(layer_scale=0.1, qk_norm=True)
    ),
    "attention pooling": replace(PLAIN, pool="map", class_token=False),
    "tanh gelu, norm before": replace(
        PLAIN, embed_norm=True, patch_bias=False, block=BlockConfig(activation="gelu-tanh")
    ),
}


@pytest.mark.parametrize("name", TIMM)
def test_timm_reads_what_we_write_and_we_too(name: str, tmp_path: Path) -> None:
    import timm

    config = TIMM[name]
    first = folder(config)
    proof = convert(first, tmp_path / "timm", "timm")
    assert proof.difference == 0
    theirs = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True).eval()
    with torch.no_grad():
        torch.testing.assert_close(theirs(images(config)), first.model(images(config)), atol=2e-5, rtol=1e-5)
    again, report = open_model(tmp_path / "timm")
    assert again.classes == CLASSES
    assert not report.unused
    for key, tensor in first.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[key], tensor), key


def test_google_npz_comes_back_to_the_bit(tmp_path: Path) -> None:
    first = folder(replace(SQUARE, pre_logits=True, block=BlockConfig(activation="gelu-tanh")))
    proof = convert(first, tmp_path / "google", "google")
    assert proof.difference == 0
    again, _ = open_model(tmp_path / "google" / "model.npz")
    for key, tensor in first.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[key], tensor), key


def test_timm_reads_our_npz(tmp_path: Path) -> None:
    import timm

    config = replace(ViTConfig(image=(224, 224), width=192, depth=12, heads=3, mlp_width=768, classes=3))
    first = folder(config)
    convert(first, tmp_path / "google", "google")
    theirs = timm.create_model("vit_tiny_patch16_224", num_classes=3)
    theirs.load_pretrained(tmp_path / "google" / "model.npz")
    with torch.no_grad():
        found = theirs.eval()(images(config))
        torch.testing.assert_close(found, first.model(images(config)), atol=2e-5, rtol=1e-5)


def test_a_format_that_cannot_express_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="can't express this model: registers is 4"):
        convert(folder(replace(SQUARE, registers=4)), tmp_path / "out", "google")
    with pytest.raises(CheckpointError, match="positions are not learned"):
        convert(folder(replace(SQUARE, positions="bias")), tmp_path / "out", "timm")
    assert not list(tmp_path.iterdir())


def test_unknown_formats_and_used_folders(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'timm'"):
        convert(folder(SQUARE), tmp_path / "out", "tim")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match="new or empty folder"):
        convert(folder(SQUARE), tmp_path, "timm")
