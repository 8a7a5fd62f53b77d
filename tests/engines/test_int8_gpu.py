"""int8 on an NVIDIA GPU, by torchao: its products run on a CPU too, where they are held against closed forms and the model."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from tests.deploy.conftest import folder_of
from tests.deploy.test_families import FAMILIES, vit
from tests.engines.test_fast_path import far, pixels_of
from tests.engines.test_gpu_path import batch_of, images_of, needs_gpu
from torch import nn

from vitreous.engines import torch_engine
from vitreous.engines.gpu_model import build_gpu_model
from vitreous.engines.gpu_path import GpuPath
from vitreous.engines.int8_gpu import round_layers
from vitreous.engines.packed_model import list_layers
from vitreous.engines.torch_engine import TorchEngine
from vitreous.errors import ConfigError
from vitreous.images.tensors import Normalization
from vitreous.runtime import packages

pytest.importorskip("torchao", reason="pip install 'vitreous[gpu]'")
CPU = torch.device("cpu")
BLOCKS = {name: config for name, config in FAMILIES.items() if list_layers(folder_of(config).model)}


def round_values(values):
    """Return values in 255 steps of their last axis' largest magnitude, 0 in the middle. The largest one lies halfway between two
    steps, so its sign and float32 decide."""
    step = np.abs(values).max(-1, keepdims=True) / np.float32(127.5)
    return np.clip(np.round(values * (np.float32(1) / step)), -128, 127).astype(np.float64) * step


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_is_the_product_of_what_was_rounded(dtype):
    generator = torch.Generator().manual_seed(0)
    layer = nn.Sequential(nn.Linear(64, 96))
    values = torch.randn(3, 5, 64, generator=generator) * torch.logspace(-2, 2, 5)[:, None]
    layer, values = layer.to(dtype), values.to(dtype)
    given, weight, bias = (one.detach().float().numpy() for one in (values, layer[0].weight, layer[0].bias))
    expected = round_values(given) @ round_values(weight).T + bias
    assert round_layers(layer, ["0"]) == ("0",)
    found = layer(values).detach()
    assert found.dtype == dtype
    distance = np.abs(found.double().numpy() - expected).max(-1) / np.abs(expected).max(-1)
    assert distance.max() < (1e-6 if dtype == torch.float32 else 2e-2)
    exact = given @ weight.T + bias
    assert np.abs(found.double().numpy() - exact).max() / np.abs(exact).max() > 1e-4


def test_only_the_named_layers_change_and_only_those_that_fit():
    model = nn.Sequential(nn.Linear(16, 24), nn.Linear(24, 12), nn.Linear(12, 8), nn.Conv2d(8, 8, 1), nn.Linear(8, 8))
    shared = model[0].weight
    twin = nn.Sequential(*model)
    assert round_layers(twin, ["0", "1", "2", "3", "9"]) == ("0",)
    assert type(twin[4].weight) is nn.Parameter and twin[4].weight.dtype == torch.float32
    assert "Int8" in type(twin[0].weight).__name__
    assert shared.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=("fp32", "bf16"))
@pytest.mark.parametrize("family", BLOCKS)
def test_a_twin_in_int8_is_near_the_model_which_stays(family, dtype):
    folder = folder_of(FAMILIES[family])
    model, images = folder.model.eval(), images_of(folder)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    twin, plain = (build_gpu_model(model, dtype) for _ in range(2))
    rounded = round_layers(twin.model, list_layers(model))
    assert rounded
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=twin.autocast):
        found, other = (one.model(images.to(twin.takes)) for one in (twin, plain))
        assert 0 < far(found, model(images)) < 0.1
        assert not torch.equal(found, other)
    after = model.state_dict()
    assert all(torch.equal(after[name], value) and after[name].dtype == value.dtype for name, value in before.items())


def path_of(folder, **how):
    model = folder.model.eval()
    path = GpuPath(model, Normalization(folder.preprocess, 3, CPU), bf16=True, int8=tuple(list_layers(model)), **how)
    return path, lambda images: model(path.normalize(images)).detach()


def test_a_path_computes_in_int8_anew_when_the_model_changes():
    folder = folder_of(vit(depth=3))
    path, own = path_of(folder)
    pixels = batch_of(folder, 3)
    first = path.run("forward", pixels, own)
    assert 1e-4 < far(first, own(pixels)) < 0.1
    assert path.notes == ("bfloat16 throughout", "8 dense layers in int8 by torchao")
    assert torch.equal(path.run("forward", pixels, own), first)
    with torch.no_grad():
        folder.model.blocks[0].mlp.expand.weight.mul_(-1)
    assert far(path.run("forward", pixels, own), first) > 0.1
    assert far(path.run("forward", pixels, own), own(pixels)) < 0.1


def test_a_model_that_cannot_is_refused_each_time():
    folder = folder_of(vit(depth=3))
    path, own = path_of(folder)
    pixels = batch_of(folder, 1)
    handle = folder.model.blocks[0].register_forward_hook(lambda *_: None)
    for _ in range(2):
        with pytest.raises(
            ConfigError, match=r"can't compute in int8: the model has hooks, .*; choose --precision fp32"
        ):
            path.run("forward", pixels, own)
    handle.remove()
    assert path.run("forward", pixels, own).shape == (1, 5)


def test_torchao_that_is_missing_is_one_line(monkeypatch):
    folder = folder_of(vit(depth=3))
    folder.ranges.update(dict.fromkeys(list_layers(folder.model), (-1.0, 1.0)))
    monkeypatch.setattr(torch_engine, "choose_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(packages, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"int8 on a GPU needs torchao, not installed: pip install 'vitreous\[gpu\]'"):
        TorchEngine(folder, "cuda", "int8")


@pytest.mark.slow
def test_importing_torchao_says_nothing():
    code = "import torch; from vitreous.engines.int8_gpu import round_layers; round_layers(torch.nn.Sequential(torch.nn.Linear(8, 8)), ['0'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


COMPILED = """
import torch
from vitreous.engines.gpu_model import build_gpu_model
from vitreous.engines.int8_gpu import round_layers
from vitreous.engines.packed_model import list_layers
from vitreous.model.factory import create
from vitreous.model.names import build_vit_config
model = create(build_vit_config("Ti/16", image=(32, 32), classes=10)).eval()
torch.nn.init.normal_(model.head.weight)
twin = build_gpu_model(model, torch.bfloat16)
assert len(round_layers(twin.model, list_layers(model))) == 44
images = torch.randn(2, 3, 32, 32)
with torch.no_grad():
    own, plain = model(images), twin.model(images.bfloat16())
    found = torch.compile(twin.model, dynamic=False, fullgraph=True)(images.bfloat16())
for one in (plain, found):
    assert 0 < (one - own).abs().max() / own.abs().max() < 0.1
"""


@pytest.mark.slow
def test_torch_compile_follows_a_twin_in_int8_without_a_break():
    """In a process of its own, since the compiler doesn't follow the tests' checks of shapes."""
    subprocess.run([sys.executable, "-c", COMPILED], check=True)


@needs_gpu
@pytest.mark.parametrize("compiles", [False, True], ids=["twin", "graphs"])
def test_a_gpu_computes_in_int8(compiles, monkeypatch):
    """Graphs of kernels that aren't compiled, as in the tests of the path."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    folder = folder_of(vit(depth=3))
    folder.ranges.update(dict.fromkeys(list_layers(folder.model), (-1.0, 1.0)))
    own, engine = TorchEngine(folder, "cuda", packed=False), TorchEngine(folder, "cuda", "int8", compile=compiles)
    for count in (3, 3, 3, 20, 20, 1):
        pixels = pixels_of(folder, count)
        found, wanted = (torch.from_numpy(one.logits(pixels)) for one in (engine, own))
        assert 1e-4 < far(found, wanted) < 0.1
    assert engine.precision == "int8" and "8 dense layers in int8 by torchao" in engine.notes
