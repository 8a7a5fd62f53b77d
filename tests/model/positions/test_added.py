import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from vitreous.errors import UnknownName
from vitreous.model.positions.added import RULES, encode_sincos_2d, resize_grid, resize_matrix
from vitreous.model.positions.resize import geometric_line
from vitreous.shapes import Size

grids = st.builds(Size, st.integers(1, 9), st.integers(1, 9))


def random_grid(size: Size) -> torch.Tensor:
    generator = torch.Generator().manual_seed(size.rows * 31 + size.cols)
    return torch.randn(*size, 6, generator=generator, dtype=torch.float64)


@given(grids, grids, st.sampled_from(sorted(set(RULES) - {"bicubic-offset"})))
def test_the_matrix_is_torchs_interpolation(start: Size, to: Size, rule: str) -> None:
    grid = random_grid(start)
    expected = F.interpolate(grid.permute(2, 0, 1)[None], size=tuple(to), **RULES[rule])[0].permute(1, 2, 0)
    torch.testing.assert_close(resize_grid(grid, to, rule), expected, rtol=1e-9, atol=1e-9)


@given(grids, grids)
def test_bicubic_offset_is_dinov2s(start: Size, to: Size) -> None:
    """The scale comes from the new size plus 0.1, as facebookresearch/dinov2 interpolates its positions."""
    grid = random_grid(start)
    scale = ((to.rows + 0.1) / start.rows, (to.cols + 0.1) / start.cols)
    found = F.interpolate(grid.permute(2, 0, 1)[None], scale_factor=scale, mode="bicubic")[0].permute(1, 2, 0)
    found = grid if start == to else found  # DINOv2 leaves its own grid alone
    torch.testing.assert_close(resize_grid(grid, to, "bicubic-offset"), found, rtol=1e-9, atol=1e-9)


@given(st.builds(Size, st.integers(2, 9), st.integers(2, 9)), st.builds(Size, st.integers(2, 9), st.integers(2, 9)))
def test_linear_corners_is_scipys_zoom(start: Size, to: Size) -> None:
    from scipy.ndimage import zoom

    grid = random_grid(start).numpy()
    expected = zoom(grid, (to.rows / start.rows, to.cols / start.cols, 1), order=1)
    np.testing.assert_allclose(resize_grid(torch.from_numpy(grid), to, "linear-corners").numpy(), expected, atol=1e-9)


@given(grids, grids, st.sampled_from(sorted(RULES)))
def test_constants_stay_constant(start: Size, to: Size, rule: str) -> None:
    rows = resize_matrix(start, to, rule).sum(1)
    torch.testing.assert_close(rows, torch.ones_like(rows))


def test_equal_counts_with_unequal_grids_are_resized() -> None:
    grid = random_grid(Size(14, 14))
    assert resize_grid(grid, Size(7, 28)).shape == (7, 28, 6)


def test_gradients_pass_through_the_matrix() -> None:
    grid = random_grid(Size(4, 4)).requires_grad_()
    resize_grid(grid, Size(6, 5)).sum().backward()
    expected = resize_matrix(Size(4, 4), Size(6, 5)).sum(0).view(4, 4, 1).expand(-1, -1, 6)
    torch.testing.assert_close(grid.grad, expected)


def test_an_unknown_rule_suggests_the_nearest() -> None:
    with pytest.raises(UnknownName, match="bicubic"):
        resize_matrix(Size(2, 2), Size(3, 3), "bicubik")


def test_sines_and_cosines_are_big_visions() -> None:
    """The formula of big_vision's posemb_sincos_2d, written out in numpy."""
    rows, cols, width = 3, 5, 16
    y, x = np.mgrid[:rows, :cols]
    omega = 1.0 / (10_000 ** (np.arange(width // 4) / (width // 4 - 1)))
    y, x = (np.einsum("m,d->md", axis.flatten(), omega) for axis in (y, x))
    expected = np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=1)
    np.testing.assert_allclose(encode_sincos_2d(Size(rows, cols), width).flatten(0, 1).numpy(), expected, atol=1e-6)


def test_the_geometric_rule_keeps_a_line_of_its_own_length_and_reads_linearly_between():
    """At its own length the progression is nearly arithmetic (q is at least 1.01); offset 0 stays where it is."""
    line = geometric_line(7, 9)
    assert line.shape == (9, 7)
    assert torch.allclose(line.sum(dim=1), torch.ones(9, dtype=torch.float64))
    assert line[4].tolist() == [0, 0, 0, 1, 0, 0, 0]
    places = line @ torch.arange(-3.0, 4.0, dtype=torch.float64)
    assert torch.equal(places, -places.flip(0))
    assert bool((places.diff() > 0).all())
    assert torch.allclose(geometric_line(1, 1), torch.ones(1, 1, dtype=torch.float64))
