"""What a command's start leaves out, and that the collector works again behind it."""

import gc
import subprocess
import sys

import pytest

from vitreous.cli.main import needs_torch
from vitreous.runtime.collection import pause_collection
from vitreous.runtime.preload import LIBRARY, preload_torch


@pytest.mark.parametrize("command", ["train", "embed", "explain"])
def test_help_needs_no_numpy(command):
    code = (
        "import sys\nfrom vitreous.cli.main import main\nassert main(sys.argv[1:]) == 0\n"
        "print([name for name in ('numpy', 'jaxtyping', 'torch') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, command, "--help"], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_shapes_are_checked_only_where_jaxtyping_is_imported_first():
    code = (
        "from importlib import import_module\nfrom typing import Annotated, get_args, get_type_hints\n"
        "{}import numpy as np, vitreous.images.tensors, vitreous.model.vit, vitreous.predictor, vitreous.shapes as shapes\n"
        "print('jaxtyping' in sys.modules, shapes.CHECKED, shapes.Float is Annotated, shapes.Pixels is Annotated)\n"
        "print(isinstance(np.zeros((2, 3)), shapes.Float[np.ndarray, 'row row']) if shapes.CHECKED else "
        "get_args(shapes.Float[np.ndarray, 'row row'])[1:])\n"
    )
    found = [
        subprocess.run([sys.executable, "-c", f"import sys\n{code.format(first)}"], capture_output=True, text=True)
        for first in ("", "import jaxtyping\n")
    ]
    assert [one.stdout.splitlines() for one in found] == [
        ["False False True True", "('row row',)"],
        ["True True False False", "False"],
    ], found[0].stderr + found[1].stderr


@pytest.mark.parametrize("works", [True, False])
def test_collector_is_as_before(works):
    (gc.enable if works else gc.disable)()
    try:
        with pytest.raises(KeyError), pause_collection(keep=True), pause_collection():
            assert not gc.isenabled()
            raise KeyError
        with pause_collection():
            assert not gc.isenabled()
        assert gc.isenabled() == works
    finally:
        gc.enable()


def test_what_is_kept_is_not_traversed():
    before = gc.get_freeze_count()
    try:
        with pause_collection(keep=True), pause_collection():
            made = [[] for _ in range(1000)]
        assert gc.get_freeze_count() - before >= len(made)
    finally:
        gc.unfreeze()


def test_torch_is_foreseen_where_it_computes(tmp_path):
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "model.onnx").touch()
    exported = str(tmp_path / "exported")
    assert needs_torch("predict", ["runs/one", "photo.jpg"])
    assert not needs_torch("predict", [exported, "photo.jpg"])
    assert not needs_torch("predict", ["runs/one", "--help"])
    assert not needs_torch("models", [])
    assert needs_torch("evaluate", ["\0", "x" * 5000])


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's dynamic linker")
def test_library_is_loaded_beside_python():
    code = (
        "from vitreous.runtime.preload import preload_torch\n"
        "preload_torch().join()\n"
        f"print({LIBRARY!r} in open('/proc/self/maps').read(), 'torch' in __import__('sys').modules)\n"
        "import torch\nprint(float(torch.ones(3).sum()), preload_torch())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["True", "False", "3.0", "None"], done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's dynamic linker")
@pytest.mark.parametrize("arguments", ["predict {} {}", "train digits"])
def test_nothing_compiled_waits_for_the_library(tmp_path, arguments):
    """From the start of the thread to the import of torch, the first one loads no library, for which it would have to wait."""
    code = (
        "import sys\nfrom importlib.machinery import ExtensionFileLoader as Loader\n"
        "import vitreous.cli.main as program\nfrom vitreous.runtime.preload import COMPILED, import_module\n"
        "create, loaded = Loader.create_module, []\n"
        "def preload():\n"
        "    list(map(import_module, COMPILED))\n"
        "    Loader.create_module = lambda self, spec: loaded.append(spec.name) or create(self, spec)\n"
        "program.preload_torch = preload\n"
        "class Stop:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'torch':\n            print('torch', *loaded)\n            sys.stdout.flush()\n"
        "            import os\n            os._exit(0)\n"
        "sys.meta_path.insert(0, Stop())\nprogram.main(sys.argv[1:])\n"
    )
    given = arguments.format(tmp_path / "model", tmp_path / "photo.png").split()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").touch()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "photo.png").touch()
    done = subprocess.run([sys.executable, "-c", code, *given], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.split() == ["torch"], done.stdout + done.stderr


def test_without_torch_nothing_is_loaded(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr("vitreous.runtime.preload.find_spec", lambda name: None)
    assert preload_torch() is None
