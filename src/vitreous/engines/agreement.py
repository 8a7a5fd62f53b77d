"""How close the outputs of a faster way to compute must be to the model's own."""

import torch
from torch import Tensor

NEAR = {torch.float32: 1e-5, torch.bfloat16: 0.05}
"""Largest difference as a share of the largest output, by precision."""


def measure_distance(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference as a share of the largest expected value."""
    most = float(expected.abs().max())
    return float((found - expected).abs().max()) / (most or 1.0)
