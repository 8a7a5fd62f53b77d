"""What folders hold is known from one start to the next, and every change of it is noticed."""

import os
import shutil
import time

import pytest
from tests.support.pictures import tree, write

from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.data.listing import known_folders
from vitreous.data.listing.class_folders import list_classes
from vitreous.data.listing.known_folders import KnownFolders, sort_names


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Return a data set whose folders are kept, although it is small, and were changed long ago."""
    monkeypatch.setenv("VITREOUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(known_folders, "LEAST", 1)
    monkeypatch.setattr(known_folders, "SETTLED", 20_000_000)
    tree(tmp_path / "data", cat=3, cat__black=2, dog=2)
    return tmp_path / "data"


@pytest.fixture
def scanned(monkeypatch):
    """Return a list that grows by the name of each folder that is listed."""
    found, whole = [], known_folders.list_folder
    monkeypatch.setattr(known_folders, "list_folder", lambda folder: found.append(folder) or whole(folder))
    return found


def names(root, scanned):
    """Return the listing's names, and which folders were listed for it, a moment after the newest change."""
    scanned.clear()
    time.sleep(0.04)
    found = list_classes(root, stamps=False).names
    return found, sorted(os.path.relpath(folder, root) for folder in scanned)


def test_unchanged_folders_are_listed_once(root, scanned):
    first, listed = names(root, scanned)
    assert listed == [".", "cat", "cat/black", "dog"]
    assert names(root, scanned) == (first, [])
    assert list_classes(root).rows == tuple(
        row._replace(bytes=(root / row.name).stat().st_size, changed=(root / row.name).stat().st_ctime_ns)
        for row in list_classes(root, stamps=False).rows
    )


def replace_folder(root):
    tree(root.parent / "other", dog=1)
    shutil.rmtree(root / "dog")
    (root.parent / "other" / "dog").rename(root / "dog")


CHANGES = {
    "added": (lambda root: write(root / "dog" / "new.png"), {"dog/new.png"}, set(), ["dog"]),
    "removed": (lambda root: (root / "cat" / "1.png").unlink(), set(), {"cat/1.png"}, ["cat"]),
    "renamed": (lambda root: (root / "dog" / "0.png").rename(root / "dog" / "a.png"), {"dog/a.png"}, {"dog/0.png"}, ["dog"]),
    "moved": (
        lambda root: (root / "cat" / "0.png").rename(root / "dog" / "7.png"), {"dog/7.png"}, {"cat/0.png"}, ["cat", "dog"],
    ),
    "a folder added": (lambda root: tree(root, bird=1), {"bird/0.png"}, set(), [".", "bird"]),
    "a folder replaced": (replace_folder, set(), {"dog/1.png"}, [".", "dog"]),
    "a folder renamed": (
        lambda root: (root / "dog").rename(root / "wolf"),
        {"wolf/0.png", "wolf/1.png"}, {"dog/0.png", "dog/1.png"}, [".", "wolf"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_noticed_in_the_folder_where_it_is(root, scanned, what):
    change, more, fewer, where = CHANGES[what]
    before, _ = names(root, scanned)
    change(root)
    after, listed = names(root, scanned)
    assert set(after) == (set(before) | more) - fewer
    assert listed == where
    assert names(root, scanned) == (after, [])


def test_a_time_that_is_set_back_hides_nothing(root, scanned):
    before, _ = names(root, scanned)
    old = (root / "dog").stat()
    write(root / "dog" / "new.png")
    os.utime(root / "dog", ns=(old.st_atime_ns, old.st_mtime_ns))
    assert set(names(root, scanned)[0]) == {*before, "dog/new.png"}


def test_a_folder_that_changed_just_now_is_listed_again(root, scanned, monkeypatch):
    monkeypatch.setattr(known_folders, "SETTLED", 2 * 10**9)
    assert names(root, scanned)[1] == names(root, scanned)[1] == [".", "cat", "cat/black", "dog"]


def test_few_files_are_not_kept(root, scanned, monkeypatch):
    monkeypatch.setattr(known_folders, "LEAST", 1000)
    assert names(root, scanned) == names(root, scanned)
    assert not (root.parent / "cache" / "listings").exists()


@pytest.mark.parametrize("text", [b"", b"{}", b"no JSON", b"[1]", b'{"/cat": 3}', b'{"/cat": [["a"], ["b"]]}', b"\xff"])
def test_a_cache_of_something_else_counts_as_empty(root, scanned, text):
    first, all_folders = names(root, scanned)
    (file,) = (root.parent / "cache" / "listings").iterdir()
    file.write_bytes(text)  # without its hash
    assert names(root, scanned) == (first, all_folders)
    known_folders.write_cached(file, text)
    assert names(root, scanned) == (first, all_folders)


def test_where_links_lead_is_looked_at_each_time(root, scanned):
    write(root.parent / "elsewhere" / "1.png")
    (root / "dog" / "link").symlink_to(root.parent / "elsewhere")
    (root / "dog" / "9.png").symlink_to(root.parent / "elsewhere" / "1.png")
    assert {"dog/link/1.png", "dog/9.png"} <= set(names(root, scanned)[0])
    write(root.parent / "elsewhere" / "2.png")
    assert "dog/link/2.png" in names(root, scanned)[0]
    (root.parent / "elsewhere").rename(root.parent / "gone")
    assert not any(name.startswith("dog/link") for name in names(root, scanned)[0])
    assert [row.name for row in list_classes(root, stamps=False).rows if row.is_missing] == ["dog/9.png"]


def test_contents_of_the_same_name_are_noticed_as_before(root, scanned):
    tree(root, dog=4)
    first = open_dataset(DataConfig(str(root), broken="skip"))
    (root / "dog" / "0.png").write_bytes(b"no image")
    second = open_dataset(DataConfig(str(root), broken="skip"))
    assert [name for name, _ in second.report.broken] == ["dog/0.png"]
    assert not first.report.broken


def test_two_roots_are_apart_and_a_moved_one_is_listed_anew(root, scanned):
    before, _ = names(root, scanned)
    root.rename(root.parent / "moved")
    assert names(root.parent / "moved", scanned) == (before, [".", "cat", "cat/black", "dog"])


def test_names_are_sorted_by_bytes_whatever_they_are():
    odd = ["b", "é", "z", "\udcff", "\udc80a", "😀", "\ue000", "Z", "～"]
    assert sort_names(odd) == sorted(odd, key=os.fsencode)
    assert sort_names(odd[:3] + odd[5:]) == sorted(odd[:3] + odd[5:], key=os.fsencode)


def test_names_with_any_characters_come_back(root, scanned):
    for name in ("\udcff.png", 'a"\\b.png', "line\nbreak.png", "猫.png"):
        write(root / "dog" / name)
    first, _ = names(root, scanned)
    assert "dog/\udcff.png" in first
    assert names(root, scanned) == (first, [])
    there = [file.name for file in (root / "dog").iterdir()]
    assert KnownFolders(str(root)).list_entries(str(root / "dog")).files == sorted(there, key=os.fsencode)
