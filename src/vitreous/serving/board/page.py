"""The parts of a board's page, each as HTML; what is the same as before needn't be sent again."""

import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from markupsafe import Markup

from vitreous.drawing.charts import Series, compute_running_mean, draw_lines, draw_whisker
from vitreous.drawing.html import STYLES, build_environment, read_resource
from vitreous.drawing.svg import SMALL, Axis, Format, draw_dot, find_span_from_zero, format_percent, render_svg, shorten
from vitreous.metrics.headline import SAID, format_figure
from vitreous.serving.board.address import MOST_RUNS, ROWS, SMOOTHING, SORTS, View
from vitreous.serving.board.curves import is_drawable
from vitreous.serving.board.folder import MOST_FILE
from vitreous.serving.board.runs import BoardRun, Runs, list_settings
from vitreous.serving.board.words import LANGUAGE, LANGUAGES, say
from vitreous.storage.run_config import BEST, CONFIG, MODEL, REPORT

TEMPLATE, PARTS = "serving/board/board.html", "serving/board/parts.html"
ANCHORS = ("results", "confusion", "mistakes")
"""Sections of a run's report that the board shows."""
CHARTS: tuple[tuple[str, str, str, Format], ...] = (
    ("Training loss", "train", "loss", shorten),
    ("Validation loss", "evaluation", "loss", shorten),
    ("Validation accuracy", "evaluation", "top1", format_percent),
    ("Mean average precision", "evaluation", "map", shorten),
    ("Training accuracy", "train", "accuracy", format_percent),
    ("Training F1", "train", "micro_f1", format_percent),
    ("Learning rate", "train", "lr", shorten),
)
"""Title, kind of record, its number, and how that is written; a chart that no run has a number for is left out."""
MOST_VALUE = 48
"""Letters of a setting's value in the table."""


class Shown(NamedTuple):
    """What a page is drawn from."""

    view: View
    runs: Runs
    rows: list[BoardRun]
    """All that fit."""
    chosen: list[BoardRun]
    """Those side by side."""


def choose(runs: Runs, view: View) -> Shown:
    """Return what a view shows now."""
    rows = view.choose_rows(runs)
    return Shown(view, runs, rows, view.choose_shown(runs, rows))


def find_id(name: str) -> str:
    """Return an id for a run: letters that an address and an attribute may have."""
    return "r" + sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def render_page(shown: Shown) -> bytes:
    """Return the whole page."""
    parts = {name: (mark(text), text) for name, text in {**render_parts(shown), "runs": render_table(shown)}.items()}
    said = {"view": shown.view, "name": shown.runs.folder.path.name, "sorts": SORTS, "smoothing": SMOOTHING}
    said |= {"say": say, "language": LANGUAGE.get(), "html_language": LANGUAGES[LANGUAGE.get()]}
    return build_environment().get_template(TEMPLATE).render(parts=parts, **said).encode("utf-8", "replace")


def draw_part(name: str, *values: Any) -> Markup:
    """Return a part's HTML in the language of now."""
    return getattr(build_environment().get_template(PARTS, globals={"say": say}).module, name)(*values)


def mark(text: str) -> str:
    """Return a hash that tells whether a part is as it was."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def read_style() -> bytes:
    """Return the page's style: that of all pages, and its own."""
    return "".join(map(read_resource, (*STYLES, "serving/board/board.css"))).encode()


def render_parts(shown: Shown) -> dict[str, Markup]:
    """Return all parts but the table's rows, by their id."""
    return {
        "summary": draw_part("summary", count_states(shown.runs), shown.runs.unread),
        "curves": draw_part("charts", draw_charts(shown)),
        "results": draw_part("results", list_results(shown)),
        "settings": draw_part("settings", shown.chosen, list(list_rows(shown.chosen))),
        "reports": draw_part("reports", [describe_reports(run) for run in shown.chosen]),
    }


def list_page(shown: Shown) -> list[BoardRun]:
    """Return the runs on the table's page."""
    first = (shown.view.page - 1) * ROWS
    return shown.rows[first : first + ROWS]


def render_rows(shown: Shown) -> dict[str, Markup]:
    """Return the table's rows by their id, in their order."""
    chosen = {run.name: place for place, run in enumerate(shown.chosen, start=1)}
    return {
        find_id(run.name): render_row(run, chosen.get(run.name), run.name in shown.view.runs, len(chosen) >= MOST_RUNS)
        for run in list_page(shown)
    }


def render_row(run: BoardRun, place: int | None, ticked: bool, full: bool = False) -> Markup:
    """Return a run's row; its place among those side by side, if it is one of them, whether that was chosen, and whether no more
    can be."""
    return draw_part("row", run, find_id(run.name), place, ticked, MOST_RUNS if full else 0, tell(run))


def render_table(shown: Shown) -> Markup:
    """Return the table with its rows."""
    pages = -(-len(shown.rows) // ROWS)
    rows = list(render_rows(shown).values())
    return draw_part("table", rows, len(shown.rows), pages, shown.view, MOST_RUNS)


def count_states(runs: Runs) -> dict[str, int]:
    """Return how many runs are in each state, and how many there are."""
    known = runs.all
    found: dict[str, int] = {"runs": len(known)}
    for run in known:
        found[run.state] = found.get(run.state, 0) + 1
    return found


def tell(run: BoardRun) -> dict[str, str]:
    """Return the cells of a run's row."""
    figure = run.figure
    told = f"{SAID.get(figure[0], figure[0])} {format_figure(*figure)}" if figure else "–"
    low_high = say_interval("{low} to {high}", run.interval) if run.interval else ""
    low_high = say("on images that it learned from") if figure and run.learned else low_high
    left = "" if run.seconds_left is None else say("{time} left", time=format_duration(run.seconds_left))
    return {"figure": told, "interval": low_high, "left": left}


def say_interval(text: str, interval: tuple[float, float]) -> str:
    """Return words about a 95% interval of a share."""
    return say(text, low=f"{interval[0]:.1%}", high=f"{interval[1]:.1%}")


def format_duration(seconds: float) -> str:
    """Format a span of time: 41 s, 12 min, 3 h 20 min."""
    if seconds < 100:
        return say("{number} s", number=f"{seconds:.0f}")
    minutes = round(seconds / 60)
    if minutes < 100:
        return say("{number} min", number=minutes)
    return say("{hours} h {minutes} min", hours=minutes // 60, minutes=f"{minutes % 60:02}")


def draw_charts(shown: Shown) -> list[dict[str, Any]]:
    """Return the charts for which some run has numbers."""
    charts = (draw_chart(shown, *one) for one in CHARTS)
    return [one for one in charts if one is not None]


def draw_chart(shown: Shown, title: str, kind: str, name: str, form: Format) -> dict[str, Any] | None:
    """Return one chart of all chosen runs, with its points for the readout; None if there are no points."""
    log = shown.view.log and form is shorten
    lines, points = [], []
    for colour, run in enumerate(shown.chosen, start=1):
        curve = run.metrics.curves[kind].get(name)
        if curve is None:
            continue
        place = find_scale(run, shown.view.by)
        raw, means = ([(place(x), y) for x, y in one if y > 0 or not log] for one in (curve.extremes(), curve.means()))
        smooth = compute_running_mean(means, shown.view.smooth / 100) if kind == "train" and name != "lr" else means
        smooth = [(x, y) for x, y in smooth if y > 0 or not log]  # a mean of tiny numbers beside large ones is rounded
        if kind == "train" and shown.view.smooth and name != "lr":
            lines.append(Series(run.title, raw, colour, faint=True))
        lines.append(Series(shorten_name(run.title), smooth, colour, dots=kind == "evaluation"))
        points.append({"name": run.title, "colour": colour, "points": [[float(f"{v:.6g}") for v in p] for p in smooth]})
    xs = [x for line in lines for x, _ in line.points]
    if not xs:
        return None
    within, by = find_span_from_zero(xs), say(shown.view.by)
    drawn = draw_lines(
        lines, say("{title} over {by}s", title=say(title), by=by), Axis(by, within=within), Axis("", form, log)
    )
    ends = {"from": within[0], "to": within[1], "left": SMALL.left, "right": SMALL.width - SMALL.right}
    share = form is format_percent
    data = json.dumps({"wide": SMALL.width, **ends, "by": by, "share": share, "lines": points})
    return {"id": f"chart-{kind}-{name}", "title": say(title), "drawing": drawn, "data": data}


def find_scale(run: BoardRun, by: str) -> Callable[[float], float]:
    """Return what turns a record's epoch into the chart's x."""
    last = run.metrics.last.get("train") or run.metrics.last.get("evaluation") or {}
    epoch, step = last.get("epoch"), last.get("step")
    factor = step / epoch if by == "step" and is_drawable(epoch) and is_drawable(step) and epoch and step else 1.0
    return lambda x: x * factor if is_drawable(factor) else x


def shorten_name(name: str, most: int = 28) -> str:
    """Return a name's end, if it is long."""
    return name if len(name) <= most else f"…{name[-most + 1 :]}"


def list_results(shown: Shown) -> list[dict[str, Any]]:
    """Return what each chosen run has come to, with intervals on one scale."""
    intervals = [run.interval for run in shown.chosen if run.interval]
    ends = (min(low for low, _ in intervals), max(high for _, high in intervals)) if intervals else (0.0, 1.0)
    return [
        {"run": run, "place": place, **tell(run), "drawing": draw_interval(run, ends, place), "facts": list_facts(run)}
        for place, run in enumerate(shown.chosen, start=1)
    ]


def draw_interval(run: BoardRun, ends: tuple[float, float], colour: int) -> Markup | str:
    """Draw a run's accuracy in its interval, between two ends that all runs share; nothing without one."""
    if run.interval is None or run.figure is None:
        return ""
    low, high = ends
    spread = max(high - low, 1e-9)
    x0, x, x1 = (8 + 184 * (value - low) / spread for value in (run.interval[0], run.figure[1], run.interval[1]))
    body = draw_whisker((x0, 10), (x1, 10), colour) + draw_dot((x, 10), colour, 4)
    label = say_interval("95% interval {low} to {high}", run.interval)
    return render_svg(200, 20, label, body, scale=1)


def list_facts(run: BoardRun) -> list[tuple[str, str]]:
    """Return a few figures of a run, with their names."""
    train, best = run.metrics.last.get("train", {}), run.metrics.best or {}
    wanted: list[tuple[str, Any, Callable[[Any], str]]] = [
        ("loss", best.get("loss"), lambda value: f"{value:.4f}"),
        ("at step", best.get("step"), "{:,}".format),
        ("images", run.images or None, "{:,}".format),
        ("seen", train.get("samples"), shorten),
        ("a second", train.get("images_per_second"), "{:,.0f}".format),
        ("trained", train.get("seconds"), format_duration),
        ("parameters", run.document.get("parameters"), shorten),
    ]
    return [(say(name), form(value) if is_drawable(value) else "–") for name, value, form in wanted]


def list_rows(chosen: Sequence[BoardRun]) -> list[tuple[str, list[str], bool]]:
    """Return each setting's name, its values in short, and whether they differ."""
    return [
        (name, [shorten_value(value) for value in values], differs)
        for name, values, differs in list_settings(list(chosen))
    ]


def shorten_value(value: Any) -> str:
    """Return a setting's value in one short line."""
    said = "–" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return said if len(said) <= MOST_VALUE else f"{said[: MOST_VALUE - 1]}…"


def describe_reports(run: BoardRun) -> dict[str, Any]:
    """Return which pages and models a run has."""
    models = [name for name in (MODEL, BEST) if run.folder.has(run.path(f"{name}/{CONFIG}"))]
    report = run.folder.has(run.path(REPORT))
    mark = (run.folder.path / run.path(REPORT)).lstat().st_mtime_ns if report else 0
    return {"run": run, "id": find_id(run.name), "report": report, "mark": mark, "models": models, "anchors": ANCHORS}


def cut_section(run: BoardRun, anchor: str) -> bytes:
    """Return one section of a run's report as a page, an empty one if the report hasn't it. Raises OSError."""
    text = run.folder.read(run.path(REPORT), MOST_FILE).decode("utf-8", "replace")
    begin, closed = text.find(f'<section id="{anchor}"'), "</section>"
    end = text.find(closed, max(begin, 0))
    section = text[begin : end + len(closed)] if begin >= 0 and end >= 0 else ""
    return draw_part("section", Markup(section)).encode()
