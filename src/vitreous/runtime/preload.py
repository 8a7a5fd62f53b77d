"""torch's library, loaded on a second thread while the first one reads the command. Imports no torch."""

import ctypes
import os
import sys
import threading
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

LIBRARY = "libtorch_cpu.so"
"""By far torch's largest library; it needs nothing of Python."""
COMPILED = (
    "asyncio", "csv", "dataclasses", "datetime", "decimal", "grp", "hashlib", "json", "numpy", "PIL.Image", "queue", "random",
    "simplejpeg", "unicodedata",
)  # fmt: skip
"""Modules in compiled code, and those that import such, that a command needs before torch. The linker loads one library after the
other: each of them would wait for the large one to the end."""


def preload_torch() -> threading.Thread | None:
    """Begin to load torch's largest library, which `import torch` then finds loaded; return the thread that does.

    Loading and linking it takes a sixth to a quarter of that import, and needs no Python. A call through `ctypes` lets other
    threads run meanwhile, which an import wouldn't. Compiled modules come first (COMPILED). Does nothing on systems other than Linux, or if there is no such file.
    """
    if sys.platform != "linux" or "torch" in sys.modules:
        return None
    found = find_spec("torch")
    path = Path(found.origin).parent / "lib" / LIBRARY if found is not None and found.origin else None
    if path is None or not path.is_file():
        return None
    for name in COMPILED:
        import_module(name)
    opener = ctypes.CDLL(None).dlopen
    opener.restype = ctypes.c_void_p
    # No daemon: a process that ended within the linker's work would crash.
    thread = threading.Thread(target=opener, args=(os.fsencode(path), os.RTLD_LAZY))
    thread.start()
    return thread
