"""The most operations per second that a GPU can do, with which its utilisation is compared."""

import torch

BF16 = (
    ("B200", 2.25e15),
    ("H200", 9.89e14),
    ("GH200", 9.89e14),
    ("H100 PCIe", 7.56e14),
    ("H100 NVL", 8.35e14),
    ("H100", 9.89e14),
    ("A100", 3.12e14),
    ("L40S", 3.62e14),
    ("L4", 1.21e14),
    ("A40", 1.497e14),
    ("A30", 1.65e14),
    ("A10", 1.25e14),
)
"""Part of a GPU's name (the first match counts), and its operations per second in bfloat16 without sparsity, by
NVIDIA's data sheets."""


def find_peak_rate(device: torch.device, precision: str) -> float | None:
    """Return the most operations per second of a device, two per multiply-add; None if unknown."""
    if device.type != "cuda" or precision != "bf16":
        return None
    words = torch.cuda.get_device_name(device).split()
    return next((rate for name, rate in BF16 if set(name.split()) <= set(words) or name in words[-1:]), None)
