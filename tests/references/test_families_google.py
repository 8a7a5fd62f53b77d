"""Google's npz files: written by our tables, read by timm's own reader and by ours, all three the same function."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.twins import CLOSE, difference, randomise
from torch import Tensor, nn

from vitreous.model.config import BlockConfig, ViTConfig
from vitreous.model.factory import create
from vitreous.model.vit import ViT
from vitreous.weights.families.google.vit import table
from vitreous.weights.foreign import load_foreign
from vitreous.weights.mapping import write_tensors
from vitreous.weights.options import LoadOptions

BASE: dict[str, Any] = {"image": (96, 96), "width": 64, "depth": 2, "heads": 4, "mlp_width": 96, "classes": 5}
TANH = BlockConfig(activation="gelu-tanh")
Arrays = dict[str, np.ndarray]


def random_model(**settings: Any) -> ViT:
    model = create(ViTConfig(**BASE | settings))
    randomise(model)
    return model


def arrays_of(model: ViT, linen: bool) -> Arrays:
    """The authors' arrays, by our table backwards."""
    theirs, left = write_tensors(table(model.config, linen=linen), model.state_dict(), model.config.depth)
    assert left == []
    return {name: tensor.numpy() for name, tensor in theirs.items()}


def saved(arrays: Arrays, folder: Path) -> Path:
    np.savez(folder / "weights.npz", **arrays)
    return folder / "weights.npz"


def timm_twin(path: Path, model: ViT, **settings: Any) -> nn.Module:
    """timm's model of the same architecture, filled by timm's own reader of the file."""
    from timm.models.vision_transformer import VisionTransformer

    config = model.config
    pool = {"class": "token", "mean": "avg", "map": "map"}[config.pool]
    shape = {"embed_dim": config.width, "depth": config.depth, "num_heads": config.heads, "mlp_ratio": 1.5}
    more = {"class_token": config.class_token, "no_embed_class": config.positioned_tokens == "patches"}
    given = {"img_size": config.image, "num_classes": config.classes, "global_pool": pool, "fc_norm": False}
    twin = VisionTransformer(patch_size=config.patch[0], **shape | more | given | settings)
    twin.load_pretrained(str(path))
    return twin.eval()


KINDS: dict[str, tuple[bool, dict[str, Any]]] = {
    "vision_transformer": (False, {}),
    "vision_transformer mean": (False, {"pool": "mean", "class_token": False}),
    "big_vision mean": (True, {"pool": "mean", "class_token": False}),
    "big_vision map": (True, {"pool": "map", "class_token": False}),
    "big_vision class, placed": (True, {}),
    "big_vision class, not placed": (True, {"positioned_tokens": "patches"}),
    "SigLIP's tower": (True, {"pool": "map", "class_token": False, "classes": 0}),
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_timm_reads_what_we_write_and_we_read_it_as_timm_does(kind: str, tmp_path: Path) -> None:
    linen, settings = KINDS[kind]
    model = random_model(**settings)
    path = saved(arrays_of(model, linen), tmp_path)
    family = "big_vision" if linen else "google"
    folder, report = load_foreign(path, LoadOptions(family=f"{family}:timm"))
    assert (report.unused, report.new) == ((), ())
    assert folder.model.config == model.config
    twin = timm_twin(path, model)
    assert difference(folder.model, twin) < CLOSE
    assert difference(model, twin) < CLOSE


@pytest.mark.parametrize("kind", ["vision_transformer", "big_vision map"])
def test_as_timm_resizes_the_grid_as_timm_does(kind: str, tmp_path: Path) -> None:
    linen, settings = KINDS[kind]
    model = random_model(**settings)
    path = saved(arrays_of(model, linen), tmp_path)
    folder, report = load_foreign(
        path, LoadOptions(family="big_vision:timm" if linen else "google:timm", image=(64, 112))
    )
    assert report.resized.endswith("by bilinear")
    assert difference(folder.model, timm_twin(path, model, img_size=(64, 112))) < CLOSE


@pytest.mark.parametrize("kind", ["vision_transformer", "big_vision mean"])
def test_by_default_it_is_the_authors_function(kind: str, tmp_path: Path) -> None:
    """Flax's GELU is the tanh approximation, and grids are resized by scipy's zoom, corner to corner."""
    from scipy.ndimage import zoom

    linen, settings = KINDS[kind]
    model = random_model(**settings, block=TANH)
    arrays = arrays_of(model, linen)
    path = saved(arrays, tmp_path)
    folder, report = load_foreign(path)
    assert folder.model.config == model.config
    assert any("tanh approximation" in note for note in report.assumed)
    assert difference(folder.model, timm_twin(path, model, act_layer="gelu_tanh")) < CLOSE
    place = "pos_embedding" if linen else "Transformer/posembed_input/pos_embedding"
    token, cells = arrays[place][:, : int(not linen)], arrays[place][:, int(not linen) :]
    grid = zoom(cells.reshape(6, 6, -1), (4 / 6, 7 / 6, 1), order=1).reshape(1, 28, -1)
    placed = saved(arrays | {place: np.concatenate([token, grid], 1)}, tmp_path)
    theirs = timm_twin_at(placed, model, (64, 112))
    saved(arrays, tmp_path)
    wide, report = load_foreign(path, LoadOptions(image=(64, 112)))
    assert report.resized.endswith("by linear-corners")
    assert difference(wide.model, theirs) < CLOSE


def timm_twin_at(path: Path, model: ViT, size: tuple[int, int]) -> nn.Module:
    return timm_twin(path, model, img_size=size, act_layer="gelu_tanh")


@pytest.mark.parametrize("linen", [False, True])
@pytest.mark.parametrize("rep_size", [0, 24])
def test_pre_logits_stand_between_norm_and_head(linen: bool, rep_size: int, tmp_path: Path) -> None:
    """timm no longer has that layer: its features go through one made here, of the width of the model or of another."""
    model = random_model(pre_logits=True, pre_logits_width=rep_size, block=TANH)
    arrays = arrays_of(model, linen=linen)
    assert arrays["pre_logits/kernel"].shape == (64, rep_size or 64)
    path = saved(arrays, tmp_path)
    folder, _ = load_foreign(path)
    assert folder.model.config.pre_logits_width == rep_size
    twin = timm_twin(path, model, act_layer="gelu_tanh", num_classes=0)
    first, second = (
        (torch.from_numpy(arrays[f"{name}/kernel"]), torch.from_numpy(arrays[f"{name}/bias"]))
        for name in ("pre_logits", "head")
    )

    def theirs(pixels: Tensor) -> Tensor:
        features = twin(pixels)
        return torch.tanh(features @ first[0] + first[1]) @ second[0] + second[1]

    assert difference(folder.model, theirs) < CLOSE


def test_scanned_blocks_and_a_text_tower_in_bfloat16(tmp_path: Path) -> None:
    """SigLIP as big_vision saves it: both towers, blocks stacked by a scan, bfloat16 as two raw bytes."""
    model = random_model(pool="map", class_token=False, classes=0, block=TANH)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16().float())
    arrays = arrays_of(model, linen=True)
    names = [name for name in arrays if name.startswith("Transformer/encoderblock_0/")]
    stacked = {
        name.replace("block_0/", "block/"): np.stack(
            [arrays.pop(name.replace("_0/", f"_{index}/", 1)) for index in (0, 1)]
        )
        for name in names
    }
    raw = {f"params/img/{name}": half(array) for name, array in (arrays | stacked).items()}
    raw |= {"params/txt/head/bias": np.zeros(3, np.float32), "params/t": np.zeros(1, np.float32)}
    folder, report = load_foreign(saved(raw, tmp_path))
    assert (report.origin.split(":")[0], report.ignored) == ("big_vision", 2)
    assert folder.model.config == model.config
    assert difference(folder.model, model) == 0.0


def half(array: np.ndarray) -> np.ndarray:
    """NumPy's writing of bfloat16 without ml_dtypes: |V2."""
    return torch.from_numpy(array).bfloat16().view(torch.int16).numpy().view("V2")


def test_positions_that_are_not_in_the_file_are_sines_and_cosines(tmp_path: Path) -> None:
    """big_vision's S/16 baselines (2205.01580)."""
    model = random_model(
        pool="mean", class_token=False, positions="sincos2d", positioned_tokens="patches", image=(224, 224), block=TANH
    )
    arrays = arrays_of(model, linen=True)
    assert not any("pos_embedding" in name for name in arrays)
    folder, report = load_foreign(saved(arrays, tmp_path))
    assert any("sines and cosines" in note for note in report.assumed)
    assert difference(folder.model, model) == 0.0


def test_the_numbers_of_linen_with_vision_transformers_positions(tmp_path: Path) -> None:
    model = random_model(block=TANH)
    arrays = arrays_of(model, linen=True)
    arrays["Transformer/posembed_input/pos_embedding"] = arrays.pop("pos_embedding")
    folder, _ = load_foreign(saved({f"opt/target/{name}": array for name, array in arrays.items()}, tmp_path))
    assert difference(folder.model, model) == 0.0


TRAINED = {
    "flax before Linen": ("optimizer/target/", "optimizer/state/param_states/", "/momentum", "optimizer/state/step"),
    "its optimizer alone": ("target/", "state/param_states/", "/grad_sum", "state/step"),
    "big_vision": ("params/", "opt/0/mu/", "", "extra/step"),
    "flax's TrainState": ("params/", "opt_state/0/trace/", "", "opt_state/1/count"),
    "an average": ("ema_params/", "params/", "", "extra/step"),
}
"""Prefixes of the weights and of what lies beside them, what ends those names, and the count of steps."""


@pytest.mark.parametrize("linen", [False, True])
@pytest.mark.parametrize("name", TRAINED)
def test_what_training_keeps_beside_the_weights_is_left_and_told(name: str, linen: bool, tmp_path: Path) -> None:
    chosen, other, end, step = TRAINED[name]
    model = random_model()
    arrays = arrays_of(model, linen)
    beside = {f"{other}{key}{end}": array * 2 for key, array in arrays.items()} | {step: np.array(3)}
    folder, report = load_foreign(saved({f"{chosen}{key}": array for key, array in arrays.items()} | beside, tmp_path))
    assert (report.unused, report.new, report.ignored) == ((), (), len(beside))
    assert other.split("/")[0] in str(report)
    assert all(torch.equal(one, model.state_dict()[key]) for key, one in folder.model.state_dict().items())


@pytest.mark.parametrize("settings", [{}, {"positioned_tokens": "patches"}])
def test_flexivit_in_patches_and_grids_of_other_sizes(settings: dict[str, Any], tmp_path: Path) -> None:
    """As the authors publish it: positions for 7 x 7 cells and a kernel larger than most patches that it is used with.

    timm's own reader resamples both, the kernel by the pseudo-inverse of bilinear resizing.
    """
    model = random_model(image=(112, 112), patch=(16, 16), **settings)
    arrays = arrays_of(model, linen=True)
    assert arrays["embedding/kernel"].shape == (16, 16, 3, 64)
    path = saved(arrays, tmp_path)
    folder, report = load_foreign(path, LoadOptions(family="big_vision:timm"))
    assert (report.unused, report.new) == ((), ())
    assert (folder.model.config.patch, folder.model.config.grid) == ((16, 16), (7, 7))
    assert difference(folder.model, timm_twin(path, model)) < CLOSE
    for patch, image in (((8, 8), (56, 56)), ((8, 8), (80, 72)), ((24, 24), (240, 120))):
        ours = folder.model.repatch(patch, "bilinear").resize(image, folder.resize)
        twin = timm_twin(path, ours)
        assert twin.patch_embed.proj.weight.shape[2:] == patch
        assert difference(ours, twin) < CLOSE
