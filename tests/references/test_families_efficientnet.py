"""EfficientNets of timm and transformers, loaded by us, give their numbers; and what we write, they read."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.twins import CLOSE, difference, images, logits, randomise, saved
from torch import nn
from torch.nn import functional as F

from vitreous.errors import CheckpointError
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.model.efficientnet_config import EfficientNetConfig, build_efficientnet_config
from vitreous.model.factory import create
from vitreous.weights.conversion import convert
from vitreous.weights.foreign import load_foreign
from vitreous.weights.loading import open_model
from vitreous.weights.model_folder import ModelFolder
from vitreous.weights.options import LoadOptions

PADDINGS = {"tf": "same", "torch": "symmetric"}
NARROW = 0.25
"""Factor on all channels: layers of the published kinds, quick to compute."""


def draw(model: nn.Module, side: int = 64) -> nn.Module:
    """Draw parameters, and let running statistics be those of some images, so that outputs depend on the image."""
    randomise(model)
    norms = [(module, module.momentum) for module in model.modules() if hasattr(module, "running_mean")]
    for norm, _ in norms:
        norm.train().momentum = 1.0
    with torch.no_grad():
        model(torch.randn(8, 3, side, side, generator=torch.Generator().manual_seed(3)))
    for norm, momentum in norms:
        norm.momentum = momentum
    return model.eval()


def timms(kind: str, **given: Any) -> nn.Module:
    from timm.models.efficientnet import _gen_efficientnet

    settings = {"num_classes": 10} | ({"bn_eps": 1e-3, "pad_type": "same"} if kind == "tf" else {}) | given
    return draw(_gen_efficientnet("efficientnet_b0", channel_multiplier=NARROW, **settings))


def transformers(**given: Any) -> nn.Module:
    from transformers import EfficientNetConfig, EfficientNetForImageClassification

    settings = {
        "width_coefficient": 0.5,
        "depth_coefficient": 1.0,
        "hidden_dim": 640,
        "num_labels": 10,
        "image_size": 64,
    }
    return draw(EfficientNetForImageClassification(EfficientNetConfig(**settings | given)))


@pytest.mark.parametrize("kind", PADDINGS)
@pytest.mark.parametrize("image", [(64, 64), (75, 98)])
def test_timms_file_is_the_same_function(kind: str, image: tuple[int, int], tmp_path: Path) -> None:
    """At the second size maps are odd before strides, along rows and columns differently."""
    model = timms(kind)
    name = f"{'tf_' * (kind == 'tf')}efficientnet_b0"
    config = {"architecture": name, "pretrained_cfg": {"input_size": [3, 64, 64]}}
    folder, report = load_foreign(saved(model.state_dict(), tmp_path, config))
    assert report.origin.startswith("timm-efficientnet")
    found = folder.model.config
    assert (found.padding, found.norm_eps) == (PADDINGS[kind], {"tf": 1e-3, "torch": 1e-5}[kind])
    assert (found.units, found.root_channels, found.last_channels) == ((1, 2, 2, 3, 3, 4, 1), 8, 320)
    assert difference(folder.model.resize(image), model) < CLOSE
    other = load_foreign(saved(model.state_dict(), tmp_path / "bare"), LoadOptions(family=f"timm-efficientnet:{kind}"))
    assert difference(other[0].model.resize(image), model) < CLOSE


def test_which_padding_must_be_said_and_what_is_no_efficientnet_is_refused(tmp_path: Path) -> None:
    tensors = timms("tf").state_dict()
    with pytest.raises(CheckpointError, match="--as timm-efficientnet:tf or --as timm-efficientnet:torch"):
        load_foreign(saved(tensors, tmp_path / "bare"))
    for name in ("efficientnet_b3_pruned", "efficientnet_b0_gn", "mobilenetv3_rw", "tf_efficientnetv2_b0"):
        with pytest.raises(CheckpointError, match=f"{name} is not one of"):
            load_foreign(saved(tensors, tmp_path / "named", {"architecture": name}))
    squeezed = tensors | {"blocks.1.0.se.conv_reduce.weight": torch.zeros(6, 48, 1, 1)}
    with pytest.raises(CheckpointError, match="computed from 6 channels, but an EfficientNet's from a quarter of 8"):
        load_foreign(saved(squeezed, tmp_path / "squeezed", {"architecture": "efficientnet_b0"}))
    with pytest.raises(CheckpointError, match="act_layer in model_args"):
        config = {"architecture": "efficientnet_b0", "model_args": {"act_layer": "relu"}}
        load_foreign(saved(tensors, tmp_path / "args", config))


@pytest.mark.parametrize("image", [64, 60])
def test_transformers_file_is_the_same_function(image: int, tmp_path: Path) -> None:
    """At 60 pixels maps are 30, 15, 8, 4 and 2: before unit 3 one is odd, which only the configuration says."""
    odd = [] if image == 64 else [3]
    model = transformers(image_size=image, depthwise_padding=odd)
    model.save_pretrained(tmp_path)
    folder, report = load_foreign(tmp_path)
    assert report.origin.startswith("huggingface-efficientnet")
    assert (folder.model.config.norm_eps, folder.model.config.norm_momentum) == (1e-3, 0.01)
    assert difference(folder.model, logits(model)) < CLOSE
    if image == 64:
        pixels = torch.randn(2, 3, 128, 96, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        with torch.inference_mode():
            assert torch.allclose(folder.model.double()(pixels), model.double()(pixels).logits, rtol=1e-9)


def test_transformers_padding_that_is_no_maps_is_refused(tmp_path: Path) -> None:
    transformers(depthwise_padding=[5]).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"pads units \[5\] on all sides .* odd before \[\]"):
        load_foreign(tmp_path)


@pytest.mark.parametrize(
    "extra", [{"include_top": True}, {"include_top": False, "rescale_offset": True, "rescale_factor": 1 / 127.5}]
)
def test_transformers_pixels_are_the_same(extra: dict[str, Any], tmp_path: Path) -> None:
    """Their processor divides by the deviation twice, or subtracts 1 first."""
    transformers().save_pretrained(tmp_path)
    mean, std = [0.485, 0.456, 0.406], [0.47853944, 0.4732864, 0.47434163]
    given = {"image_processor_type": "EfficientNetImageProcessor", "size": {"height": 64, "width": 64}, "resample": 3}
    given |= {"image_mean": mean, "image_std": std, "do_normalize": True, "do_rescale": True, "rescale_factor": 1 / 255}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(given | extra))
    folder, _ = load_foreign(tmp_path)
    pixels = torch.arange(0.0, 256.0, 17)[:, None]
    scaled = pixels * (given | extra)["rescale_factor"] - (1 if extra.get("rescale_offset") else 0)
    expected = (scaled - torch.tensor(mean)) / torch.tensor(std) / (torch.tensor(std) if extra["include_top"] else 1)
    found = (pixels / 255 - torch.tensor(folder.preprocess.mean)) / torch.tensor(folder.preprocess.std)
    assert torch.allclose(found, expected, atol=1e-5)


def made(config: EfficientNetConfig) -> ModelFolder:
    model = draw(create(replace(config, classes=3)))
    images = PreprocessConfig(size=model.config.image, crop=0.9, interpolation="bicubic")
    return ModelFolder(model, images, DecodeConfig(), ("a", "b", "c"))


@pytest.mark.parametrize("kind", PADDINGS)
def test_timm_reads_what_we_write(kind: str, tmp_path: Path) -> None:
    import timm

    eps = {"tf": 1e-3, "torch": 1e-5}[kind]
    config = build_efficientnet_config("EfficientNet-B1", image=(75, 75), padding=PADDINGS[kind], norm_eps=eps)
    first = made(config)
    assert convert(first, tmp_path / "theirs", "timm-efficientnet").difference == 0
    theirs = timm.create_model(f"local-dir:{tmp_path / 'theirs'}", pretrained=True).eval()
    assert difference(first.model, theirs) < CLOSE
    again, _ = open_model(tmp_path / "theirs")
    assert replace(again.model.config, norm_momentum=0.01) == first.model.config
    assert again.classes == first.classes
    with pytest.raises(CheckpointError, match=r"epsilon 0\.01"):
        convert(made(replace(config, norm_eps=1e-2)), tmp_path / "other", "timm-efficientnet")


def test_transformers_reads_what_we_write(tmp_path: Path) -> None:
    from transformers import AutoModelForImageClassification

    config = EfficientNetConfig(
        image=(60, 60),
        root_channels=8,
        widths=(4, 6, 10, 20, 28, 48, 80),
        units=(1, 2, 1, 1, 2, 1, 1),
        last_channels=320,
    )
    first = made(config)
    assert convert(first, tmp_path / "theirs", "huggingface-efficientnet").difference < 1e-6
    theirs = AutoModelForImageClassification.from_pretrained(tmp_path / "theirs").eval()
    assert difference(first.model, logits(theirs)) < CLOSE
    assert open_model(tmp_path / "theirs")[0].model.config == first.model.config
    with pytest.raises(CheckpointError, match="symmetric"):
        convert(made(replace(config, padding="symmetric")), tmp_path / "other", "huggingface-efficientnet")
    with pytest.raises(CheckpointError, match="for even images"):
        convert(made(replace(config, image=(61, 60))), tmp_path / "other", "huggingface-efficientnet")


@pytest.mark.parametrize("kind", PADDINGS)
def test_a_step_of_training_has_timms_loss_gradients_and_statistics(kind: str, tmp_path: Path) -> None:
    theirs = timms(kind)
    folder, _ = load_foreign(saved(theirs.state_dict(), tmp_path), LoadOptions(family=f"timm-efficientnet:{kind}"))
    ours, theirs = folder.model.double().train(), copy.deepcopy(theirs).double().train()
    pixels = torch.randn(4, 3, 75, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = torch.tensor([1, 7, 2, 2])
    losses = [F.cross_entropy(model(pixels), labels) for model in (ours, theirs)]
    assert float(losses[0].detach()) == pytest.approx(float(losses[1].detach()), rel=1e-9)
    for loss in losses:
        loss.backward()
    for mine, their in (
        ("root.conv", "conv_stem"),
        ("root.norm", "bn1"),
        ("stages.0.0.contract.conv", "blocks.0.0.conv_pw"),
        ("stages.1.1.depthwise.conv", "blocks.1.1.conv_dw"),
        ("stages.2.0.excitation.squeeze", "blocks.2.0.se.conv_reduce"),
        ("stages.5.3.expand.norm", "blocks.5.3.bn1"),
        ("norm.conv", "conv_head"),
        ("head", "classifier"),
    ):
        found, expected = ours.get_submodule(mine).weight.grad, theirs.get_submodule(their).weight.grad
        assert float((found - expected).norm() / expected.norm()) < 1e-6, mine
    statistics = dict(theirs.named_buffers())
    assert torch.allclose(ours.stages[5][3].depthwise.norm.running_var, statistics["blocks.5.3.bn2.running_var"])
    assert torch.allclose(ours.norm.norm.running_mean, statistics["bn2.running_mean"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "image"), [("tf_efficientnet_b7", 600), ("tf_efficientnet_l2", 128), ("efficientnet_b4", 380)]
)
def test_published_shapes(name: str, image: int, tmp_path: Path) -> None:
    """In float64: float32 rounds by 6e-5 in L2's 88 blocks, in ours and timm's at different places."""
    import timm

    model = draw(timm.create_model(name), image)
    config = {"architecture": name, "pretrained_cfg": {"input_size": [3, image, image]}}
    folder, _ = load_foreign(saved(model.state_dict(), tmp_path, config))
    expected = build_efficientnet_config(f"EfficientNet-{name.rpartition('_')[2].upper()}", image=(image, image))
    assert folder.model.config.widths == expected.widths
    pixels = images(image, image).double()
    with torch.inference_mode():
        ours, theirs = folder.model.double()(pixels), model.double()(pixels)
    assert float((theirs[0] - theirs[1]).abs().mean()) > 0.05
    assert float((ours - theirs).abs().max()) < 1e-10
