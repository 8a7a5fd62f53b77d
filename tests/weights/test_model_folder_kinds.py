"""Model folders of ResNets and hybrids: they come back to the bit, predict, and are described by name."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.support import forked

import vitreous
from vitreous.api.inspection import inspect
from vitreous.errors import CheckpointError, UnknownName
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.model.config import ViTConfig
from vitreous.model.factory import create
from vitreous.model.names import build_vit_config
from vitreous.model.resnet import ResNet
from vitreous.model.resnet_config import ResNetConfig, StemConfig, build_resnet_config
from vitreous.predictor import Predictor
from vitreous.training.config import RunConfig
from vitreous.training.initial_weights import create_initial_model
from vitreous.training.reporter import Silent
from vitreous.weights.compatibility import describe
from vitreous.weights.conversion import convert
from vitreous.weights.loading import open_model
from vitreous.weights.model_folder import ModelFolder, load_model, save_model
from vitreous.weights.options import LoadOptions

SMALL = ResNetConfig(image=(32, 48), units=(1, 2), classes=3)
HYBRID = ViTConfig(
    image=(32, 48),
    patch=(16, 16),
    width=32,
    depth=1,
    heads=2,
    mlp_width=48,
    classes=3,
    stem=StemConfig("resnet", (1, 1)),
)
ONE_OF_EACH = pytest.mark.parametrize("config", [SMALL, HYBRID], ids=["resnet", "hybrid"])


def saved(config: ViTConfig | ResNetConfig, path: Path) -> ModelFolder:
    model = create(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    folder = ModelFolder(model.eval(), PreprocessConfig(size=config.image), DecodeConfig(), ("a", "b", "c"))
    save_model(path, folder)
    return folder


def edit(path: Path, **changes: object) -> None:
    """Change config.json; None removes a key."""
    document = json.loads((path / "config.json").read_text()) | changes
    (path / "config.json").write_text(json.dumps({key: value for key, value in document.items() if value is not None}))


@ONE_OF_EACH
def test_it_comes_back_to_the_bit(config: ViTConfig | ResNetConfig, tmp_path: Path) -> None:
    first = saved(config, tmp_path / "model")
    again = load_model(tmp_path / "model", verify=True)
    assert again.model.config == config
    assert type(again.model) is type(first.model)
    pixels = torch.randn(2, 3, *config.image)
    with torch.inference_mode():
        assert torch.equal(again.model(pixels), first.model(pixels))


def test_the_kind_is_written_and_absent_it_is_a_vit(tmp_path: Path) -> None:
    saved(HYBRID, tmp_path / "vit")
    saved(SMALL, tmp_path / "resnet")
    kinds = {name: json.loads((tmp_path / name / "config.json").read_text())["kind"] for name in ("vit", "resnet")}
    assert kinds == {"vit": "vit", "resnet": "resnet"}
    for name in kinds:
        edit(tmp_path / name, kind=None)
    assert load_model(tmp_path / "vit").model.config == HYBRID
    with pytest.raises(CheckpointError, match="can't be used"):
        load_model(tmp_path / "resnet")


@pytest.mark.parametrize("kind", ["resnets", 7, ["vit"], {}])
def test_an_unknown_kind_is_refused(kind: object, tmp_path: Path) -> None:
    saved(SMALL, tmp_path / "model")
    edit(tmp_path / "model", kind=kind)
    with pytest.raises(CheckpointError, match="unknown kind of model") as caught:
        load_model(tmp_path / "model")
    assert "\n" not in str(caught.value)


def test_a_claim_of_a_billion_units_is_refused_before_they_are_built(tmp_path: Path) -> None:
    saved(SMALL, tmp_path / "resnet")
    for units, words in (
        (10_000, "holds weights of 3 units, expected a ResNet of 10000 units"),
        (10**9, "units is 10000"),
    ):
        edit(tmp_path / "resnet", architecture={"image": [32, 48], "units": [units], "classes": 3})
        with pytest.raises(CheckpointError, match=words):
            load_model(tmp_path / "resnet")
    saved(HYBRID, tmp_path / "hybrid")
    document = json.loads((tmp_path / "hybrid" / "config.json").read_text())["architecture"]
    for units, words in ((10_000, "holds weights of 2 stem units, expected"), (10**9, "units is 10000")):
        edit(tmp_path / "hybrid", architecture=document | {"stem": {"kind": "resnet", "units": [1, units]}})
        with pytest.raises(CheckpointError, match=words):
            load_model(tmp_path / "hybrid")


def test_weights_of_another_width_are_refused(tmp_path: Path) -> None:
    saved(SMALL, tmp_path / "model")
    edit(tmp_path / "model", architecture={"image": [32, 48], "units": [1, 2], "width": 2, "classes": 3})
    with pytest.raises(CheckpointError, match=r"another architecture \(3 units of width 512\), but a ResNet"):
        load_model(tmp_path / "model")


def test_a_resnet_opens_for_images_of_another_size(tmp_path: Path) -> None:
    first = saved(SMALL, tmp_path / "model")
    again, _ = open_model(tmp_path / "model", LoadOptions(image=(40, 56)))
    assert (again.model.config.image, again.preprocess.size) == ((40, 56), (40, 56))
    assert all(torch.equal(tensor, first.model.state_dict()[name]) for name, tensor in again.model.state_dict().items())


def test_a_resnet_predicts_as_its_module_does(tmp_path: Path) -> None:
    first = saved(replace(SMALL, image=(32, 32)), tmp_path / "model")
    predictor = Predictor.load(tmp_path / "model", device="cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    predictor.folder = replace(predictor.folder, preprocess=PreprocessConfig(size=(32, 32), crop=1.0))
    found = predictor(list(pixels))
    with torch.inference_mode():
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
        scores, labels = first.model(images).softmax(-1).max(-1)
    assert [one.label for one in found] == ["abc"[label] for label in labels]
    assert [one.score for one in found] == pytest.approx(scores.tolist(), abs=1e-5)


def test_inspect_says_what_it_is(tmp_path: Path) -> None:
    saved(SMALL, tmp_path / "model")
    saved(HYBRID, tmp_path / "hybrid")
    shown = str(inspect(tmp_path / "model"))
    assert "ResNet of 1+2 units, width 1, last map a grid of 4x6" in shown
    assert f"{sum(parameter.numel() for parameter in create(SMALL).parameters()):,}" in shown
    assert "positions" not in shown
    assert "on a ResNet of 1+1 units, width 1" in str(inspect(tmp_path / "hybrid"))


def test_the_command_line_predicts(tmp_path: Path) -> None:
    saved(SMALL, tmp_path / "model")
    Image.new("RGB", (60, 40), (200, 30, 30)).save(tmp_path / "red.png")
    done = forked.run(forked.vitreous("predict", tmp_path / "model", tmp_path / "red.png"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split()[1] in ("a", "b", "c")


def test_create_knows_resnets_by_name() -> None:
    model = vitreous.create("R26x1", classes=3, seed=1)
    assert isinstance(model, ResNet)
    assert model.config == build_resnet_config("R26x1", classes=3)
    assert model.head.out_features == 3
    with pytest.raises(UnknownName, match="setting of a ResNet 'clases'; did you mean 'classes'"):
        vitreous.create("R26x1", clases=3)
    with pytest.raises(UnknownName, match="setting of a ViT 'clases'; did you mean 'classes'"):
        vitreous.create("Ti/16", clases=3)
    with pytest.raises(UnknownName, match="R51x1"):
        vitreous.create("R51x1")


NAMES = {
    "R50x1 for 224x224 images": build_resnet_config("R50x1"),
    "R152x4 for 480x480 images": build_resnet_config("R152x4", image=(480, 480)),
    "a ResNet of 1+2 units of width 1 for 32x48 images": SMALL,
    "R50+B/16 for": build_vit_config("R50+B/16"),
    "R50+L/32 for": build_vit_config("R50+L/32"),
    "R26+S/32 for": build_vit_config("R26+S/32"),
    "R+Ti/16 for": build_vit_config("R+Ti/16"),
    "B/32 on a ResNet of 3+4+9 units of width 1 for": build_vit_config("R50+B/16", patch=(32, 32)),
    "a ViT with patch 16 on a ResNet of 1+1 units of width 1 for": HYBRID,
    "S/16 on 4 convolutions for": build_vit_config("S/16", stem=StemConfig("conv", convolutions=(48, 96, 192, 384))),
    "S/16 for 224x224 images (width 384, depth 12, heads 6, mlp 1536, 1000 classes)": build_vit_config("S/16"),
}


@pytest.mark.parametrize("words", NAMES)
def test_architectures_are_described_by_name(words: str) -> None:
    assert describe(NAMES[words]).startswith(words)


def test_training_a_vit_from_a_resnet_is_refused(tmp_path: Path) -> None:
    saved(SMALL, tmp_path / "model")
    config = RunConfig(model=replace(HYBRID, stem=StemConfig()), weights=str(tmp_path / "model"))
    with pytest.raises(CheckpointError, match="holds a ResNet, but this run trains a ViT"):
        create_initial_model(config, ("a", "b", "c"), Silent())


def test_a_format_for_vits_names_those_for_resnets(tmp_path: Path) -> None:
    first = saved(SMALL, tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"doesn't hold a ResNet of 1\+2 units .*; these do: vitreous, bit$"):
        convert(first, tmp_path / "out", "google")
    pooled = saved(replace(SMALL, unit="pooled"), tmp_path / "pooled")
    with pytest.raises(CheckpointError, match=r"doesn't hold a ResNet of 1\+2 pooled units .*; these do: vitreous$"):
        convert(pooled, tmp_path / "out", "google")
    assert convert(first, tmp_path / "copy").difference == 0
