"""Deterministic kernels on a GPU: what is set, for how long, and what is said of an operation without one."""

import os
import subprocess
import sys

import pytest
import torch

from vitreous.errors import ConfigError
from vitreous.runtime.determinism import WORKSPACE, compute_deterministically

GPU, CPU = torch.device("cuda"), torch.device("cpu")


def settings():
    strict = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    return (*strict, torch.utils.deterministic.fill_uninitialized_memory)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.delenv(WORKSPACE[0], raising=False)


@pytest.mark.parametrize("outside", [(False, False), (True, True)])
def test_kernels_are_deterministic_inside_and_as_before_after(outside, monkeypatch):
    torch.use_deterministic_algorithms(outside[0], warn_only=outside[1])
    try:
        before = settings()
        with compute_deterministically(GPU):
            assert settings() == (True, False, False)
            assert os.environ[WORKSPACE[0]] == ":4096:8"
        assert settings() == before
        with pytest.raises(KeyError), compute_deterministically(GPU):
            raise KeyError
        assert settings() == before
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_workspace_that_is_set_stays(monkeypatch):
    monkeypatch.setenv(WORKSPACE[0], ":16:8")
    with compute_deterministically(GPU):
        assert os.environ[WORKSPACE[0]] == ":16:8"


@pytest.mark.parametrize(("device", "on"), [(CPU, True), (GPU, False)])
def test_nothing_is_set_on_a_cpu_or_unasked(device, on):
    before = settings()
    with compute_deterministically(device, on=on):
        assert settings() == before
    assert WORKSPACE[0] not in os.environ


def test_an_operation_without_a_deterministic_kernel_is_named():
    """By torch's own words, which it has for operations on a CPU too."""
    values = torch.ones(1, 1, 4, 4, 4)
    said = r"^\S+ has no deterministic kernel on a GPU; begin the run without --deterministic$"
    with pytest.raises(ConfigError, match=said), compute_deterministically(GPU):
        torch.ones(4).put_(torch.tensor([1]), values[0, 0, 0, 0, :1])
    said = r"^the GPU was used in this process before .* set CUBLAS_WORKSPACE_CONFIG=:4096:8 in the environment$"
    with pytest.raises(ConfigError, match=said), compute_deterministically(GPU):
        raise RuntimeError("Deterministic behavior was enabled with ... set CUBLAS_WORKSPACE_CONFIG=:4096:8 or ...")
    with pytest.raises(RuntimeError, match=r"^another$"), compute_deterministically(GPU):
        raise RuntimeError("another")


GPU_RUNS = """
import hashlib, sys, pathlib
import vitreous
for name in "ab":
    run = vitreous.train("formula:fractals?classes=4&images=40", recipe="plain-s16", out=sys.argv[1] + "/" + name,
        settings={"duration": "6st", "batch": 64, "precision": "bf16", "device": "cuda", "deterministic": True})
    print(hashlib.sha256(pathlib.Path(run.model, "model.safetensors").read_bytes()).hexdigest())
"""


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
def test_two_runs_on_a_gpu_end_at_the_same_bits(tmp_path):
    done = subprocess.run([sys.executable, "-c", GPU_RUNS, tmp_path], check=True, capture_output=True, text=True)
    first, second = done.stdout.split()[-2:]
    assert first == second
