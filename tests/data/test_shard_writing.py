"""Shards that are written: the same images, whatever happened on the way."""

import hashlib
import json
import re
import tarfile
from collections import defaultdict
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from tests.support.packs import idx, table
from tests.support.pictures import encoded, picture, tree

import vitreous
from vitreous.data import shard_writing
from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.errors import ConfigError, DataError, ImageError, StorageError

SIZE = 700
"""Bytes after which a shard is closed: a few of these images."""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder of splits with class folders; the names hold dots, and one ends in capitals."""
    for split, count in (("train", 9), ("val", 3)):
        for label in ("cat", "dog"):
            folder = tmp_path / "photos" / split / label
            folder.mkdir(parents=True)
            for place in range(count):
                (folder / f"a.{place}.PNG").write_bytes(encoded(picture(hash_of(split, label, place))))
    return tmp_path / "photos"


def hash_of(*values: object) -> int:
    return int.from_bytes(hashlib.blake2b(repr(values).encode(), digest_size=4).digest())


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def contents(data: Path) -> dict[str, list[tuple[bytes, str]]]:
    found = open_dataset(DataConfig(str(data)))
    return {
        split: sorted((source.read(place), source.classes[source.labels[place]]) for place in range(len(source)))
        for split, source in (("train", found.train), ("validation", found.validation))
    }


def test_they_hold_what_the_folder_holds(photos: Path, tmp_path: Path) -> None:
    done = vitreous.shard(photos, tmp_path / "out", size=SIZE)
    assert done.images == {"train": 18, "validation": 6} and done.classes == ("cat", "dog") and len(done.shards) > 4
    assert contents(tmp_path / "out") == contents(photos)
    samples: dict[str, dict[str, bytes]] = defaultdict(dict)  # as any reader of WebDataset's layout groups them
    for path in done.shards:
        with tarfile.open(path) as shard:
            for member in shard:
                key, _, extension = member.name.partition(".")
                samples[f"{path.name}/{key}"][extension] = shard.extractfile(member).read()
    assert len(samples) == 24 and all(set(one) == {"cls", "png"} for one in samples.values())
    for key, one in samples.items():
        split, _, rest = key.partition("-")
        name = rest.partition("/")[2].replace("%2E", ".") + ".PNG"
        assert one["png"] == (photos / split / name).read_bytes()
        assert ["cat", "dog"][int(one["cls"])] == name.partition("/")[0]
    plan = json.loads((tmp_path / "out" / "shards.json").read_bytes())
    for one in plan["shardlist"]:
        data = (tmp_path / "out" / one["url"]).read_bytes()
        assert (one["sha256"], one["filesize"]) == (hashlib.sha256(data).hexdigest(), len(data))
    assert sum(one["nsamples"] for one in plan["shardlist"]) == 24
    mixed = [name.split("/")[-2] for name in open_dataset(DataConfig(str(tmp_path / "out"))).train.names]
    assert mixed != sorted(mixed)  # not class after class


def test_classes_named_by_digits_stay_what_they_are(tmp_path: Path) -> None:
    tree(tmp_path / "photos", **{"1": 4, "2": 4, "3": 4, "10": 4})
    vitreous.shard(tmp_path / "photos", tmp_path / "out")
    read, given = (sorted(chain(*contents(tmp_path / name).values())) for name in ("out", "photos"))
    assert read == given


@pytest.mark.parametrize("when", [0, 1, 7, 23])
def test_after_a_break_at_any_image_it_goes_on_to_the_same_bytes(when: int, photos: Path, tmp_path: Path, monkeypatch):
    vitreous.shard(photos, tmp_path / "whole", size=SIZE)
    left, read = [when], shard_writing.read_row

    def breaking(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return read(*arguments)

    monkeypatch.setattr(shard_writing, "read_row", breaking)
    with pytest.raises(KeyboardInterrupt):
        vitreous.shard(photos, tmp_path / "out", size=SIZE)
    monkeypatch.setattr(shard_writing, "read_row", read)
    if when > 10:
        with pytest.raises(DataError, match="isn't written to its end"):
            open_dataset(DataConfig(str(tmp_path / "out")))
    done = vitreous.shard(photos, tmp_path / "out", size=SIZE)
    assert (done.kept > 0) == (when >= 7)
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_a_damaged_or_lost_shard_is_written_again(photos: Path, tmp_path: Path) -> None:
    vitreous.shard(photos, tmp_path / "out", size=SIZE)
    before = files(tmp_path / "out")
    shards = sorted(name for name in before if name.endswith(".tar"))
    data = bytearray(before[shards[2]])
    data[600] ^= 1
    (tmp_path / "out" / shards[2]).write_bytes(data)
    assert vitreous.shard(photos, tmp_path / "out", size=SIZE).kept == 2
    assert files(tmp_path / "out") == before
    (tmp_path / "out" / shards[1]).unlink()
    with pytest.raises(DataError, match=re.escape(f"lacks {shards[1]}")):
        open_dataset(DataConfig(str(tmp_path / "out")))
    (tmp_path / "out" / shards[1]).write_bytes(b"short")
    with pytest.raises(DataError, match=r"has 5 bytes, but shards.json says"):
        open_dataset(DataConfig(str(tmp_path / "out")))
    vitreous.shard(photos, tmp_path / "out", size=SIZE)
    assert files(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"sha256": None}, "has a shard of .*; expected url, nsamples, filesize, sha256 of each"),
        ({"nsamples": "3"}, "has a shard of .*; expected url, nsamples"),
        ({"url": "../train-000000.tar"}, "it must be a file beside it"),
    ],
)
def test_a_list_of_shards_that_was_edited(change: dict, complaint: str, photos: Path, tmp_path: Path) -> None:
    vitreous.shard(photos, tmp_path / "out", size=SIZE)
    plan = json.loads((tmp_path / "out" / "shards.json").read_bytes())
    plan["shardlist"][0] |= change
    (tmp_path / "out" / "shards.json").write_text(json.dumps(plan))
    with pytest.raises(DataError, match=complaint):
        vitreous.shard(photos, tmp_path / "out", size=SIZE)


def test_a_disk_that_reads_otherwise_is_noticed(photos: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(shard_writing, "file_hash", lambda path: "0" * 64)
    with pytest.raises(StorageError, match="reads otherwise than it was written"):
        vitreous.shard(photos, tmp_path / "out", size=SIZE)
    assert not list((tmp_path / "out").glob("*.tar"))


def test_what_can_not_be_written_is_refused(photos: Path, tmp_path: Path) -> None:
    vitreous.shard(photos, tmp_path / "out", size=SIZE)
    for options, complaint in (
        ({"size": SIZE + 1}, "shards of another size"),
        ({"size": SIZE, "seed": 1}, "another seed"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            vitreous.shard(photos, tmp_path / "out", **options)
    (photos / "train" / "cat" / "new.png").write_bytes(encoded(picture(1)))
    with pytest.raises(ConfigError, match="begun with other images"):
        vitreous.shard(photos, tmp_path / "out", size=SIZE)
    with pytest.raises(ConfigError, match="is not empty"):
        vitreous.shard(photos, photos)
    with pytest.raises(ConfigError, match="at least 1"):
        vitreous.shard(photos, tmp_path / "new", size=0)
    with pytest.raises(DataError, match="needs no files"):
        vitreous.shard("digits", tmp_path / "new")
    (tmp_path / "sets.csv").write_text("path,labels\nphotos/train/cat/a.1.PNG,a;b\n")
    with pytest.raises(DataError, match="several labels an image"):
        vitreous.shard(tmp_path / "sets.csv", tmp_path / "new")
    (photos / "train" / "cat" / "a.1.PNG").unlink()
    (photos / "train" / "cat" / "a.1.PNG").symlink_to("nowhere")
    with pytest.raises(ImageError, match=r"a\.1\.PNG"):
        vitreous.shard(photos, tmp_path / "new", size=SIZE)


def test_images_that_were_changed_since_are_other_images(photos: Path, tmp_path: Path) -> None:
    labels, packed = [place % 2 for place in range(6)], tmp_path / "packed"
    table(packed / "train.parquet", labels)
    image = photos / "train" / "cat" / "a.1.PNG"
    for data, change in (
        (photos, lambda: image.write_bytes(image.read_bytes()[::-1])),
        (packed, lambda: table(packed / "train.parquet", labels, 20)),
    ):
        out = tmp_path / f"out of {data.name}"
        whole = vitreous.shard(data, out).shards
        assert vitreous.shard(data, out).kept == len(whole)
        change()
        with pytest.raises(ConfigError, match=r"begun with images that were changed since; .* choose a new folder"):
            vitreous.shard(data, out)
    plan = json.loads((out / "shards.json").read_bytes())
    del plan["source_changed"]  # as a former version wrote it
    (out / "shards.json").write_text(json.dumps(plan))
    assert vitreous.shard(packed, out).kept == 1


def test_files_that_are_no_images_are_refused_before_the_first_shard(photos: Path, tmp_path: Path) -> None:
    image = (photos / "train" / "cat" / "a.1.PNG").read_bytes()
    for name, data, complaint in (
        ("scan.pdf", b"%PDF-1.4 of pages", r"scan\.pdf is PDF: not read; save as PNG"),
        ("notes", b"hello", "notes is of no known format; leave it out"),
        ("really.pdf", image, None),
    ):
        (photos / name).write_bytes(data)
        lines = [f"photos/train/{label}/a.{place}.PNG,{label}" for label in ("cat", "dog") for place in range(4)]
        (tmp_path / "list.csv").write_text("\n".join(["path,label", *lines, f"photos/{name},cat"]))
        if complaint is None:
            assert vitreous.shard(tmp_path / "list.csv", tmp_path / name, size=1).images == {"train": 9}
            continue
        with pytest.raises(ImageError, match=complaint):
            vitreous.shard(tmp_path / "list.csv", tmp_path / name, size=1)
        assert not list((tmp_path / name).glob("*.tar"))


def test_images_without_labels_and_pixels_are_written_too(tmp_path: Path) -> None:
    (tmp_path / "loose").mkdir()
    for place in range(3):
        (tmp_path / "loose" / f"{place}.png").write_bytes(encoded(picture(place)))
    assert vitreous.shard(tmp_path / "loose", tmp_path / "a").classes is None
    found = open_dataset(DataConfig(str(tmp_path / "a"), labels="optional"))
    assert {found.train.read(place) for place in range(2)} <= {encoded(picture(place)) for place in range(3)}
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 7), np.uint8)
    idx(tmp_path / "mnist", "train", pixels, np.array([10, 9, 10, 9, 10]))
    done = vitreous.shard(tmp_path / "mnist", tmp_path / "b")
    assert done.classes == ("9", "10")
    assert contents(tmp_path / "b")["train"] != [] and len(done.shards) == 1
