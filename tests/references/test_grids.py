"""Grids that aren't square, and heads: as the file says or the user does; 2x8 patches are as many as 4x4, and not the same."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.references.test_families_bit import small as small_resnet
from tests.references.test_families_google import arrays_of, random_model
from tests.references.test_families_google import saved as saved_npz
from tests.references.test_families_originals import (
    CLIPS,
    clip_tensors,
    like_timm,
    renamed,
    torchvision_model,
    written,
)
from tests.references.test_wrappers import MMPRETRAIN
from tests.support.twins import CLOSE, difference, images, randomise
from torch import Tensor, nn

from vitreous.errors import CheckpointError, ConfigError
from vitreous.weights.foreign import load_foreign
from vitreous.weights.options import LoadOptions

SIZE = (32, 128)
TOLD = LoadOptions(grid=(2, 8))
TINY: dict[str, Any] = {"embed_dim": 64, "depth": 2, "num_heads": 4, "num_classes": 5, "img_size": SIZE}


def timms(name: str = "vit_tiny_patch16_224", **given: Any) -> nn.Module:
    import timm

    return randomise(timm.create_model(name, **TINY | given))


def saved_by_timm(model: nn.Module, folder: Path) -> Path:
    from timm.models import save_for_hf

    save_for_hf(model, str(folder), safe_serialization=True)
    return folder


def changed(folder: Path, **values: Any) -> Path:
    """Replace parts of a config.json; a mapping is merged into the one that is there."""
    path = folder / "config.json"
    document = json.loads(path.read_text())
    for name, value in values.items():
        document[name] = document[name] | value if isinstance(value, dict) else value
    path.write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "eva02_tiny_patch14_224", "vit_small_patch14_reg4_dinov2"])
def test_what_timm_saved_has_the_grid_of_its_constructor(name: str, tmp_path: Path) -> None:
    model = timms(name, patch_size=16)
    stale = {"input_size": [3, 64, 64]}  # the images that the architecture was made for, not this model
    folder, _ = load_foreign(changed(saved_by_timm(model, tmp_path), pretrained_cfg=stale))
    assert folder.model.config.grid == (2, 8)
    assert folder.preprocess.size == SIZE
    assert difference(folder.model, model) < CLOSE


def test_one_number_is_a_square_and_the_images_of_pretrained_cfg_count_where_nothing_else_does(tmp_path: Path) -> None:
    model = timms(img_size=64)
    folder = changed(saved_by_timm(model, tmp_path), model_args={"img_size": 64})
    assert load_foreign(folder)[0].model.config.grid == (4, 4)
    changed(folder, model_args={"img_size": None}, pretrained_cfg={"input_size": [3, *SIZE]})
    assert load_foreign(folder)[0].model.config.grid == (2, 8)
    changed(folder, pretrained_cfg={"input_size": [3, 224, 224]})
    found, report = load_foreign(folder)
    assert found.model.config.grid == (4, 4)
    assert "a square grid of 4x4 patches (--grid ROWS COLS says another)" in report.assumed
    assert "images of 64x64, as the positions are; pretrained_cfg names 224x224" in report.assumed


def test_a_constructor_of_another_grid_than_the_positions_is_refused(tmp_path: Path) -> None:
    folder = changed(saved_by_timm(timms(), tmp_path), model_args={"img_size": [48, 128]})
    with pytest.raises(CheckpointError, match=r"says a grid of 3x8, 24 patches, but the weights have positions for 16"):
        load_foreign(folder)


def test_a_bare_file_has_the_grid_and_the_heads_that_it_is_told_to_have(tmp_path: Path) -> None:
    model = timms()
    path = written(model.state_dict(), tmp_path)
    folder, report = load_foreign(path, LoadOptions(grid=(2, 8), heads=4))
    assert difference(folder.model, model) < CLOSE
    assert "a grid of 2x8 patches and 4 heads, as you say" in report.notes
    assert folder.origin["told"] == "a grid of 2x8 patches and 4 heads"
    assert not [note for note in report.assumed if "grid" in note or "heads" in note]
    _, report = load_foreign(path)
    assert {note.split(" (")[0] for note in report.assumed} >= {
        "a square grid of 4x4 patches",
        "1 heads, as is usual at width 64",
    }
    assert folder.origin["assumed"] == list(load_foreign(path, LoadOptions(grid=(2, 8), heads=4))[1].assumed)


def test_what_cannot_be_so_is_refused(tmp_path: Path) -> None:
    path = written(timms().state_dict(), tmp_path)
    with pytest.raises(ConfigError, match=r"--grid 3 5 makes 15 patches, but .* has positions for 16"):
        load_foreign(path, LoadOptions(grid=(3, 5)))
    with pytest.raises(ConfigError, match=r"--heads 5 doesn't divide the width of .*, which is 64"):
        load_foreign(path, LoadOptions(heads=5))
    with pytest.raises(ConfigError, match="grid is"):
        LoadOptions(grid=(0, 5))
    with pytest.raises(ConfigError, match="heads is 0"):
        LoadOptions(heads=0)
    folder = saved_by_timm(timms(), tmp_path / "saved")
    with pytest.raises(ConfigError, match=r"--grid 4 4, but .* states that its grid is 2x8"):
        load_foreign(folder, LoadOptions(grid=(4, 4)))
    changed(folder, model_args={"num_heads": 4})
    with pytest.raises(ConfigError, match=r"--heads 2, but .* states that it has 4"):
        load_foreign(folder, LoadOptions(heads=2))
    load_foreign(folder, LoadOptions(grid=(2, 8), heads=4))  # the same as it says itself
    path = written(timms(img_size=(32, 112)).state_dict(), tmp_path)
    with pytest.raises(
        CheckpointError, match=r"no square, and nothing beside the weights gives .* say --grid ROWS COLS"
    ):
        load_foreign(path)


@pytest.mark.parametrize("size", [list(SIZE), 64])
def test_open_clips_image_size_is_one_number_or_two(size: Any, tmp_path: Path) -> None:
    sides = (size, size) if isinstance(size, int) else tuple(size)
    tensors = clip_tensors(sides)
    vision = {"image_size": size, "layers": 3, "width": 64, "patch_size": 16, "head_width": 64}
    document = {"model_cfg": {"embed_dim": 12, "vision_cfg": vision, "quick_gelu": True}, "preprocess_cfg": {}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(document))
    path = written(tensors, tmp_path, "open_clip_pytorch_model.bin")
    folder, _ = load_foreign(path)
    twin = like_timm(CLIPS["openai"], tensors, img_size=sides, num_classes=12)
    assert difference(folder.model, twin) < CLOSE
    document["model_cfg"]["vision_cfg"]["image_size"] = [48, 96]
    (tmp_path / "open_clip_config.json").write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match="says a grid of 3x6, 18 patches"):
        load_foreign(path)
    (tmp_path / "open_clip_config.json").unlink()
    told, _ = load_foreign(path, LoadOptions(family="openai", grid=(2, 8)))
    assert told.model.config.image == SIZE


def test_a_trunk_inside_open_clip_has_its_image_size_and_its_pooling(tmp_path: Path) -> None:
    model = timms("vit_base_patch16_224", num_classes=0, global_pool="avg", fc_norm=False)
    vision = {"timm_model_name": "vit_base_patch16_224", "image_size": list(SIZE), "timm_pool": "avg"}
    document = {"model_cfg": {"vision_cfg": vision}, "preprocess_cfg": {}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(document))
    tensors = {f"visual.trunk.{name}": tensor for name, tensor in model.state_dict().items()}
    path = written(tensors, tmp_path, "open_clip_pytorch_model.bin")
    folder, _ = load_foreign(path, LoadOptions(heads=4))
    assert difference(folder.model, model) < CLOSE


def huggingfaces(name: str, config: str, **given: Any) -> nn.Module:
    import transformers

    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
    return randomise(getattr(transformers, name)(getattr(transformers, config)(**sizes | given)))


@pytest.mark.parametrize("patch", [16, [8, 16]])
def test_hugging_faces_sizes_are_one_number_or_two(patch: Any, tmp_path: Path) -> None:
    sizes = {"image_size": SIZE, "patch_size": patch, "num_labels": 5}
    model = huggingfaces("ViTForImageClassification", "ViTConfig", **sizes)
    model.save_pretrained(tmp_path)
    folder, _ = load_foreign(tmp_path)
    assert folder.model.config.grid == ((2, 8) if patch == 16 else (4, 8))
    assert difference(folder.model, lambda pixels: model(pixels).logits) < CLOSE
    changed(tmp_path, patch_size=32)
    with pytest.raises(CheckpointError, match=r"says patches of 32x32 pixels, but the weights have patches of"):
        load_foreign(tmp_path)
    changed(tmp_path, patch_size=patch, image_size=[64, 128])
    with pytest.raises(CheckpointError, match=r"they don't belong together"):
        load_foreign(tmp_path)


def test_hugging_faces_file_alone_is_told_its_grid(tmp_path: Path) -> None:
    model = huggingfaces("ViTModel", "ViTConfig", image_size=SIZE, patch_size=16)
    path = written(model.state_dict(), tmp_path)
    folder, _ = load_foreign(path, LoadOptions(grid=(2, 8), heads=4))
    assert difference(folder.model, lambda pixels: model(pixels).pooler_output) < CLOSE
    folder, report = load_foreign(path, LoadOptions(heads=4))
    assert folder.model.config.image == (64, 64)
    assert any("a square grid of 4x4" in note for note in report.assumed)


def test_torchvisions_positions_are_told_their_grid(tmp_path: Path) -> None:
    model = torchvision_model(64)
    folder, report = load_foreign(written(model.state_dict(), tmp_path), LoadOptions(grid=(2, 8), heads=2))

    def wide(pixels: Tensor) -> Tensor:
        patches = model.conv_proj(pixels).flatten(2).mT
        tokens = torch.cat([model.class_token.expand(len(pixels), -1, -1), patches], dim=1)
        return model.heads(model.encoder(tokens)[:, 0])

    assert difference(folder.model, wide) < CLOSE
    assert not [note for note in report.assumed if "grid" in note or "heads" in note]


@pytest.mark.parametrize("tokens", ["all", "patches"])
def test_googles_positions_are_told_their_grid(tokens: str, tmp_path: Path) -> None:
    model = random_model(image=SIZE, positioned_tokens=tokens)
    path = saved_npz(arrays_of(model, linen=True), tmp_path)
    folder, _ = load_foreign(path, LoadOptions(family="big_vision:timm", grid=(2, 8), heads=4))
    assert folder.model.config == model.config
    with torch.inference_mode():
        assert torch.equal(folder.model(images(*SIZE)), model(images(*SIZE)))
    with pytest.raises(ConfigError, match=r"--heads 2, but .* states that it has 4"):
        load_foreign(path, LoadOptions(heads=2))
    with pytest.raises(ConfigError, match="--grid 4 5 makes 20 patches"):
        load_foreign(path, LoadOptions(grid=(4, 5)))


def test_openmmlabs_positions_are_told_their_grid(tmp_path: Path) -> None:
    model = timms()
    pairs = (*MMPRETRAIN, ("norm.", "ln1."), ("head.", "head.fc."))
    path = written(renamed(dict(model.state_dict()), *pairs), tmp_path)
    folder, _ = load_foreign(path, LoadOptions(grid=(2, 8), heads=4))
    assert difference(folder.model, model) < CLOSE


def test_resnets_have_neither(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--grid and --heads are for ViTs"):
        load_foreign(written(small_resnet((1,)).state_dict(), tmp_path), TOLD)
