"""Shards, parquet files, IDX and CIFAR as data sets: the same images and labels, whole; and files that are wrong."""

import gzip
import json
import os
import struct
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
from tests.support.packs import cifar, idx, overwrite, shard, table, tar
from tests.support.pictures import encoded, picture

from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.data.labelled_images import open_source
from vitreous.data.sources import shards
from vitreous.data.sources.packed_data import list_packed
from vitreous.errors import DataError, ImageError

LABELS = [place % 2 for place in range(8)]
NAMES = ["cat", "dog"]


def both(root: Path, kind: str) -> Path:
    """Write training and validation images in one form."""
    make, ending = (shard, "tar") if kind == "tar" else (table, "parquet")
    more = {} if kind == "tar" else {"names": NAMES}
    labels = [NAMES[label] for label in LABELS] if kind == "tar" else LABELS
    make(root / f"train-0.{ending}", labels, **more)
    make(root / f"train-1.{ending}", labels, 20, **more)
    make(root / "validation" / f"0.{ending}", labels[:3], 50, **more)
    return root


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_they_are_a_data_set_as_files_are(kind: str, tmp_path: Path) -> None:
    data = open_dataset(DataConfig(str(both(tmp_path / "packs", kind))))
    assert (data.facts.train, data.facts.validation, data.facts.classes) == (16, 3, ("cat", "dog"))
    assert data.report.formats == {"PNG": 19} and not data.facts.held_out
    wanted = [(encoded(picture(seed + place)), LABELS[place]) for seed in (0, 20) for place in range(8)]
    for _ in range(2):  # the second time from the cache
        read = [(data.train.read(place), int(data.train.labels[place])) for place in range(16)]
        assert read == wanted
    again = open_dataset(DataConfig(str(tmp_path / "packs")))
    assert again.train.fingerprint == data.train.fingerprint != data.validation.fingerprint


def test_a_part_held_out_is_read_under_its_own_names(tmp_path: Path) -> None:
    path = shard(tmp_path / "all.tar", LABELS)
    data = open_dataset(DataConfig(str(path), holdout=0.25))
    known = {f"all.tar/s{place}.png": encoded(picture(place)) for place in range(8)}
    for source in (data.train, data.validation):
        assert {name: source.read(place) for place, name in enumerate(source.names)}.items() <= known.items()
    assert (len(data.train), len(data.validation)) == (6, 2)


def test_the_test_split_is_kept_apart(tmp_path: Path) -> None:
    shard(tmp_path / "train.tar", LABELS)
    shard(tmp_path / "test.tar", LABELS[:4], 50)
    assert len(open_dataset(DataConfig(str(tmp_path), test_split="once")).test or ()) == 4
    assert len(open_source(str(tmp_path), split="test")) == 4
    with pytest.raises(DataError, match="has no validation split: it has train and test"):
        open_source(str(tmp_path), split="validation")


def test_the_binary_files_of_mnist_and_cifar_are_pixels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    grey, colour = (rng.integers(0, 256, (6, *shape), np.uint8) for shape in ((5, 7), (32, 32, 3)))
    labels = np.array([7, 1, 7, 1, 7, 1])
    idx(tmp_path / "mnist", "train", grey, labels)
    idx(tmp_path / "mnist", "t10k", grey[:2], labels[:2], ".gz")
    found = open_dataset(DataConfig(str(tmp_path / "mnist"), test_split="stand-in"))
    assert found.facts.classes == ("1", "7") and found.facts.channels == 1
    assert [found.train.classes[label] for label in found.train.labels] == [str(label) for label in labels]
    assert np.array_equal(np.stack([found.train.read(place) for place in range(6)])[..., 0], grey)
    assert np.array_equal(np.stack([found.validation.read(place) for place in range(2)])[..., 0], grey[:2])
    (tmp_path / "c100").mkdir()
    (tmp_path / "c100" / "fine_label_names.txt").write_text("\n".join(f"n{place}" for place in range(100)))
    cifar(tmp_path / "c100" / "train.bin", colour, labels * 0, labels)
    found = open_source(str(tmp_path / "c100"))
    assert [found.classes[label] for label in found.labels] == [f"n{label}" for label in labels]
    assert np.array_equal(np.stack([found.read(place) for place in range(6)]), colour)


def test_images_beside_an_archive_are_what_is_meant(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for place in range(3):
            (tmp_path / label / f"{place}.png").write_bytes(encoded(picture(place)))
    shard(tmp_path / "photos.tar", LABELS)
    assert list_packed(tmp_path) is None and len(open_source(str(tmp_path))) == 6


def test_numbers_names_and_json_say_the_class(tmp_path: Path) -> None:
    image = encoded(picture(0))
    members = {"a.b/x.png": image, "a.b/x.cls": b"007\n", "y.seg.png": image, "y.json": b'{"label": "dog", "w": 3}'}
    found = shards.open_shard(tar(tmp_path / "s.tar", members), "s.tar")
    assert (found.names, found.labels) == (["s.tar/a.b/x.png", "s.tar/y.seg.png"], ["7", "dog"])


@pytest.mark.parametrize("root", ["", "./", "photos/", "test/"])
def test_a_tar_of_class_folders_is_a_data_set(root: str, tmp_path: Path) -> None:
    names = ("cat/1.png", "cat/old/2.png", "dog/1.png", "dog/2.png", "dog/3.png")
    found = open_source(str(tar(tmp_path / "p.tar", {f"{root}{name}": encoded(picture(0)) for name in names})))
    assert found.classes == ("cat", "dog")
    assert found.labels.tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("names", [("a/1.png", "2.png"), ("a/1.png", "a/2.png"), ("train/a/1.png", "val/a/1.png")])
def test_folders_that_are_no_classes_are_not_taken_for_them(names: tuple[str, ...], tmp_path: Path) -> None:
    path = tar(tmp_path / "p.tar", {name: encoded(picture(0)) for name in names})
    assert shards.open_shard(path, "p.tar").labels is None
    with pytest.raises(DataError, match=r"no labels, which are needed here; .* or a class folder"):
        open_source(str(path))


def test_a_class_folder_is_found_over_all_shards_of_a_split(tmp_path: Path) -> None:
    def write(folder: str, **shards: str) -> dict[str, str] | None:
        for place, (name, folders) in enumerate(shards.items()):
            members = {f"{one}/{number}.png": encoded(picture(place)) for one in folders.split() for number in range(2)}
            tar(tmp_path / folder / f"{name}.tar", members)
        listing = list_packed(tmp_path / folder, optional=True).train
        return dict(zip((name.rpartition("/")[0] for name in listing.names), listing.labels, strict=True))

    assert write("one", a="p/cat/s1 p/cat/s2 p/dog/s1", b="p/fox/s1 p/fox/s2") == {
        "a.tar/p/cat/s1": "cat", "a.tar/p/cat/s2": "cat", "a.tar/p/dog/s1": "dog", "b.tar/p/fox/s1": "fox", "b.tar/p/fox/s2": "fox"
    }  # fmt: skip
    assert write("each", a="cat", b="dog/old dog/new") == {
        "a.tar/cat": "cat",
        "b.tar/dog/old": "dog",
        "b.tar/dog/new": "dog",
    }
    assert set(write("either", a="a/cat a/dog", b="b/cat b/dog").values()) == {"unlabelled"}  # a and b, or cat and dog
    with pytest.raises(DataError, match="no labels, which are needed here"):
        list_packed(tmp_path / "either")


@pytest.mark.parametrize("form", ["cls", "folders"])
def test_a_class_named_by_digits_is_not_taken_for_its_number(form: str, tmp_path: Path) -> None:
    (tmp_path / "shards.json").write_text(json.dumps({"classes": ["1", "2", "3"]}))
    image = encoded(picture(0))
    if form == "cls":
        shard(tmp_path / "train.tar", [0, 1, 2])
    else:
        tar(tmp_path / "train.tar", {f"{name}/x.png": image for name in (1, 2, 3)})
    assert list_packed(tmp_path).train.labels == ("1", "2", "3")
    shard(tmp_path / "train.tar", [3])
    with pytest.raises(DataError, match="has class '3', but the 3 classes"):
        list_packed(tmp_path)


def test_images_of_class_folders_may_have_dots_in_their_names(tmp_path: Path) -> None:
    names = [f"photos/{label}/IMG_2024.01.0{day}.png" for label in NAMES for day in (5, 6)]
    files = {name: encoded(picture(place)) for place, name in enumerate(names)}
    found = list_packed(tar(tmp_path / "p.tar", files)).train
    assert found.names == tuple(f"p.tar/{name}" for name in names) and found.labels == ("cat", "cat", "dog", "dog")
    with pytest.raises(DataError, match="a sample has one image"):  # a class beside them makes them one sample
        list_packed(tar(tmp_path / "p.tar", files | {"photos/cat/IMG_2024.cls": b"1"}))


def test_an_index_that_is_older_than_its_shard_is_not_read(tmp_path: Path) -> None:
    path = shard(tmp_path / "s.tar", ["cat", "dog"])
    index = shards.Index(["s0.png"], ["fox"], [512], [9]).to_json(path.stat().st_size)
    path.with_name("s.tar.index.json").write_bytes(index)
    assert shards.open_shard(path, "s").labels == ["fox"]
    shard(path, ["dog", "cat"])
    os.utime(path.with_name("s.tar.index.json"), ns=(0, path.stat().st_mtime_ns - 1))
    assert shards.open_shard(path, "s").labels == ["dog", "cat"]


def test_an_index_spares_the_walk_and_must_be_of_its_shard(tmp_path: Path, monkeypatch) -> None:
    path = shard(tmp_path / "s.tar", LABELS)
    shards.open_shard(path, "s")
    monkeypatch.setattr(shards, "walk_shard", None)
    assert len(shards.open_shard(path, "s").names) == 8  # from the cache
    beside = path.with_name("s.tar.index.json")
    beside.write_bytes(shards.Index(["x.png"], ["1"], [512], [9]).to_json(path.stat().st_size))
    assert shards.open_shard(path, "s").names == ["s/x.png"]
    for index, complaint in (
        (shards.Index(["x.png"], ["1"], [512], [9]).to_json(77), "of a shard of 77 bytes"),
        (shards.Index(["x.png"], ["1"], [512], [2**40]).to_json(path.stat().st_size), "leads outside its shard"),
        (shards.Index(["x.png"], ["1"], [-1], [9]).to_json(path.stat().st_size), "leads outside its shard"),
        (shards.Index(["x.png"], ["\ud800"], [1], [9]).to_json(path.stat().st_size), "is no index"),
        (shards.Index(["x.png"], [], [1], [9]).to_json(path.stat().st_size), "is no index"),
        (b"[" * 99_999, "is no index"),
        (b'{"vitreous_index": 1, "names": [], "labels": [], "offsets": [], "lengths": []}', "it lacks 'bytes'"),
    ):
        beside.write_bytes(index)
        with pytest.raises(DataError, match=complaint):
            shards.open_shard(path, "s")


def test_hard_links_in_a_tar_are_what_they_lead_to_and_others_are_counted(tmp_path: Path) -> None:
    path = shard(tmp_path / "s.tar", ["cat", "dog"])
    with tarfile.open(path, "a") as file:
        for name, kind, target in (
            ("t0.png", tarfile.LNKTYPE, "s1.png"),
            ("t0.cls", tarfile.LNKTYPE, "s1.cls"),
            ("t1.png", tarfile.LNKTYPE, "t0.png"),
            ("t1.cls", tarfile.LNKTYPE, "t0.cls"),
            ("u.png", tarfile.LNKTYPE, "nowhere.png"),
            ("v.png", tarfile.SYMTYPE, "s1.png"),
            ("v.txt", tarfile.SYMTYPE, "s1.png"),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            file.addfile(member)
    for _ in range(2):  # the second time from the cache
        listing = list_packed(path).train
        assert dict(zip(listing.names, listing.labels, strict=True)) == {
            "s.tar/s0.png": "cat", "s.tar/s1.png": "dog", "s.tar/t0.png": "dog", "s.tar/t1.png": "dog"
        }  # fmt: skip
        images = [listing.reader.read(number, 10**6) for number in range(4)]
        assert images == [encoded(picture(place)) for place in (0, 1, 1, 1)]
        assert listing.notes[0].startswith("2 links in tar files were left out")


def test_hostile_tars_get_one_line(tmp_path: Path) -> None:
    image = encoded(picture(0))
    escape = open_source(str(tar(tmp_path / "e.tar", {"../../../etc/x.png": image, "../../../etc/x.cls": b"1"})))
    assert escape.read(0) == image  # a name is never a path
    link = tmp_path / "link.tar"
    with tarfile.open(link, "w") as file:
        member = tarfile.TarInfo("s.png")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(member)
    with pytest.raises(DataError, match="no images"):
        open_source(str(link))
    huge = tarfile.TarInfo("././@LongLink")
    huge.type, huge.size = tarfile.GNUTYPE_LONGNAME, 2**40
    wide = tarfile.TarInfo("s.png")
    wide.size = 2**40
    name = tarfile.TarInfo("././@LongLink")
    name.type, name.size = tarfile.GNUTYPE_LONGNAME, 2
    (tmp_path / "n.tar").write_bytes((name.tobuf(tarfile.GNU_FORMAT) + b"a".ljust(512, b"\0")) * 1500 + bytes(1024))
    with pytest.raises(DataError, match="a member has hundreds of headers"):
        open_source(str(tmp_path / "n.tar"))
    for header, complaint in ((huge, "a header of 1,099,511,627,776 bytes"), (wide, "is cut off: s.png ends")):
        (tmp_path / "h.tar").write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
        with pytest.raises(DataError, match=complaint):
            open_source(str(tmp_path / "h.tar"))


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ({"x.png": b"1", "y.png": b"2", "y.cls": b"3"}, r"x\.png without x\.cls"),
        ({"x.png": b"1", "x.jpg": b"2", "x.cls": b"3"}, "a sample has one image"),
        ({"x.png": b"1", "x.cls": b"3" * 2000}, "it must hold a class"),
        ({"x.png": b"1", "x.cls": b"\xff"}, "can't be read"),
        (
            {"x.png": b"1", "x.json": b'{"label": "\\ud800"}'},
            r"x\.json holds '\\ud800'; it must hold the number or the name",
        ),
        ({"x.png": b"1", "x.json": b'{"label": ""}'}, "it must hold the number or the name"),
        ({"x.png": b"1", "x.json": b'{"label": "\\u001b[31m"}'}, "it must hold the number or the name"),
        ({"x.png": b"1"}, "have no labels"),
        ({"x.txt": b"1"}, r"holds no images|have no labels"),
    ],
)
def test_shards_that_are_wrong(members: dict[str, bytes], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=complaint):
        open_source(str(tar(tmp_path / "s.tar", members)))


@pytest.mark.parametrize("name", ["train.tar", "train.parquet"])
def test_files_that_are_something_else_or_cut_off(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(np.random.default_rng(0).bytes(2000))
    with pytest.raises(DataError, match=name):
        open_source(str(path))
    content = both(tmp_path / "b", name[6:]).joinpath("train-0" + path.suffix).read_bytes()
    image = content.find(encoded(picture(5)))
    path.write_bytes(content[: image + 20 if image > 0 else len(content) * 2 // 3])
    with pytest.raises(DataError, match=name):
        open_source(str(path))


def test_a_tar_that_is_damaged_or_ends_between_its_members(tmp_path: Path) -> None:
    path = shard(tmp_path / "train.tar", LABELS)
    with tarfile.open(path) as file:
        offset = file.getmembers()[9].offset
    whole = path.read_bytes()
    overwrite(path, offset + 150, b"\xff")
    with pytest.raises(DataError, match=rf"is damaged behind byte {offset:,}: expected a member's header"):
        open_source(str(path))
    for end in (offset, offset + 100):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError, match=rf"is cut off behind byte {offset:,}"):
            open_source(str(path))
    path.write_bytes(
        whole.rstrip(b"\0")[: 512 * 999].ljust(-(-len(whole.rstrip(b"\0")) // 512) * 512, b"\0") + bytes(512)
    )
    assert len(open_source(str(path))) == len(LABELS)  # one block of zeros is an end


def test_a_tar_with_sparse_members_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    with (tmp_path / "cat" / "night.bmp").open("wb") as file:
        file.write(b"BM")
        file.truncate(2**20)
    subprocess.run(["tar", "cSf", tmp_path / "s.tar", "-C", tmp_path, "cat"], check=True)
    with pytest.raises(DataError, match=r"holds cat/night\.bmp with holes; pack it anew without --sparse"):
        open_source(str(tmp_path / "s.tar"))


def test_a_file_that_goes_away_or_changes_is_noticed(tmp_path: Path) -> None:
    path = shard(tmp_path / "train.tar", LABELS)
    source = open_source(str(path))
    shard(path, [*LABELS, 1])
    with pytest.raises(ImageError, match=r"train\.tar/s0\.png: .* has changed since it was listed"):
        source.read(0)
    path.unlink()
    with pytest.raises(ImageError, match="can't read"):
        source.read(0)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda folder: (folder / "train-labels-idx1-ubyte").unlink(), "without train-labels-idx1-ubyte"),
        (lambda folder: (folder / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03"), "shorter than its header"),
        (lambda folder: _cut(folder / "train-images-idx3-ubyte", 1), "its header says"),
        (lambda folder: overwrite(folder / "train-images-idx3-ubyte", 3, b"\x01"), "begins with 00000801"),
        (lambda folder: overwrite(folder / "train-images-idx3-ubyte", 4, b"\xff\xff\xff\xff"), "its header says"),
        (lambda folder: idx(folder, "train", np.zeros((3, 2, 2)), np.zeros(2)), "3 images, but .* 2 labels"),
    ],
)
def test_idx_files_that_are_wrong(spoil, complaint: str, tmp_path: Path) -> None:
    idx(tmp_path, "train", np.zeros((4, 2, 2)), np.arange(4))
    spoil(tmp_path)
    with pytest.raises(DataError, match=complaint):
        open_source(str(tmp_path))


def test_a_compressed_bomb_and_a_torn_one(tmp_path: Path) -> None:
    idx(tmp_path, "train", np.zeros((4, 2, 2)), np.arange(4), ".gz")
    path = tmp_path / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(DataError, match=r"can't be unpacked|holds fewer"):
        open_source(str(tmp_path))
    path.write_bytes(gzip.compress(struct.pack(">4I", 0x803, 2**31, 1000, 1000) + bytes(100)))
    with pytest.raises(DataError, match="unpack it with gunzip"):
        open_source(str(tmp_path))
    path.write_bytes(gzip.compress(struct.pack(">4I", 0x803, 4, 2, 2) + bytes(10_000_000)))
    with pytest.raises(DataError, match="holds more than the 32 bytes"):
        open_source(str(tmp_path))


def test_more_images_than_a_file_has_bytes_for_get_no_names(tmp_path: Path) -> None:
    idx(tmp_path, "train", np.zeros((100_001, 1, 1)), np.zeros(100_001), ".gz")
    with pytest.raises(
        DataError, match=r"says that it holds 100,001 images, in .* bytes; expected at least 8 bytes an image"
    ):
        open_source(str(tmp_path))


def test_binary_pixels_can_be_written_to(tmp_path: Path) -> None:  # else torch warns of each
    idx(tmp_path, "train", np.zeros((4, 2, 2)), np.arange(4))
    assert open_source(str(tmp_path)).read(0).flags.writeable


def test_cifar_files_that_are_wrong(tmp_path: Path) -> None:
    cifar(tmp_path / "data_batch_1.bin", np.zeros((2, 32, 32, 3), np.uint8), np.array([3, 10]))
    with pytest.raises(DataError, match="has class 10; there are 10"):
        open_source(str(tmp_path))
    _cut(tmp_path / "data_batch_1.bin", 1)
    with pytest.raises(DataError, match="expected a multiple of 3,073"):
        open_source(str(tmp_path))
    cifar(tmp_path / "data_batch_1.bin", np.zeros((2, 32, 32, 3), np.uint8), np.array([3, 1]))
    (tmp_path / "batches.meta.txt").write_text("cat\ndog\n")
    with pytest.raises(DataError, match="has 2 names; expected 10"):
        open_source(str(tmp_path))


def _cut(path: Path, count: int) -> None:
    path.write_bytes(path.read_bytes()[:-count])
