"""Files and folders appear whole or not at all, whenever their writer dies."""

import errno
import fcntl
import os
import random
import signal
import time
from pathlib import Path

import pytest

from vitreous.errors import ConfigError, StorageError
from vitreous.storage import atomic
from vitreous.storage.atomic import (
    atomic_folder,
    check_new_folder,
    clear_partials,
    find_settled,
    recover_all,
    recover_folder,
    write_atomically,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_current_folder_and_the_root_can_be_read_and_not_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    for path in (Path(), Path("/")):
        assert find_settled(path) == path
        recover_folder(path)
        with pytest.raises(ConfigError, match="can't be replaced as a whole; name a new folder inside it"):
            check_new_folder(path)
    assert names(tmp_path) == ["file"]


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a"]


def test_a_failure_leaves_the_old_file_and_no_trace(tmp_path):
    path = tmp_path / "a"
    write_atomically(path, b"old")
    with pytest.raises(ZeroDivisionError), atomic.atomic_file(path) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_a_failure_leaves_the_old_folder_and_no_trace(tmp_path):
    path = tmp_path / "deep" / "a"
    with atomic_folder(path) as partial:
        (partial / "x").write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_folder(path) as partial:
        (partial / "x").write_text("half")
        raise ZeroDivisionError
    assert (path / "x").read_text() == "old"
    assert names(path.parent) == ["a"]


def test_a_folder_replaces_all_of_the_old_one(tmp_path):
    path = tmp_path / "a"
    for version in ("one", "two"):
        with atomic_folder(path) as partial:
            (partial / version).write_text(version)
    assert names(path) == ["two"]
    assert names(tmp_path) == ["a"]


def test_between_the_two_renames_the_old_folder_is_found(tmp_path):
    path, previous = tmp_path / "a", tmp_path / ".a.previous"
    previous.mkdir()
    assert find_settled(path) == previous
    recover_all(tmp_path)
    assert find_settled(path) == path
    previous.mkdir()
    recover_folder(path)
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize(
    "code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO, errno.EACCES, errno.EFBIG, errno.EXDEV]
)
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_every_failure_of_the_disk_says_what_and_what_to_do(tmp_path, monkeypatch, code, call):
    path = tmp_path / "a"
    write_atomically(path, b"old")

    def fail(*arguments, **options):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(*((os, "fsync") if call == "fsync" else (Path, "replace")), fail)
    with pytest.raises(StorageError) as caught:
        write_atomically(path, b"new")
    assert str(path) in str(caught.value)
    assert "untouched" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_a_full_device_is_a_storage_error():
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with (
        pytest.raises(StorageError, match="the disk is full"),
        atomic.translate_write_errors(Path("x")),
        Path("/dev/full").open("w") as file,
    ):
        file.write("x")


def test_a_file_in_the_way_of_a_folder(tmp_path):
    (tmp_path / "a").write_text("mine")
    with pytest.raises(StorageError, match="a file is where a folder is needed"), atomic_folder(tmp_path / "a"):
        pass
    assert (tmp_path / "a").read_text() == "mine"


def test_only_dead_leftovers_are_cleared(tmp_path):
    (tmp_path / ".a.12345678.partial").write_text("dead")
    (tmp_path / ".b.12345678.partial").mkdir()
    (tmp_path / ".b.12345678.partial" / "x").write_text("dead")
    (tmp_path / "c.partial").write_text("mine")
    living = tmp_path / ".d.12345678.partial"
    living.write_text("alive")
    with living.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        clear_partials(tmp_path)
        assert names(tmp_path) == [".d.12345678.partial", "c.partial"]


def test_a_name_clears_its_own_leftovers_only(tmp_path):
    (tmp_path / ".a.12345678.partial").write_text("dead")
    (tmp_path / ".b.12345678.partial").write_text("dead")
    clear_partials(tmp_path, "a")
    assert names(tmp_path) == [".b.12345678.partial"]


def test_killed_at_any_instant_the_old_or_the_new_opens(tmp_path):
    path, chance, end = tmp_path / "a", random.Random(0), time.monotonic() + 60
    rounds = 0
    while rounds < 25 or not path.exists():  # a busy machine may let the first children do nothing at all
        rounds += 1
        assert time.monotonic() < end, "nothing was ever written"
        child = os.fork()
        if child == 0:
            try:
                for version in range(10**6):
                    with atomic_folder(path) as partial:
                        (partial / "one").write_text(str(version))
                        (partial / "two").write_text(str(version))
            finally:
                os._exit(1)
        time.sleep(chance.uniform(0.002, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        here = find_settled(path)
        if here.exists():
            assert (here / "one").read_text() == (here / "two").read_text()
        recover_all(tmp_path)
        clear_partials(tmp_path)
        assert names(tmp_path) in (["a"], [])
