"""What training leaves out at random, as a function of each example's key, the layer, and the place in its tensor.

A layer's draws don't depend on what shares the batch: not on its size, its order, or on how it is divided among
processes. They are hashes, so nothing has state: the backward pass can recompute them, and any device draws the same.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.shapes import Int32, Shaped

FIRST, SECOND, STRIDE = 0x7FEB352D, -0x7B935975, -0x61C88647
"""Factors of a 32-bit hash with two rounds of multiplication (Wellons, nullprogram.com/blog/2018/07/31, "lowbias32"), and
the odd number nearest to 2**32 divided by the golden ratio; all of them odd."""
LEAST, MOST = -(1 << 31), (1 << 31) - 1


class Keys:
    """The keys of the examples that a model is given; all layers of the model that draw share one of these."""

    def __init__(self) -> None:
        self.of_examples: Int32[Tensor, " batch"] | None = None
        """None: nobody says which examples come, and torch's generator draws."""


class Drawing(nn.Module):
    """A layer that leaves out a share of something in training mode.

    Args:
        rate: that share, 0 to below 1.
        keys: of the model that it belongs to.
        number: its own in that model; each draws something else.
    """

    def __init__(self, rate: float, keys: Keys | None = None, number: int = 0) -> None:
        super().__init__()
        self.rate, self.keys, self.number = rate, keys or Keys(), number

    def keep(self, like: Tensor) -> Tensor | None:
        """Return which values of a tensor (batch, ...) stay; None: no keys."""
        keys = self.keys.of_examples
        return None if keys is None else draw(keys, self.number, like.shape[1:]) >= threshold(self.rate)


class Dropout(Drawing):
    """Dropout: single values become zero, the others are scaled up by 1 / kept share."""

    def forward(self, values: Shaped[Tensor, "batch ..."]) -> Shaped[Tensor, "batch ..."]:
        """Return the values, some of them zero."""
        if not self.training:
            return values
        kept = self.keep(values)
        if kept is None:
            return F.dropout(values, self.rate)
        return values * kept.to(values.dtype).mul_(1 / (1 - self.rate))


class DropPath(Drawing):
    """Stochastic depth (1603.09382): drop a branch for whole examples, and scale the others up by 1 / kept share."""

    def forward(self, branch: Shaped[Tensor, "batch token dim"]) -> Shaped[Tensor, "batch token dim"]:
        """Return the branch, or zeros in its place."""
        if not self.training:
            return branch
        one, share = branch[:, :1, :1], 1 - self.rate
        kept = self.keep(one)
        return branch * (torch.empty_like(one).bernoulli_(share) if kept is None else kept.to(branch.dtype)) / share


class PatchDropout(Drawing):
    """Patch dropout (2208.07220): chooses which patches of each example stay in the sequence."""

    def forward(self, patches: Shaped[Tensor, "batch patch dim"]) -> Shaped[Tensor, "batch kept"]:
        """Return the numbers of the patches that stay, in no particular order: all but a share, at least one."""
        count = patches.shape[1]
        kept, keys = max(1, round(count * (1 - self.rate))), self.keys.of_examples
        if keys is None:
            ranks = torch.rand((len(patches), count), device=patches.device)
        else:  # ties, which hardly come, are broken by the patch's number: the same on every device
            drawn = draw(keys, self.number, patches.shape[1:2]).long()
            ranks = drawn * count + torch.arange(count, device=patches.device)
        return ranks.topk(kept, dim=1, sorted=False).indices


class Place(nn.Sequential):
    """Where training may leave something out. Empty until then, so that everything passes; see `fill_places`.

    Args:
        kind: what leaves it out.
        second: it shares the number of the place before it, and has the second of its two draws.
    """

    def __init__(self, kind: type[Drawing], *, second: bool = False) -> None:
        super().__init__()
        self.kind, self.second, self.rate = kind, second, 0.0


def set_rate(module: nn.Module, kind: type[Drawing], rate: float) -> None:
    """Set the share that layers of a kind leave out in a module."""
    for place in module.modules():
        if isinstance(place, Place) and place.kind is kind:
            place.rate = rate


def fill_places(model: nn.Module, keys: Keys) -> None:
    """Put layers that draw by these keys into all places of a model that have a rate, and empty the others."""
    number = -2
    for place in [module for module in model.modules() if isinstance(module, Place)]:
        number += 1 if place.second else 2 - number % 2
        del place[:]
        if place.rate:
            place.append(place.kind(place.rate, keys, number).train(model.training))


def threshold(rate: float) -> int:
    """Return the number below which a share of all `draw`s lies.

    >>> threshold(0.5)
    0
    """
    return min(MOST, LEAST + round(rate * (1 << 32)))


def draw(keys: Int32[Tensor, " batch"], layer: int, shape: tuple[int, ...]) -> Int32[Tensor, "batch ..."]:
    """Return uniformly distributed 32-bit integers (batch, *shape), a function of each example's key and the layer."""
    *outer, inner = shape
    rows = torch.arange(math.prod(outer), device=keys.device, dtype=torch.int32)
    own = scramble(keys ^ scramble(torch.full_like(keys[:1], layer + 1) * STRIDE))
    by_row = scramble(own[:, None] + rows * STRIDE)
    by_column = scramble(torch.arange(1, inner + 1, device=keys.device, dtype=torch.int32) * SECOND)
    values = by_row[:, :, None] ^ by_column
    # The last step of `scramble` changes the lower half of the bits alone, of which a comparison has no need.
    values = values.mul_(FIRST)
    values ^= (values >> 15) & 0x1FFFF
    return values.mul_(SECOND).view(len(keys), *shape)


def scramble(values: Int32[Tensor, "..."]) -> Int32[Tensor, "..."]:
    """Mix the bits of integers, one to one."""
    values = (values ^ ((values >> 16) & 0xFFFF)) * FIRST
    values = (values ^ ((values >> 15) & 0x1FFFF)) * SECOND
    return values ^ ((values >> 16) & 0xFFFF)
