"""Matrices: every cell, its value and its colour, whatever the names."""

import re
from xml.etree import ElementTree

import pytest

from vitreous.drawing.matrices import COUNTED, NUMBERED, draw_confusions, draw_heat_map


def drawn(matrix, rows, cols, titles=("first", "second")):
    drawing, least = draw_heat_map(matrix, (rows, cols), titles, "a map")
    assert least > 0
    return ElementTree.fromstring(drawing)


def test_every_cell_has_its_value_and_its_strength():
    root = drawn([[0.0, 0.25, 1.0], [-0.1, 0.999, 0.5]], ("a", "<b>"), ("x", "y", "z&"))
    said = [one.text for one in root.iter("title")]
    assert said == [
        "a map",
        "a, x: 0.000",
        "a, y: 0.250",
        "a, z&: 1.000",
        "<b>, x: -0.100",
        "<b>, y: 0.999",
        "<b>, z&: 0.500",
    ]
    strengths = [float(one.get("fill-opacity")) for one in root.iter("rect") if one.get("class") == "hit"]
    assert strengths == [0, 0.14, 0.55, 0, 0.55, 0.28]
    texts = [one.text for one in root.iter("text") if one.get("class") == "count"]
    assert texts == [".00", ".25", "1.00", "-.10", "1.00", ".50"]
    assert [one.text for one in root.iter("text") if one.get("class") == "axis"] == [
        "second", "first", "a", "<b>", "x", "y", "z&"
    ]  # fmt: skip


@pytest.mark.parametrize("count", [1, NUMBERED, NUMBERED + 1, 48])
def test_cells_lie_inside_the_frame(count):
    root = drawn([[0.5] * count] * 3, [f"block.{n}" for n in range(3)], [f"block.{n}" for n in range(count)])
    *cells, frame = [{key: float(one.get(key)) for key in ("x", "y", "width", "height")} for one in root.iter("rect")]
    assert len(cells) == 3 * count
    for cell in cells:
        for place, length in (("x", "width"), ("y", "height")):
            assert frame[place] - 0.1 <= cell[place]
            assert cell[place] + cell[length] <= frame[place] + frame[length] + 0.2
    width, height = map(float, re.findall(r"[\d.]+", root.get("viewBox"))[2:])
    assert frame["x"] + frame["width"] <= width
    assert frame["y"] + frame["height"] <= height
    assert any(one.get("class") == "count" for one in root.iter("text")) == (count <= NUMBERED)


@pytest.mark.parametrize(("count", "name"), [(10, "four"), (30, "four"), (10, "短短短"), (10, "短短短短"), (48, "9")])
def test_names_hide_no_other_and_nothing_is_cut_off(count, name):
    root = drawn([[0.5] * count] * count, [name] * count, [name] * count)
    size = sum(11.0 if letter > "\xff" else 6.4 for letter in name)
    side = next(float(one.get("width")) for one in root.iter("rect"))
    second, first, *named = [one for one in root.iter("text") if one.get("class") == "axis"]
    assert all(float(one.get("x")) - size > 14 for one in named[:count])
    assert all((one.get("transform") is not None) == (size > side) for one in named[count:])
    assert float(first.get("transform").split("(")[1].split()[0]) >= 11 <= float(second.get("y"))
    if size > side:
        assert all(float(re.findall(r"[\d.]+", one.get("transform"))[1]) - size > 12 for one in named[count:])


@pytest.mark.parametrize("count", [2, COUNTED, COUNTED + 1])
def test_a_confusion_says_what_was_taken_for_what(count):
    names = [f"<{n}> a name that is far too long" for n in range(count)]
    counts = [[30 if row == col else int(col == row + 1) for col in range(count)] for row in range(count)]
    drawing, least = draw_confusions(counts, names, "a & b")
    root = ElementTree.fromstring(drawing)
    assert least > 0
    assert root.get("aria-label") == "a & b"
    hits, misses = ([one for one in root.iter("rect") if one.get("class") == kind] for kind in ("hit", "miss"))
    assert (len(hits), len(misses)) == (count, count - 1)
    said = [one.text for one in root.iter("title")][1:]
    shown = [one.text for one in root.iter("text") if one.get("class") == "axis"]
    assert "<0> a name that…" in shown
    assert len(said) == (2 * count - 1 if count <= COUNTED else 0)
    if said:
        assert f"{names[0]} taken for {names[1]}: 1 of 31 (3.2%)" in said
        assert f"{names[0]}, right: 30 of 31 (96.8%)" in said
