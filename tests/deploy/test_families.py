"""Every part that a model can be made of, exported to ONNX and run by both engines; small widths, images that aren't square."""

import numpy as np
import pytest
import torch
from tests.deploy.conftest import folder_of, traceable

import vitreous
from vitreous.images.tensors import normalize
from vitreous.model.config import BlockConfig as Block
from vitreous.model.config import RotaryConfig as Rotary
from vitreous.model.config import ViTConfig
from vitreous.model.resnet_config import FLAX_EPSILONS, ResNetConfig, StemConfig


def vit(**settings):
    plain = {"image": (32, 48), "patch": (8, 8), "width": 32, "depth": 2, "heads": 4, "mlp_width": 48, "classes": 5}
    return ViTConfig(**(plain | settings))


def resnet(**settings):
    return ResNetConfig(**({"image": (37, 51), "root_channels": 8, "groups": 4, "classes": 5} | settings))


AXIAL = {"class_token": False, "pool": "mean"}
FAMILIES = {
    "plain": vit(),
    "sincos, pre-logits": vit(positions="sincos2d", pre_logits=True, pre_logits_width=24),
    "grey, MAE": vit(channels=1, positions="sincos2d-mae", pool="mean", final_norm="pooled"),
    "five channels": vit(channels=5),
    "registers (DINOv2)": vit(registers=3, positioned_tokens="class", block=Block(layer_scale=0.1)),
    "class+mean of layers": vit(pool="class+mean", pool_layers=2, registers=2, pool_prefix=False),
    "attention pooling (SigLIP)": vit(pool="map", class_token=False, pool_mlp_width=40),
    "plain pooling (AIM)": vit(pool="map", class_token=False, pool_plain=True, patch_norm="after"),
    "maximum": vit(pool="max", patch_norm="both", attention_head_width=12),
    "distilled": vit(distillation_token=True),
    "learned2d": vit(positions="learned2d"),
    "in every layer": vit(position_placement="layers"),
    "relative": vit(positions="relative"),
    "bias (BEiT)": vit(
        positions="bias", block=Block(qkv_bias="no-key", layer_scale=0.1), pool="mean", final_norm="pooled"
    ),
    "shared bias": vit(positions="bias", position_placement="shared"),
    "bias by an MLP": vit(positions="bias-log"),
    "bias by an MLP (Swin v2)": vit(positions="bias-log-swin", block=Block(norm_order="after")),
    "rotary cells (EVA-02)": vit(
        rotary=Rotary("cells", reference=(7, 7)),
        block=Block(mlp="swiglu", mlp_inner_norm=True, attention_inner_norm=True),
    ),
    "rotary, columns first": vit(rotary=Rotary("cells", offset=1.0, columns_first=True)),
    "rotary centred (DINOv3)": vit(
        rotary=Rotary("centred", temperature=100.0, rounded=True),
        positions="none",
        registers=4,
        block=Block(mlp="swiglu"),
    ),
    "rotary mixed": vit(rotary=Rotary("mixed", temperature=10.0), positions="none"),
    "axial": vit(block=Block(attention="axial"), **AXIAL),
    "axial rotary": vit(block=Block(attention="axial"), rotary=Rotary("cells"), **AXIAL),
    "parallel, RMS, QK norm": vit(
        block=Block(qk_norm=True, parallel=True, norm="rms", activation="gelu-tanh", biases=False, qkv_bias="none")
    ),
    "CLIP": vit(embed_norm=True, patch_bias=False, head_bias=False, block=Block(activation="quick-gelu")),
    "SiLU, no final norm": vit(block=Block(activation="silu"), final_norm="none"),
    "hybrid": vit(stem=StemConfig("resnet", (1, 1)), patch=(16, 16)),
    "hybrid (flax)": vit(stem=StemConfig("resnet", (1, 1), epsilons=FLAX_EPSILONS)),
    "convolutions": vit(stem=StemConfig("conv", convolutions=(8, 16))),
    "no head": vit(classes=0),
    "bottlenecks": resnet(units=(1, 1, 1)),
    "basic units": resnet(units=(1, 1), unit="basic", root="3x3", activation="gelu"),
    "pooled units": resnet(units=(2, 1), unit="pooled", root="2x2", epsilons=FLAX_EPSILONS),
    "Haar transform": resnet(units=(1, 2), unit="pooled-post", root="haar", root_channels=24, stage_channels=(12, 20)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_the_same_function_in_both_engines(name, tmp_path):
    """The batch is none of those that were traced or proved with."""
    folder = folder_of(FAMILIES[name])
    folder.model.eval()
    with traceable():
        found = vitreous.export(
            folder, to="onnx", out=tmp_path / "onnx", outputs="features" if not folder.classes else "both"
        )
    assert found.proof.difference < 1e-5
    channels, kept = folder.preprocess.channels, folder.preprocess.keeps_channels
    pixels = np.random.default_rng(0).integers(0, 256, (3, *folder.preprocess.size, channels), dtype=np.uint8)
    pixels = pixels.astype(np.float32) if kept else pixels
    with torch.inference_mode():
        images = normalize(torch.from_numpy(pixels).permute(0, 3, 1, 2), folder.preprocess)
        features, logits = folder.model.features(images).numpy(), folder.model(images).numpy()
    for engine in ("onnxruntime", "openvino"):
        run = vitreous.load(found.path, engine=engine).engine
        assert np.abs(run.features(pixels) - features).max() < 1e-5 * np.abs(features).max()
        if folder.classes:
            assert np.abs(run.logits(pixels) - logits).max() < 1e-5 * np.abs(logits).max()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bottlenecks", "basic units", "pooled units", "Haar transform"])
def test_a_resnet_takes_other_rows_and_columns(name, tmp_path):
    folder = folder_of(FAMILIES[name])
    with traceable():
        found = vitreous.export(folder, to="onnx", out=tmp_path / "onnx", dynamic_image=True)
    images = np.random.default_rng(0).normal(size=(2, 3, 64, 42)).astype(np.float32)
    with torch.inference_mode():
        logits = folder.model(torch.from_numpy(images)).numpy()
    for engine in ("onnxruntime", "openvino"):
        (own,) = vitreous.load(found.path, engine=engine).engine.run(images)
        assert np.abs(own - logits).max() < 1e-5 * np.abs(logits).max()
