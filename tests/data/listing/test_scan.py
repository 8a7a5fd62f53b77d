"""The scan: each file once, cached by name, length and time; what it finds is reported, nothing is dropped in silence."""

import os
from pathlib import Path

import pytest
from tests.support.packs import shard
from tests.support.pictures import BROKEN, ODD, encoded, picture, tree, write

from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.data.listing import scan as room
from vitreous.data.listing.discovery import list_data
from vitreous.data.listing.listing import Listing
from vitreous.data.listing.scan import Record, cache_file, scan
from vitreous.data.sources.packed_data import list_packed
from vitreous.errors import DataError
from vitreous.images.config import DecodeConfig

LIMITS = DecodeConfig()


@pytest.fixture
def opened(monkeypatch):
    """Names of the files that the scan opens."""
    names, honest = [], room.read
    monkeypatch.setattr(room, "read", lambda path, config: names.append(path.name) or honest(path, config))
    return names


def look(root, verify="full", config=LIMITS):
    listing, _ = list_data(root)
    return dict(zip(listing.names, scan(listing, config, verify), strict=True))


def touch(path, seconds):
    os.utime(path, ns=(0, path.stat().st_mtime_ns + int(seconds * 1e9)))


def test_odd_images_are_sound(tmp_path):
    for name, data in ODD.items():
        write(tmp_path / "a" / name, data)
    found = {name.removeprefix("a/"): record for name, record in look(tmp_path).items()}
    assert {name: (one.rows, one.cols, one.mode, one.format, one.error) for name, one in found.items()} == {
        "one.png": (1, 1, "RGB", "PNG", ""),
        "cmyk.jpg": (8, 10, "CMYK", "JPEG", ""),
        "deep.png": (8, 10, "I;16", "PNG", ""),
        "moving.gif": (8, 10, "P", "GIF", ""),
        "really-a-png.jpg": (8, 10, "RGB", "PNG", ""),
        "long.png": (1, 300, "RGB", "PNG", ""),
    }


@pytest.mark.parametrize("name", BROKEN)
def test_broken_images_say_why(tmp_path, name):
    data, words = BROKEN[name]
    write(tmp_path / "a" / name, data)
    record = look(tmp_path)[f"a/{name}"]
    assert words in record.error
    assert name in record.error
    assert "\n" not in record.error
    assert record == Record(error=record.error)


def test_headers_alone_miss_what_only_pixels_show(tmp_path):
    write(tmp_path / "a" / "truncated.png", BROKEN["truncated.png"][0])
    write(tmp_path / "a" / "text.jpg", BROKEN["text.jpg"][0])
    found = look(tmp_path, verify="header")
    assert found["a/truncated.png"].error == ""
    assert found["a/text.jpg"].error


def test_a_second_scan_opens_nothing(tmp_path, opened):
    tree(tmp_path, a=3, b=2)
    write(tmp_path / "a" / "broken.png", b"no image")
    first = look(tmp_path)
    assert sorted(opened) == ["0.png", "0.png", "1.png", "1.png", "2.png", "broken.png"]
    opened.clear()
    assert look(tmp_path) == first
    assert opened == []


def test_a_changed_file_is_opened_again(tmp_path, opened):
    tree(tmp_path, a=3, b=3)
    look(tmp_path)
    opened.clear()
    changed, longer, new = (tmp_path / "a" / name for name in ("0.png", "1.png", "new.png"))
    touch(changed, 1)
    write(longer, encoded(picture(50, 9, 9)))
    write(new, seed=51)
    (tmp_path / "b" / "0.png").unlink()
    found = look(tmp_path)
    assert sorted(opened) == ["0.png", "1.png", "new.png"]
    assert (found["a/1.png"].rows, found["a/1.png"].cols) == (9, 9)
    opened.clear()
    look(tmp_path)
    assert opened == []


def test_mended_files_are_seen(tmp_path):
    path = write(tmp_path / "a" / "0.png", b"")
    assert look(tmp_path)["a/0.png"].error
    write(path, seed=1)
    assert not look(tmp_path)["a/0.png"].error


def test_other_limits_are_another_cache(tmp_path):
    tree(tmp_path, a=1)
    assert not look(tmp_path)["a/0.png"].error
    assert "more than the limit of 79" in look(tmp_path, config=DecodeConfig(max_pixels=79))["a/0.png"].error
    assert not look(tmp_path)["a/0.png"].error


def test_what_is_installed_later_is_another_cache(tmp_path, monkeypatch):
    write(tmp_path / "a" / "0.png", b"no image")
    look(tmp_path)
    mended = encoded(picture(1))
    monkeypatch.setattr(room, "read", lambda path, config: mended)
    assert look(tmp_path)["a/0.png"].error
    monkeypatch.setattr(room, "list_formats", lambda: ("PNG", "HEIF", "a new one"))
    assert not look(tmp_path)["a/0.png"].error


def test_an_error_of_the_disk_is_not_kept(tmp_path, monkeypatch):
    tree(tmp_path, a=1)

    def fail(path):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", fail)
        assert "Input/output error" in look(tmp_path)["a/0.png"].error
    assert not look(tmp_path)["a/0.png"].error


@pytest.mark.parametrize("damage", [b"", b"garbage", b"0" * 32 + b'\n[["a"]]'])
def test_a_damaged_cache_costs_only_time(tmp_path, opened, damage):
    tree(tmp_path, a=2)
    first = look(tmp_path)
    cache_file(Listing(tmp_path), LIMITS, "full").write_bytes(damage)
    opened.clear()
    assert look(tmp_path) == first
    assert len(opened) == 2


def test_a_flipped_byte_of_the_cache_is_noticed(tmp_path, opened):
    tree(tmp_path, a=2)
    first = look(tmp_path)
    cache = cache_file(Listing(tmp_path), LIMITS, "full")
    data = bytearray(cache.read_bytes())
    data[-20] ^= 1
    cache.write_bytes(data)
    opened.clear()
    assert look(tmp_path) == first
    assert len(opened) == 2


def test_without_a_place_for_the_cache(tmp_path, monkeypatch):
    tree(tmp_path / "data", a=2)
    write(tmp_path / "file", b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert not look(tmp_path / "data")["a/0.png"].error
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert not look(tmp_path / "data")["a/0.png"].error


def test_an_interrupted_scan_is_kept(tmp_path, monkeypatch, opened):
    tree(tmp_path, a=200)
    monkeypatch.setattr(room, "CHUNK", 10)
    listing, _ = list_data(tmp_path)

    def stop(done, total):
        assert total == 200
        if done >= 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(listing, LIMITS, "full", stop)
    opened.clear()
    assert len(look(tmp_path)) == 200
    assert len(opened) <= 110


def test_progress_runs_to_the_end(tmp_path):
    tree(tmp_path, train__a=3, train__b=2, val__a=1, val__b=1)
    fresh, cached = [], []
    for told in (fresh, cached):
        open_dataset(DataConfig(str(tmp_path)), progress=lambda *now, told=told: told.append(now))
        assert told[-1] == (7, 7)
        assert [done for done, _ in told] == sorted(done for done, _ in told)
        assert {total for _, total in told} == {7}


def test_the_report_counts_sizes_modes_and_formats(tmp_path):
    tree(tmp_path, train__a=3, train__b=2, val__a=1, val__b=1)
    write(tmp_path / "train" / "a" / "big.jpg", encoded(picture(90, 30, 40), "JPEG"))
    write(tmp_path / "train" / "a" / "grey.png", encoded(picture(91, 8, 10, 1)))
    report = open_dataset(DataConfig(str(tmp_path))).report
    assert (report.train, report.validation) == (7, 2)
    assert (report.counts, report.validation_counts) == ({"a": 5, "b": 2}, {"a": 1, "b": 1})
    assert report.sizes == {"8x10": 8, "30x40": 1}
    assert (report.smallest, report.median, report.largest) == ("8x10", "8x10", "30x40")
    assert report.modes == {"RGB": 8, "L": 1}
    assert report.formats == {"PNG": 8, "JPEG": 1}
    text = str(report)
    assert "7 for training, 2 for validation" in text
    assert "8x10 (median; 8x10 to 30x40)" in text


def test_images_in_both_parts_are_reported(tmp_path):
    tree(tmp_path, train__a=2, train__b=2, val__a=2, val__b=2)
    write(tmp_path / "val" / "b" / "copy.png", (tmp_path / "train" / "b" / "1.png").read_bytes())
    report = open_dataset(DataConfig(str(tmp_path))).report
    assert ("train/b/1.png", "val/b/copy.png") in report.duplicates
    assert report.conflicts == ()
    assert "in training and in validation" in str(report)


def test_the_same_image_under_two_labels_is_reported(tmp_path):
    tree(tmp_path, a=4, b=4)
    write(tmp_path / "b" / "copy.png", (tmp_path / "a" / "1.png").read_bytes())
    report = open_dataset(DataConfig(str(tmp_path))).report
    assert {frozenset(pair) for pair in report.conflicts} == {frozenset(["a/1.png", "b/copy.png"])}
    assert "same image, different labels" in str(report)


def test_names_that_would_break_a_line_are_escaped(tmp_path):
    tree(tmp_path, a=3, b=3)
    for place in ("a/a\nb.png", "b/\x1b[31mred.png"):
        (tmp_path / place).write_bytes((tmp_path / "a" / "0.png").read_bytes())
    text = str(open_dataset(DataConfig(str(tmp_path))).report)
    assert "\x1b" not in text
    assert "a\\nb" in text


def test_raise_names_the_broken_files(tmp_path):
    tree(tmp_path, a=5, b=5)
    for name, (data, _) in BROKEN.items():
        write(tmp_path / "a" / name, data)
    with pytest.raises(DataError, match=r"5 of 15 images can't be read: .*; and 2 more\. .*--broken skip"):
        open_dataset(DataConfig(str(tmp_path)))


def test_skip_leaves_them_out_and_lists_them(tmp_path):
    tree(tmp_path, a=5, b=5)
    for name, (data, _) in BROKEN.items():
        write(tmp_path / "a" / name, data)
    found = open_dataset(DataConfig(str(tmp_path), broken="skip"))
    assert len(found.train) + len(found.validation) == 10
    assert {name for name, _ in found.report.broken} == {f"a/{name}" for name in BROKEN}
    assert found.train.skipped == found.report.broken
    assert "5 left out" in str(found.report)


def test_a_class_that_loses_all_its_images_is_named(tmp_path):
    tree(tmp_path, a=3, b=3)
    write(tmp_path / "c" / "0.png", b"")
    found = open_dataset(DataConfig(str(tmp_path), broken="skip"))
    assert found.facts.classes == ("a", "b")
    assert "classes that lost all their images, as none can be read: c" in found.report.notes


def test_nothing_but_broken_images(tmp_path):
    for name, (data, _) in BROKEN.items():
        write(tmp_path / "a" / name, data)
    for broken in ("raise", "skip"):
        with pytest.raises(DataError, match=r"none of the 5 images in .* can be read"):
            open_dataset(DataConfig(str(tmp_path), broken=broken))


def test_the_cache_of_packed_files_is_that_of_their_place(tmp_path, monkeypatch):
    found = []
    for name in ("one", "two"):
        shard(tmp_path / name / "s.tar", ["a", "b"])
        monkeypatch.chdir(tmp_path / name)
        found += [
            cache_file(list_packed(path).train, DecodeConfig(), "full")
            for path in (Path("s.tar"), tmp_path / name / "s.tar")
        ]
    assert found[0] == found[1] != found[2] == found[3]
