"""Charts of the pages: ours beside matplotlib's, each in fresh processes: processor time, bytes, memory.

    python benchmarks/charts.py [--repeat 5]

Both draw the charts of one run's report (loss, accuracy, rate, two reliability diagrams, a confusion matrix of 10
classes), then two of a study and a heat map of 13 layers against 13, from the same numbers. matplotlib draws as it would
for these pages: the SVG backend alone (no pyplot), text as text, lines thinned to as many points as ours, sizes of its
own choosing ("constrained") or all axes placed by hand, which is faster. Its bytes are counted as it writes them, and
after comments, metadata, white space and digits beyond the first decimal are taken out, as a page would do it.
"""

import argparse
import io
import json
import math
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

CLASSES = 10
DRAWERS = ("ours", "by hand", "constrained")


def numbers() -> dict[str, list]:
    """Return what is drawn: (x, y) of lines, bins of confidence, matrices, intervals."""
    rng = np.random.default_rng(0)
    x = np.arange(1000) / 10
    confidence = (np.arange(15) + 0.5) / 15
    accuracy = np.clip(confidence + rng.uniform(-0.1, 0.1, 15), 0, 1)
    return {
        "loss": list(zip(x, 2.3 * np.exp(-x / 20) + 0.2 * rng.random(1000), strict=True)),
        "accuracy": list(zip(x, 1 - np.exp(-x / 15) + 0.02 * rng.random(1000), strict=True)),
        "rate": list(zip(x, 1e-3 * np.sin(x / 32), strict=True)),
        "validation": [(5.0 * n, 2.2 * math.exp(-n / 5) + 0.1) for n in range(20)],
        "held out": [(5.0 * n, 1 - math.exp(-n / 4)) for n in range(20)],
        "bins": [(n / 15, (n + 1) / 15, 10 + n, confidence[n], accuracy[n]) for n in range(15)],
        "confusion": (30 * np.eye(CLASSES) + rng.integers(0, 3, (CLASSES, CLASSES))).astype(int).tolist(),
        "cka": np.abs(np.cos(np.arange(13)[:, None] - np.arange(13))).tolist(),
        "seeds": [[0.8 + 0.01 * n, 0.82 + 0.01 * n, 0.79] for n in range(8)],
    }


def ours(data: dict[str, list]) -> list[tuple[str, Callable[[], str]]]:
    """Return our charts, by name."""
    from vitreous.drawing.charts import (
        Row,
        Series,
        compute_running_mean,
        draw_dots,
        draw_intervals,
        draw_lines,
        draw_reliability,
    )
    from vitreous.drawing.matrices import draw_confusions, draw_heat_map
    from vitreous.drawing.svg import Axis
    from vitreous.metrics.seeds import Interval

    def over(name: str, other: str | None) -> str:
        lines = [Series("training", data[name], faint=True), Series("training", compute_running_mean(data[name]))]
        lines += [Series("validation", data[other], 2, dots=True)] if other else []
        return draw_lines(lines, name, Axis("epoch"))

    def around(mean: float) -> Interval:
        return Interval(mean, mean - 0.02, mean + 0.02, 3)

    names, layers = [f"class {n}" for n in range(CLASSES)], [f"block.{n}" for n in range(13)]
    rows = [Row(f"kind {n}", values, around(sum(values) / 3), 1 + n % 2) for n, values in enumerate(data["seeds"])]
    lines = [
        Series(f"family {n}", [(10.0**p, around(0.1 * p + 0.02 * n)) for p in range(3, 9)], n + 1) for n in range(4)
    ]
    return [
        ("loss", lambda: over("loss", "validation")),
        ("accuracy", lambda: over("accuracy", "held out")),
        ("rate", lambda: over("rate", None)),
        ("reliability", lambda: draw_reliability(data["bins"], "reliability")),
        ("reliability, scaled", lambda: draw_reliability(data["bins"], "reliability")),
        ("confusion", lambda: draw_confusions(data["confusion"], names, "confusion")[0]),
        ("dots", lambda: draw_dots(rows, "dots", "accuracy")),
        ("curves", lambda: draw_intervals(lines, "curves", Axis("operations", log=True))),
        ("CKA", lambda: draw_heat_map(data["cka"], (layers, layers), ("a", "b"), "CKA")[0]),
    ]


class Matplotlib:
    """The same charts by matplotlib, in its own layout or with axes placed by hand."""

    colours = ("#2563a8", "#b4540a", "#2f7d4f", "#7a3e9d")

    def __init__(self, data: dict[str, list], constrained: bool) -> None:
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "vitreous"})
        matplotlib.rcParams.update({"font.size": 8, "axes.grid": True})
        self.data, self.constrained, self.figure, self.canvas = data, constrained, Figure, FigureCanvasSVG

    def charts(self) -> list[tuple[str, Callable[[], str]]]:
        """Return the charts, by name."""
        classes, layers = [f"class {n}" for n in range(CLASSES)], [f"block.{n}" for n in range(13)]
        return [
            ("loss", lambda: self.over("loss", "validation")),
            ("accuracy", lambda: self.over("accuracy", "held out")),
            ("rate", lambda: self.over("rate", None)),
            ("reliability", self.reliability),
            ("reliability, scaled", self.reliability),
            ("confusion", lambda: self.matrix("confusion", classes, "%d")),
            ("dots", self.dots),
            ("curves", self.curves),
            ("CKA", lambda: self.matrix("cka", layers, "%.2f")),
        ]

    def blank(self, size: tuple[float, float]):
        figure = self.figure(figsize=size, **({"layout": "constrained"} if self.constrained else {}))
        self.canvas(figure)
        return figure, figure.add_subplot() if self.constrained else figure.add_axes((0.12, 0.16, 0.85, 0.72))

    def text(self, figure, legend: bool = False) -> str:
        if legend:
            place = "outside upper left" if self.constrained else "upper left"
            figure.legend(loc=place, ncols=4, frameon=False)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
        return file.getvalue()

    def over(self, name: str, other: str | None) -> str:
        figure, axes = self.blank((5, 3.2))
        x, y = np.array(self.data[name][::3]).T
        mean = np.convolve(np.pad(y, 8, "edge"), np.ones(17) / 17, "valid")
        axes.plot(x, y, color=self.colours[0], alpha=0.3, linewidth=1)
        axes.plot(x, mean, color=self.colours[0], label="training")
        if other:
            axes.plot(*np.array(self.data[other]).T, "o-", color=self.colours[1], markersize=3, label="validation")
        axes.set_xlabel("epoch")
        return self.text(figure, legend=True)

    def reliability(self) -> str:
        figure, axes = self.blank((5, 3.2))
        low, _, count, confidence, accuracy = np.array(self.data["bins"]).T
        near = np.minimum(confidence, accuracy)
        axes.bar(low, near, 0.06, align="edge", color=self.colours[0])
        gap = [self.colours[1] if sure else self.colours[2] for sure in confidence > accuracy]
        axes.bar(low, abs(confidence - accuracy), 0.06, near, align="edge", color=gap)
        axes.plot([0, 1], [0, 1], "--", color="#5d646d")
        axes.bar(low, 0.1 * count / count.max(), 0.06, -0.15, align="edge", color=self.colours[0])
        axes.set_xlabel("confidence, and how often")
        return self.text(figure)

    def matrix(self, name: str, names: list[str], form: str) -> str:
        figure, axes = self.blank((5.5, 5.5))
        axes.grid(False)
        axes.pcolormesh(np.array(self.data[name]), cmap="Blues")
        axes.invert_yaxis()
        for (row, column), value in np.ndenumerate(self.data[name]):
            if value:
                axes.text(column + 0.5, row + 0.5, form % value, ha="center", va="center")
        axes.set_xticks(np.arange(len(names)) + 0.5, names, rotation=90)
        axes.set_yticks(np.arange(len(names)) + 0.5, names)
        return self.text(figure)

    def dots(self) -> str:
        figure, axes = self.blank((7.2, 4))
        for row, values in enumerate(self.data["seeds"]):
            axes.plot(values, [row] * 3, "o", color=self.colours[row % 2], alpha=0.4, markersize=3)
            axes.errorbar([sum(values) / 3], [row], xerr=[0.02], fmt="o", color=self.colours[row % 2], capsize=4)
        axes.set_yticks(range(8), [f"kind {n}" for n in range(8)])
        return self.text(figure)

    def curves(self) -> str:
        figure, axes = self.blank((7.2, 4))
        axes.set_xscale("log")
        x = 10.0 ** np.arange(3, 9)
        for n, colour in enumerate(self.colours):
            y = 0.1 * np.arange(3, 9) + 0.02 * n
            axes.errorbar(x, y, yerr=0.02, fmt="o-", capsize=4, color=colour, label=f"family {n}")
        return self.text(figure, legend=True)


def compacted(svg: str) -> str:
    """Return an SVG without what a page has no use for."""
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    return re.sub(r"(\.\d)\d+", r"\1", re.sub(r"\s+", " ", re.sub(r">\s+<", "><", svg)))


def measure(drawer: str) -> dict[str, object]:
    """Draw everything once in this process; return seconds of the processor, and bytes by chart."""
    import resource

    data = numbers()
    begun = time.process_time()
    charts = ours(data) if drawer == "ours" else Matplotlib(data, drawer == "constrained").charts()
    imported = time.process_time()
    drawn = [(name, draw()) for name, draw in charts[:6]]
    page = time.process_time()
    drawn += [(name, draw()) for name, draw in charts[6:]]
    return {
        "seconds": {"import": imported - begun, "a run's page": page - imported, "others": time.process_time() - page},
        "bytes": {name: (len(svg.encode()), len(compacted(svg).encode())) for name, svg in drawn},
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--one", choices=DRAWERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one)))
        return
    found: dict[str, list] = {drawer: [] for drawer in DRAWERS}
    for _ in range(options.repeat):
        for drawer in DRAWERS:
            command = [sys.executable, __file__, "--one", drawer]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[drawer].append(json.loads(done.stdout))
    print(f"processor seconds, median of {options.repeat} processes (numpy imported before)\n")
    for drawer, runs in found.items():
        parts = [f"{key} {statistics.median(run['seconds'][key] for run in runs):.3f}" for key in runs[0]["seconds"]]
        print(f"{drawer:12} {', '.join(parts)}, peak {runs[0]['megabytes']:.0f} MB")
    print("\nbytes" + "".join(f"{drawer:>24}" for drawer in DRAWERS))
    for name in found["ours"][0]["bytes"]:
        print(f"{name:20}" + "".join("{:>14,} {:>9,}".format(*found[drawer][0]["bytes"][name]) for drawer in DRAWERS))
    for place, what in enumerate(("as written", "compacted")):
        sums = [sum(value[place] for value in list(found[drawer][0]["bytes"].values())[:6]) for drawer in DRAWERS]
        print(f"a run's page, {what}: " + ", ".join(f"{d} {s:,}" for d, s in zip(DRAWERS, sums, strict=True)))


if __name__ == "__main__":
    main()
