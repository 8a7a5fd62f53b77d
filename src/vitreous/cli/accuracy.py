"""What `vitreous evaluate --protocol accuracy` measures: one label an image or several, cost, comparison, corruptions."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vitreous.api.names import apart
from vitreous.cli.load_model import open_other
from vitreous.cli.options.commands import Evaluate
from vitreous.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from vitreous.data.dataset import Source
    from vitreous.evaluation.robustness import Robustness
    from vitreous.evaluation.throughput import Cost
    from vitreous.metrics.comparison import Comparison
    from vitreous.predictor import Predictor
    from vitreous.reports.blocks import Part
    from vitreous.training.reporter import Reporter


@dataclass(frozen=True)
class Asked:
    """A model on labelled images, and what was asked of it: known to be possible before anything takes long."""

    options: Evaluate
    predictor: "Predictor"
    names: tuple[str, str]
    """Of the model and of the one that it is compared with."""
    corruptions: tuple[tuple[str, ...], tuple[int, ...]] = ((), ())
    """Names and severities, to be measured in all pairs."""
    rival: "Predictor | None" = None
    order: "np.ndarray | None" = None
    """For each class of the model, its index among the rival's."""


@dataclass
class Answers:
    """What was found: parts of the report, values for JSON, lines for the terminal."""

    parts: "list[Part]" = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)


def ask(options: Evaluate, predictor: "Predictor", names: tuple[str, str]) -> Asked:
    """Load the model to compare with and check every name.

    Raises:
        CheckpointError: no such model. DataError: it knows other classes. UnknownName, ConfigError: a corruption or a
        severity that there is not.
    """
    from vitreous.metrics.comparison import matching
    from vitreous.predictor import Predictor

    corruptions = _corruptions(options)
    theirs = open_other(options)
    if theirs is None:
        return Asked(options, predictor, names, corruptions)
    names = apart(names)
    rival = Predictor(theirs, device=options.device, batch=options.batch)
    rival.check_head()
    if rival.folder.several:
        refuse_sets(options, f"{options.compare} gives")
    order = matching(predictor.folder.classes, rival.folder.classes, names)
    return Asked(options, predictor, names, corruptions, rival, order)


def _corruptions(options: Evaluate) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the corruptions and severities that are meant, checked; neither if none were asked for."""
    from vitreous.evaluation.robustness import checked, chosen
    from vitreous.images.corruptions.catalog import SEVERITIES

    if options.corruptions is None:
        if options.severities is not None:
            raise ConfigError("--severities are those of --corruptions; add --corruptions all, or some by name")
        return (), ()
    return chosen(options.corruptions), checked(SEVERITIES if options.severities is None else options.severities)


def one_label(asked: Asked, source: "Source", display: "Reporter") -> Answers:
    """Measure a model on images with one label each, and do what was asked beyond that."""
    from vitreous.evaluation.accuracy import evaluate
    from vitreous.evaluation.details import details
    from vitreous.evaluation.throughput import cost
    from vitreous.reports.evaluation.accuracy import parts

    options, predictor = asked.options, asked.predictor
    display.phase(f"evaluating on {len(source):,} images")
    metrics, logits, labels = evaluate(predictor, source, options.batch, progress=_progress(display))
    display.phase("measuring the speed")
    price = cost(predictor, options.batch) if options.speed else None
    more = details(logits, labels, predictor.folder.classes, price)
    found = Answers(parts(metrics, more), {**metrics.to_dict(), **more.to_dict()}, [str(metrics), "", str(more)])
    if asked.rival is not None:
        _compare(asked, source, (logits, labels, price), display, found)
    if options.corruptions is not None:
        _corrupt(asked, source, display, found)
    return found


def refuse_sets(options: Evaluate, what: str) -> None:
    """Refuse what needs one label an image; raises ConfigError."""
    if options.compare or options.corruptions is not None:
        raise ConfigError(f"{what} several labels an image; --compare and --corruptions need one label an image")


def several(asked: Asked, source: "Source", display: "Reporter") -> Answers:
    """Measure a model on images with several labels each, or none; where they have one, as a set of one."""
    from vitreous.evaluation.accuracy import evaluate_sets
    from vitreous.evaluation.throughput import cost
    from vitreous.reports.blocks import Part
    from vitreous.reports.evaluation.accuracy import costs
    from vitreous.reports.evaluation.multilabel import lines, parts

    options, predictor = asked.options, asked.predictor
    display.phase(f"evaluating on {len(source):,} images")
    metrics, _, _ = evaluate_sets(predictor, source, options.batch, progress=_progress(display))
    found = Answers(parts(metrics), metrics.to_dict(), lines(metrics))
    if options.speed:
        price = cost(predictor, options.batch)
        found.parts.append(Part("cost", "Cost", [costs(price)]))
        found.results["cost"] = price.to_dict()
        found.lines.append(str(price))
    return found


def _progress(display: "Reporter") -> Callable[[int, int], None]:
    return lambda done, total: display.progress(done, total, {})


def _compare(
    asked: Asked,
    source: "Source",
    measured: "tuple[np.ndarray, np.ndarray, Cost | None]",
    display: "Reporter",
    found: Answers,
) -> None:
    """Measure the other model on the same images; the model's own logits, the labels and its cost are known."""
    from vitreous.evaluation.accuracy import outputs
    from vitreous.evaluation.throughput import cost
    from vitreous.metrics.comparison import compare
    from vitreous.reports.evaluation.comparison import parts

    assert asked.rival is not None
    logits, labels, price = measured
    display.phase(f"evaluating {asked.names[1]}")
    other = outputs(asked.rival, source, asked.options.batch, progress=_progress(display))[:, asked.order]
    compared = compare(logits, other, labels, asked.predictor.folder.classes)
    prices = () if price is None else (price, cost(asked.rival, asked.options.batch))
    found.parts += parts(compared, asked.names, asked.predictor.folder, source, prices)
    result = {"with": asked.options.compare, **compared.to_dict()}
    found.results["comparison"] = {**result, "cost": prices[1].to_dict() if prices else None}
    found.lines += compared_lines(compared, asked.names)
    if prices:
        speeds = [f"{one.images_per_second:,.0f} images/s, {one.parameters:,} parameters" for one in prices]
        found.lines += [f"{name}: {speed}" for name, speed in zip(asked.names, speeds, strict=True)]


def compared_lines(compared: "Comparison", names: tuple[str, str]) -> list[str]:
    """Write both models' figures side by side."""
    from vitreous.reports.evaluation.comparison import figures, mcnemar_said

    shown = figures(compared, names)
    rows = [shown.heads, *([str(cell) for cell in row] for row in shown.rows)]
    wide = [max(len(row[place]) for row in rows) for place in range(len(shown.heads))]
    lines = [
        "  ".join([row[0].ljust(wide[0]), *(cell.rjust(size) for cell, size in zip(row[1:], wide[1:], strict=True))])
        for row in rows
    ]
    return ["", *lines, mcnemar_said(compared.test, names)]


def _corrupt(asked: Asked, source: "Source", display: "Reporter", found: Answers) -> None:
    """Measure the model under corruptions."""
    from vitreous.evaluation.robustness import robustness
    from vitreous.reports.evaluation.robustness import parts

    names, severities = asked.corruptions

    def told(done: int, total: int, said: str) -> None:
        display.phase(f"measuring under corruption: {said}")
        display.progress(done, total, {})

    loading = (asked.options.batch, "auto")
    measured = robustness(asked.predictor, source, names, severities, told, loading)
    found.parts += parts(measured, asked.predictor, source)
    found.results["corruptions"] = measured.to_dict()
    found.lines += corrupted_lines(measured)


def corrupted_lines(measured: "Robustness") -> list[str]:
    """Write accuracy under each corruption, the hardest first."""
    from vitreous.evaluation.robustness import lost

    low, high = measured.interval
    share, _, verb = lost(measured.clean, measured.mean).partition(" ")
    change = f", {share} of clean accuracy {verb}" if verb else ""
    lines = ["", f"corrupted  {measured.mean:.2%}   (95% interval {low:.2%} to {high:.2%}){change}"]
    heads = "  ".join(f"{severity:7}" for severity in measured.severities)
    lines.append(f"  {'severity':18} {'mean':>7}   {heads}")
    for name in sorted(measured.names, key=measured.mean_of):
        cells = "  ".join(f"{measured.mean_of(name, severity):7.2%}" for severity in measured.severities)
        lines.append(f"  {name:18} {measured.mean_of(name):7.2%}   {cells}")
    return lines
