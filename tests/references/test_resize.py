"""For random grids, each named rule is the function that its origin resizes its own positions by."""

import math
from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from torch import Tensor

from vitreous.model.positions.resize import RULES, resize_grid
from vitreous.shapes import Size

DIM = 6
sides = st.integers(1, 12)
grids = st.builds(Size, sides, sides)
squares = st.builds(lambda side: Size(side, side), sides)


def random_grid(size: Size) -> Tensor:
    generator = torch.Generator().manual_seed(size.rows * 31 + size.cols)
    return torch.randn(*size, DIM, generator=generator)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found.reshape(-1, DIM), expected.reshape(-1, DIM), rtol=1e-5, atol=1e-5)


def one_column(to: Size, rule: str) -> bool:
    """Where torch 2.13 is wrong: with antialias, every row of a single column gets the first row's values."""
    return to.cols == 1 and "antialias" in rule


@given(grids, grids, st.sampled_from(["bicubic-antialias", "bilinear"]))
def test_timms(start: Size, to: Size, rule: str) -> None:
    """Dynamic sizes and its own files: the first; its reader of the authors' npz: the second."""
    from timm.layers.pos_embed import resample_abs_pos_embed

    assume(not one_column(to, rule))
    grid = random_grid(start)
    mode, _, antialias = rule.partition("-")
    found = resample_abs_pos_embed(
        grid.flatten(0, 1)[None], list(to), list(start), 0, interpolation=mode, antialias=bool(antialias)
    )
    close(resize_grid(grid, to, rule), found)


def transformers_grid(kind: type, start: Size, to: Size) -> tuple[Tensor, Tensor]:
    """Call a transformers class's own method on positions of a square grid; the first row stands for [class]."""
    grid, patch = random_grid(start), 2
    positions = torch.cat([torch.full((1, DIM), 7.0), grid.flatten(0, 1)])[None]
    itself = SimpleNamespace(
        position_embeddings=positions, patch_size=patch, patch_embeddings=SimpleNamespace(patch_size=(patch, patch))
    )
    tokens = torch.empty(1, 1 + to.rows * to.cols, DIM)
    found = kind.interpolate_pos_encoding(itself, tokens, to.rows * patch, to.cols * patch)
    assert bool((found[0, 0] == 7).all())
    return grid, found[0, 1:]


@given(squares, grids)
def test_vits_of_transformers(start: Size, to: Size) -> None:
    from transformers.models.vit.modeling_vit import ViTEmbeddings

    grid, found = transformers_grid(ViTEmbeddings, start, to)
    close(resize_grid(grid, to, "bicubic"), found)


@given(squares, grids)
def test_dinov2s_of_transformers(start: Size, to: Size) -> None:
    from transformers.models.dinov2.modeling_dinov2 import Dinov2Embeddings

    grid, found = transformers_grid(Dinov2Embeddings, start, to)
    close(resize_grid(grid, to, "bicubic"), found)


@given(squares, grids)
def test_dinov2s_with_registers_of_transformers(start: Size, to: Size) -> None:
    from transformers.models.dinov2_with_registers.modeling_dinov2_with_registers import Dinov2WithRegistersEmbeddings

    assume(not one_column(to, "antialias"))
    grid, found = transformers_grid(Dinov2WithRegistersEmbeddings, start, to)
    close(resize_grid(grid, to, "bicubic-antialias"), found)


@given(grids, grids)
def test_siglip2s(start: Size, to: Size) -> None:
    from transformers.models.siglip2.modeling_siglip2 import Siglip2VisionEmbeddings

    assume(not one_column(to, "antialias"))
    grid = random_grid(start)
    found = Siglip2VisionEmbeddings.resize_positional_embeddings(grid, torch.tensor([list(to)]), to.rows * to.cols)
    close(resize_grid(grid, to, "bilinear-antialias"), found[0])


@given(squares, squares)
def test_torchvisions(start: Size, to: Size) -> None:
    """Its function knows square grids alone."""
    from torchvision.models.vision_transformer import interpolate_embeddings

    grid, key = random_grid(start), "encoder.pos_embedding"
    state = OrderedDict({key: torch.cat([torch.zeros(1, DIM), grid.flatten(0, 1)])[None]})
    found = interpolate_embeddings(to.rows * 4, 4, state)[key]
    close(resize_grid(grid, to, "bicubic-corners"), found[0, 1:])


def triangle(x: np.ndarray) -> np.ndarray:
    return np.clip(1 - np.abs(x), 0, None)


def cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Keys's kernel."""
    x = np.abs(x)
    near, far = (a + 2) * x**3 - (a + 3) * x**2 + 1, a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def line(old: int, new: int, rule: str) -> np.ndarray:
    """By hand, in float64: how one axis's cells are made of the old ones. What lies beyond the edge is the edge's."""
    matrix = np.zeros((new, old))
    scale = old / (new + 0.1) if rule == "bicubic-offset" else old / new
    kernel = (lambda x: cubic(x, -0.5 if "antialias" in rule else -0.75)) if "bicubic" in rule else triangle
    for i in range(new):
        if rule == "area":
            matrix[i, i * old // new : -(-(i + 1) * old // new)] = 1
        elif "antialias" in rule:
            wide = max(1.0, scale)
            matrix[i] = kernel((np.arange(old) + 0.5 - scale * (i + 0.5)) / wide)
        else:
            place = scale * (i + 0.5) - 0.5
            if "corners" in rule:
                place = i * (old - 1) / (new - 1) if new > 1 else 0.0
            for j in range(math.floor(place) - 1, math.floor(place) + 3):
                matrix[i, min(max(j, 0), old - 1)] += kernel(np.array(place - j))
    return matrix / matrix.sum(1, keepdims=True)


@given(grids, grids, st.sampled_from(sorted(RULES)))
@example(Size(2, 1), Size(3, 1), "bicubic-antialias")
@example(Size(7, 3), Size(4, 1), "bilinear-antialias")
def test_every_rule_by_hand(start: Size, to: Size, rule: str) -> None:
    grid = random_grid(start).double()
    rows, cols = line(start.rows, to.rows, rule), line(start.cols, to.cols, rule)
    expected = np.einsum("ar,bc,rcd->abd", rows, cols, grid.numpy())
    if start == to:  # every origin leaves its own grid alone
        expected = grid.numpy()
    np.testing.assert_allclose(resize_grid(grid, to, rule).numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("rule", RULES)
def test_equal_counts_with_unequal_grids_are_resized(rule: str) -> None:
    grid = random_grid(Size(14, 14))
    found = resize_grid(grid, Size(7, 28), rule)
    assert found.shape == (7, 28, DIM)
    assert not torch.allclose(found.flatten(0, 1), grid.flatten(0, 1), atol=0.1)
