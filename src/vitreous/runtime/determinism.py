"""Make results bit-identical every time, on a GPU too."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vitreous.errors import ConfigError

WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
"""The setting that cuBLAS needs for this, by NVIDIA's documentation and torch's check."""
LACKING = " does not have a deterministic implementation"
"""How torch reports such an operation, after its name."""


def prepare_determinism() -> None:
    """Set the variable that cuBLAS reads once per process, at its first product; a setting of the caller's stays."""
    os.environ.setdefault(*WORKSPACE)


@contextmanager
def compute_deterministically(device: torch.device, *, on: bool = True) -> Iterator[None]:
    """Make a GPU compute the same bits every time within the block; a CPU does so anyway.

    Attention's backward pass is the main part that otherwise doesn't: cuDNN's kernels, which torch prefers, add up in any order.

    Raises:
        ConfigError: an operation has no deterministic kernel, or cuBLAS was used before with other settings.
    """
    if device.type != "cuda" or not on:
        yield
        return
    prepare_determinism()
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # it only helps to find faults, and takes time
    try:
        yield
    except RuntimeError as error:
        if WORKSPACE[0] in str(error):
            raise ConfigError(
                f"the GPU was used in this process before it was told to be deterministic; set {'='.join(WORKSPACE)} in the environment"
            ) from error
        if LACKING not in str(error):
            raise
        operation = str(error).partition(LACKING)[0].split()[-1]
        raise ConfigError(
            f"{operation} has no deterministic kernel on a GPU; begin the run without --deterministic"
        ) from error
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.utils.deterministic.fill_uninitialized_memory = filled
