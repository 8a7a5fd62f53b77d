"""Tasks of VTAB in tar shards and parquet files."""

from pathlib import Path

import pytest
from tests.support.benchmark_copies import imagenet_model
from tests.support.packs import shard, table
from tests.support.pictures import encoded, picture

from vitreous.errors import DataError
from vitreous.evaluation.benchmarks.vtab import run_vtab
from vitreous.evaluation.benchmarks.vtab_files import format_manifest, open_task
from vitreous.evaluation.probes.features import FeatureOptions
from vitreous.evaluation.probes.knn import knn

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
        format_manifest(open_task(tmp_path, "kitti"), tmp_path)


def test_images_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    """As in folders: they had ended in an error, skip or not."""
    shard(tmp_path / "kitti/train/0.tar", LABELS)
    shard(tmp_path / "kitti/test/0.tar", [3, 1, 0], 50)
    whole = (tmp_path / "kitti/test/0.tar").read_bytes()
    (tmp_path / "kitti/test/0.tar").write_bytes(
        whole.replace(encoded(picture(51))[8:], b"\0" * len(encoded(picture(51))[8:]))
    )
    with pytest.raises(DataError, match="1 of 3 images can't be read"):
        open_task(tmp_path, "kitti")
    found = open_task(tmp_path, "kitti", broken="skip")
    assert found.test.labels.tolist() == [3, 0]
    assert "1 images that can't be read were left out" in found.notes


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda folder: shard(folder / "train.tar", [0]), "has shards only for train"),
        (
            lambda folder: (shard(folder / "train.tar", [0]), shard(folder / "test.tar", [4])),
            "class 4; KITTI-Dist has 0 to 3",
        ),
        (
            lambda folder: (
                table(folder / "train.parquet", ["a", "b", "c"]),
                table(folder / "test.parquet", ["d", "e"]),
            ),
            "has 5 classes, but the benchmark has 4",
        ),
    ],
)
def test_packs_that_are_wrong(make, complaint: str, tmp_path: Path) -> None:
    make(tmp_path / "kitti")
    with pytest.raises(DataError, match=complaint):
        open_task(tmp_path, "kitti")
