"""Names of outputs, from the command line or a file, and a head of zeros: what they are held against, and what is said."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.weights.test_adaptation import CLASSES, SMALL, folder_of, grey, outputs

import vitreous
from vitreous.errors import ConfigError
from vitreous.model.resnet_config import ResNetConfig
from vitreous.weights.adaptation import adapt, number_outputs, replace_head
from vitreous.weights.labels import read_labels
from vitreous.weights.model_folder import ModelFolder, save_model
from vitreous.weights.options import LoadOptions


def written(folder: Path, content: str | bytes, name: str = "names.txt") -> str:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(folder / name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("names.txt", "tench, Tinca tinca\r\ncrème\r\ncat\r\n\r\n"),
        ("names.txt", b"\xef\xbb\xbf" + "tench, Tinca tinca\ncrème\n cat".encode()),
        ("names.json", json.dumps(["tench, Tinca tinca", "crème", "cat"])),
        ("names.json", json.dumps({"2": "cat", "0": "tench, Tinca tinca", "1": "crème"})),
    ],
)
def test_files_of_names(name: str, content: str | bytes, tmp_path: Path) -> None:
    assert read_labels(written(tmp_path, content, name)) == ("tench, Tinca tinca", "crème", "cat")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("names.txt", "cat\n\ndog\n", "line 2 is empty"),
        ("names.txt", "cat\ndog\n cat\n", "line 3 is 'cat', like line 1"),
        ("names.txt", "\n\n", "names no class"),
        ("names.txt", b"caf\xe9", "can't read the labels"),
        ("names.json", "[1, 2]", "expected a list of names"),
        ("names.json", '{"0": "cat", "2": "dog"}', "2 entries but none for 1"),
        ("names.json", '{"0": "cat", "1": "dog", "0": "cow"}', "'0' is given twice"),
        ("names.json", '["cat"', "is not JSON"),
        ("names.json", '["cat", "cat"]', "entry 2 is 'cat', like entry 1"),
    ],
)
def test_files_that_name_no_outputs(name: str, content: str | bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        read_labels(written(tmp_path, content, name))
    with pytest.raises(ConfigError, match="no such file"):
        read_labels(str(tmp_path / "absent.txt"))


def unnamed() -> ModelFolder:
    folder = folder_of()
    return replace(folder, classes=number_outputs(len(folder.classes)))


def test_outputs_without_names_are_named_in_their_order() -> None:
    folder = unnamed()
    expected = outputs(folder, grey(3))
    found, changes = adapt(folder, LoadOptions(labels=("a", "b", "c")))
    assert found.classes == ("a", "b", "c")
    assert changes.head == "kept, its 3 outputs named as you say"
    assert torch.equal(outputs(found, grey(3)), expected)
    with pytest.raises(ConfigError, match="2 labels were given, but the model has 3 outputs without names"):
        adapt(unnamed(), LoadOptions(labels=("a", "b")))
    with pytest.raises(ConfigError, match="'a' is named 2 times"):
        adapt(unnamed(), LoadOptions(labels=("a", "b", "a")))


def test_numbers_of_outputs_still_choose_among_them_and_names_do(tmp_path: Path) -> None:
    found, changes = adapt(unnamed(), LoadOptions(labels=("class 2", "class 0")))
    assert (found.classes, changes.head) == (("class 2", "class 0"), "sliced: 2 of 3 classes")
    _, changes = adapt(folder_of(), LoadOptions(labels=("cat",)))
    assert changes.head == "sliced: 1 of 3 classes"
    save_model(tmp_path / "model", unnamed())
    loaded = vitreous.load(tmp_path / "model", labels=written(tmp_path, "a\nb\nc\n"))
    assert loaded.folder.classes == ("a", "b", "c")


@pytest.mark.parametrize(
    "config",
    [replace(SMALL, classes=0), replace(SMALL, distillation_token=True), ResNetConfig((32, 48), 3, (1,), 1, 0)],
)
def test_a_new_head_is_of_zeros_on_the_same_features(config: object) -> None:
    folder = folder_of(config)
    pixels = torch.zeros(2, 3, *folder.model.config.image)
    with torch.inference_mode():
        features = folder.model.features(pixels)
    old = len(folder.classes)
    found, said = replace_head(folder, ("a", "b", "c", "d"))
    assert found.classes == ("a", "b", "c", "d")
    assert said.startswith("new, of zeros, for 4 classes: untrained")
    assert ("for 3, was left out" in said) == bool(old)
    with torch.inference_mode():
        assert torch.equal(found.model.features(pixels), features)
        assert torch.equal(found.model(pixels), torch.zeros(2, 4))


def test_a_loaded_backbone_gives_features_and_takes_a_head(tmp_path: Path) -> None:
    folder = folder_of(replace(SMALL, classes=0, registers=2), crop=1.0)
    save_model(tmp_path / "model", folder)
    loaded = vitreous.load(tmp_path / "model", device="cpu")
    pixels = torch.randint(256, (3, 8, 12, 3), dtype=torch.uint8).numpy()
    expected = outputs(folder, torch.from_numpy(pixels).permute(0, 3, 1, 2))
    assert torch.allclose(loaded.features(list(pixels)), expected, atol=1e-6)
    assert loaded.features(pixels[0]).shape == (16,)
    assert loaded.tokens(list(pixels)).shape == (3, 1 + 2 + 6, 16)
    assert loaded.maps(pixels[0]).shape == (2, 3, 16)
    assert torch.equal(loaded.maps(list(pixels)).flatten(1, 2), loaded.tokens(list(pixels))[:, 3:])
    with pytest.raises(vitreous.VitreousError, match="image 2"):
        loaded.features([pixels[0], b"no image"])
    for ask in (loaded, loaded.predict_many):
        with pytest.raises(ConfigError, match=r"has no head.*features.*classes=.*--recipe finetune") as raised:
            ask([pixels[0]])
        assert "\n" not in str(raised.value)
    loaded = vitreous.load(tmp_path / "model", classes=CLASSES)
    assert loaded.report is not None
    assert loaded.report.head == "new, of zeros, for 3 classes: untrained"
    assert loaded(pixels[0]).score == pytest.approx(1 / 3)
    assert len(vitreous.load(tmp_path / "model", classes=10).folder.classes) == 10
    for classes in (0, -1, 10**9, ("a", "a")):
        with pytest.raises(ConfigError):
            vitreous.load(tmp_path / "model", classes=classes)
    with pytest.raises(ConfigError, match="give one of them"):
        vitreous.load(tmp_path / "model", classes=3, labels=("a", "b", "c"))
