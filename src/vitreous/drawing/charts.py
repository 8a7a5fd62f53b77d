"""Charts as inline SVG: plain text, coloured by the page's own CSS variables, so they follow light and dark.

Classes that a page must style: `axis` (text and ticks), `grid`, `line-1` .. `line-3`, `mark-1` .. `mark-3`, `faint`,
`hit`, `miss`, `bar`, `gap`, `spare`, `ideal`, `frame`, `count`, `on` (text on a strong fill). All text is escaped here.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

MOST_POINTS = 400
"""Points drawn of one line; longer ones are thinned."""
Format = Callable[[float], str]


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    name: str
    points: Sequence[tuple[float, float]]
    """(x, y), x ascending."""
    style: int = 1
    """1 to 3: which of the page's colours."""
    dots: bool = False
    """Mark each point, for few and meaningful ones."""
    joined: bool = True
    """Draw a line through the points."""
    faint: bool = False
    """Drawn as a background, without an entry in the legend."""


@dataclass(frozen=True)
class Frame:
    """Where data lands on the canvas, in the SVG's units."""

    width: float
    height: float
    left: float
    top: float
    right: float
    bottom: float
    x: tuple[float, float]
    """Smallest and largest x."""
    y: tuple[float, float]

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return the canvas place of a data point, y upwards."""
        (x0, x1), (y0, y1) = self.x, self.y
        across = self.left + (x - x0) / (x1 - x0) * (self.width - self.left - self.right)
        down = self.height - self.bottom - (y - y0) / (y1 - y0) * (self.height - self.top - self.bottom)
        return across, down


def short(value: float) -> str:
    """Write a number for an axis: 0.002, 12, 1.5M."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= unit:
            scale = 1e3 if letter == "k" else unit
            return f"{value / scale:.4g}{letter}"
    return f"{value:.4g}"


def percent(value: float) -> str:
    """Write a share."""
    return f"{100 * value:.4g}%"


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return round numbers within low..high, about so many: steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / max(1, about)
    if not rough > 0 or not math.isfinite(rough):
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def thinned(points: Sequence[tuple[float, float]], most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """Return at most about `most` points, evenly chosen, the last one among them."""
    if len(points) <= most:
        return list(points)
    stride = math.ceil(len(points) / most)
    kept = list(points[::stride])
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def smoothed(points: Sequence[tuple[float, float]], share: float = 0.05) -> list[tuple[float, float]]:
    """Return the running mean of y over a window of this share of the points, centred; short at both ends."""
    reach = round(len(points) * share / 2)
    sums = [0.0]
    for _, y in points:
        sums.append(sums[-1] + y)
    result = []
    for index, (x, _) in enumerate(points):
        near = min(reach, index, len(points) - 1 - index)
        result.append((x, (sums[index + near + 1] - sums[index - near]) / (2 * near + 1)))
    return result


def svg(width: float, height: float, label: str, body: str) -> str:
    """Wrap marks into an SVG that scales with its place and tells screen readers what it shows."""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}" '
        f'style="max-width:{2 * width:g}px"><title>{escape(label)}</title>{body}</svg>'
    )


def line_chart(
    series: Sequence[Series],
    label: str,
    x_name: str,
    y_format: Format = short,
    y: tuple[float, float] | None = None,
) -> str:
    """Draw lines over a common x.

    Args:
        series: the lines; points that are not finite are left out.
        label: says in words what the chart shows.
        x_name: name of the x axis.
        y_format: writes the numbers of the y axis.
        y: range of the y axis; None: from the data, within 0 to 1 where it is written as a share.
    """
    lines = [(one, [p for p in one.points if math.isfinite(p[0]) and math.isfinite(p[1])]) for one in series]
    every = [point for _, points in lines for point in points]
    if not every:
        return svg(360, 60, label, '<text class="axis" x="180" y="34" text-anchor="middle">nothing yet</text>')
    spanned = share_range if y_format is percent else _span
    frame = Frame(360, 230, 44, 26, 10, 36, _span([x for x, _ in every]), y or spanned([y for _, y in every]))
    body = _axes(frame, x_name, y_format, whole=all(float(x).is_integer() for x, _ in every))
    for one, points in lines:
        body += _line(frame, one, thinned(points))
    return svg(frame.width, frame.height, label, body + _legend([one for one in series if not one.faint]))


def _span(values: Sequence[float]) -> tuple[float, float]:
    """Return a range that shows all values with a little air, never empty."""
    low, high = min(values), max(values)
    if low == high:
        pad = abs(low) / 2 or 0.5
        return low - pad, high + pad
    if 0 <= low < 0.3 * high:
        low = 0.0
    return low, high


def share_range(values: Sequence[float]) -> tuple[float, float]:
    """Return a range of the y axis for shares: all of them, at least a tenth high, never below 0 or above 1."""
    low, high = _span(values) if min(values) < max(values) else (values[0], values[0])
    room = max(0.0, 0.1 - (high - low)) / 2
    low = min(max(0.0, low - room), 0.9)
    return low, min(1.0, max(high + room, low + 0.1))


def _axes(frame: Frame, x_name: str, y_format: Format, whole: bool = False) -> str:
    """Draw rules, numbers and the name of the x axis, which has whole numbers alone where what it counts has no others."""
    body = ""
    right, floor = frame.width - frame.right, frame.height - frame.bottom
    for value in ticks(*frame.y):
        down = frame.place(frame.x[0], value)[1]
        body += f'<path class="grid" d="M{frame.left:g} {down:.1f}H{right:g}"/>'
        text = escape(y_format(value))
        body += f'<text class="axis" x="{frame.left - 6:g}" y="{down + 3.5:.1f}" text-anchor="end">{text}</text>'
    for value in [value for value in ticks(*frame.x) if not whole or value == round(value)]:
        across = frame.place(value, frame.y[0])[0]
        body += f'<text class="axis" x="{across:.1f}" y="{floor + 14:g}" text-anchor="middle">{short(value)}</text>'
    middle = (frame.left + right) / 2
    return body + (
        f'<text class="axis" x="{middle:g}" y="{frame.height - 5:g}" text-anchor="middle">{escape(x_name)}</text>'
    )


def _line(frame: Frame, one: Series, points: list[tuple[float, float]]) -> str:
    low, high = frame.y
    spots = [frame.place(x, min(high, max(low, y))) for x, y in points]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in spots)
    faint = " faint" if one.faint else ""
    body = f'<path class="line-{one.style}{faint}" d="{path}"/>' if one.joined and len(spots) > 1 else ""
    if one.dots or not one.joined or len(spots) == 1:
        radius = 2.4 if len(spots) <= 40 else 1.8
        body += "".join(f'<circle class="mark-{one.style}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>' for x, y in spots)
    return body


def _legend(series: Sequence[Series]) -> str:
    body, across = "", 44.0
    for one in series:
        line = f'<path class="line-{one.style}" d="M{across:.0f} 11h14"/>'
        body += line if one.joined else f'<circle class="mark-{one.style}" cx="{across + 7:.0f}" cy="11" r="2.4"/>'
        body += f'<text class="axis" x="{across + 19:.0f}" y="14.5">{escape(one.name)}</text>'
        across += 32 + 6.2 * len(one.name)
    return body


def confusion_map(
    matrix: Sequence[Sequence[int]], names: Sequence[str], label: str, numbers_up_to: int = 12
) -> tuple[str, float]:
    """Draw a confusion matrix, rows true, columns predicted; colour is the share of the row.

    Returns:
        The SVG, and the width in pixels below which it should scroll rather than shrink.
    """
    count = len(names)
    cell = max(16.0, min(38.0, 460 / count))
    shown = [_cut(name, 16) for name in names]
    edge = 24 + 6.4 * max(map(len, shown))
    top = edge if max(map(len, shown)) > 4 else 34.0
    body = f'<text class="axis" x="{edge + cell * count / 2:g}" y="10" text-anchor="middle">predicted</text>'
    body += f'<text class="axis" transform="translate(9 {top + cell * count / 2:g}) rotate(-90)" text-anchor="middle">true</text>'
    for index, name in enumerate(shown):
        middle = (index + 0.5) * cell
        body += (
            f'<text class="axis" x="{edge - 6:g}" y="{top + middle + 3.5:g}" text-anchor="end">{escape(name)}</text>'
        )
        turn = "rotate(-90)" if top == edge else ""
        anchor = "start" if turn else "middle"
        shift = 3.5 if turn else 0
        place = f"translate({edge + middle + shift:g} {top - 6:g}) {turn}"
        body += f'<text class="axis" transform="{place}" text-anchor="{anchor}">{escape(name)}</text>'
    for row, counts in enumerate(matrix):
        for col, value in enumerate(counts):
            if value:
                title = f"{names[row]} taken for {names[col]}" if row != col else f"{names[row]}, right"
                place = (edge + col * cell, top + row * cell)
                kind = "hit" if row == col else "miss"
                body += _cell(place, cell, kind, value, sum(counts), title if count <= numbers_up_to else None)
    side = cell * count
    body += f'<rect class="frame" x="{edge:g}" y="{top:g}" width="{side:g}" height="{side:g}"/>'
    width, height = edge + side + 2, top + side + 2
    return svg(width, height, label, body).replace(f"{2 * width:g}px", f"{1.25 * width:g}px"), 0.72 * width


def _cell(place: tuple[float, float], cell: float, kind: str, value: int, total: int, numbered: str | None) -> str:
    """Draw one cell; with a title, also its count."""
    (x, y), share = place, value / total
    strength = 0.12 + 0.88 * share**0.6
    rect = f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{cell:.1f}" height="{cell:.1f}" fill-opacity="{strength:.2f}"/>'
    if numbered is None:
        return rect
    on = " on" if strength > (0.55 if kind == "hit" else 0.85) else ""
    text = f'<text class="count{on}" x="{x + cell / 2:.1f}" y="{y + cell / 2 + 3.5:.1f}" text-anchor="middle">{value}</text>'
    return f"<g><title>{escape(numbered)}: {value:,} of {total:,} ({share:.1%})</title>{rect}{text}</g>"


def _cut(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def reliability(bins: Sequence[tuple[float, float, int, float, float]], label: str) -> str:
    """Draw accuracy against confidence, and below it how many predictions have that confidence.

    Args:
        bins: (low, high, count, mean confidence, accuracy) of each bin.
        label: says in words what the chart shows.
    """
    frame = Frame(360, 250, 44, 12, 10, 76, (0, 1), (0, 1))
    body = _axes(frame, "", percent)
    most = max([count for _, _, count, _, _ in bins] + [1])
    for low, high, count, confidence, accuracy in bins:
        if not count:
            continue
        left, right = frame.place(low, 0)[0] + 1, frame.place(high, 0)[0] - 1
        title = f"{count:,} predictions of {low:.0%} to {high:.0%}: {confidence:.1%} sure, {accuracy:.1%} right"
        near, far = sorted((accuracy, confidence))
        ends = [frame.place(0, value)[1] for value in (0, near, far)]
        tall, wide = 30 * count / most, right - left
        body += (
            f"<g><title>{escape(title)}</title>"
            + _bar("bar", left, ends[1], wide, ends[0] - ends[1])
            + _bar("gap" if confidence > accuracy else "spare", left, ends[2], wide, ends[1] - ends[2])
            + _bar("bar", left, 228 - tall, wide, max(tall, 0.8))
            + "</g>"
        )
    (x0, y0), (x1, y1) = frame.place(0, 0), frame.place(1, 1)
    body += f'<path class="ideal" d="M{x0:g} {y0:g}L{x1:g} {y1:g}"/><path class="grid" d="M{x0:g} 228H{x1:g}"/>'
    body += f'<text class="axis" x="{(x0 + x1) / 2:g}" y="243" text-anchor="middle">confidence, and how often</text>'
    return svg(frame.width, frame.height, label, body)


def _bar(kind: str, x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
