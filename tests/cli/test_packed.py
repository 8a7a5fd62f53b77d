"""Packed images from the doors: accuracy by resolution against each image alone, in Python and in a terminal."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tests.deploy.conftest import PLAIN, folder_of, save_plain, write_classes

import vitreous as package
from vitreous.errors import ConfigError
from vitreous.images.config import PreprocessConfig
from vitreous.images.preprocess import fit_patches, normalize_array, preprocess_image
from vitreous.model.resnet_config import ResNetConfig
from vitreous.shapes import Size
from vitreous.weights.model_folder import load_model, save_model

SHAPES = [(20, 60), (64, 64), (90, 30), (33, 47), (16, 24)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A saved ViT of 24 patches."""
    return save_plain(tmp_path_factory.mktemp("packing") / "model")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Fifteen images of several aspects, in three classes."""
    noise = np.random.default_rng(3)
    images = (noise.integers(256, size=(*SHAPES[place % 5], 3), dtype=np.uint8) for place in range(15))
    return write_classes(tmp_path_factory.mktemp("photos"), images)


def classify_alone(model, photo, side):
    """Return log-probabilities of one image by the resized model, the grid found by trying all of them."""
    folder = load_model(model)
    with Image.open(photo) as image:
        cols, rows = image.size
    most = side * side // 16
    ideal = (most * rows / cols) ** 0.5, (most * cols / rows) ** 0.5
    size = tuple(4 * max(1, int(cells + 1e-9)) for cells in ideal)
    how = replace(folder.preprocess, size=size, resize="squash", crop=1.0)
    pixels = normalize_array(preprocess_image(photo.read_bytes(), folder.decode, how)[None], how)
    with torch.no_grad():
        return (folder.model.resize(size, folder.resize)(torch.from_numpy(pixels)) / 1.7).log_softmax(1)[0], size


def test_the_table_is_that_of_images_alone(model, photos, vitreous, here) -> None:
    shown = vitreous(
        "evaluate", model, photos, "--packed", 32, 12, "--batch", 4, "--no-speed", "--out", "page", "--json", "all.json"
    ).worked("saved of images")
    found = json.loads((here / "all.json").read_text())["packing"]
    assert (found["examples"], found["batch"], [one["side"] for one in found["points"]]) == (15, 4, [12, 32])
    files = sorted(photos.glob("*/*"))
    for one in found["points"]:
        alone, sizes = zip(*(classify_alone(model, path, one["side"]) for path in files), strict=True)
        own = [int(path.parent.name[-1]) for path in files]
        assert one["top1"] == np.mean([int(row.argmax()) == label for row, label in zip(alone, own, strict=True)])
        assert one["nll"] == pytest.approx(-np.mean([float(row[at]) for row, at in zip(alone, own, strict=True)]), 1e-5)
        tokens = [rows * cols // 16 + 1 for rows, cols in sizes]
        assert one["tokens"] == pytest.approx(np.mean(tokens))
        assert 0 < one["saved"] < 1 and f"{one['top1']:.2%}" in shown and f"{one['saved']:.1%}" in shown
        assert one["saved_sequences"] < one["saved"]
    assert "Packed images" in (here / "page" / "report.html").read_text()


def test_shares_saved_are_those_counted_by_hand(model, photos) -> None:
    """One batch of all: 1x3 to 3x1 patches of sequences of ten tokens at most."""
    (one,) = package.evaluate(model, photos, packed=(12,), speed=False, batch=15).packing.points
    grids = [fit_patches(Size(*shape), Size(4, 4), 12) for shape in SHAPES]
    lengths = [rows * cols // 16 + 1 for rows, cols in grids]
    largest = max(rows for rows, _ in grids) // 4 * (max(cols for _, cols in grids) // 4) + 1
    order = sorted((path for path in photos.glob("*/*")), key=lambda path: str(path))
    rooms, longest = [], 0
    for path in order:
        length = lengths[int(path.stem) % 5]
        place = next((at for at, room in enumerate(rooms) if room >= length), None)
        if place is None:
            place = len(rooms)
            rooms.append(10)
        rooms[place] -= length
        longest = max(longest, 10 - rooms[place])
    packed = len(rooms) * longest
    assert one.saved == pytest.approx(1 - packed / (15 * largest))
    assert one.saved_sequences == pytest.approx(1 - packed / (15 * max(lengths)))


def test_few_sequences_at_once_give_the_same(model, photos, monkeypatch) -> None:
    one = package.evaluate(model, photos, packed=(20,), speed=False).packing
    monkeypatch.setattr("vitreous.evaluation.packed_curve.MOST_PAIRS", 1)
    other = package.evaluate(model, photos, packed=(20,), speed=False).packing
    assert replace(one.points[0], nll=0) == replace(other.points[0], nll=0)
    assert one.points[0].nll == pytest.approx(other.points[0].nll, abs=1e-6)


def test_resolutions_are_chosen_around_the_models_own(model, photos) -> None:
    found = package.evaluate(model, photos, packed=(), speed=False)
    assert [one.side for one in found.packing.points] == [8, 16, 20, 24, 28]


@pytest.mark.parametrize(
    ("image", "side", "size"),
    [
        ((480, 640), 224, (192, 256)),
        ((100, 100), 224, (224, 224)),
        ((1, 10_000), 64, (16, 256)),
        ((10_000, 1), 64, (256, 16)),
        ((300, 200), 16, (16, 16)),
        ((7, 7), 112, (112, 112)),
    ],
)
def test_images_keep_their_aspect_within_the_area(image, side, size) -> None:
    assert fit_patches(Size(*image), Size(16, 16), side) == size


def test_what_cannot_be_packed_is_refused(model, photos, vitreous, here) -> None:
    for given, why in (
        (("3",), "a resolution of packed images is 3; it must be 4, a patch's side, to 96 pixels"),
        (("100000",), "it must be 4, a patch's side, to 96 pixels"),
        (("-16",), "a resolution of packed images is -16"),
        (("wide",), "--packed is 'wide'; it must be whole numbers"),
        (("16", "--protocol", "knn"), "--packed is for --protocol accuracy"),
        (("16", "--merge", "2"), "leave out merge"),
    ):
        vitreous("evaluate", model, photos, "--packed", *given).refused(why)
    resnet = here / "resnet"
    save_model(
        resnet,
        replace(
            folder_of(PLAIN),
            model=package.model.factory.create(ResNetConfig(image=(32, 32), classes=3)),
            preprocess=PreprocessConfig(size=(32, 32)),
        ),
    )
    vitreous("evaluate", resnet, photos, "--packed", "32").refused("a ResNet has no tokens to pack")
    with pytest.raises(ConfigError, match="it must be 4"):
        package.evaluate(model, photos, packed=(0,), speed=False)
