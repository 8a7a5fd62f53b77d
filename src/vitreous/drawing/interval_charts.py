"""Charts with intervals, as SVG files that stand alone: right in light and dark, on a page or in an <img>.

Each carries its style and its own background, so that it is readable wherever it is shown.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from vitreous.drawing.charts import Format, Frame, percent, short, ticks
from vitreous.metrics.seeds import Interval

WIDTH = 720.0
STYLE = """
.chart{--card:#fff;--ink:#1c1e21;--soft:#5d646d;--grid:#e6e8eb;--c1:#2563a8;--c2:#b4540a;--c3:#2f7d4f;--c4:#7a3e9d;
--c5:#b3261e;--c6:#0f6f78;font:13px system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
@media(prefers-color-scheme:dark){.chart{--card:#1b1e22;--ink:#e8eaed;--soft:#a2a9b3;--grid:#30353b;--c1:#7ab3f0;
--c2:#f0a35e;--c3:#79cf9b;--c4:#c9a2ea;--c5:#ff8a80;--c6:#63cdd6}}
.chart .card{fill:var(--card)}.chart .strong{fill:var(--ink)}.chart .soft{fill:var(--soft)}
.chart .rule{stroke:var(--grid);fill:none}.chart .zero{stroke:var(--soft);stroke-dasharray:4 4;fill:none}
.chart .band{fill:var(--soft);opacity:.12}.chart .seed{opacity:.4}
""" + "".join(
    f".chart .s{n}{{fill:var(--c{n})}}.chart .l{n}{{stroke:var(--c{n});fill:none;stroke-width:1.8;stroke-linejoin:round}}"
    for n in range(1, 7)
)
COLOURS = 6
ASIDE = 6.0
"""Between the points of two conditions at the same x, in the SVG's units."""


@dataclass(frozen=True)
class Axis:
    """How an axis is named and numbered."""

    name: str
    form: Format = short
    log: bool = False
    """Logarithmic; all values above 0."""
    whole: bool = False
    """Numbered at whole numbers only."""

    def change(self, value: float) -> float:
        """Return where a value lies."""
        return math.log10(value) if self.log else float(value)

    def marks(self, low: float, high: float) -> list[float]:
        """Return where numbers stand between two places."""
        if self.log:
            return log_ticks(low, high)
        return [value for value in ticks(low, high) if not self.whole or value == round(value)]

    def written(self, place: float) -> str:
        """Write the number that stands at a place."""
        return self.form(10**place if self.log else place)


SHARE = Axis("validation accuracy", percent)


@dataclass(frozen=True)
class Row:
    """One line of `dots`: a condition."""

    name: str
    values: Sequence[float]
    """One for each seed."""
    interval: Interval
    colour: int = 1
    """1 to 6."""


@dataclass(frozen=True)
class Curve:
    """One line of `curves`: a condition over x."""

    name: str
    points: Sequence[tuple[float, Interval]]
    """x ascending, and what was measured there."""
    colour: int = 1
    """1 to 6."""
    joined: bool = True
    """Draw lines between the points."""
    labels: Sequence[str] = ()
    """A word beside each point."""


def chart(height: float, label: str, body: str, width: float = WIDTH) -> str:
    """Wrap marks into an SVG that stands alone and tells screen readers what it shows."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-label="{escape(label)}"><title>{escape(label)}</title><style>{STYLE}</style>'
        f'<rect class="card" width="{width:g}" height="{height:g}" rx="8"/>{body}</svg>\n'
    )


def written(x: float, y: float, words: str, kind: str = "soft", anchor: str = "start") -> str:
    """Return a piece of text, escaped."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def finite(around: Interval) -> tuple[float, float]:
    """Return an interval's bounds; its mean twice where it has none."""
    return (around.low, around.high) if math.isfinite(around.low) else (around.mean, around.mean)


def span(values: Sequence[float], air: float = 0.06) -> tuple[float, float]:
    """Return a range that shows all values with some air, never empty."""
    low, high = min(values), max(values)
    pad = air * (high - low) or abs(low) / 10 or 0.5
    return low - pad, high + pad


def dots(
    rows: Sequence[Row],
    label: str,
    x_name: str,
    form: Format = percent,
    band: tuple[float, float] | None = None,
) -> str:
    """Draw conditions below each other: each seed a faint dot, the mean a strong one in its interval.

    Args:
        rows: the conditions, from the top; those without values are left out.
        label: says in words what the chart shows.
        x_name: name of the axis.
        form: writes the axis's numbers.
        band: a range to shade, such as a margin.
    """
    rows = [row for row in rows if len(row.values)]
    if not rows:
        return nothing(label)
    left = 24 + 7.2 * max(len(row.name) for row in rows)
    height = 34.0 * len(rows) + 76
    every = [value for row in rows for value in (*row.values, *finite(row.interval))] + list(band or ())
    frame = Frame(WIDTH, height, left, 22, 26, 50, span(every), (0.0, float(len(rows))))
    body = across_axis(frame, ticks(*frame.x), x_name, form)
    if frame.x[0] < 0 < frame.x[1]:
        body += f'<path class="zero" d="M{frame.place(0, 0)[0]:.1f} {frame.top:g}V{height - frame.bottom:g}"/>'
    if band is not None:
        near, far = (frame.place(edge, 0)[0] for edge in band)
        body += f'<rect class="band" x="{near:.1f}" y="22" width="{far - near:.1f}" height="{height - 72:g}"/>'
    for index, row in enumerate(rows):
        body += one_row(frame, len(rows) - index - 0.5, row)
    return chart(height, label, body)


def one_row(frame: Frame, level: float, row: Row) -> str:
    """Draw a condition's name, seeds, mean and interval."""
    low, high = finite(row.interval)
    near, down = frame.place(low, level)
    far = frame.place(high, level)[0]
    body = written(frame.left - 12, down + 4.5, row.name, "strong", "end")
    body += "".join(
        f'<circle class="s{row.colour} seed" cx="{frame.place(value, level)[0]:.1f}" cy="{down:.1f}" r="3"/>'
        for value in row.values
    )
    body += f'<path class="l{row.colour}" d="M{near:.1f} {down:.1f}H{far:.1f}M{near:.1f} {down - 5:.1f}v10M{far:.1f} {down - 5:.1f}v10"/>'
    middle = frame.place(row.interval.mean, level)[0]
    return f'{body}<circle class="s{row.colour}" cx="{middle:.1f}" cy="{down:.1f}" r="5"/>'


def curves(lines: Sequence[Curve], label: str, x: Axis, y: Axis = SHARE) -> str:
    """Draw conditions over a common x, each point with its interval.

    Args:
        lines: the conditions; those without points are left out.
        label: says in words what the chart shows.
        x: the axis across.
        y: the axis upwards; its name is written above it.
    """
    lines = [line for line in lines if line.points]
    if not lines:
        return nothing(label)
    xs = [x.change(at) for line in lines for at, _ in line.points]
    ys = [value for line in lines for _, around in line.points for value in (*finite(around), around.mean)]
    entries, top = legend(lines)
    frame = Frame(WIDTH, 360 + top, 64, top + 44, 26, 50, span(xs), span(ys))
    body = entries + written(12, top + 26, y.name) + across_axis(frame, x.marks(*frame.x), x.name, x.written)
    for value in y.marks(*frame.y):
        down = frame.place(frame.x[0], value)[1]
        body += f'<path class="rule" d="M{frame.left:g} {down:.1f}H{frame.width - frame.right:g}"/>'
        body += written(frame.left - 8, down + 4.5, y.written(value), "soft", "end")
    apart = ASIDE if side_by_side(lines) else 0.0
    for number, line in enumerate(lines):
        body += one_curve(frame, line, x, apart * (number - (len(lines) - 1) / 2))
    return chart(frame.height, label, body)


def side_by_side(lines: Sequence[Curve]) -> bool:
    """Tell whether two conditions have different intervals at the same x, which would hide one another."""
    found: dict[float, Interval] = {}
    return any(found.setdefault(at, around) != around for line in lines for at, around in line.points)


def one_curve(frame: Frame, line: Curve, x: Axis, aside: float = 0.0) -> str:
    """Draw a condition's line, points and intervals, so far aside that others at the same x can be seen."""
    places = [
        (across + aside, down)
        for across, down in (frame.place(x.change(at), around.mean) for at, around in line.points)
    ]
    body = ""
    if line.joined and len(places) > 1:
        body = f'<path class="l{line.colour}" d="M{"L".join(f"{across:.1f} {down:.1f}" for across, down in places)}"/>'
    for index, ((at, around), (across, down)) in enumerate(zip(line.points, places, strict=True)):
        low, high = (frame.place(x.change(at), value)[1] for value in finite(around))
        body += f'<path class="l{line.colour}" d="M{across:.1f} {low:.1f}V{high:.1f}M{across - 4:.1f} {low:.1f}h8M{across - 4:.1f} {high:.1f}h8"/>'
        body += f'<circle class="s{line.colour}" cx="{across:.1f}" cy="{down:.1f}" r="4.5"/>'
        if line.labels:
            body += written(across + 8, down - 7, line.labels[index])
    return body


def legend(lines: Sequence[Curve]) -> tuple[str, float]:
    """Return the names of lines beside their colours, in as many rows as it takes, and the height of these."""
    body, across, down = "", 16.0, 22.0
    for line in lines:
        wide = 34 + 7.2 * len(line.name)
        if across > 16 and across + wide > WIDTH - 10:
            across, down = 16.0, down + 20
        body += f'<circle class="s{line.colour}" cx="{across + 5:.1f}" cy="{down - 4.5:.1f}" r="5"/>'
        body += written(across + 16, down, line.name, "strong")
        across += wide
    return body, down - 2


def across_axis(frame: Frame, marks: Sequence[float], name: str, form: Format) -> str:
    """Draw the x axis: rules, numbers, name."""
    body, floor = "", frame.height - frame.bottom
    for value in marks:
        across = frame.place(value, frame.y[0])[0]
        body += f'<path class="rule" d="M{across:.1f} {frame.top:g}V{floor:g}"/>'
        body += written(across, floor + 18, form(value), "soft", "middle")
    return body + written((frame.left + frame.width - frame.right) / 2, frame.height - 12, name, "soft", "middle")


def log_ticks(low: float, high: float) -> list[float]:
    """Return the logarithms of round numbers between two logarithms to base 10: 1, 2, 5 of each power, or powers alone."""
    factors = (1, 2, 5) if high - low < 3 else (1,)
    powers = range(math.floor(low), math.ceil(high) + 1)
    found = [power + math.log10(factor) for power in powers for factor in factors]
    return [value for value in found if low <= value <= high]


def nothing(label: str) -> str:
    """Return a chart of no data."""
    return chart(60, label, written(WIDTH / 2, 36, "nothing measured yet", "soft", "middle"))
