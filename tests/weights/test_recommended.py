"""The recommended models: what is said of them is timm's and transformers' own, and what lies in their layout opens."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.timm_peer import let_torchvision_load
from tests.support.twins import CLOSE, difference, randomise
from torch import nn

import vitreous
from vitreous.cli.main import main
from vitreous.errors import UnknownName
from vitreous.weights.files import ENDINGS
from vitreous.weights.foreign import load_foreign
from vitreous.weights.options import LoadOptions
from vitreous.weights.recommended import AUTO, RECOMMENDED, Recommended, find_recommended, find_repository

let_torchvision_load()
TIMMS = [one for one in RECOMMENDED if one.layout == "timm"]
IDS = [one.name for one in RECOMMENDED]
QUICK = [one for one in RECOMMENDED if one.name in ("dinov2-s", "augreg-ti", "dinov3-s")]
ROW = re.compile(r"^\| `([\w-]+)` \| (.+) \|$", re.MULTILINE)


def transformers_model(one: Recommended, **fewer: Any) -> nn.Module:
    """Build what transformers makes of the repository's configuration; the sizes are the papers'."""
    import transformers

    if one.name == "clip-b":
        layers = {"num_hidden_layers": fewer["num_hidden_layers"]} if fewer else {}
        vision = {"patch_size": 16, **layers}
        return transformers.CLIPModel(transformers.CLIPConfig(vision_config=vision, text_config=layers))
    width, heads = {"dinov3-s": (384, 6), "dinov3-b": (768, 12)}[one.name]
    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": heads}
    return transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**sizes, **fewer))


def model(one: Recommended, whole: bool) -> nn.Module:
    """Build a listed model, whole, or of its own width with two blocks."""
    import timm

    if one.layout == "huggingface":
        return transformers_model(one, **({} if whole else {"num_hidden_layers": 2}))
    fewer = {"num_classes": 10} if one.name == "bit-r50" else {"depth": 2}
    return timm.create_model(one.timm, pretrained=False, **({} if whole else fewer))


@pytest.mark.parametrize("one", RECOMMENDED, ids=IDS)
def test_sizes_are_those_of_the_owners_models(one: Recommended) -> None:
    with torch.device("meta"):
        theirs = model(one, whole=True)
    assert one.parameters == sum(weight.numel() for weight in theirs.parameters())
    held = sum(tensor.numel() * tensor.element_size() for tensor in theirs.state_dict().values())
    assert abs(held - one.bytes) < 10_000


@pytest.mark.parametrize("one", TIMMS, ids=[one.name for one in TIMMS])
def test_facts_are_timms(one: Recommended) -> None:
    import timm

    cfg = timm.get_pretrained_cfg(one.timm).to_dict()
    assert one.repository == cfg["hf_hub_id"].removesuffix("/") or one.repository == f"{cfg['hf_hub_id']}{one.timm}"
    assert (one.licence, one.resolution) == (cfg["license"], cfg["input_size"][-1])


def test_the_list_is_of_different_models_from_tiny_to_large() -> None:
    assert len({one.name for one in RECOMMENDED}) == len({one.repository for one in RECOMMENDED}) == len(RECOMMENDED)
    sizes = {one.name.rpartition("-")[2] for one in RECOMMENDED}
    assert {"ti", "s", "b", "l"} <= sizes
    assert AUTO.name == "dinov2-s" and not AUTO.gated
    assert all(one.accuracy is None or one.accuracy.source for one in RECOMMENDED)


@pytest.mark.parametrize("one", QUICK, ids=[one.name for one in QUICK])
def test_files_in_their_layout_open_and_give_their_numbers(one: Recommended, tmp_path: Path) -> None:
    check(one, tmp_path, whole=False)


@pytest.mark.slow
@pytest.mark.parametrize("one", RECOMMENDED, ids=IDS)
def test_whole_files_in_their_layout_open_and_give_their_numbers(one: Recommended, tmp_path: Path) -> None:
    check(one, tmp_path, whole=True)


def check(one: Recommended, folder: Path, whole: bool) -> None:
    """Save the owners' model as they do, open it at the size that is enough, and compare what both make of images."""
    theirs = randomise(model(one, whole))
    size = (one.image, one.image)
    if one.layout == "timm":
        from timm.models import save_for_hf

        save_for_hf(theirs, str(folder), safe_serialization=True)
        output: Any = theirs
        if one.image != one.resolution:
            theirs.set_input_size(img_size=size)
    else:
        theirs.save_pretrained(folder)
        vision = theirs if one.name != "clip-b" else theirs.get_image_features
        output = lambda pixels: vision(pixels).pooler_output  # noqa: E731
    ours, report = load_foreign(folder, LoadOptions(image=size))
    assert report.new == report.unused == ()
    assert ours.model.config.image == size
    assert difference(ours.model, output) < 10 * CLOSE


def test_every_name_of_a_model_is_understood() -> None:
    for one in RECOMMENDED:
        assert find_repository(one.name) == one.repository
        for name in (one.name, one.repository, f"hf-hub:{one.repository}", f"{one.repository}@main", one.timm):
            assert not name or find_recommended(name) == one
    assert find_repository("vit_large_patch16_224.augreg_in21k") == "timm/vit_large_patch16_224.augreg_in21k"
    for text in ("S/16", "runs/photos-1", "dinov2", "vit_base_patch16_224", "photos.zip", "resnet50.a1_in1k", ""):
        assert find_repository(text) is None
    assert [find_repository(f"vit_base_patch16_224{ending}") for ending in ENDINGS] == [None] * len(ENDINGS)


def test_the_command_and_the_function_list_them(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--pretrained"]) == 0
    said = capfd.readouterr().out
    for one in RECOMMENDED:
        assert one.name in said and one.repository in said and f"{one.accuracy.top1:.1f}%" in said
    found = vitreous.models("dinov3*", pretrained=True).models
    assert [one.name for one in found] == ["dinov3-s", "dinov3-b"]
    assert vitreous.models("timm/*mae", pretrained=True).models[0].licence == "cc-by-nc-4.0"
    with pytest.raises(UnknownName, match="unknown pre-trained model 'dinov2-'; did you mean 'dinov2-"):
        vitreous.models("dinov2-", pretrained=True)


def test_the_document_says_what_the_list_says() -> None:
    document = (Path(__file__).parents[2] / "docs" / "pretrained.md").read_text(encoding="utf-8")
    rows = {match[1]: match[2].split(" | ") for match in ROW.finditer(document)}
    assert list(rows) == IDS
    for one in RECOMMENDED:
        size, pixels, top1 = f"{one.bytes / 1e6:,.0f} MB", str(one.resolution), f"{one.accuracy.top1:.1f}%"
        how = f"{top1}: {one.accuracy.how}, {one.accuracy.image} pixels; {one.accuracy.source}"
        assert rows[one.name] == [f"`{one.repository}`", size, pixels, one.licence, one.good_for, how]
