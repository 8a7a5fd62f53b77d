"""What this machine's processor can compute."""

import pytest
import torch

from vitreous.runtime.device import computes_bf16

needs_bf16 = pytest.mark.skipif(
    not computes_bf16(torch.device("cpu")), reason="this processor doesn't compute in bfloat16"
)
