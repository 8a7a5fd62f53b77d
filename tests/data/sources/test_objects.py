"""Data sets that a program holds: the same images and labels as files of them, and one line for those that can't be used."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tests.support.pictures import encoded, picture
from tests.support.training import TINY, digest
from torch.utils.data import Dataset, Subset, TensorDataset

import vitreous
from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.data.sources.objects import hold, list_objects
from vitreous.errors import DataError, RunError
from vitreous.images.config import AugmentConfig
from vitreous.settings import to_dict

NAMES = ["cat", "dog", "emu"]
LABELS = [number % 3 for number in range(12)]
PIXELS = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 1), np.uint8)
PHOTOS = np.random.default_rng(1).integers(0, 256, (12, 9, 7, 3), np.uint8)


class Photos(Dataset):
    """As torchvision's: (Pillow image, number), with targets and classes."""

    def __init__(self, make=Image.fromarray, labels=LABELS, **more):
        self.make, self.read = make, 0
        self.__dict__ |= {"targets": list(labels), "classes": NAMES} | more

    def __len__(self):
        return 12

    def __getitem__(self, number):
        if not 0 <= number < 12:
            raise IndexError(number)
        self.read += 1
        return self.make(PHOTOS[number]), LABELS[number]


def opened(data, **more):
    return open_dataset(DataConfig(hold(data), holdout=0.25, **more))


def contents(data):
    """Return {name: (pixels, class)} of both parts."""
    return {
        name: (source.read(place), source.classes[source.labels[place]])
        for source in (data.train, data.validation)
        for place, name in enumerate(source.names)
    }


@pytest.mark.parametrize(
    "make",
    [
        Image.fromarray,
        np.array,
        lambda pixels: torch.tensor(pixels).permute(2, 0, 1),
        lambda pixels: torch.tensor(pixels).permute(2, 0, 1).float() / 255,
    ],
    ids=["pillow", "array", "tensor", "floats"],
)
def test_images_of_every_kind_are_the_same_pixels(make):
    found = contents(opened(Photos(make)))
    assert sorted(found) == [f"{number:08}" for number in range(12)]
    for name, (pixels, label) in found.items():
        assert np.array_equal(pixels, PHOTOS[int(name)]) and label == NAMES[LABELS[int(name)]]


class Several(Photos):
    """Items with a list of labels."""

    def __init__(self, each, targets=None):
        super().__init__(targets=targets)
        self.each = each

    def __getitem__(self, number):
        return super().__getitem__(number)[0], self.each[number % len(self.each)]


def test_a_list_of_labels_is_several_of_an_image():
    data = list_objects(hold(Several([[0, 1], [], [torch.tensor(2), 2, 0]]))).train
    assert data.multilabel and data.label_lists[:3] == (("cat", "dog"), (), ("emu", "cat"))
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_dict({"image": list(PHOTOS[:3]), "label": [["a", "a"], ["b"], ["b", "a", "b"]]})
    found = list_objects(hold(table)).train
    assert found.label_lists == (("a",), ("b",), ("b", "a"))


@pytest.mark.parametrize("label", [[0, 1, 1], torch.tensor([0, 1, 1]), np.array([0, 1, 1])])
def test_a_number_for_each_class_is_refused(label):
    for targets in (None, torch.tensor([[0, 1, 1]] * 12), [[0, 1, 1]] * 12):
        with pytest.raises(DataError, match=r"0: label is .*"):
            list_objects(hold(Several([label], targets)))


def test_tensors_of_too_few_bits_are_refused():
    data = Photos(lambda pixels: torch.tensor(pixels).permute(2, 0, 1).to(torch.bfloat16) / 255)
    with pytest.raises(
        DataError, match=r"image 0 of .* is a tensor of torch.bfloat16; expected one of uint8, or of float32"
    ):
        opened(data)


def test_a_data_set_is_looked_at_once_however_often_it_is_opened():
    data = Photos()
    first = opened(data)
    before = data.read
    second = opened(data)
    assert (second.train.fingerprint, data.read) == (first.train.fingerprint, before)
    other = Photos(lambda pixels: Image.fromarray(pixels[::-1].copy()))
    assert opened(other).train.fingerprint != first.train.fingerprint


def test_labels_are_the_items_where_those_beside_them_differ():
    wrong = [NAMES.index("emu")] * 12
    for more in ({"targets": wrong}, {"targets": wrong, "target_transform": lambda label: label}, {"targets": None}):
        assert {label for _, label in contents(opened(Photos(**more))).values()} == set(NAMES)
    part = Subset(Photos(), [0, 1, 3, 4, 6, 7, 9, 10])
    assert opened(part).facts.classes == ("cat", "dog")
    numbers = TensorDataset(torch.tensor(PIXELS).permute(0, 3, 1, 2), torch.tensor(LABELS))
    assert opened(numbers).facts.classes == ("0", "1", "2") and opened(numbers).facts.channels == 1


@pytest.mark.parametrize("kind", [np.int64, torch.tensor, lambda label: np.array([label])])
def test_targets_may_be_numbers_of_numpy_and_torch(kind):
    given = Photos(targets=[kind(label) for label in LABELS])
    assert {label for _, label in contents(opened(given)).values()} == set(NAMES)


class Corrected(Photos):
    def __getitem__(self, number):
        return super().__getitem__(number)[0], self.targets[number]


@pytest.mark.parametrize("view", [lambda data: data, lambda data: Subset(data, range(12))], ids=["itself", "a part"])
def test_labels_that_are_corrected_in_place_are_the_corrected_ones(view):
    data = Corrected()
    given = view(data)
    assert contents(opened(given))["00000011"][1] == NAMES[LABELS[11]]
    data.targets[11] = 0
    assert contents(opened(given))["00000011"][1] == NAMES[0]
    data.classes = ["cat", "dog", "owl"]
    assert {label for _, label in contents(opened(given)).values()} == {"cat", "dog", "owl"}


def test_those_that_cannot_be_used_are_refused_in_one_line():
    generator = np.random.default_rng(0)
    flipped = Photos(lambda pixels: Image.fromarray(np.roll(pixels, int(generator.integers(1, 7)), 0)))
    with pytest.raises(DataError, match="is another one when it is read again; leave out random transforms"):
        opened(flipped)
    with pytest.raises(DataError, match="floats that are no pixels from 0 to 1; leave out normalisation"):
        opened(Photos(lambda pixels: torch.tensor(pixels).permute(2, 0, 1).float() / 127.5 - 1))
    with pytest.raises(DataError, match="train, 1: label is 1; the file names 1 classes"):
        opened(Photos(targets=None, classes=["cat"]))
    with pytest.raises(DataError, match="can't be read by index"):
        vitreous.train(iter([]))
    with pytest.raises(DataError, match="splits are training, huge; expected"):
        hold({"training": Photos(), "huge": Photos()})
    with pytest.raises(DataError, match="splits are test, none of them train"):
        hold({"test": Photos()})
    with pytest.raises(DataError, match="was an object of the program that trained on it; give it anew"):
        open_dataset(DataConfig("object:unheard-of"))


@pytest.fixture
def settings(monkeypatch):
    """Return the settings of a run of moments, without its page."""
    monkeypatch.setattr("vitreous.training.run.write_report", lambda run, reporter: None)
    model = replace(TINY.model, classes=3)
    return to_dict(replace(TINY, model=model, batch=4, augment=AugmentConfig(crop="pad", crop_pad=1, flip=False)))


def test_training_on_objects_and_going_on_with_them(tmp_path, settings):
    given = {name: value for name, value in settings.items() if name != "data"}
    data = {"train": Subset(Digits(), range(9)), "validation": Digits()}
    whole = vitreous.train(data, config=given, out=tmp_path / "whole")
    assert (whole.metrics["step"], whole.stopped) == (12, "finished")
    vitreous.train(data, config=given, out=tmp_path / "parts", settings={"duration": "6st"})
    again = {"train": Subset(Digits(), range(9)), "validation": Digits()}  # as another process has it
    vitreous.resume(tmp_path / "parts", data=again, duration="12st")
    assert vitreous.resume(tmp_path / "whole").metrics["step"] == 12
    with pytest.raises(RunError, match="the data has changed"):
        vitreous.resume(tmp_path / "whole", data={"train": Digits(), "validation": Digits()}, duration="14st")
    assert vitreous.load(tmp_path / "whole").folder.classes == ("cat", "dog", "emu")


class Digits(Photos):
    def __getitem__(self, number):
        if not 0 <= number < 12:
            raise IndexError(number)
        return PIXELS[number], LABELS[number]


def table(labels=LABELS, kind=None):
    datasets = pytest.importorskip("datasets")
    files = [{"bytes": encoded(picture(number)), "path": None} for number in range(12)]
    features = {"label": kind or datasets.ClassLabel(names=NAMES), "image": datasets.Image()}
    return datasets.Dataset.from_dict({"label": labels, "image": files}, features=datasets.Features(features))


def test_hugging_face_data_sets_are_the_files_in_them(tmp_path):
    data = table()
    found = contents(opened(data))
    for name, (image, label) in found.items():
        assert image == encoded(picture(int(name))) and label == NAMES[LABELS[int(name)]]
    part = data.filter(lambda row: row["label"] < 2).shuffle(seed=0)
    assert opened(part).facts.classes == ("cat", "dog")
    wanted = [encoded(picture(number)) for number in range(12) if LABELS[number] < 2]
    assert sorted(image for image, _ in contents(opened(part)).values()) == sorted(wanted)
    formatted = data.with_format("torch")
    assert contents(opened(formatted)) == found
    path = tmp_path / "a.png"
    path.write_bytes(encoded(picture(0)))
    import datasets

    named = datasets.Dataset.from_dict(
        {"image": [str(path)] * 12, "label": LABELS},
        features=datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")}),
    )
    assert contents(opened(named)).popitem()[1][0] == path.read_bytes()
    assert opened(named).facts.classes == ("0", "1", "2")


def test_hugging_face_splits_labels_and_errors():
    datasets = pytest.importorskip("datasets")
    splits = datasets.DatasetDict({"train": table(), "test": table([-1] * 12), "validation": table()})
    found = opened(splits)
    assert found.test is None and "12 test images have no labels, and were left out" in found.report.notes
    with pytest.raises(DataError, match="train has no labels"):
        opened(table([-1] * 12))
    found = open_dataset(DataConfig(hold(datasets.DatasetDict({"train": table(), "test": table()})), test_split="once"))
    assert (len(found.test), found.facts.held_out) == (12, True)
    several = table(
        [[number % 3] * (number < 11) for number in range(12)], datasets.List(datasets.ClassLabel(names=NAMES))
    )
    assert opened(several).facts.multilabel
    with pytest.raises(DataError, match="has the columns a, b; expected image and label"):
        opened(datasets.Dataset.from_dict({"a": [1], "b": [2]}))
    with pytest.raises(DataError, match=r"can't be read by index.*streamed"):
        hold(table().to_iterable_dataset())


def test_files_in_items_stay_files():
    data = Photos(lambda pixels: to_png(pixels))
    found = contents(opened(data))
    assert found["00000003"][0] == to_png(PHOTOS[3])


def to_png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_training_on_them_gives_the_bits_of_the_same_images_as_files(tmp_path, settings):
    """Of images whose names, and so whose places in the stream, are the same."""
    given = {name: value for name, value in settings.items() if name != "data"}
    for split in ("train", "val"):
        for number, label in enumerate(LABELS):
            folder = tmp_path / "files" / split / NAMES[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(PIXELS[number, :, :, 0]).save(folder / f"{number:08}.png")
    order = sorted(range(12), key=lambda number: (NAMES[LABELS[number]], number))  # as class folders are listed
    data = Subset(Digits(), order)
    one = vitreous.train({"train": data, "validation": data}, config=given, out=tmp_path / "one")
    other = vitreous.train(tmp_path / "files", config=given, out=tmp_path / "other")
    assert digest(one.run) == digest(other.run)
