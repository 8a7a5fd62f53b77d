"""Attention of packed blocks: the same outputs as a graph of oneDNN, as plain products and by torch's fused kernel."""

import math
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tests.deploy.conftest import trained
from tests.deploy.test_families import FAMILIES
from tests.engines.test_fast_path import far
from torch.nn import functional as F

from vitreous.engines import packed_attention
from vitreous.engines.onednn_graph import compile_graph
from vitreous.engines.packed_attention import LN2, attend_heads, attend_to_all
from vitreous.engines.packed_linear import Packing
from vitreous.engines.packed_model import pack_model
from vitreous.model.attention import Heads
from vitreous.model.resnet_config import ResNetConfig
from vitreous.model.swin_config import SwinConfig
from vitreous.runtime.device import computes_bf16

TYPES = [torch.float32, *[torch.bfloat16] * computes_bf16(torch.device("cpu"))]
NEAR = {torch.float32: 2e-6, torch.bfloat16: 2e-2}

SWIN = {"image": (32, 48), "width": 16, "depths": (2, 2), "heads": (2, 4), "windows": ((4, 4), (4, 6)), "classes": 5}
WINDOWS = {"windows": SwinConfig(**SWIN), "windows with cosines": SwinConfig(**SWIN, version="v2")}


@pytest.fixture
def made(monkeypatch):
    """No graphs yet."""
    found = {}
    monkeypatch.setattr(packed_attention, "GRAPHS", found)
    return found


def project(batch, tokens, heads, per_head, dtype, spread=1.0, seed=0):
    """Return q, k and v side by side; scores of trained models reach far, so q's spread is large."""
    projected = torch.randn(batch, tokens, 3, heads, per_head, generator=torch.Generator().manual_seed(seed))
    projected[:, :, 0] *= spread * per_head**-0.5 / LN2[dtype]
    return projected.flatten(2).to(dtype)


def attend_exactly(projected, heads):
    """Return attention in float64."""
    q, k, v = projected.double().view(*projected.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4)
    return ((q @ k.mT * LN2[projected.dtype]).softmax(-1) @ v).transpose(1, 2).flatten(2)


def off(found, expected):
    """Return the root mean square of the difference as a share of the values' own."""
    return float((found.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("batch", "tokens", "heads", "per_head"), [(1, 64, 3, 64), (5, 197, 3, 64), (3, 101, 5, 12), (1, 577, 2, 32)]
)
def test_a_graph_is_attention_in_float64(dtype, batch, tokens, heads, per_head, made):
    """Five images of 197 tokens are more than stay in the cache together, in either type."""
    for spread in (1.0, 6.0):
        projected = project(batch, tokens, heads, per_head, dtype, spread)
        expected = attend_exactly(projected, heads)
        for threads in (1, 3):
            before = torch.get_num_threads()
            torch.set_num_threads(threads)
            try:
                with torch.inference_mode():
                    found = attend_to_all(projected, heads)
                    wide = attend_to_all(projected, heads, torch.float32)
            finally:
                torch.set_num_threads(before)
            assert (found.shape, found.dtype, wide.dtype) == (expected.shape, dtype, torch.float32)
            assert max(off(found, expected), off(wide, expected)) < NEAR[dtype]
    assert made
    assert None not in made.values()


def test_a_graph_is_as_near_to_float64_as_plain_products(made, monkeypatch):
    """In bfloat16, where both round the scores."""
    if torch.bfloat16 not in TYPES:
        pytest.skip("this processor doesn't compute in bfloat16")
    projected = project(2, 197, 3, 64, torch.bfloat16, 3.0)
    expected = attend_exactly(projected, 3)
    by_graph = off(attend_to_all(projected, 3), expected)
    assert made
    monkeypatch.setattr(packed_attention, "prefers_graph", lambda *_: False)
    assert by_graph < 1.2 * off(attend_to_all(projected, 3), expected)


def test_graphs_are_made_once_for_a_shape_and_number_of_threads(made):
    projected = project(2, 70, 3, 16, torch.float32)
    first = attend_to_all(projected, 3)
    (graph,) = made.values()
    assert torch.equal(attend_to_all(projected, 3), first)
    assert list(made.values()) == [graph]
    attend_to_all(project(1, 70, 3, 16, torch.float32), 3)
    attend_to_all(projected, 6)
    assert len(made) == 3


def test_inputs_that_overflow_keep_no_graph_that_nothing_was_compared_with(made):
    projected = project(1, 80, 2, 16, torch.float32)
    attend_to_all(projected * math.inf, 2)
    assert not made
    assert off(attend_to_all(projected, 2), attend_exactly(projected, 2)) < 1e-5
    assert len(made) == 1


def test_threads_share_a_graph(made):
    """Some make it while others wait, and all have the bits of one alone."""
    inputs = [project(2, 90, 3, 16, torch.float32, seed=seed) for seed in range(40)]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    ready = threading.Barrier(4)

    def attend(values):
        return attend_to_all(values, 3)

    try:
        with ThreadPoolExecutor(4, initializer=lambda: (torch.set_num_threads(1), ready.wait())) as pool:
            found = list(pool.map(attend, inputs))
        assert len(made) == 1
        assert all(torch.equal(one, attend(values)) for one, values in zip(found, inputs, strict=True))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("biases", [None, (1, 4), (3, 1), (3, 4)])
def test_heads_with_a_bias_attend_as_in_float64(biases, dtype, made, monkeypatch):
    """Of each image and head their own, or shared; minus infinity where a query may not look; an image at a time and all at once."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 3, 4, 70, 24, generator=generator).to(dtype)
    bias = None
    if biases is not None:
        bias = 3 * torch.randn(*biases, 70, 70, generator=generator)
        bias[..., 5:9] = -torch.inf
    expected = F.scaled_dot_product_attention(
        q.double(), k.double(), v.double(), None if bias is None else bias.to(dtype).double()
    )
    strided = Heads(q.mT.contiguous().mT, k, v.transpose(1, 2).contiguous().transpose(1, 2), bias)
    for most in (1, 10**9):
        monkeypatch.setattr(packed_attention, "ATTENTION_BYTES", most)
        with torch.inference_mode():
            found = attend_heads(strided)
        assert (found.shape, found.dtype) == (q.shape, dtype)
        assert off(found, expected) < NEAR[dtype]
    assert len(made) == 2
    assert None not in made.values()


@pytest.mark.parametrize("name", [*FAMILIES, *WINDOWS])
@pytest.mark.parametrize("dtype", TYPES)
def test_every_family_attends_by_graphs(name, dtype, made, monkeypatch):
    """Whatever its positions, norms and lines; in bfloat16 under autocast, as an engine computes."""
    monkeypatch.setattr(packed_attention, "GRAPH_TOKENS", 2)
    model = trained((FAMILIES | WINDOWS)[name])
    images = torch.randn(3, model.config.channels, *model.config.image, generator=torch.Generator().manual_seed(1))
    packed = pack_model(model, Packing("onednn", dtype, (75,))).model
    with torch.inference_mode():
        expected = model.features(images)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            autocast, found = model.features(images).float(), packed.features(images).float()
        assert far(found, expected) < (1e-5 if dtype == torch.float32 else max(0.03, 2 * far(autocast, expected)))
        assert torch.equal(model.features(images), expected)
    assert None not in made.values()
    assert bool(made) != isinstance(model.config, ResNetConfig)


@pytest.mark.parametrize("reason", ["short", "large", "AMX", "none", "other signature", "wrong"])
def test_without_a_graph_attention_is_the_same(reason, made, monkeypatch):
    dtype, tokens = (torch.bfloat16 if reason == "AMX" else torch.float32), (63 if reason == "short" else 80)
    if dtype not in TYPES:
        pytest.skip("this processor doesn't compute in bfloat16")
    if reason == "large":
        monkeypatch.setattr(packed_attention, "find_room", lambda: 3 * 80 * 80 * 4 - 1)
    if reason == "AMX":
        monkeypatch.setattr(packed_attention, "has_amx", lambda: True)
    if reason == "none":
        monkeypatch.delattr("torch._C._create_graph_by_tracing")
    if reason == "other signature":
        monkeypatch.setattr("torch._C._create_graph_by_tracing", lambda: None)
    if reason == "wrong":
        monkeypatch.setattr(
            packed_attention, "compile_graph", lambda function, *_: lambda *given: function(*given) * 1.1
        )
    projected = project(3, tokens, 3, 16, dtype)
    assert off(attend_to_all(projected, 3), attend_exactly(projected, 3)) < NEAR[dtype]
    assert set(made.values()) <= {None}
    assert len(made) == (reason in {"none", "other signature", "wrong"})


def test_later_shapes_take_the_place_of_the_oldest(made, monkeypatch):
    monkeypatch.setattr(packed_attention, "MOST_GRAPHS", 2)
    for tokens in (70, 71, 72, 70):
        projected = project(1, tokens, 3, 16, torch.float32)
        assert off(attend_to_all(projected, 3), attend_exactly(projected, 3)) < NEAR[torch.float32]
    assert [shapes[0][1] for _, shapes, *_ in made] == [72, 70]


@pytest.mark.parametrize(("memory", "threads", "room"), [(2**40, 2, 128_000_000), (8 * 2**30, 64, 2**25)])
def test_all_threads_graphs_take_a_fourth_of_the_memory_at_most(memory, threads, room, monkeypatch):
    monkeypatch.setattr(packed_attention, "read_memory", lambda: memory)
    monkeypatch.setattr(packed_attention, "count_threads", lambda: threads)
    assert packed_attention.find_room.__wrapped__() == room


@pytest.mark.parametrize("enabled", [False, True])
def test_making_a_graph_changes_nothing_else(enabled, made):
    """Neither what is drawn next, nor TorchScript's setting, nor the caller's modes."""
    before = torch.jit.onednn_fusion_enabled()
    torch.jit.enable_onednn_fusion(enabled)
    try:
        torch.manual_seed(3)
        expected = torch.rand(5)
        torch.manual_seed(3)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            attend_to_all(project(1, 80, 3, 16, torch.float32), 3)
            assert (torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")) == (True, True)
        assert len(made) == 1
        assert torch.equal(torch.rand(5), expected)
        assert torch.jit.onednn_fusion_enabled() == enabled
    finally:
        torch.jit.enable_onednn_fusion(before)


def test_what_onednn_takes_no_part_of_is_no_graph():
    before = torch.jit.onednn_fusion_enabled()
    with pytest.raises(RuntimeError, match="no part"):
        compile_graph(lambda values: values.sin(), [(3, 4)], torch.float32)
    assert torch.jit.onednn_fusion_enabled() == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attending_in_parts_is_attending_to_all(dtype, monkeypatch):
    """Against torch's fused kernel in float64, with products and without, an image at a time and all at once."""
    projected = torch.randn(5, 23, 3 * 24, generator=torch.Generator().manual_seed(0))
    q, k, v = projected.double().view(5, 23, 3, 4, 6).permute(2, 0, 3, 1, 4)
    scale = math.log(2) if dtype == torch.bfloat16 else 1.0
    expected = F.scaled_dot_product_attention(q, k, v, scale=scale).transpose(1, 2).flatten(2)
    monkeypatch.setattr(packed_attention, "prefers_graph", lambda *_: False)
    for slow, most in ((True, 1), (True, 20_000), (True, 10**9), (False, 1)):
        monkeypatch.setattr(packed_attention, "prefers_products", lambda _q, _tokens, slow=slow: slow)
        monkeypatch.setattr(packed_attention, "ATTENTION_BYTES", most)
        found = packed_attention.attend_to_all(projected.to(dtype), 4)
        assert (found.shape, found.dtype) == (expected.shape, dtype)
        assert far(found, expected) < (1e-6 if dtype == torch.float32 else 3e-2)
        wider = packed_attention.attend_to_all(projected.to(dtype), 4, torch.float32)
        assert torch.equal(wider.to(dtype), found)
        assert (wider.dtype == torch.float32) == (slow or dtype == torch.float32)


@pytest.mark.parametrize(("height", "spread", "kept"), [(0, 3, 1), (0, 40, 0), (30, 1, 0), (-30, 1, 0), (-4, 3, 1)])
def test_powers_that_leave_their_range_are_a_softmax_again(height, spread, kept, monkeypatch):
    """Scores of trained models reach far: q and k of some heads all point the same way, or opposite ways."""
    generator, found = torch.Generator().manual_seed(0), []
    q, k, v = torch.randn(3, 2, 23, 24, generator=generator).bfloat16()
    q, k = q * spread**0.5, k * spread**0.5
    q[..., 0], k[..., 0] = abs(height), height
    projected = torch.cat([q, k, v], -1)
    weigh = packed_attention.weigh
    monkeypatch.setattr(packed_attention, "weigh", lambda *given: (found.append(weigh(*given)), found[-1])[1])
    monkeypatch.setattr(packed_attention, "prefers_products", lambda _q, _tokens: True)
    one = packed_attention.attend_to_all(projected, 4)
    heads = [each.double().view(2, 23, 4, 6).transpose(1, 2) for each in (q, k, v)]
    scores = (heads[0] @ heads[1].mT).bfloat16().double()  # as far as bfloat16 tells them apart
    expected = ((scores * math.log(2)).softmax(-1) @ heads[2]).transpose(1, 2).flatten(2)
    assert far(one, expected) < 3e-2
    assert [sums is not None for _, sums in found] == [bool(kept)]
