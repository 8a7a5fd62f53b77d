"""Tasks of VTAB in tar shards and parquet files."""

import io
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from tests.support.benchmark_copies import imagenet_model
from tests.support.pictures import encoded, picture

from vitreous.data.sources.shards import list_shards, open_shards
from vitreous.errors import ConfigError, DataError, ImageError
from vitreous.evaluation.benchmarks.vtab import run_vtab
from vitreous.evaluation.benchmarks.vtab_files import open_task, write_manifest
from vitreous.evaluation.probes.features import FeatureOptions
from vitreous.evaluation.probes.knn import knn


def shard(path: Path, labels: list[int], seed: int = 0, **more: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        files = {f"s{place}.cls": str(label).encode() for place, label in enumerate(labels)}
        files |= {f"s{place}.png": encoded(picture(seed + place)) for place in range(len(labels))}
        for name, content in (files | {name.replace("__", "."): value for name, value in more.items()}).items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return path


def table(path: Path, labels: list, seed: int = 0, rows: int = 3, **columns: list) -> Path:
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": encoded(picture(seed + place)), "path": f"{place}.png"} for place in range(len(labels))]
    pyarrow.parquet.write_table(pyarrow.table(columns or {"image": images, "label": labels}), path, row_group_size=rows)
    return path


LABELS = [place % 4 for place in range(10)]
COPIES = {
    "shards": lambda folder: (shard(folder / "train/0.tar", LABELS), shard(folder / "test/0.tar", [3, 1, 0], 50)),
    "parquet": lambda folder: (
        table(folder / "data/train-00000-of-00001.parquet", LABELS),
        table(folder / "data/test-00000-of-00001.parquet", [3, 1, 0], 50),
    ),
}


@pytest.mark.parametrize("kind", COPIES)
def test_images_and_labels_come_as_they_were_packed(kind: str, tmp_path: Path) -> None:
    COPIES[kind](tmp_path / "kitti")
    found = open_task(tmp_path, "kitti")
    assert [len(part) for part in (found.train, found.validation, found.both, found.test)] == [8, 2, 10, 3]
    assert found.test.labels.tolist() == [3, 1, 0]
    assert [found.test.read(place) for place in range(3)] == [encoded(picture(50 + place)) for place in range(3)]
    packed = {encoded(picture(place)): label for place, label in enumerate(LABELS)}
    read = {found.both.read(place): int(found.both.labels[place]) for place in range(10)}
    assert read == packed
    assert found.both.fingerprint == open_task(tmp_path, "kitti").both.fingerprint != found.test.fingerprint
    assert "10 of 10 training images were drawn by seed 0" in found.notes


@pytest.mark.parametrize("kind", COPIES)
def test_a_probe_runs_on_them(kind: str, tmp_path: Path) -> None:
    COPIES[kind](tmp_path / "kitti")
    probe = lambda train, test, held: (knn(train, test).accuracy, "")  # noqa: E731
    score = run_vtab(imagenet_model(), tmp_path, probe, FeatureOptions(cache=False)).scores[0]
    assert (score.train, score.test) == (10, 3)
    with pytest.raises(DataError, match="unpack it"):
        write_manifest(open_task(tmp_path, "kitti"), tmp_path / "images.csv")


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda folder: shard(folder / "train.tar", [0]), "has shards only for train"),
        (
            lambda folder: (shard(folder / "train.tar", [0]), shard(folder / "test.tar", [4])),
            "class 4; KITTI-Dist has 0 to 3",
        ),
        (lambda folder: shard(folder / "train.tar", [0], x__png=b"x"), r"x\.png without x\.cls"),
        (lambda folder: shard(folder / "train.tar", [0], s0__cls=b"cat"), "number of a class"),
        (
            lambda folder: table(folder / "train.parquet", [0], img=[1], y=[2]),
            "columns img, y; expected image and label",
        ),
        (lambda folder: table(folder / "train.parquet", ["cat"]), "label is 'cat'"),
        (lambda folder: table(folder / "train.parquet", [None]), "label is None"),
    ],
)
def test_packs_that_are_wrong(make, complaint: str, tmp_path: Path) -> None:
    make(tmp_path / "kitti")
    with pytest.raises(DataError, match=complaint):
        open_task(tmp_path, "kitti")


@pytest.mark.parametrize("name", ["train.tar", "train.parquet"])
def test_files_that_are_something_else(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(np.random.default_rng(0).bytes(2000))
    with pytest.raises(DataError, match=name):
        list_shards(tmp_path)


def test_a_shard_that_was_cut_off(tmp_path: Path) -> None:
    path = shard(tmp_path / "train.tar", [0, 1])
    content = path.read_bytes()
    place = content.index(encoded(picture(1)))
    path.write_bytes(content[: place + 20])
    with pytest.raises(DataError, match=r"train\.tar"):
        list_shards(tmp_path)


def test_a_file_that_went_away(tmp_path: Path) -> None:
    path = shard(tmp_path / "train.tar", [0, 1])
    source = open_shards(list_shards(tmp_path)["train"], ("0", "1"))
    path.unlink()
    with pytest.raises(ImageError, match=r"train\.tar/s0\.png"):
        source.read(0)


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch) -> None:
    table(tmp_path / "train.parquet", [0])
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ConfigError, match=r"pip install 'vitreous\[data\]', or unpack the images"):
        list_shards(tmp_path)
