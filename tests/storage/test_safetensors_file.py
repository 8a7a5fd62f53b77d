"""Tensors written and read back, against the safetensors library in both directions."""

import hashlib
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vitreous.errors import CheckpointError
from vitreous.storage.hashing import file_hash
from vitreous.storage.safetensors_file import DTYPES, load_tensors, map_tensors, save_tensors
from vitreous.weights.compatibility import check_finite

shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(lambda name: name != "__metadata__")


@st.composite
def tensors(draw):
    dtype, shape = draw(st.sampled_from(list(DTYPES.values()))), draw(shapes)
    count = torch.Size(shape).numel() * dtype.itemsize
    if dtype is torch.bool:
        return torch.tensor(draw(st.lists(st.booleans(), min_size=count, max_size=count)), dtype=dtype).reshape(shape)
    raw = draw(st.binary(min_size=count, max_size=count))
    flat = torch.frombuffer(bytearray(raw), dtype=torch.uint8) if count else torch.zeros(0, dtype=torch.uint8)
    return flat.view(dtype).reshape(shape)


def raw(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).tolist() if tensor.numel() else []


def same(left, right):
    return left.dtype == right.dtype and left.shape == right.shape and raw(left) == raw(right)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(names, tensors(), max_size=6), st.dictionaries(names, st.text(max_size=5), max_size=3))
def test_every_bit_comes_back(tmp_path, given_tensors, metadata):
    path = tmp_path / "a.safetensors"
    digest = save_tensors(path, given_tensors, metadata)
    ours, read = load_tensors(path)
    theirs = safetensors.torch.load_file(path)
    assert read == {"format": "pt", **metadata}
    assert set(ours) == set(theirs) == set(given_tensors)
    for name, tensor in given_tensors.items():
        assert same(ours[name], tensor)
        assert same(theirs[name], tensor)
    assert digest == file_hash(path) == hashlib.sha256(path.read_bytes()).hexdigest()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(names, tensors(), max_size=4))
def test_what_the_library_wrote_is_read(tmp_path, given_tensors):
    path = tmp_path / "b.safetensors"
    safetensors.torch.save_file({name: tensor.clone() for name, tensor in given_tensors.items()}, path)
    ours, _ = load_tensors(path)
    assert set(ours) == set(given_tensors)
    assert all(same(ours[name], tensor) for name, tensor in given_tensors.items())


def test_shared_and_strided_tensors_are_written_in_full(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    given_tensors = {
        "base": base,
        "turned": base.t(),
        "part": base[:, 1:3],
        "wide": base[:1].expand(5, 4),
        "same": base,
    }
    save_tensors(tmp_path / "a", given_tensors)
    ours, _ = load_tensors(tmp_path / "a")
    assert all(torch.equal(ours[name], tensor) for name, tensor in given_tensors.items())


def test_parameters_on_a_graph_are_written(tmp_path):
    layer = torch.nn.Linear(2, 2)
    save_tensors(tmp_path / "a", {"weight": layer.weight, "twice": layer.weight * 2})
    assert torch.equal(load_tensors(tmp_path / "a")[0]["twice"], layer.weight.detach() * 2)


def test_writing_to_a_loaded_tensor_leaves_the_file(tmp_path):
    save_tensors(tmp_path / "a", {"x": torch.zeros(1000)})
    load_tensors(tmp_path / "a")[0]["x"].add_(1)
    assert load_tensors(tmp_path / "a")[0]["x"].sum() == 0


def test_loaded_tensors_outlive_the_file(tmp_path):
    save_tensors(tmp_path / "a", {"x": torch.arange(100_000)})
    loaded = load_tensors(tmp_path / "a")[0]["x"]
    save_tensors(tmp_path / "a", {"x": torch.zeros(5)})
    assert torch.equal(loaded, torch.arange(100_000))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kernel doesn't say how much memory is whose")
def test_loading_maps_and_does_not_copy(tmp_path):
    def anonymous() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

    save_tensors(tmp_path / "a", {"x": torch.ones(16 * 2**20)})
    before = anonymous()
    loaded, _ = load_tensors(tmp_path / "a")
    assert loaded["x"].sum() == 16 * 2**20
    assert anonymous() - before < 8 * 2**20  # the tensor is 64 MiB


def peak_of(action) -> float:
    """Return by how many MiB an action raises the peak of what is resident."""

    def status(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name))

    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = status("VmRSS")
    action()
    return (status("VmHWM") - before) / 1024


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel doesn't say how much is resident")
def test_looking_for_nan_leaves_a_file_outside_memory(tmp_path):
    save_tensors(tmp_path / "a", {"x": torch.ones(12 * 2**20), "y": torch.ones(12 * 2**20)})  # 96 MiB
    loaded = map_tensors(tmp_path / "a")
    assert peak_of(lambda: check_finite(loaded.tensors, "a", [loaded.map])) < 32
    assert peak_of(lambda: loaded.tensors["x"].sum()) > 32
    assert loaded.tensors["y"].sum() == 12 * 2**20


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e5m2])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 1_500_000, 2_999_999])
def test_one_value_that_is_not_finite_is_found_anywhere(tmp_path, dtype, value, place):
    tensor = torch.zeros(3, 1_000_000).to(dtype)
    tensor.view(-1)[place] = value
    save_tensors(tmp_path / "a", {"good": torch.full((5,), 3e38), "bad": tensor, "count": torch.arange(3)})
    loaded = map_tensors(tmp_path / "a")
    with pytest.raises(CheckpointError, match="a: bad has 1 of 3000000 values NaN or infinite"):
        check_finite(loaded.tensors, "a", [loaded.map])


def test_the_first_ruined_tensor_is_named_whichever_thread_finds_it(tmp_path, monkeypatch):
    monkeypatch.setattr("vitreous.weights.compatibility.LARGE", 0)
    tensors = {str(index): torch.full((1000,), float("nan") if index > 3 else 1.0) for index in range(40)}
    with pytest.raises(CheckpointError, match="a: 4 has 1000"):
        check_finite(tensors, "a")


def test_tensors_of_our_own_files_lie_as_torch_lays_them_and_others_stay_mapped(tmp_path):
    tensors = {"ragged": torch.ones(3), "whole": torch.ones(64)}
    save_tensors(tmp_path / "a", tensors | {"more": torch.ones(5)})
    assert all(tensor.data_ptr() % 64 == 0 for tensor in load_tensors(tmp_path / "a")[0].values())
    safetensors.torch.save_file(tensors, tmp_path / "b")
    loaded = map_tensors(tmp_path / "b", alignment=1)
    inside = range(loaded.map.start, loaded.map.start + len(loaded.map.bytes))
    assert all(tensor.data_ptr() in inside for tensor in loaded.tensors.values())
