"""Load torch's library on a second thread while the first one reads the command. Imports no torch."""

import ctypes
import os
import sys
import threading
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

LIBRARY = "libtorch_cpu.so"
"""By far torch's largest library; it doesn't depend on Python."""
COMPILED = (
    "asyncio", "csv", "dataclasses", "datetime", "decimal", "grp", "hashlib", "json", "numpy", "PIL.Image", "queue", "random",
    "simplejpeg", "unicodedata",
)  # fmt: skip
"""Compiled modules, and modules that import them, that a command needs before torch. The linker loads one library after
the other, so each of them would have to wait for the large one."""


def preload_torch() -> threading.Thread | None:
    """Begin to load torch's largest library, which `import torch` then finds loaded; return the thread that loads it.

    Loading and linking it takes a sixth to a quarter of that import, and needs no Python. A call through `ctypes` lets other
    threads run meanwhile, which an import wouldn't. The modules in COMPILED are imported first. Does nothing on systems other
    than Linux, or if there is no such file.
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
    # Not a daemon thread: a process that ended while the linker works would crash.
    thread = threading.Thread(target=opener, args=(os.fsencode(path), os.RTLD_LAZY))
    thread.start()
    return thread
