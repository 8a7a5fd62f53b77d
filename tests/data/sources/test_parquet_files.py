"""Parquet files as data sets: labels of all kinds, replaced and damaged files, and a cache of any size."""

import errno
import sys
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet
from tests.support.packs import overwrite, table
from tests.support.pictures import encoded, picture

from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.data.labelled_images import open_source
from vitreous.data.sources import parquet_files
from vitreous.errors import ConfigError, DataError, ImageError, StorageError

LABELS = [place % 2 for place in range(8)]
NAMES = ["cat", "dog"]


@pytest.mark.parametrize("label", [-1, None])
def test_a_test_split_without_labels_is_left_out(label: int | None, tmp_path: Path) -> None:
    table(tmp_path / "train.parquet", LABELS)
    table(tmp_path / "test.parquet", [label] * 4)
    found = open_dataset(DataConfig(str(tmp_path), test_split="once"))
    assert found.test is None and "4 test images have no labels, and were left out" in found.report.notes
    with pytest.raises(DataError, match="has no test split: it has train"):
        open_source(str(tmp_path), split="test")
    table(tmp_path / "train.parquet", [label] * 4)
    with pytest.raises(DataError, match="have no labels, which are needed here"):
        open_dataset(DataConfig(str(tmp_path)))


def test_an_empty_file_among_labelled_ones_is_labelled(tmp_path: Path) -> None:
    table(tmp_path / "train-0.parquet", LABELS)
    table(tmp_path / "train-1.parquet", [], image=[], label=[])
    assert len(open_source(str(tmp_path))) == len(LABELS)


def test_names_of_classes_are_composed_and_checked(tmp_path: Path) -> None:
    assert open_source(str(table(tmp_path / "a.parquet", LABELS, names=["cafe\u0301", "dog "]))).classes == (
        "caf\u00e9",
        "dog",
    )
    assert open_source(str(table(tmp_path / "b.parquet", ["cafe\u0301", "caf\u00e9"]))).classes == ("caf\u00e9",)
    with pytest.raises(DataError, match=r"b\.parquet/0-0 holds '\\x1b\[31m'; it must hold the number or the name"):
        open_source(str(table(tmp_path / "b.parquet", ["\x1b[31m", "dog"])))


@pytest.mark.parametrize("text", ["string", "large_string"])
def test_a_long_name_in_all_rows_is_read_once(text: str, tmp_path: Path) -> None:
    """A column of one name holds it once, so a small file can say terabytes."""
    path, rows = tmp_path / "t.parquet", 100_000
    label = pyarrow.array(["x" * 1_000_000] * 10, getattr(pyarrow, text)()).dictionary_encode().dictionary
    labels = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * rows, pyarrow.int32()), label)
    columns = {"image": pyarrow.array([b"x"] * rows), "label": labels}
    parquet.write_table(pyarrow.table(columns), path, store_schema=False, compression="zstd")
    assert path.stat().st_size < 10**6
    pool = pyarrow.default_memory_pool()
    before = pool.max_memory()  # of the whole process, other tests included
    with pytest.raises(DataError, match="has a class's name of 1,000,000 bytes; at most 1,000 characters are allowed"):
        open_source(str(path))
    assert pool.max_memory() <= max(before, 300e6)


def test_a_large_image_in_all_rows_is_read_for_few_rows_at_once(tmp_path: Path) -> None:
    """A column of one image holds it once, so a small file can say gigabytes."""
    one = pyarrow.array([bytes(2**26)], pyarrow.binary())
    images = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 40, pyarrow.int32()), one)
    path = tmp_path / "t.parquet"
    parquet.write_table(pyarrow.table({"image": images}), path, store_schema=False, compression="zstd")
    assert path.stat().st_size < 10**5
    pool = pyarrow.default_memory_pool()
    before = pool.max_memory()  # of the whole process, other tests included
    with parquet.ParquetFile(path, pre_buffer=False) as file:
        lengths = [len(found or b"") for found in parquet_files.iterate_images(file, "image")]
        assert lengths == [2**26] * 40
        assert [len(found or b"") for found in parquet_files.iterate_images(file, "image", [0])] == lengths
    assert pool.max_memory() <= max(before, 900e6)


def test_names_of_many_rows_and_of_none(tmp_path: Path) -> None:
    names = ["猫" * 1_000, "dog", None, "dog"]
    path = table(tmp_path / "t.parquet", [], image=[b"x"] * 40, label=[names[place % 4] for place in range(40)])
    with pytest.raises(DataError, match=r"t\.parquet/0-2: label is None"):
        open_source(str(path))
    found = parquet_files.open_table(table(path, [], rows=7, image=[b"x"] * 40, label=["b", "a"] * 20), "t")
    assert found.labels == ["b", "a"] * 20
    assert len({id(one) for one in found.labels}) <= 2 * 6


def test_more_rows_than_a_file_has_bytes_for_get_no_names(tmp_path: Path) -> None:
    path = table(tmp_path / "t.parquet", [], rows=200_000, image=[b""] * 100_001, label=[0] * 100_001)
    with pytest.raises(DataError, match=r"says that it holds 100,001 images, in .* expected at least 8 bytes an image"):
        open_source(str(path))


@pytest.mark.parametrize("gib", ["1", "0"])
def test_a_parquet_file_that_is_replaced_by_another_order_is_noticed(gib: str, tmp_path: Path, monkeypatch) -> None:
    path = table(tmp_path / "train.parquet", LABELS)
    contents = parquet_files.open_table(path, "t")
    table(path, LABELS, 20)
    monkeypatch.setenv("VITREOUS_CACHE_GIB", gib)
    with pytest.raises(ImageError, match=r"train\.parquet has changed since it was listed"):
        contents.pack.read(0, 10**6)


@pytest.mark.parametrize("gib", ["1", "0"])
def test_a_damaged_parquet_file_is_not_unpacked_for_each_image(gib: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("VITREOUS_CACHE_GIB", gib)
    path = table(tmp_path / "train.parquet", LABELS, rows=8)
    place = path.read_bytes().find(encoded(picture(0))[:20])
    overwrite(path, place - 20, bytes(20))  # the header of the images' page
    pack, opened = parquet_files.open_table(path, "t").pack, []
    monkeypatch.setattr(type(pack.file), "check", lambda file, handle: opened.append(handle))
    for number in range(8):
        with pytest.raises(ImageError, match=r"train\.parquet can't be read as parquet: "):
            pack.read(number, 10**6)
    assert len(opened) == 1
    path.rename(tmp_path / "away.parquet")
    with pytest.raises(ImageError, match="can't be read as parquet"):
        pack.read(0, 10**6)


def test_a_disk_that_is_there_again_is_read_again(tmp_path: Path) -> None:
    pack = parquet_files.open_table(table(tmp_path / "train.parquet", LABELS), "t").pack
    work, translation = parquet_files.remember_failure(pack), parquet_files.translate_errors(pack.file.path, ImageError)
    with pytest.raises(ImageError, match="output error"), work, translation:
        raise OSError(5, "Input/output error")
    assert pack.read(0, 10**6) == encoded(picture(0))


def test_a_cache_without_room_is_not_called_a_damaged_file(tmp_path: Path, monkeypatch) -> None:
    """As often as it is read: the disk may have room again."""
    monkeypatch.setenv("VITREOUS_CACHE", str(tmp_path / "cache"))
    pack = parquet_files.open_table(table(tmp_path / "train.parquet", LABELS), "t").pack

    def fill(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(parquet_files, "iterate_images", fill)
        for _ in range(2):
            with pytest.raises(StorageError, match="the disk is full"):
                pack.read(0, 10**6)
    assert pack.read(0, 10**6) == encoded(picture(0))


def test_a_parquet_file_of_repeated_images_is_read_whole(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("VITREOUS_CACHE", str(tmp_path / "cache"))
    images = [encoded(picture(place % 4)) for place in range(120)]
    for name, share in (("whole", 2.0), ("larger than the cache", 0.5)):
        path = table(tmp_path / f"{name}.parquet", [], rows=60, image=images, label=[0] * 120)
        monkeypatch.setenv("VITREOUS_CACHE_GIB", str(share * sum(map(len, images)) / 2**30))
        pack = parquet_files.open_table(path, name).pack
        assert [pack.read(place, 10**6) for place in range(120)] == images
        assert pack.expected < sum(map(len, images)) / 3
        assert any((tmp_path / "cache" / "files").glob("*.images")) == (share > 1)
    monkeypatch.setattr(parquet_files, "MOST_GROUP_BYTES", pack.expected)
    parquet_files.read_group.cache_clear()
    with pytest.raises(ImageError, match="too many to read at once"):
        pack.read(0, 10**6)


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"a": [1], "b": [2]}, "columns a, b; expected image and label"),
        ({"image": [b"x"], "label": [None]}, "have no labels, which are needed here"),
        ({"image": [b"x", b"y"], "label": [-1, -1]}, "have no labels, which are needed here"),
        ({"image": [b"x", b"y"], "label": ["cat", None]}, "label is None"),
        ({"image": [b"x", b"y"], "label": [0, -1]}, "label is -1"),
        ({"image": [b"x"], "label": [0.5]}, "label is 0.5"),
    ],
)
def test_tables_that_are_wrong(columns: dict, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=complaint):
        open_source(str(table(tmp_path / "t.parquet", [], **columns)))


def test_a_class_without_a_name_and_rows_without_bytes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="label is 2; the file names 2 classes"):
        open_source(str(table(tmp_path / "t.parquet", [0, 2], names=NAMES)))
    path = table(tmp_path / "u.parquet", [], image=[{"bytes": None, "path": "a.png"}], label=[0])
    with pytest.raises(DataError, match=r"u\.parquet/0-0: its row has no bytes"):
        open_source(str(path))


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch) -> None:
    path = table(tmp_path / "train.parquet", [0])
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ConfigError, match=r"pip install 'vitreous\[data\]', or unpack the images"):
        open_source(str(path))


def test_parquet_is_read_by_row_groups_where_the_cache_is_too_small(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("VITREOUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VITREOUS_CACHE_GIB", "0")
    source = open_source(str(table(tmp_path / "t.parquet", LABELS)))
    assert [source.read(place) for place in (7, 0, 4)] == [encoded(picture(place)) for place in (7, 0, 4)]
    assert not (tmp_path / "cache" / "files").exists()
    monkeypatch.setattr(parquet_files, "MOST_GROUP_BYTES", 10)
    parquet_files.read_group.cache_clear()
    with pytest.raises(ImageError, match="too many to read at once"):
        source.read(0)


def test_the_cache_keeps_within_its_bound(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("VITREOUS_CACHE", str(tmp_path / "cache"))
    one, two = (
        open_source(str(table(tmp_path / f"{name}.parquet", LABELS, seed))) for name, seed in (("a", 0), ("b", 9))
    )
    kept = tmp_path / "cache" / "files"
    assert len(list(kept.glob("*.images"))) == 2
    most = 2.5 * max(path.stat().st_size for path in kept.glob("*.images"))
    monkeypatch.setenv("VITREOUS_CACHE_GIB", str(most / 2**30))
    three = open_source(str(table(tmp_path / "c.parquet", LABELS, 20)))
    for source, seed in ((one, 0), (two, 9), (three, 20), (one, 0)):
        assert source.read(3) == encoded(picture(seed + 3))
        assert 0 < sum(path.stat().st_size for path in kept.glob("*.images")) <= most
    assert len(list(kept.glob("*.images"))) < 3
    monkeypatch.setenv("VITREOUS_CACHE_GIB", "lots")
    with pytest.raises(ConfigError, match="'lots'; it must be a number of GiB"):
        one.read(0)
