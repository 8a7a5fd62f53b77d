"""`data.scan later`: training begins before every image was looked at."""

from pathlib import Path

import numpy as np
import pytest
from tests.support.packs import shard
from tests.support.pictures import encoded, picture

from vitreous.data import scanned_splits as room
from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.data.listing import scan as scanning
from vitreous.errors import ConfigError, DataError, ImageError
from vitreous.training.config import RunConfig
from vitreous.training.settings_check import check_ranges

LATER = {"scan": "later"}


@pytest.fixture
def photos(tmp_path: Path, monkeypatch) -> Path:
    """Return a folder of 40 images of two classes, and let only 6 of a part be looked at."""
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for place in range(20):
            (tmp_path / "photos" / label / f"{place}.png").write_bytes(encoded(picture(place)))
    sample = scanning.scan_sample
    monkeypatch.setattr(room, "scan_sample", lambda *arguments: sample(*arguments, count=6))
    return tmp_path / "photos"


def test_only_a_sample_is_read_before_the_first_batch(photos: Path, monkeypatch) -> None:
    opened, look = [], scanning.look_at
    monkeypatch.setattr(
        scanning, "look_at", lambda listing, row, *rest: opened.append(row.name) or look(listing, row, *rest)
    )
    found = open_dataset(DataConfig(str(photos), **LATER))
    assert len(opened) == len(set(opened)) == 6
    whole = open_dataset(DataConfig(str(photos)))
    assert (found.train.names, found.validation.names) == (whole.train.names, whole.validation.names)
    assert np.array_equal(found.train.labels, whole.train.labels)
    assert (found.facts.size, found.facts.channels, found.facts.classes) == ((8, 10), 3, ("cat", "dog"))
    assert found.report.conflicts == () != whole.report.conflicts  # the same pictures in both classes
    assert any("6 images were looked at" in note for note in found.report.notes)
    assert found.train.sizes is None  # so that nothing is kept decoded by sizes that aren't known


def test_a_broken_image_is_met_when_it_is_its_turn(photos: Path) -> None:
    found = open_dataset(DataConfig(str(photos), **LATER))
    for name in found.train.names:
        (photos / name).write_bytes(b"")
    again = open_dataset(DataConfig(str(photos), **LATER, broken="skip"))
    assert len(again.train) >= len(found.train) - 6
    with pytest.raises(DataError, match="can't be read"):
        open_dataset(DataConfig(str(photos), **LATER))
    (photos / "cat" / "0.png").unlink()
    index = found.train.names.index("cat/0.png") if "cat/0.png" in found.train.names else 0
    with pytest.raises(ImageError):
        open_and_read(found.train, index)


def open_and_read(source, index: int) -> None:
    from vitreous.images.decode import decode

    decode(source.read(index), name=source.names[index])


def test_the_fingerprint_is_of_names_and_labels_so_that_a_mended_image_lets_the_run_go_on(photos: Path) -> None:
    before = open_dataset(DataConfig(str(photos), **LATER)).train.fingerprint
    for path in photos.rglob("*.png"):
        path.write_bytes(path.read_bytes() + b"\0")
    assert open_dataset(DataConfig(str(photos), **LATER)).train.fingerprint == before
    for path in list(photos.rglob("1.png")):
        path.rename(path.with_name("other.png"))
    assert open_dataset(DataConfig(str(photos), **LATER)).train.fingerprint != before


def test_a_file_that_a_manifest_lists_in_vain_is_found_at_once(photos: Path) -> None:
    rows = [f"{path.relative_to(photos)},{path.parent.name}" for path in sorted(photos.rglob("*.png"))]
    (photos / "list.csv").write_text("\n".join(["path,label", *rows, "gone.png,cat"]))
    with pytest.raises(DataError, match=r"gone\.png: no such file"):
        open_dataset(DataConfig(str(photos / "list.csv"), **LATER))


def test_shards_begin_as_early(tmp_path: Path, monkeypatch) -> None:
    path = shard(tmp_path / "s.tar", [0, 1] * 10)
    sample = scanning.scan_sample
    monkeypatch.setattr(room, "scan_sample", lambda *arguments: sample(*arguments, count=3))
    found = open_dataset(DataConfig(str(path), **LATER))
    assert len(found.train) + len(found.validation) == 20 and found.train.read(0).startswith(b"\x89PNG")


def test_nothing_can_be_skipped_that_was_not_looked_at() -> None:
    with pytest.raises(ConfigError, match=r"data\.scan later .* data\.broken"):
        check_ranges(RunConfig(data=DataConfig(**LATER, broken="skip")))
