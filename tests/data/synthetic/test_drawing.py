"""The formulas against closed forms: attractors, noise, waves, and what draws them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitreous.data.stream.order import seed_generator
from vitreous.data.synthetic.contours import draw_contour, draw_noise, draw_polygons
from vitreous.data.synthetic.fractals import (
    CELLS,
    FILLING,
    FULL,
    MAPS,
    SHRINK,
    System,
    Variation,
    draw_contractions,
    find_system,
    mark_cells,
    measure_stretch,
    play_chaos_game,
    turn_points,
    weight_maps,
)
from vitreous.data.synthetic.rasterisation import (
    choose_canvas,
    draw_closed_lines,
    draw_colours,
    draw_shades,
    place_points,
    shrink_canvas,
    spread_ink,
)
from vitreous.data.synthetic.visual_atoms import POINTS, Atom, draw_atom_parameters, draw_waves

seeds = st.integers(0, 10**9)
SIERPINSKI = System(np.array([[0.5] * 3, [0] * 3, [0] * 3, [0.5] * 3, [0, 0.5, 0], [0, 0, 0.5]]))


@given(seeds)
def test_the_chaos_game_stays_on_the_attractor(seed):
    """Points of the Sierpinski triangle in the unit square have no binary digit that is 1 in both coordinates."""
    points, last = play_chaos_game(SIERPINSKI, seed_generator(seed), chains=500)
    col, row = np.minimum((points.astype(np.float64) * 256).astype(int), 255)
    assert not (col & row).any()
    assert len(np.unique(col // 8 * 32 + row // 8)) > 200  # of the 3^5 = 243 cells that it meets
    assert np.array_equal(last == 1, points[0] >= 0.5)
    assert np.array_equal(last == 2, points[1] >= 0.5)


@given(seeds)
def test_maps_shrink_every_direction(seed):
    maps = draw_contractions(seed_generator(seed))
    assert MAPS[0] <= maps.shape[1] <= MAPS[1]
    exact = np.linalg.svd(maps[:4].T.reshape(-1, 2, 2), compute_uv=False)[:, 0]
    np.testing.assert_allclose(measure_stretch(maps), exact, rtol=1e-9)
    assert exact.max() < SHRINK
    pushed = weight_maps(System(maps), Variation(coefficient=seed % 6, weight=1.2)).maps
    assert measure_stretch(pushed).max() <= SHRINK + 1e-9


@given(seeds)
def test_maps_are_taken_by_their_areas(seed):
    system = System(draw_contractions(seed_generator(seed)))
    areas = np.abs(np.linalg.det(system.maps[:4].T.reshape(-1, 2, 2))) + 0.01
    taken = np.bincount(system.choice, minlength=len(areas))
    assert len(taken) == len(areas)
    assert np.abs(taken - 256 * areas / areas.sum()).max() < 1


@pytest.mark.parametrize("label", range(12))
def test_classes_fill_enough_and_not_all(label):
    points, last = play_chaos_game(find_system(0, label), seed_generator(99, label), chains=CELLS * CELLS // 16)
    share = np.count_nonzero(mark_cells(points, last, CELLS)) / CELLS**2
    assert FILLING - 0.05 < share < FULL + 0.05  # counted on other points than the search saw


def test_an_unvaried_instance_is_the_class_itself():
    points, _ = play_chaos_game(SIERPINSKI, seed_generator(0), chains=100)
    plain = turn_points(points, Variation())
    assert np.array_equal(plain.min(axis=1), [-1, -1])
    assert np.array_equal(turn_points(points, Variation(mirror=(-1.0, 1.0)))[0], -plain[0])
    quarter = turn_points(points, Variation(turn=math.pi / 2))
    np.testing.assert_allclose(quarter, [-plain[1], plain[0]], atol=1e-6)
    assert np.array_equal(weight_maps(SIERPINSKI, Variation()).maps, SIERPINSKI.maps)


@given(seeds)
def test_noise_is_zero_at_corners_smooth_and_bounded(seed):
    slopes = draw_contour(seed, 0).slopes
    corners = np.stack(np.meshgrid(np.arange(-3.0, 20), np.arange(-3.0, 20)), axis=-1)
    assert np.array_equal(draw_noise(corners, slopes), np.zeros((23, 23)))
    where = seed_generator(seed).uniform(-20, 20, (10, 40, 2))
    assert np.abs(draw_noise(where, slopes)).max() <= 1
    assert np.abs(draw_noise(where + 1e-6, slopes) - draw_noise(where, slopes)).max() < 1e-5
    np.testing.assert_allclose(draw_noise(where + np.array([16, -32]), slopes), draw_noise(where, slopes), atol=1e-9)


@given(seeds)
def test_noise_leaves_a_corner_with_its_slope(seed):
    slopes = draw_contour(seed, 1).slopes
    step = 1e-4
    for col in (0, 1):
        away = np.array([[[5.0, 7.0]]]) + step * np.eye(2)[col]
        np.testing.assert_allclose(draw_noise(away, slopes) / step, math.sqrt(2) * slopes[5, 7, col], atol=1e-2)


@given(seeds, st.integers(0, 999))
def test_polygons_are_nested_rings(seed, label):
    contour = draw_contour(seed, label)
    points = draw_polygons(contour, np.zeros(2))
    assert points.shape == (contour.lines, contour.vertices, 2)
    radius = np.hypot(points[..., 0], points[..., 1] / contour.oval)
    depth = np.linspace(1, contour.inner, contour.lines)[:, None]
    assert np.abs(radius / depth - 1).max() <= contour.ripple + 1e-9


def test_an_orbit_carries_both_waves():
    atom = Atom(3, 0.5, 0.8, 0.0, (5, 12), (0.2, 0.07), 0.0, 0.01)
    points = draw_waves(atom, np.zeros(2), np.zeros((3, POINTS)))
    radius = np.hypot(points[..., 0], points[..., 1] / atom.oval)
    found = np.abs(np.fft.rfft(radius, axis=1)) / POINTS
    expected = np.zeros_like(found)
    expected[:, 0], expected[:, 5], expected[:, 12] = (1, 0.75, 0.5), 0.1, 0.035
    np.testing.assert_allclose(found, expected, atol=1e-12)


@given(seeds, st.floats(0, math.pi), st.floats(0, 1))
def test_shapes_are_placed_inside_the_image(seed, tilt, turn):
    atom = draw_atom_parameters(seed, 3)
    points = draw_waves(atom, np.zeros(2), np.zeros((atom.orbits, POINTS)))
    found = place_points(points, seed_generator(seed), tilt, turn, 0.05)
    assert np.abs(found).max() <= 1
    assert 1.5 <= np.ptp(found, axis=(0, 1)).max() <= 1.9 + 1e-9


@given(st.integers(8, 1024))
def test_small_images_are_drawn_larger(size):
    canvas, factor = choose_canvas(size)
    assert canvas == size * factor >= 96
    assert factor == 1 or canvas - size < 96


def test_averaging_down_rounds_to_the_nearest():
    pixels = seed_generator(1).integers(0, 256, (12, 24, 3), dtype=np.uint8)
    exact = pixels.reshape(4, 3, 8, 3, 3).mean(axis=(1, 3))
    assert np.array_equal(shrink_canvas(pixels, 3), np.floor(exact + 0.5).astype(np.uint8))
    assert np.array_equal(
        shrink_canvas(np.full((1024, 1024, 1), 255, np.uint8), 64), np.full((16, 16, 1), 255, np.uint8)
    )


@given(seeds, st.lists(st.booleans(), min_size=9, max_size=9))
def test_a_patch_is_drawn_at_every_mark(seed, patch):
    ink = (seed_generator(seed).random((9, 11)) < 0.1).astype(np.uint8) * seed_generator(seed, 1).integers(
        1, 9, (9, 11)
    ).astype(np.uint8)
    expected = ink.copy()
    for row, col in np.argwhere(ink):
        for down in range(3):
            for across in range(3):
                r, c = row + down - 1, col + across - 1
                if patch[3 * down + across] and 0 < r < 8 and 0 < c < 10:
                    expected[r, c] = max(expected[r, c], ink[row, col])
    assert np.array_equal(spread_ink(ink, tuple(patch)), expected)


def test_lines_are_closed_and_as_wide_as_asked():
    square = np.array([[[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]])
    drawn = draw_closed_lines(square, np.array([[255]], np.uint8), width=0.05, size=100)[..., 0]
    assert (drawn > 0).sum(axis=0)[50] == 10  # two crossings of 5 pixels
    assert (drawn > 0).sum(axis=1)[50] == 10
    assert set(np.unique(drawn)) == {0, 255}
    thin = draw_closed_lines(square, np.array([[9, 90, 200]], np.uint8), width=0.0, size=100)
    assert (thin[50] > 0).any(axis=1).sum() == 2
    assert thin.reshape(-1, 3).max(axis=0).tolist() == [9, 90, 200]


@given(seeds, st.integers(2, 30), st.sampled_from([1, 3]))
def test_colours_stand_out_from_black(seed, count, channels):
    drawn = draw_colours(seed_generator(seed), count, channels)
    assert drawn.shape == (count, channels)
    assert drawn.max(axis=1).min() >= 160
    graded = draw_shades(seed_generator(seed), count, channels).astype(int)
    steps = np.diff(graded, axis=0)
    assert np.abs(steps - steps.mean(axis=0)).max() <= 1 + 1e-9
