"""The fast path on an NVIDIA GPU: the model's own outputs. What needs a GPU runs where there is one; the twin and the choice of what is
recorded are held on a CPU."""

import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from tests.deploy.conftest import folder_of
from tests.deploy.test_families import FAMILIES
from tests.engines.test_fast_path import far, pixels_of

from vitreous.engines import gpu_path
from vitreous.engines.gpu_model import FirstTokenBlock, build_gpu_model
from vitreous.engines.gpu_path import SIZES, GpuPath
from vitreous.engines.selection import choose_engine
from vitreous.engines.torch_engine import TorchEngine, to_channels_first
from vitreous.errors import ConfigError
from vitreous.images.tensors import Normalization
from vitreous.model.lora import add_lora

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
CPU = torch.device("cpu")
NEAR = {torch.float32: 2e-5, torch.bfloat16: 4e-2}


def images_of(folder, count=3):
    return Normalization(folder.preprocess, folder.preprocess.channels, CPU)(
        to_channels_first(pixels_of(folder, count, np.random.default_rng(0)))
    )


@pytest.mark.parametrize("dtype", NEAR, ids=("fp32", "bf16"))
@pytest.mark.parametrize("family", FAMILIES)
def test_the_twin_computes_what_the_model_does(family, dtype):
    folder = folder_of(FAMILIES[family])
    model, images = folder.model.eval(), images_of(folder)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    twin = build_gpu_model(model, dtype)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=twin.autocast):
        for what, own in ((twin.model, model), (twin.model.features, model.features)):
            assert far(what(images.to(twin.takes)), own(images)) < NEAR[dtype]
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) and after[name].dtype == value.dtype for name, value in before.items())


def test_a_plain_vit_is_in_bfloat16_throughout_and_ends_in_one_token():
    folder = folder_of(FAMILIES["plain"])
    twin = build_gpu_model(folder.model.eval(), torch.bfloat16)
    assert twin.takes == torch.bfloat16 and not twin.autocast
    assert {value.dtype for value in twin.model.parameters()} == {torch.bfloat16}
    assert isinstance(twin.model.blocks[-1], FirstTokenBlock)
    assert (
        twin.model.encode(torch.zeros(2, folder.model.config.tokens, folder.model.config.width).bfloat16()).shape[1]
        == 1
    )
    assert not isinstance(folder.model.blocks[-1], FirstTokenBlock)


def test_a_model_with_lora_has_a_twin_too():
    folder = folder_of(FAMILIES["plain"])
    model = folder.model.eval()
    add_lora(model, 2)
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.add_(0.5 if name.endswith("up") else 0.0)  # of LoRA, which starts as nothing
    twin, images = build_gpu_model(model, torch.bfloat16), images_of(folder)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=twin.autocast):
        assert far(twin.model(images.to(twin.takes)), model(images)) < NEAR[torch.bfloat16]


class Space:
    """What graphs share, without a GPU: the passes that began and ended."""

    def __init__(self, device):
        self.passes, self.done = 0, self

    def begin(self):
        self.passes += 1

    def end(self):
        self.passes -= 1

    def synchronize(self):
        """Wait; one pass may have begun, that which waits."""
        assert self.passes <= 1


@pytest.fixture
def path(monkeypatch):
    """A path whose compiled and recorded functions are the functions themselves, the shapes that were recorded, and the model."""
    recorded = []

    def record(function, pixels, space):
        recorded.append(tuple(pixels.shape))
        return function

    monkeypatch.setattr(gpu_path, "record", record)
    monkeypatch.setattr(gpu_path, "GraphSpace", Space)
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: function)
    folder = folder_of(FAMILIES["plain"])
    model = folder.model.eval()
    found = GpuPath(model, Normalization(folder.preprocess, 3, CPU), bf16=False, compiles=True)
    own = lambda images: model(found.normalize(images)).detach()  # noqa: E731
    return found, folder, own, recorded


def test_sealing_takes_the_model_as_it_is_by_then():
    folder = folder_of(FAMILIES["plain"])
    normalize = Normalization(folder.preprocess, folder.preprocess.channels, CPU)
    path, batch = GpuPath(folder.model, normalize, bf16=False), batch_of(folder, 3)

    def own(part):
        return folder.model(normalize(part))

    path.run("forward", batch, own)
    with torch.no_grad():
        folder.model.blocks[0].mlp.contract.weight.mul_(3)
    path.seal()
    with torch.inference_mode():
        assert far(path.run("forward", batch, own), own(batch)) < 1e-5


def batch_of(folder, count):
    return to_channels_first(pixels_of(folder, count, np.random.default_rng(0)))


def test_a_size_is_recorded_when_it_comes_again(path):
    found, folder, own, recorded = path
    for count in (4, 2, 4, 4, 1):
        pixels = batch_of(folder, count)
        assert far(found.run("forward", pixels, own), own(pixels)) < 1e-5
    assert [shape[0] for shape in recorded] == [4]
    assert found.run("features", batch_of(folder, 4), own).shape == (4, folder.model.config.features)
    assert len(recorded) == 1
    assert found.notes == ("compiled, a CUDA graph for each batch size",)


def test_the_first_sizes_are_kept_and_others_not_recorded_again_and_again(path):
    found, folder, own, recorded = path
    for _ in range(3):
        for count in range(1, SIZES + 4):
            pixels = batch_of(folder, count)
            assert far(found.run("forward", pixels, own), own(pixels)) < 1e-5
    assert [shape[0] for shape in recorded] == [*range(1, SIZES + 1)]


def test_a_changed_model_is_recorded_anew(path):
    found, folder, own, recorded = path
    pixels = batch_of(folder, 2)
    for _ in range(3):
        before = found.run("forward", pixels, own)
    with torch.no_grad():
        folder.model.head.bias += 1
    for _ in range(3):
        assert far(found.run("forward", pixels, own), before + 1) < 1e-5
    assert len(recorded) == 2
    handle = folder.model.blocks[0].register_forward_hook(lambda *_: None)
    assert torch.equal(found.run("forward", pixels, own), own(pixels))
    assert "hooks" in found.notes[0]
    handle.remove()


def test_without_compiling_the_twin_alone_computes(path):
    found, folder, own, recorded = path
    plain = GpuPath(folder.model, found.normalize, bf16=True)
    pixels = batch_of(folder, 2)
    for _ in range(3):
        assert far(plain.run("forward", pixels, own), own(pixels)) < NEAR[torch.bfloat16]
    assert not recorded and plain.notes == ("bfloat16 throughout",)


def test_a_pass_that_cannot_be_recorded_goes_on_without(path, monkeypatch):
    found, folder, own, _ = path

    def refuse(function, pixels, space):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(gpu_path, "record", refuse)
    pixels = batch_of(folder, 2)
    for _ in range(4):
        assert far(found.run("forward", pixels, own), own(pixels)) < 1e-5
    assert found.notes == ("neither compiled nor a CUDA graph: operation not permitted when stream is capturing",)


@pytest.mark.parametrize("wrong", ["recorded", "compiled"])
def test_a_graph_that_gives_something_else_is_not_used(path, monkeypatch, wrong):
    """Nor what was compiled for it."""
    found, folder, own, recorded = path
    if wrong == "recorded":
        monkeypatch.setattr(gpu_path, "record", lambda function, *_: lambda pixels: function(pixels) * 1.5)
    else:
        monkeypatch.setattr(torch, "compile", lambda function, dynamic: lambda pixels: function(pixels) * 1.5)
    pixels = batch_of(folder, 2)
    for _ in range(4):
        assert far(found.run("forward", pixels, own), own(pixels)) < 1e-5
    assert found.notes == ("neither compiled nor a CUDA graph: its outputs differ by 5.0e-01",)
    assert len(recorded) == (wrong == "compiled")


def test_a_graph_that_only_repeats_what_it_recorded_is_not_used(path, monkeypatch):
    """As one would on another device than it was recorded on."""
    found, folder, own, _ = path

    def repeat(function, pixels, space):
        first = function(pixels)
        return lambda _: first

    monkeypatch.setattr(gpu_path, "record", repeat)
    for _ in range(4):
        pixels = batch_of(folder, 2)
        assert far(found.run("forward", pixels, own), own(pixels)) < 1e-5
    assert found.notes[0].startswith("neither compiled nor a CUDA graph: its outputs differ")


def test_each_size_is_compiled_once_before_it_is_recorded(path, monkeypatch):
    found, folder, own, recorded = path
    asked = []
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: asked.append(dynamic) or function)
    for count in (2, 2, 3, 2, 3, 3):
        pixels = batch_of(folder, count)
        assert far(found.run("forward", pixels, own), own(pixels)) < 1e-5
    assert asked == [False, False] and len(recorded) == 2
    assert found.notes == ("compiled, a CUDA graph for each batch size",)


def test_a_failing_compiler_is_one_line(path, monkeypatch):
    found, folder, own, _ = path
    pixels = batch_of(folder, 2)

    def fail(function, dynamic):
        def compiled(images):
            raise RuntimeError("Failed to find C compiler.\nPlease specify via CC environment variable")

        return compiled

    monkeypatch.setattr(torch, "compile", fail)
    found.run("forward", pixels, own)
    said = "torch.compile can't compile this model: Failed to find C compiler. Please specify via CC environment variable; leave out compile"
    with pytest.raises(ConfigError, match=f"^{said}$"):
        found.run("forward", pixels, own)
    assert found._space.passes == 0


def test_a_model_far_from_its_twin_keeps_its_own_layers(path):
    found, folder, own, recorded = path
    pixels = batch_of(folder, 2)
    for _ in range(3):
        assert torch.equal(found.run("forward", pixels, lambda images: own(images) * 2), own(pixels) * 2)
    assert not recorded and found.notes[0].startswith("torch's own layers: the outputs of others differ by 5")


def test_a_first_call_that_fails_or_gives_no_numbers_decides_nothing(path):
    found, folder, own, recorded = path
    good = batch_of(folder, 2)
    with pytest.raises(ConfigError, match="the model expects images"):
        found.run("forward", good[:, :, :-8], own)
    assert not found.run("forward", good, lambda images: own(images) * math.nan).isfinite().any()
    assert found.run("forward", good[:0], own).shape == (0, 5)
    for _ in range(2):
        assert far(found.run("forward", good, own), own(good)) < 1e-5
    assert len(recorded) == 1


def test_calls_in_inference_mode_leave_nothing_that_later_ones_cannot_read(path, monkeypatch):
    found, folder, own, _ = path

    def record(function, pixels, space):
        static = pixels.clone()

        def replay(images):
            static.copy_(images)
            return function(static)

        return replay

    monkeypatch.setattr(gpu_path, "record", record)
    with torch.inference_mode():
        pixels = batch_of(folder, 2).clone()
        for _ in range(2):
            found.run("forward", pixels, own)
    pixels = batch_of(folder, 2)
    assert far(found.run("forward", pixels, own), own(pixels)) < 1e-5


def test_compiling_needs_a_gpu_and_a_model_that_is_not_exported():
    folder = folder_of(FAMILIES["plain"])
    with pytest.raises(
        ConfigError, match=r"compile is for NVIDIA GPUs, but this model computes on 'cpu'; leave it out"
    ):
        choose_engine(folder, device="cpu", compile=True)


@needs_gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("compiles", [False, True], ids=["twin", "graphs"])
def test_a_gpu_computes_what_the_model_does(family, precision, compiles, monkeypatch):
    """Graphs of kernels that aren't compiled: the compiler doesn't follow the tests' checks of shapes."""
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: function)
    folder = folder_of(FAMILIES[family])
    own = TorchEngine(folder, "cuda", precision, packed=False)
    engine = TorchEngine(folder, "cuda", precision, compile=compiles)
    for count in (3, 3, 3, 2, 3):
        pixels = pixels_of(folder, count)
        for what in ("logits", "features"):
            found, wanted = (torch.from_numpy(getattr(one, what)(pixels)) for one in (engine, own))
            assert far(found, wanted) < (2e-5 if precision == "fp32" else 5e-2)
    assert "own layers" not in " ".join(engine.notes)
    assert not compiles or engine.notes[-1] == "compiled, a CUDA graph for each batch size"


COMPILED = """
import numpy, torch
from vitreous.engines.torch_engine import TorchEngine
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.model.factory import create
from vitreous.model.names import build_vit_config
from vitreous.weights.model_folder import ModelFolder
model = create(build_vit_config("Ti/16", image=(64, 64), classes=10))
torch.nn.init.normal_(model.head.weight)
folder = ModelFolder(model, PreprocessConfig((64, 64)), DecodeConfig(), tuple("abcdefghij"), {})
own, engine = TorchEngine(folder, DEVICE, packed=False), TorchEngine(folder, DEVICE, compile=True)
pixels = numpy.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=numpy.uint8)
for _ in range(3):
    numpy.testing.assert_allclose(engine.logits(pixels), own.logits(pixels), atol=1e-4)
assert engine.notes == ("compiled, a CUDA graph for each batch size",), engine.notes
"""


@needs_gpu
def test_a_compiled_model_on_a_gpu_computes_what_it_does():
    """In a process of its own, since the compiler doesn't follow the tests' checks of shapes."""
    subprocess.run([sys.executable, "-c", COMPILED.replace("DEVICE", "'cuda'")], check=True)


@needs_gpu
def test_threads_on_streams_of_their_own_share_graphs_without_mixing_their_images(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: function)
    folder = folder_of(FAMILIES["plain"])
    engine = TorchEngine(folder, "cuda", "fp32", compile=True)

    def compute(pixels):
        with torch.cuda.stream(torch.cuda.Stream()):
            return engine.logits(pixels)

    batches = [pixels_of(folder, 2) for _ in range(40)]
    alone = [engine.logits(pixels) for pixels in batches]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(compute, batches))
    assert all((one == other).all() for one, other in zip(alone[2:], together[2:], strict=True))
