"""Files made to harm: each one clear line, at once, and without running or allocating what they claim."""

import json
import pickle
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vitreous.errors import CheckpointError
from vitreous.storage.safetensors_file import load_tensors, save_tensors


def file_of(header, data=b"", length=None):
    """Lay out a safetensors file that claims what it likes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def tensor(dtype="F32", shape=(2,), offsets=(0, 8), **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}


EIGHT = b"\0" * 8
HUGE = 2**60

HOSTILE = {
    "empty": (b"", "only 0 bytes"),
    "short": (b"\1\2\3", "only 3 bytes"),
    "text": (b"this is a letter to my grandmother", "not a safetensors file"),
    "zip": (b"PK\3\4" + b"\0" * 100, "looks like a pickle"),
    "pickle": (pickle.dumps({"a": 1}), "looks like a pickle"),
    "a header of 2^60 bytes": (file_of({}, length=HUGE), "claims 1,152,921,504,606,846,976 bytes"),
    "a header of 2^64 - 1 bytes": (file_of({}, length=2**64 - 1), "not a safetensors file, or was cut short"),
    "a header longer than the file": (file_of({"a": tensor()}, length=500), "not a safetensors file, or was cut short"),
    "no JSON": (file_of(b"{'a': 1}"), "its header is not JSON"),
    "no text": (file_of(b"\xff\xfe{}"), "its header is not JSON"),
    "deep JSON": (file_of(b"[" * 200_000), "its header is not JSON"),
    "a list": (file_of([1, 2]), "not a JSON object"),
    "a number of many digits": (file_of(b'{"a": ' + b"9" * 10_000 + b"}"), "its header is not JSON"),
    "the same name twice": (file_of(b'{"a": 1, "a": 2}'), "'a' is given twice"),
    "metadata of numbers": (file_of({"__metadata__": {"a": 1}}), "metadata must be text"),
    "an entry that is none": (file_of({"a": 5}, EIGHT), "tensor 'a' is not described by"),
    "an entry with more": (file_of({"a": tensor(run="me")}, EIGHT), "tensor 'a' is not described by"),
    "unknown dtype": (file_of({"a": tensor("F31")}, EIGHT), "unknown dtype 'F31'"),
    "dtype of a list": (file_of({"a": tensor([])}, EIGHT), r"unknown dtype \[\]"),
    "negative shape": (file_of({"a": tensor(shape=(-2,))}, EIGHT), r"impossible shape \[-2\]"),
    "negative shapes whose product fits": (file_of({"a": tensor(shape=(-1, -2))}, EIGHT), "impossible shape"),
    "shape of text": (file_of({"a": tensor(shape=("2",))}, EIGHT), "impossible shape"),
    "shape of truth": (file_of({"a": tensor(shape=(True, 2))}, EIGHT), "impossible shape"),
    "a shape of 2^70": (file_of({"a": tensor(shape=(2**70, 0), offsets=(0, 0))}), "impossible shape"),
    "a shape whose product overflows": (file_of({"a": tensor(shape=(2**32, 2**32))}, EIGHT), "needs .* bytes"),
    "offsets of 2^60": (file_of({"a": tensor(shape=(HUGE // 4,), offsets=(0, HUGE))}, EIGHT), "was cut short"),
    "offsets backwards": (file_of({"a": tensor(offsets=(8, 0))}, EIGHT), "impossible offsets"),
    "negative offsets": (file_of({"a": tensor(offsets=(-8, 0))}, EIGHT), "impossible offsets"),
    "three offsets": (file_of({"a": tensor(offsets=(0, 4, 8))}, EIGHT), "impossible offsets"),
    "wrong size for the dtype": (file_of({"a": tensor("F64")}, EIGHT), "needs 16 bytes for shape"),
    "overlap": (file_of({"a": tensor(), "b": tensor(offsets=(4, 12))}, b"\0" * 12), "tensor 'b' overlaps tensor 'a'"),
    "the same bytes twice": (file_of({"a": tensor(), "b": tensor()}, EIGHT), "overlaps"),
    "a gap": (file_of({"a": tensor(offsets=(4, 12))}, b"\0" * 12), "begins after a gap"),
    "cut short": (file_of({"a": tensor()}, EIGHT[:7]), "was cut short: its tensors take 8 bytes, but the file has 7"),
    "bytes that belong to no tensor": (file_of({"a": tensor()}, EIGHT * 2), "belong to no tensor"),
    "a name of a mebibyte": (file_of({"a" * 2**20: tensor("F31")}, EIGHT), "unknown dtype"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_each_is_one_clear_line(tmp_path, name):
    data, words = HOSTILE[name]
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_tensors(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < len(str(path)) + 300


def test_what_is_not_there_or_no_file(tmp_path):
    for path, words in ((tmp_path, "is a folder, not a file"), (tmp_path / "nothing", "can't read")):
        with pytest.raises(CheckpointError, match=words):
            load_tensors(path)


def test_an_empty_tensor_of_any_shape_is_harmless(tmp_path):
    (tmp_path / "a").write_bytes(file_of({"a": tensor(shape=(5, 0, 7), offsets=(0, 0))}))
    assert load_tensors(tmp_path / "a")[0]["a"].shape == (5, 0, 7)


def test_tensors_at_odd_addresses_are_read(tmp_path):
    header = {"a": tensor("U8", (1,), (0, 1)), "b": tensor("F32", (1,), (1, 5))}
    (tmp_path / "a").write_bytes(file_of(json.dumps(header).encode(), b"\7" + torch.tensor(2.5).numpy().tobytes()))
    loaded, _ = load_tensors(tmp_path / "a")
    assert (loaded["a"].item(), loaded["b"].item()) == (7, 2.5)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32))
def test_a_changed_byte_anywhere_never_escapes(tmp_path, seed):
    chance, path = random.Random(seed), tmp_path / "a"
    save_tensors(path, {"weight": torch.ones(3, 2), "bias": torch.zeros(3, dtype=torch.int8)}, {"note": "x"})
    data = bytearray(path.read_bytes())
    for _ in range(chance.randint(1, 4)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    path.write_bytes(data[: chance.choice([len(data), chance.randrange(len(data))])])
    try:
        loaded, _ = load_tensors(path)
    except CheckpointError as error:
        assert "\n" not in str(error)
    else:
        assert sum(item.numel() for item in loaded.values()) <= len(data)


FULL_DISK = """
    import json, os, subprocess, sys
    from pathlib import Path
    import torch
    from vitreous.errors import StorageError
    from vitreous.run_folder import Run, read_run

    disk, said = Path(sys.argv[1]), {}

    def fails(name, action):
        try:
            action()
        except StorageError as error:
            said[name] = str(error)

    run = Run.create(disk / "run", {})
    run.save_checkpoint(1, {"x": torch.ones(50_000)}, {})
    run.log({"step": 1})
    fails("checkpoint", lambda: run.save_checkpoint(2, {"x": torch.ones(500_000)}, {}))
    filler = (disk / "filler").open("wb", buffering=0)
    try:
        while filler.write(b"x" * 4096) == 4096:
            pass
    except OSError:
        pass
    fails("record", lambda: [run.log({"step": 2, "text": "x" * 5000}) for _ in range(3)])
    fails("create", lambda: Run.create(disk / "other", {"text": "x" * 9000}))
    said["other is left"] = (disk / "other").exists()
    filler.close()
    (disk / "filler").unlink()
    run.log({"step": 2})
    run.close()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    fails("open", lambda: Run.open(disk / "run"))
    fails("create on read-only", lambda: Run.create(disk / "third", {}))
    record = read_run(disk / "run")
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    with Run.open(disk / "run") as run:
        said["step"] = run.find_latest_checkpoint().step
        said["notices"] = run.notices
    said["metrics"] = [item["step"] for item in record.metrics]
    said["left"] = [path.name for path in disk.rglob(".*") if path.name != ".lock"]
    print(json.dumps(said))
"""


def test_a_disk_that_is_really_full_then_read_only_loses_nothing(tmp_path):
    disk, script = tmp_path / "disk", tmp_path / "script.py"
    disk.mkdir()
    script.write_text(textwrap.dedent(FULL_DISK))
    mount = f"mount -t tmpfs -o size=1m none '{disk}'"
    try:
        probe = subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("unshare is not installed")
    if probe.returncode:
        pytest.skip("this user can't mount a small disk")
    command = f"{mount} && '{sys.executable}' '{script}' '{disk}'"
    done = subprocess.run(["unshare", "-m", "sh", "-c", command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    for name in ("checkpoint", "record", "create"):
        assert "the disk is full. What was saved before is untouched; free some space" in said[name]
    assert "the file system is read-only" in said["open"]
    assert "the file system is read-only" in said["create on read-only"]
    assert said["other is left"] is False
    assert said["step"] == 1
    assert said["metrics"][0] == 1
    assert said["metrics"][-1] == 2
    assert said["notices"] == []
    assert said["left"] == []
    assert Path(disk).exists()
