"""The basis of every chart: an SVG, a frame in it, axes with round numbers, text; see `charts.css` for the classes."""

import functools
import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from vitreous.drawing.html import read_resource
from vitreous.runtime.display import escape_text

Format = Callable[[float, int], str]
"""Writes a number with so many significant digits."""
DIGITS = 4
"""Significant digits, where fewer tell neighbours apart."""


def shorten(value: float, digits: int = DIGITS) -> str:
    """Format a number for an axis: 0.002, 12, 1.5M, 2e+12."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if unit <= abs(value) < 1e12:
            scale = 1e3 if letter == "k" else unit
            return f"{value / scale:.{digits}g}{letter}"
    return f"{value:.{digits}g}"


def format_percent(value: float, digits: int = DIGITS) -> str:
    """Format a share."""
    return f"{100 * value:.{digits}g}%"


def count_digits(values: Sequence[float]) -> list[int]:
    """Return enough significant digits to tell each of some ascending numbers, round ones, from the next.

    >>> count_digits([2.0, 4.0]), count_digits([6.9076, 6.9078, 6.908])
    ([4, 4], [6, 6, 6])
    """
    steps = [high - low for low, high in pairwise(values)] or [math.inf]
    near = map(min, [steps[0], *steps], [*steps, steps[-1]])
    spans = [abs(value) / step if step > 0 else 0.0 for value, step in zip(values, near, strict=False)]
    return [max(DIGITS, 2 + math.floor(math.log10(span or 1))) for span in spans]


def count_letters(words: str) -> float:
    """Return how many letters are as wide as words: an East Asian wide one counts for 1.75."""
    return sum(1.75 if unicodedata.east_asian_width(letter) in "WF" else 1.0 for letter in words)


def choose_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return about `about` round numbers within low..high: steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / max(1, about)
    if not rough > 0 or not math.isfinite(rough):
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def choose_log_ticks(low: float, high: float) -> list[float]:
    """Return the logarithms of round numbers between two logarithms to base 10: 1, 2, 5 of each power, or only
    powers."""
    factors = (1, 2, 5) if high - low < 3 else (1,)
    powers = range(math.floor(low), math.ceil(high) + 1)
    found = [power + math.log10(factor) for power in powers for factor in factors]
    return [value for value in found if low <= value <= high]


@dataclass(frozen=True)
class Axis:
    """The name and numbering of an axis."""

    name: str
    form: Format = shorten
    log: bool = False
    """Logarithmic; all values must be above 0."""
    whole: bool = False
    """Numbered at whole numbers only."""
    within: tuple[float, float] | None = None
    """Its range; None: from the data."""

    def change(self, value: float) -> float:
        """Return the position of a value on the axis."""
        return math.log10(value) if self.log else float(value)

    def marks(self, low: float, high: float) -> list[float]:
        """Return the positions of numbers between two positions."""
        if self.log:
            found = choose_log_ticks(low, high)
            return found if len(found) > 1 else [math.log10(one) for one in choose_ticks(10**low, 10**high) if one > 0]
        return [value for value in choose_ticks(low, high) if not self.whole or value == round(value)]

    def number(self, low: float, high: float) -> list[tuple[float, str]]:
        """Return the positions of numbers between two positions, and the numbers."""
        places = self.marks(low, high)
        values = [10**place if self.log else place for place in places]
        return list(zip(places, map(self.form, values, count_digits(values)), strict=True))


@dataclass(frozen=True)
class Layout:
    """The size of a chart and its margins, in the SVG's units."""

    width: float
    height: float
    left: float
    top: float
    right: float
    bottom: float
    font: float
    """Height of its letters, as in `charts.css`."""
    dot: float
    """Radius of a point."""
    alone: bool = False
    """Whether it is a file of its own: with style and background, and rules in both directions."""

    def measure(self, words: str) -> float:
        """Return the approximate width of words."""
        return 0.56 * self.font * count_letters(words)


SMALL = Layout(360, 230, 44, 26, 10, 36, 11, 2.4)
"""For a page, which scales it to the available width."""
LARGE = Layout(720, 360, 64, 44, 26, 50, 13, 4.5, alone=True)
"""For a file, in documents."""


@dataclass(frozen=True)
class Frame:
    """Maps data to the canvas."""

    layout: Layout
    x: tuple[float, float]
    """Smallest and largest x."""
    y: tuple[float, float]

    @property
    def right(self) -> float:
        """The right edge."""
        return self.layout.width - self.layout.right

    @property
    def floor(self) -> float:
        """The lower edge."""
        return self.layout.height - self.layout.bottom

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return the position of a data point on the canvas, y upwards."""
        (x0, x1), (y0, y1) = self.x, self.y
        across = self.layout.left + (x - x0) / (x1 - x0) * (self.right - self.layout.left)
        return across, self.floor - (y - y0) / (y1 - y0) * (self.floor - self.layout.top)


def draw_x_axis(frame: Frame, axis: Axis) -> str:
    """Draw numbers and name of the x axis; with rules in a chart of its own."""
    body, layout = "", frame.layout
    for value, number in axis.number(*frame.x):
        across = frame.place(value, frame.y[0])[0]
        body += f'<path class="grid" d="M{across:.1f} {layout.top:g}V{frame.floor:g}"/>' if layout.alone else ""
        body += draw_text(across, frame.floor + 1.35 * layout.font, number, anchor="middle")
    return body + draw_text(
        (layout.left + frame.right) / 2, layout.height - 0.6 * layout.font, axis.name, anchor="middle"
    )


def draw_y_axis(frame: Frame, axis: Axis) -> str:
    """Draw rules and numbers of the y axis, its name above it."""
    body, left, font = "", frame.layout.left, frame.layout.font
    for value, number in axis.number(*frame.y):
        down = frame.place(frame.x[0], value)[1]
        body += f'<path class="grid" d="M{left:g} {down:.1f}H{frame.right:g}"/>'
        body += draw_text(left - 0.6 * font, down + 0.33 * font, number, anchor="end")
    return body + (draw_text(12, frame.layout.top - 18, axis.name) if axis.name else "")


def draw_text(x: float, y: float, words: str, kind: str = "axis", anchor: str = "start", turned: bool = False) -> str:
    """Return a piece of escaped text; turned: upwards."""
    place = f'transform="translate({x:.1f} {y:.1f}) rotate(-90)"' if turned else f'x="{x:.1f}" y="{y:.1f}"'
    return f'<text class="{kind}" {place} text-anchor="{anchor}">{escape_text(words)}</text>'


def draw_dot(place: tuple[float, float], colour: int, radius: float, kind: str = "mark") -> str:
    """Return a point in one of the six colours."""
    return f'<circle class="{kind} c{colour}" cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="{radius:g}"/>'


def draw_box(kind: str, place: tuple[float, float], size: tuple[float, float], opacity: str = "") -> str:
    """Return a rectangle from its upper left corner."""
    (x, y), (width, height) = place, size
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"{opacity}/>'


def render_svg(width: float, height: float, label: str, body: str, alone: bool = False, scale: float = 2) -> Markup:
    """Wrap marks into an SVG with a description for screen readers.

    Args:
        width, height: of the canvas.
        label: describes the chart in words.
        body: the marks.
        alone: whether it is a file of its own, right in light and dark anywhere; otherwise it takes the width that a
            page
            gives it, up to `scale` times the canvas.
        scale: most pixels per unit.
    """
    said = f'viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape_text(label)}"'
    if not alone:
        return Markup(
            f'<svg {said} style="max-width:{scale * width:g}px"><title>{escape_text(label)}</title>{body}</svg>'
        )
    return Markup(
        f'<svg xmlns="http://www.w3.org/2000/svg" class="alone" width="{width:g}" height="{height:g}" {said}>'
        f"<title>{escape_text(label)}</title><style>{_read_style()}</style>"
        f'<rect class="card" width="{width:g}" height="{height:g}" rx="8"/>{body}</svg>\n'
    )


@functools.cache
def _read_style() -> str:
    return read_resource("drawing/palette.css") + read_resource("drawing/charts.css")


def draw_empty(label: str, layout: Layout) -> Markup:
    """Return a chart without data."""
    words = draw_text(layout.width / 2, 34, "nothing measured yet" if layout.alone else "nothing yet", anchor="middle")
    return render_svg(layout.width, 60, label, words, layout.alone)


def find_span(values: Sequence[float], air: float = 0.06) -> tuple[float, float]:
    """Return a range that shows all values with some margin, never empty."""
    low, high = min(values), max(values)
    pad = air * (high - low) or (abs(low) / 10 or 0.5 if low == high else 0.0)
    return low - pad, high + pad


def find_span_from_zero(values: Sequence[float]) -> tuple[float, float]:
    """Return a range that shows all values, from 0 if that is not far; never empty."""
    low, high = min(values), max(values)
    if low == high:
        pad = abs(low) / 2 or 0.5
        return low - pad, high + pad
    return 0.0 if 0 <= low < 0.3 * high else low, high


def find_share_range(values: Sequence[float]) -> tuple[float, float]:
    """Return a range of the y axis for shares: includes all of them, is at least a tenth high, and stays within 0
    and 1."""
    low, high = find_span_from_zero(values) if min(values) < max(values) else (values[0], values[0])
    room = max(0.0, 0.1 - (high - low)) / 2
    low = min(max(0.0, low - room), 0.9)
    return low, min(1.0, max(high + room, low + 0.1))
