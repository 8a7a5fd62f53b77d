"""The processor, as the system reports it. Imports no torch."""

import platform
from pathlib import Path


def is_x86() -> bool:
    """Return whether the processor is a 64-bit x86 processor, such as Intel's and AMD's."""
    return platform.machine().lower() in ("x86_64", "amd64")


def read_cpu_vendor() -> str:
    """Return the processor's maker and model as the system reports them, such as "AuthenticAMD"; empty if it reports
    none."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
    except OSError:
        return platform.processor()


def read_cpu_model() -> str:
    """Return the processor's model name; empty if the system reports none."""
    return _read_entry("model name") or platform.processor()


def read_cpu_features() -> str:
    """Return the processor's instruction sets, by the system's short names; empty if it reports none."""
    return _read_entry("flags") or _read_entry("Features")


def _read_entry(wanted: str) -> str:
    lines = (line.partition(":") for line in read_cpu_vendor().splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == wanted), "")
