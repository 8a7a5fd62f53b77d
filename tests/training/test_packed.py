"""Runs on packed images: each image as by itself, the same stream however it is divided, and over an interruption."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.support.exact_steps import distance, in_processes, take_steps
from tests.support.training import TINY, digest
from torch import nn
from torch.nn import functional as F

import vitreous
from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.data.stream.loader import collate
from vitreous.data.stream.packed_images import PackedStream, cut_images, get_view
from vitreous.errors import ConfigError
from vitreous.images.config import AugmentConfig, PreprocessConfig
from vitreous.images.tensors import normalize, resize
from vitreous.model.config import RegularisationConfig
from vitreous.model.names import build_vit_config
from vitreous.model.resnet_config import ResNetConfig
from vitreous.model.swin_config import SwinConfig
from vitreous.objectives.config import MaskedPatchesConfig
from vitreous.run_folder import read_run
from vitreous.shapes import Size
from vitreous.training.assembly import build_job
from vitreous.training.config import RunConfig
from vitreous.training.distributed import ALONE
from vitreous.training.loop import load_batches, train_step
from vitreous.training.packing_check import check_packed
from vitreous.training.reporter import Silent
from vitreous.training.run import train
from vitreous.training.trial_run import dry_run

SHAPES = [(20, 60), (64, 64), (90, 30), (33, 47), (40, 30)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty images of several aspects, in two classes."""
    root, noise = tmp_path_factory.mktemp("photos"), np.random.default_rng(3)
    for place in range(30):
        path = root / f"class {place % 2}" / f"{place:02}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = noise.integers(256, size=(*SHAPES[place % 5], 3), dtype=np.uint8)
        Image.fromarray(pixels // 2 + 100 * (place % 2)).save(path)
    return root


@pytest.fixture(scope="module")
def packed(photos: Path) -> RunConfig:
    """A tiny run whose images have 4 to 24 patches."""
    return replace(
        TINY,
        data=DataConfig(str(photos), holdout=0.2),
        preprocess=PreprocessConfig(size=(16, 24)),
        augment=AugmentConfig(crop="inception", crop_area=(0.3, 1.0), randaugment=(1, 5.0), erase=0.3),
        model=build_vit_config("mu/4", image=(16, 24), classes=2, depth=2),
        batch=10,
        packed=8,
    )


def make_stream(config: RunConfig, **changed: Any) -> PackedStream:
    data = open_dataset(config.data, config.decode)
    augment = replace(config.augment, **changed)
    patch = Size(*config.model.patch)
    return PackedStream(
        data.learned, config.seed, augment, config.preprocess, config.decode, patch=patch, smallest=config.packed
    )


def test_the_first_loss_is_that_of_each_image_alone(packed: RunConfig, doubled: None) -> None:
    """The model resized to each image, in float64 up to the logits: the loss of packed parts of three is the same."""
    job = build_job(replace(packed, micro_batch=3), open_dataset(packed.data, packed.decode), Silent())
    stream, losses, generator = make_stream(packed), [], torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in job.model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    for sample in range(10):
        one = stream.example(sample)
        view = torch.from_numpy(get_view(one)).permute(2, 0, 1)[None]
        resized = job.model.resize(tuple(view.shape[2:])).eval()
        with torch.no_grad():
            logits = resized(normalize(view, packed.preprocess).double())
        losses.append(F.cross_entropy(logits, torch.tensor([one.label])))
    loss, numbers = train_step(job, next(load_batches(job, 5)))
    assert float(loss) == pytest.approx(float(torch.stack(losses).mean()), rel=3e-7) != np.log(2)
    assert 0 < float(numbers["packed"]) < float(numbers["padded"])


def test_sizes_are_drawn_within_the_range_and_nothing_is_stretched(packed: RunConfig) -> None:
    stream = make_stream(packed, crop="eval", flip=False, randaugment=(0, 0.0), erase=0.0)
    counts = set()
    for one in stream.examples(range(60)):
        view, name = get_view(one), stream.source.names[one.index]
        with Image.open(Path(packed.data.path) / name) as image:
            pixels = np.array(image)
        rows, cols = (side // 4 for side in view.shape[:2])
        scales = [
            (cells / side, (cells + 1) / side) for cells, side in zip((rows, cols), pixels.shape[:2], strict=True)
        ]
        assert max(low for low, _ in scales) < min(high for _, high in scales) + 1e-9 or min(rows, cols) == 1
        assert np.array_equal(view, resize(pixels, Size(*view.shape[:2]), "bicubic"))
        counts.add(rows * cols)
    assert min(counts) <= 4 and 20 <= max(counts) <= 24 and len(counts) > 8


def test_an_inception_crop_keeps_the_images_aspect(packed: RunConfig) -> None:
    """Black on one side of the middle and white on the other: with aspects of 1 the crop is as wide as the image is."""
    stream = make_stream(packed, crop_aspect=(1.0, 1.0), crop_area=(0.99, 1.0), randaugment=(0, 0.0), erase=0.0)
    for one in stream.examples(range(40)):
        rows, cols = get_view(one).shape[:2]
        with Image.open(Path(packed.data.path) / stream.source.names[one.index]) as image:
            assert (cols > rows) <= (image.width > image.height) and (rows > cols) <= (image.height > image.width)


def test_an_example_is_a_function_of_its_number(packed: RunConfig) -> None:
    stream = make_stream(packed)
    together = list(stream.examples(range(20, 30)))
    for number, one in zip(range(20, 30), together, strict=True):
        again = make_stream(packed).example(number)
        assert np.array_equal(get_view(again), get_view(one)) and again.label == one.label
    batch = collate(together)
    assert batch.draws is not None
    for image, one in zip(cut_images(batch.pixels, batch.draws), together, strict=True):
        assert np.array_equal(image.permute(1, 2, 0).numpy(), get_view(one))
    other = replace(stream, seed=stream.seed + 1)
    assert any(
        get_view(one).shape != get_view(two).shape
        for one, two in zip(together, other.examples(range(20, 30)), strict=True)
    )


def test_the_same_stream_and_weights_in_two_processes(packed: RunConfig, tmp_path: Path, doubled: None) -> None:
    config = replace(packed, ema=0.9)
    alone, found = take_steps(config, ALONE), in_processes(replace(config, micro_batch=3), 2, tmp_path)
    assert found["streams"] == alone["streams"]
    assert distance(found["weights"], alone["weights"]) < 1e-9
    assert found["validation"] == pytest.approx(alone["validation"], rel=1e-9) if "validation" in alone else True


class Stop(vitreous.Callback):
    def on_step(self, step: int, numbers: Any, model: nn.Module) -> None:
        if step == 7:
            raise LookupError


def test_an_interrupted_run_goes_on_to_the_same_bits(packed: RunConfig, tmp_path: Path) -> None:
    straight = train(packed, tmp_path / "straight")
    with pytest.raises(LookupError):
        vitreous.train(config=packed, out=tmp_path / "run", callbacks=[Stop()])
    assert digest(vitreous.resume(tmp_path / "run", workers=1).run) == digest(straight.run)
    kept = [[one for one in read_run(tmp_path / run).metrics if one["kind"] == "train"] for run in ("straight", "run")]
    assert [one["padding_saved"] for one in kept[0]] == [one["padding_saved"] for one in kept[1]]
    assert all(0 < one["padding_saved"] < 1 for one in kept[0])
    assert dry_run(packed).loss == pytest.approx(0.7, abs=0.3)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"packed": 3}, "packed is 3, the smallest side of an image in pixels; it must be 4, a patch's side, to 19"),
        ({"packed": 20}, "to 19, the model's own"),
        ({"augment": AugmentConfig(crop="pad", mixup=0.2)}, "augment.crop is pad"),
        ({"augment": AugmentConfig(mixup=0.2, on="device")}, "set --augment.mixup 0 --augment.on cpu, or leave"),
        ({"regularisation": RegularisationConfig(drop_path=0.1)}, "--regularisation.drop-path 0"),
        ({"low_resolution": 0.5, "compile": True, "shard": "all"}, "--low-resolution 1 --no-compile --shard none"),
        ({"objective": MaskedPatchesConfig()}, "objective masked-patches hides patches of one grid"),
        ({"teacher": "runs/other"}, "learned from their labels alone"),
        ({"model": ResNetConfig(image=(32, 32), classes=2)}, "a ResNet has no tokens to pack"),
        ({"model": SwinConfig(image=(32, 32), classes=2)}, "windows need whole grids"),
        ({"model": build_vit_config("mu/4", image=(16, 24), classes=2, positions="bias")}, "relative positions"),
    ],
)
def test_what_needs_one_size_is_refused(packed: RunConfig, changed: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        check_packed(replace(packed, **changed))


def test_a_run_in_a_terminal(photos: Path, tmp_path: Path, reported: None) -> None:
    """The whole way: train, its page, and the table of resolutions."""
    from vitreous.cli.main import main

    run = tmp_path / "run"
    how = ["--recipe", "small-vit", "--image", "32", "32", "--model", "mu/8", "--duration", "6st", "--batch", "8"]
    plain = [
        "--augment.mixup",
        "0",
        "--low-resolution",
        "1",
        "--regularisation.drop-path",
        "0",
        "--augment.crop",
        "inception",
        "--workers",
        "0",
    ]
    assert main(["train", str(photos), *how, *plain, "--packed", "16", "--out", str(run)]) == 0
    assert json.loads((run / "config.json").read_text())["config"]["packed"] == 16
    assert (run / "report.html").exists()
    page, told = str(tmp_path / "page"), tmp_path / "all.json"
    assert main(["evaluate", str(run), "--packed", "16", "32", "--no-speed", "--out", page, "--json", str(told)]) == 0
    assert [one["side"] for one in json.loads(told.read_text())["packing"]["points"]] == [16, 32]
    assert main(["train", str(photos), *how, "--packed", "4", "--out", str(tmp_path / "other")]) == 2
