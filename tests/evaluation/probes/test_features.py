"""Features: the very numbers that the head reads, each image once, and a cache that can only cost time."""

import hashlib
import io
import json
import os
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from tests.support.benchmark_copies import imagenet_model
from tests.support.features import clouds
from tests.support.processor import needs_bf16

from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_digits
from vitreous.errors import ConfigError, DataError, StorageError, UnknownName
from vitreous.evaluation.probes import features as room
from vitreous.evaluation.probes.cluster_features import write_vectors
from vitreous.evaluation.probes.feature_cache import (
    cache_folder,
    cache_key,
    find,
    keep,
    model_hash,
    weights_hash,
)
from vitreous.evaluation.probes.features import FeatureOptions, features
from vitreous.evaluation.probes.few_shot import few_shot
from vitreous.evaluation.probes.knn import knn
from vitreous.evaluation.probes.layers import find_layer, layer_names, read_layers
from vitreous.evaluation.probes.linear import linear_probe
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.images.tensors import normalize
from vitreous.model.config import ViTConfig
from vitreous.model.factory import create
from vitreous.model.resnet_config import ResNetConfig
from vitreous.predictor import Predictor
from vitreous.settings import to_dict
from vitreous.weights.model_folder import ModelFolder

PREPROCESS = PreprocessConfig(size=(8, 8), mode="L", crop=1.0, mean=(0.5,), std=(0.5,))
CONFIG = ViTConfig(image=(8, 8), patch=(4, 4), channels=1, width=16, depth=3, heads=2, mlp_width=16, classes=0)
RESNET = ResNetConfig(image=(32, 32), units=(1, 1), channels=1, classes=3)


def folder(config=CONFIG, seed=0, **changes):
    model = create(config, seed)
    noise = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=noise), alpha=0.1)
    classes = tuple(map(str, range(config.classes)))
    return ModelFolder(model.eval(), replace(PREPROCESS, **changes), DecodeConfig(), classes)


@pytest.fixture
def source():
    part = open_digits(DataConfig()).validation
    keep = slice(0, 37)
    return replace(part, pixels=part.pixels[keep], names=part.names[keep], labels=part.labels[keep])


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VITREOUS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


def expected(model, source):
    pixels = normalize(torch.from_numpy(source.pixels).permute(0, 3, 1, 2), PREPROCESS)
    with torch.no_grad():
        return model.features(pixels).numpy()


def passes(monkeypatch):
    """Count the batches that pass through the model from now on."""
    counted = []
    read = room.read_layers
    monkeypatch.setattr(room, "read_layers", lambda *given: counted.append(len(given[1])) or read(*given))
    return counted


@pytest.mark.parametrize("cached", [True, False])
def test_what_the_head_reads_each_image_once(source, cached, monkeypatch):
    one, told, counted = folder(), [], passes(monkeypatch)
    found = features(one, source, FeatureOptions(batch=10, cache=cached), lambda *now: told.append(now))
    np.testing.assert_allclose(found.vectors, expected(one.model, source), atol=1e-5)
    assert found.vectors.dtype == np.float32
    assert found.labels.tolist() == source.labels.tolist()
    assert (found.names, found.classes) == (source.names, source.classes)
    assert told == [(10, 37), (20, 37), (30, 37), (37, 37)]
    assert counted == [10, 10, 10, 7]


def test_a_predictor_serves_too(source):
    one = folder(replace(CONFIG, classes=3))
    found = features(Predictor(one, device="cpu"), source, FeatureOptions(device="cuda"))  # it stays where it is
    np.testing.assert_allclose(found.vectors, expected(one.model, source), atol=1e-5)
    logits = features(one, source, FeatureOptions(layer="logits")).vectors
    np.testing.assert_allclose(logits, expected(one.model, source) @ one.model.head.weight.detach().numpy().T
                               + one.model.head.bias.detach().numpy(), atol=1e-5)  # fmt: skip


def test_a_second_time_they_are_mapped_from_the_disk(source, cache, monkeypatch):
    first = features(folder(), source)
    counted = passes(monkeypatch)
    told = []
    again = features(folder(), source, progress=lambda *now: told.append(now))
    assert counted == []
    assert told == [(37, 37)]
    assert isinstance(again.vectors, np.memmap)
    assert not again.vectors.flags.writeable
    np.testing.assert_array_equal(first.vectors, again.vectors)
    (entry,) = cache.iterdir()
    assert sorted(path.name for path in entry.iterdir()) == ["vectors.npy", "vectors.sha256"]


def test_whatever_changes_the_numbers_changes_the_name(source):
    def key(one=None, part=source, layer="features", bf16=False, device="cpu"):
        return cache_key(one or folder(), part, layer, bf16, device)

    other_weights = folder()
    with torch.no_grad():
        other_weights.model.norm.bias[0] += 1e-6
    keys = [
        key(), key(other_weights), key(folder(replace(CONFIG, norm_eps=1e-5))), key(folder(mean=(0.4,))),
        key(layer="mean"), key(bf16=True), key(device="cuda"), key(part=replace(source, fingerprint="another")),
        key(part=replace(source, names=source.names[:-1], pixels=source.pixels[:-1], labels=source.labels[:-1])),
        key(part=replace(source, names=("other", *source.names[1:]))),
        key(replace(folder(), decode=DecodeConfig(max_pixels=10**6))),
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)
    assert key() == keys[0]


def damage(entry, kind):
    path = entry / "vectors.npy"
    data = path.read_bytes()
    if kind == "a bit":
        path.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
    elif kind == "cut short":
        path.write_bytes(data[:-8])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "no file":
        path.unlink()
    elif kind == "no hash":
        (entry / "vectors.sha256").unlink()
    elif kind == "a hash of bytes":
        (entry / "vectors.sha256").write_bytes(b"\xff\xfe")


@pytest.mark.parametrize("kind", ["a bit", "cut short", "empty", "no file", "no hash", "a hash of bytes"])
def test_a_damaged_entry_is_computed_again(source, cache, kind, monkeypatch):
    first = np.array(features(folder(), source).vectors)
    damage(next(cache.iterdir()), kind)
    counted = passes(monkeypatch)
    np.testing.assert_array_equal(features(folder(), source).vectors, first)
    assert counted == [37]
    np.testing.assert_array_equal(features(folder(), source).vectors, first)
    assert counted == [37]


def test_nobodys_code_is_run(source, cache):
    one = folder()
    key = cache_key(one, source, "features", False, "cpu")
    features(one, source)
    entry = cache / key
    np.save(entry / "vectors.npy", np.array([{"a": 1}] * 37), allow_pickle=True)
    from vitreous.storage.hashing import file_hash

    (entry / "vectors.sha256").write_text(file_hash(entry / "vectors.npy"))
    assert find(key, 37) is None


def test_a_place_that_can_not_be_written_costs_only_time(source, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VITREOUS_CACHE", str(tmp_path / "file"))
    np.testing.assert_allclose(features(folder(), source).vectors, expected(folder().model, source), atol=1e-5)


def test_a_disk_that_becomes_full_on_the_way_is_said_and_leaves_nothing(cache):
    def chunks():
        yield np.zeros((2, 3), np.float32)
        raise OSError(28, os.strerror(28))

    with pytest.raises(StorageError, match="the disk is full"):
        keep("name", chunks(), 4)
    assert list(cache.iterdir()) == []


def test_where_features_are_kept(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache" / "features"
    monkeypatch.delenv("VITREOUS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "vitreous" / "features"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "vitreous" / "features"


@needs_bf16
def test_bf16_differs_a_little(source):
    exact = features(folder(), source).vectors
    rough = features(folder(), source, FeatureOptions(precision="bf16")).vectors
    difference = np.abs(exact - rough).max() / np.abs(exact).max()
    assert 0 < difference < 0.05


MISTAKES = {
    "layer": ({"layer": "blok.1"}, UnknownName, "unknown layer 'blok.1'; did you mean 'block.1'"),
    "far layer": ({"layer": "block.3"}, UnknownName, "unknown layer 'block.3'"),
    "way": ({"layer": "block.1:max"}, UnknownName, "unknown way to make one vector of tokens 'max'"),
    "precision": ({"precision": "fp8"}, UnknownName, "unknown precision 'fp8'"),
    "batch": ({"batch": 0}, ConfigError, "batch is 0"),
    "device": ({"device": "gpu"}, UnknownName, "unknown device 'gpu'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(source, mistake):
    arguments, kind, words = MISTAKES[mistake]
    with pytest.raises(kind, match=words):
        features(folder(), source, FeatureOptions(**arguments))


def test_no_images_and_no_numbers(source):
    with pytest.raises(DataError, match="no images"):
        features(folder(), replace(source, pixels=source.pixels[:0], names=(), labels=source.labels[:0]))
    broken = folder()
    with torch.no_grad():
        broken.model.norm.bias[0] = torch.inf
    with pytest.raises(DataError, match=f"layer features of {source.names[0]} is not finite"):
        features(broken, source)
    images = [b"no image", *(pixels for pixels in source.pixels[:2])]
    with pytest.raises(DataError, match="layer features of image 2 is not finite"):
        write_vectors(Predictor(broken, device="cpu"), "features", "fp32", images, io.BytesIO())


@pytest.mark.parametrize("part", ["training", "test"])
@pytest.mark.parametrize("probe", [few_shot, linear_probe, knn])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_probe_takes_what_is_no_number(probe, part, value):
    parts = {"training": clouds(seed=1), "test": clouds(seed=2)}
    parts[part].vectors[7, 3] = value
    with pytest.raises(DataError, match=f"the {part} features of {parts[part].names[7]} are not finite"):
        probe(parts["training"], parts["test"])


def vector(own, prefix, z):
    return z[:, 0] if own else z[:, prefix:].mean(1)


def test_every_layer_of_a_vit():
    images = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for changes in (
        {},
        {"pool": "mean"},
        {"pool": "mean", "class_token": False, "final_norm": "pooled"},
        {"registers": 2},
    ):
        model = folder(replace(CONFIG, classes=4, **changes)).model
        prefix = model.config.prefix
        own = model.config.pool == "class"
        with torch.no_grad():
            names = (
                [f"block.{n}" for n in range(3)] + ["pooled", "patches"] + ([] if "final_norm" in changes else ["norm"])
            )
            inner = model.intermediates(images, names)
            last = inner.get("norm", inner["block.2"])
            one = partial(vector, own, prefix)
            wanted = {
                "features": model.features(images), "logits": model(images), "pooled": inner["pooled"],
                "mean": last[:, prefix:].mean(1), "block.1": one(inner["block.1"]), "norm": one(last),
                "block.-1:mean": inner["block.2"][:, prefix:].mean(1), "patches": inner["patches"].mean(1),
            }  # fmt: skip
            found = read_layers(model, images, [find_layer(model, name) for name in wanted])
        for (name, tensor), read in zip(wanted.items(), found, strict=True):
            torch.testing.assert_close(read, tensor, atol=1e-6, rtol=1e-6, msg=f"{name} {changes}")
        every = [find_layer(model, name) for name in layer_names(model)]
        assert all(read.shape[0] == 3 and read.ndim == 2 for read in read_layers(model, images, every))


def test_the_class_token_where_there_is_none():
    model = folder(replace(CONFIG, pool="mean", class_token=False)).model
    with pytest.raises(ConfigError, match=r"no \[class\] token; use block.1:mean"):
        find_layer(model, "block.1:class")
    with pytest.raises(UnknownName, match="unknown layer"):
        find_layer(model, "block.-²")


def test_every_layer_of_a_resnet():
    model = folder(RESNET).model
    images = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        stage = model.intermediates(images, ["stage.0"])["stage.0"]
        found = read_layers(model, images, [find_layer(model, name) for name in layer_names(model)])
        named = dict(zip(layer_names(model), found, strict=True))
        torch.testing.assert_close(named["stage.0"], stage.mean((2, 3)))
        torch.testing.assert_close(named["features"], model.features(images))
        torch.testing.assert_close(named["mean"], model.features(images))
    with pytest.raises(UnknownName, match=r"stage\.0"):
        find_layer(model, "block.0")


def test_a_models_hash_tells_how_images_are_decoded():
    """But for what changes no pixel; with the usual decoding it is that of earlier versions."""
    folder = imagenet_model()
    usual = model_hash(folder)
    changed = lambda **given: model_hash(replace(folder, decode=replace(folder.decode, **given)))  # noqa: E731
    assert changed(max_pixels=10**6, max_memory=10**6) == usual
    assert len({usual, changed(at_least=(8, 8)), changed(background=(0, 0, 0)), changed(truncated="fill")}) == 4
    facts = {
        "kind": "vit",
        "architecture": to_dict(folder.model.config),
        "weights": weights_hash(folder.model),
        "preprocess": to_dict(folder.preprocess),
    }
    assert usual == hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
