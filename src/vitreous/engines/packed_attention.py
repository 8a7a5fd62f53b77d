"""Plain attention in packed blocks on a CPU, from q, k and v as they come out of one product: by a graph of oneDNN, by
plain products, or by torch's fused kernel, whichever is the fastest (docs/notebook.md)."""

import math
import threading
from collections.abc import Hashable, Sequence
from functools import cache, partial

import torch
from torch import Tensor
from torch.nn import functional as F

from vitreous.engines.agreement import NEAR, measure_distance
from vitreous.engines.onednn_graph import Pass, compile_graph
from vitreous.model.attention import Heads, attend, prefers_products
from vitreous.runtime.device import has_amx
from vitreous.runtime.memory import read_memory
from vitreous.runtime.threads import count_threads
from vitreous.shapes import Float, Float32

SMALLEST_SUM = 1e-25
"""If a sum of powers lies between this and its inverse, no power that matters is beyond bfloat16's range."""
LN2 = {torch.bfloat16: math.log(2), torch.float32: 1.0}
"""Factors that turn scores from the q of `PlainBlock` into exponents of e: in bfloat16 they are exponents of 2, whose
powers are faster to compute."""
ATTENTION_BYTES = 1_000_000
"""Bytes of attention weights of images that attend together, at most: more would not stay in the cache between the
products."""
GRAPH_TOKENS = 64
"""Fewest tokens with which a graph is faster than plain products."""
GRAPH_BYTES = 128_000_000
"""Bytes of attention weights in a graph, at most: unlike the fused kernel, it holds those of all heads at the same
time."""
SHARE = 4
"""The attention weights of all threads may take this fraction of the memory: one over this number."""

GRAPHS: dict[Hashable, Pass | None] = {}
"""Graphs by function, shapes, type and number of threads; None: the graph couldn't be built, or gave other results.
Graphs hold no weights, so all models share them."""
MAKING = threading.Lock()
MOST_GRAPHS = 256
"""Number of graphs kept, at most; later ones replace the oldest."""


def attend_to_all(
    projected: Float[Tensor, "batch token dim3"], heads: int, gives: torch.dtype | None = None
) -> Float[Tensor, "batch token dim"]:
    """Return the heads' outputs side by side; q is already scaled. Computes as many images at a time as fit the cache.
    Sums of plain products are divided in float32 and returned in the precision `gives`; None: that of the inputs."""
    batch, tokens, width = projected.shape
    width, per_head = width // 3, width // 3 // heads
    each = max(1, ATTENTION_BYTES // (heads * tokens * tokens * projected.itemsize))
    if prefers_graph(heads * tokens, tokens, projected.dtype):
        function = partial(_attend_projected, heads=heads, gives=gives or projected.dtype)
        attended = _run_graphs(function, (heads, gives), [(part,) for part in projected.contiguous().split(each)])
        if attended is not None:
            return attended
    cut = projected.view(batch, tokens, 3, heads, per_head).permute(2, 0, 3, 1, 4)
    if not prefers_products(projected, tokens):
        gathered = F.scaled_dot_product_attention(*cut.unbind(0), scale=LN2[projected.dtype])
        return gathered.transpose(1, 2).reshape(batch, tokens, width)
    found = torch.empty(batch, tokens, heads, per_head, dtype=gives or projected.dtype)
    for at in range(0, batch, each):
        _multiply(cut[:, at : at + each], found[at : at + each])
    return found.view(batch, tokens, width)


def attend_heads(heads: Heads) -> Float[Tensor, "batch head query head_dim"]:
    """As `attend` of the model, by graphs where they are faster."""
    q, k, _, bias = heads
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else q.dtype
    count, queries, keys = q.shape[1], q.shape[2], k.shape[2]
    if not prefers_graph(count * queries, keys, dtype):
        return attend(heads)
    each = max(1, ATTENTION_BYTES // (count * queries * keys * dtype.itemsize))
    scaled = heads._replace(q=q * q.shape[-1] ** -0.5)
    values = [part.to(dtype).contiguous().split(each) for part in scaled[:3]]
    if bias is not None:
        bias = bias.to(dtype).contiguous()
        values.append([bias] * len(values[0]) if len(bias) == 1 else bias.split(each))
    with torch.autocast("cpu", enabled=False):
        attended = _run_graphs(attend_by_products, (), list(zip(*values, strict=True)))
    return attend(heads) if attended is None else attended


def prefers_graph(queries: int, keys: int, dtype: torch.dtype) -> bool:
    """Return whether attention from this many tokens of all heads to this many others uses a graph of oneDNN. With AMX,
    torch's fused kernel is kept for bfloat16: no graph has been timed there."""
    if keys < GRAPH_TOKENS or queries * keys * dtype.itemsize > find_room():
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and not has_amx())


@cache
def find_room() -> int:
    """Return the most bytes of attention weights in one graph on this machine."""
    return min(GRAPH_BYTES, read_memory() // SHARE // count_threads())


def _run_graphs(function: Pass, settings: Hashable, parts: Sequence[Sequence[Tensor]]) -> Tensor | None:
    """Return a function's results for the parts of a batch; None if one of the parts has no graph."""
    found = []
    for part in parts:
        shapes, dtype = tuple(tuple(value.shape) for value in part), part[0].dtype
        key = (settings, shapes, dtype, torch.get_num_threads())
        if key not in GRAPHS:
            _make_graph(key, function, part, shapes)
        graph = GRAPHS.get(key)
        if graph is None:
            return None
        found.append(graph(*part))
    return found[0] if len(found) == 1 else torch.cat(found)


def _make_graph(key: Hashable, function: Pass, part: Sequence[Tensor], shapes: Sequence[tuple[int, ...]]) -> None:
    """Build and keep a function's graph for these inputs, if it gives the same results as the function itself."""
    with MAKING:
        if key in GRAPHS:
            return
        while len(GRAPHS) >= MOST_GRAPHS:
            del GRAPHS[next(iter(GRAPHS))]
        try:
            expected = function(*part)
            if not expected.isfinite().all():
                return  # these inputs decide nothing; others will
            graph = compile_graph(function, shapes, part[0].dtype)
            agrees = measure_distance(graph(*part), expected) <= NEAR[part[0].dtype]
        except RuntimeError:
            agrees = False
        GRAPHS[key] = graph if agrees else None


def _attend_projected(
    projected: Float[Tensor, "batch token dim3"], heads: int, gives: torch.dtype
) -> Float[Tensor, "batch token dim"]:
    """As `attend_to_all`, in operators that oneDNN's graphs support."""
    cut = projected.view(*projected.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4)
    return attend_by_products(*cut.unbind(0), scale=LN2[projected.dtype]).transpose(1, 2).flatten(2).to(gives)


def attend_by_products(
    q: Float[Tensor, "batch head query head_dim"],
    k: Float[Tensor, "batch head key head_dim"],
    v: Float[Tensor, "batch head key head_dim"],
    bias: Float[Tensor, "#batch #head query key"] | None = None,
    scale: float = 1.0,
) -> Float[Tensor, "batch head query head_dim"]:
    """Return each head's outputs, by products and a softmax; `scale`: the factor of q k', if q isn't scaled already."""
    scores = q @ k.mT if scale == 1 else (q @ k.mT) * scale
    return torch.softmax(scores if bias is None else scores + bias, dim=-1) @ v


def _multiply(
    cut: Float[Tensor, "3 batch head token head_dim"], found: Float[Tensor, "batch token head head_dim"]
) -> None:
    _, batch, heads, tokens, per_head = cut.shape
    # laid out once: bmm would copy parts of `projected`, and k's transpose one value at a time
    q, k, v = cut.contiguous().view(3, batch * heads, tokens, per_head).unbind(0)
    weights, sums = weigh(q, k)
    gathered = torch.bmm(weights, v).view(batch, heads, tokens, per_head).transpose(1, 2)
    if sums is None:
        found.copy_(gathered)
    else:
        torch.div(gathered, sums.view(batch, heads, tokens, 1).transpose(1, 2), out=found)


def weigh(
    q: Float[Tensor, "matrix token head_dim"], k: Float[Tensor, "matrix token head_dim"]
) -> tuple[Float[Tensor, "matrix token token"], Float32[Tensor, "matrix token 1"] | None]:
    """Return attention's weights and their divisors.

    In bfloat16 the weights are powers of 2 (without subtracting the largest score from the exponents), and the divisors are their
    sums. In float32, and if a sum leaves the range in which that is exact, the weights add up to 1 and the divisors are None.
    """
    scores = torch.bmm(q, k.mT)
    if scores.dtype != torch.float32:
        powers = scores.exp2_()
        sums = powers.sum(-1, keepdim=True, dtype=torch.float32)
        least, most = torch.aminmax(sums)
        if SMALLEST_SUM < float(least) <= float(most) < 1 / SMALLEST_SUM:
            return powers, sums
        scores = torch.bmm(q, k.mT).float().mul_(LN2[q.dtype])  # the powers were written over them
    return torch.softmax(scores, dim=-1).to(q.dtype), None


def attend_from_first(
    q: Float[Tensor, "batch 1 dim"], projected: Float[Tensor, "batch token dim2"], heads: int
) -> Float[Tensor, "batch 1 dim"]:
    """Return the heads' outputs for the first token; q is already scaled."""
    batch, tokens, _ = projected.shape
    k, v = projected.view(batch, tokens, 2, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    gathered = F.scaled_dot_product_attention(
        q.view(batch, 1, heads, -1).transpose(1, 2), k, v, scale=LN2[projected.dtype]
    )
    return gathered.transpose(1, 2).reshape(batch, 1, -1)
