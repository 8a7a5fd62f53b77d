"""Charts as SVG: plain text in the page's palette, so that they follow light and dark. All text is escaped."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from vitreous.drawing.svg import (
    LARGE,
    SMALL,
    Axis,
    Format,
    Frame,
    Layout,
    draw_box,
    draw_dot,
    draw_empty,
    draw_text,
    draw_x_axis,
    draw_y_axis,
    find_share_range,
    find_span,
    find_span_from_zero,
    format_percent,
    render_svg,
)
from vitreous.metrics.seeds import Interval
from vitreous.runtime.display import escape_text

MOST_POINTS = 400
"""Points drawn of one line; longer ones are thinned."""
ASIDE = 6.0
"""Distance between the points of two conditions at the same x."""
SHARE = Axis("validation accuracy", format_percent)
UNNAMED = Axis("")


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    name: str
    points: Sequence[tuple[float, float | Interval]]
    """(x, y), x ascending; an interval is drawn with its bounds, and its mean as a dot."""
    colour: int = 1
    """1 to 6: a colour of the palette."""
    dots: bool = False
    """Mark each point, for few and meaningful ones."""
    joined: bool = True
    """Draw a line through the points."""
    faint: bool = False
    """Drawn as a background, without an entry in the legend."""


@dataclass(frozen=True)
class Row:
    """One condition, a line of `draw_dots`."""

    name: str
    values: Sequence[float]
    """One value for each seed."""
    interval: Interval
    colour: int = 1
    """1 to 6."""


def find_bounds(y: float | Interval) -> tuple[float, float, float]:
    """Return low, mean and high; all the same for a number, or for an interval without bounds."""
    if not isinstance(y, Interval):
        return y, y, y
    return (y.low, y.mean, y.high) if math.isfinite(y.low) else (y.mean, y.mean, y.mean)


def thin_points(points: Sequence, most: int = MOST_POINTS) -> list:
    """Return about `most` points at most, evenly chosen, including the last."""
    if len(points) <= most:
        return list(points)
    kept = list(points[:: math.ceil(len(points) / most)])
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def compute_running_mean(points: Sequence[tuple[float, float]], share: float = 0.05) -> list[tuple[float, float]]:
    """Return the centred running mean of y over a window of this share of the points; the window is shorter at both
    ends."""
    reach = round(len(points) * share / 2)
    sums = [0.0]
    for _, y in points:
        sums.append(sums[-1] + y)
    result = []
    for index, (x, _) in enumerate(points):
        near = min(reach, index, len(points) - 1 - index)
        result.append((x, (sums[index + near + 1] - sums[index - near]) / (2 * near + 1)))
    return result


def draw_lines(series: Sequence[Series], label: str, x: Axis, y: Axis = UNNAMED, layout: Layout = SMALL) -> Markup:
    """Draw lines over a common x.

    Args:
        series: the lines; points that are not finite are left out, and lines without points.
        label: describes the chart in words.
        x: the horizontal axis; numbered at whole numbers only if that is what it counts.
        y: the vertical axis. On a page, shares are shown within 0 to 1.
        layout: `SMALL` on a page, `LARGE` in a file of its own.
    """
    lines = [
        replace(one, points=[p for p in one.points if all(map(math.isfinite, (p[0], *find_bounds(p[1]))))])
        for one in series
    ]
    lines = [one for one in lines if one.points]
    if not lines:
        return draw_empty(label, layout)
    xs = [x.change(at) for one in lines for at, _ in one.points]
    ys = [y.change(value) for one in lines for _, around in one.points for value in find_bounds(around)]
    entries, more = draw_legend([one for one in lines if not one.faint], layout)
    grown = replace(layout, height=layout.height + more, top=layout.top + more)
    free = find_span if layout.alone else find_span_from_zero
    upwards = y.within or _choose_span(y, layout)(ys)
    frame = Frame(grown, x.within or free(xs), upwards)
    across = replace(x, whole=x.whole or all(at.is_integer() for at in xs)) if not x.log else x
    apart = ASIDE if hide_each_other(lines) else 0.0
    body = entries + draw_x_axis(frame, across) + draw_y_axis(frame, y)
    for number, one in enumerate(lines):
        body += _draw_line(frame, one, (x, y), apart * (number - (len(lines) - 1) / 2))
    return render_svg(grown.width, grown.height, label, body, layout.alone)


def _choose_span(y: Axis, layout: Layout) -> Callable[[Sequence[float]], tuple[float, float]]:
    """Return the function that chooses the range of a vertical axis."""
    if layout.alone or y.log:
        return find_span
    return find_share_range if y.form is format_percent else find_span_from_zero


def draw_intervals(series: Sequence[Series], label: str, x: Axis, y: Axis = SHARE) -> Markup:
    """Draw conditions over a common x, each point with its interval, as a file; see `draw_lines`."""
    return draw_lines(series, label, x, y, LARGE)


def hide_each_other(lines: Sequence[Series]) -> bool:
    """Return whether two conditions have different intervals at the same x, which would hide one another."""
    found: dict[float, Interval] = {}
    pairs = [(at, around) for line in lines for at, around in line.points if isinstance(around, Interval)]
    return any(found.setdefault(at, around) != around for at, around in pairs)


def _draw_line(frame: Frame, one: Series, axes: tuple[Axis, Axis], aside: float) -> str:
    """Draw a line, its points and their intervals, shifted so that others at the same x stay visible."""
    (low, high), points, (x, y) = frame.y, thin_points(one.points), axes

    def place(at: float, value: float) -> tuple[float, float]:
        across, down = frame.place(x.change(at), min(high, max(low, y.change(value))))
        return across + aside, down

    places, body = [place(at, find_bounds(around)[1]) for at, around in points], ""
    if one.joined and len(places) > 1:
        path = "L".join(f"{across:.1f} {down:.1f}" for across, down in places)
        body = f'<path class="line c{one.colour}{" faint" if one.faint else ""}" d="M{path}"/>'
    marked = one.dots or not one.joined or len(places) == 1
    for (at, around), (across, down) in zip(points, places, strict=True):
        if isinstance(around, Interval):
            ends = [place(at, value)[1] for value in find_bounds(around)[::2]]
            body += draw_whisker((across, ends[0]), (across, ends[1]), one.colour)
        if marked or isinstance(around, Interval):
            body += draw_dot(
                (across, down), one.colour, frame.layout.dot if len(places) <= 40 else 0.75 * frame.layout.dot
            )
    return body


def draw_whisker(first: tuple[float, float], second: tuple[float, float], colour: int) -> str:
    """Draw a line between two points above or beside each other, with a stroke across both ends; nothing if its
    length is 0."""
    (x, y), (x2, y2) = first, second
    if first == second:
        return ""
    upright = f"M{x:.1f} {y:.1f}V{y2:.1f}M{x - 4:.1f} {y:.1f}h8M{x - 4:.1f} {y2:.1f}h8"
    level = f"M{x:.1f} {y:.1f}H{x2:.1f}M{x:.1f} {y - 5:.1f}v10M{x2:.1f} {y - 5:.1f}v10"
    return f'<path class="line c{colour}" d="{upright if x == x2 else level}"/>'


def draw_legend(lines: Sequence[Series], layout: Layout) -> tuple[str, float]:
    """Return the names of lines beside their colours, in as many rows as needed, and the height of all rows but the
    first."""
    font = layout.font
    begin, down, row = (16.0, 22.0, 20.0) if layout.alone else (layout.left, 14.5, 15.0)
    body, across, first = "", begin, down
    for one in lines:
        wide = 2.6 * font + layout.measure(one.name)
        if across > begin and across + wide > layout.width - 4:
            across, down = begin, down + row
        middle = down - 0.33 * font
        line = f'<path class="line c{one.colour}" d="M{across:.0f} {middle:.1f}h{1.25 * font:.0f}"/>'
        body += line if one.joined else draw_dot((across + 0.65 * font, middle), one.colour, layout.dot)
        body += draw_text(across + 1.75 * font, down, one.name, "strong" if layout.alone else "axis")
        across += wide
    return body, down - first + (20 if layout.alone and lines else 0)


def draw_dots(rows: Sequence[Row], label: str, name: str, form: Format = format_percent) -> Markup:
    """Draw conditions below each other, as a file: each seed a faint dot, the mean a strong one in its interval.

    Args:
        rows: the conditions, from the top; those without values are left out.
        label: describes the chart in words.
        name: of the horizontal axis.
        form: formats its numbers.
    """
    rows = [row for row in rows if len(row.values)]
    if not rows:
        return draw_empty(label, LARGE)
    left = 24 + max(LARGE.measure(row.name) for row in rows)
    layout = replace(LARGE, height=34.0 * len(rows) + 76, left=left, top=22)
    every = [value for row in rows for value in (*row.values, *find_bounds(row.interval))]
    frame = Frame(layout, find_span(every), (0.0, float(len(rows))))
    body = draw_x_axis(frame, Axis(name, form))
    if frame.x[0] < 0 < frame.x[1]:
        body += f'<path class="ideal" d="M{frame.place(0, 0)[0]:.1f} {layout.top:g}V{frame.floor:g}"/>'
    for index, row in enumerate(rows):
        body += _draw_row(frame, len(rows) - index - 0.5, row)
    return render_svg(layout.width, layout.height, label, body, alone=True)


def _draw_row(frame: Frame, level: float, row: Row) -> str:
    """Draw a condition's name, seeds, mean and interval."""
    near, middle, far = (frame.place(value, level) for value in find_bounds(row.interval))
    body = draw_text(frame.layout.left - 12, middle[1] + 4.5, row.name, "strong", "end")
    body += "".join(draw_dot(frame.place(value, level), row.colour, 3, "mark seed") for value in row.values)
    return body + draw_whisker(near, far, row.colour) + draw_dot(middle, row.colour, 5)


def draw_reliability(bins: Sequence[tuple[float, float, int, float, float]], label: str) -> Markup:
    """Draw accuracy against confidence, and below it the number of predictions with that confidence.

    Args:
        bins: (low, high, count, mean confidence, accuracy) of each bin.
        label: describes the chart in words.
    """
    frame = Frame(replace(SMALL, height=250, top=12, bottom=76), (0, 1), (0, 1))
    body = draw_x_axis(frame, Axis("")) + draw_y_axis(frame, Axis("", format_percent))
    most = max([count for _, _, count, _, _ in bins] + [1])
    for low, high, count, confidence, accuracy in bins:
        if not count:
            continue
        left, right = frame.place(low, 0)[0] + 1, frame.place(high, 0)[0] - 1
        title = (
            f"{count:,} predictions of {low:.0%} to {high:.0%}: confidence {confidence:.1%}, accuracy {accuracy:.1%}"
        )
        near, far = sorted((accuracy, confidence))
        ends = [frame.place(0, value)[1] for value in (0, near, far)]
        tall, wide = max(30 * count / most, 0.8), right - left
        body += (
            f"<g><title>{escape_text(title)}</title>"
            + draw_box("bar", (left, ends[1]), (wide, ends[0] - ends[1]))
            + draw_box("gap" if confidence > accuracy else "spare", (left, ends[2]), (wide, ends[1] - ends[2]))
            + draw_box("bar", (left, 228 - tall), (wide, tall))
            + "</g>"
        )
    (x0, y0), (x1, y1) = frame.place(0, 0), frame.place(1, 1)
    body += f'<path class="ideal" d="M{x0:g} {y0:g}L{x1:g} {y1:g}"/><path class="grid" d="M{x0:g} 228H{x1:g}"/>'
    body += draw_text((x0 + x1) / 2, 243, "confidence, and how often", anchor="middle")
    return render_svg(frame.layout.width, frame.layout.height, label, body)
