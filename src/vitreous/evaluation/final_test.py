"""The test split, measured once: at the end of a run, by its exported model; and a record of every measurement.

    RUN/test.jsonl      a record for each measurement: when, by which command, of which step's weights, and the result

It is not part of metrics.jsonl, which is cut back on resume: a look at the test split can't be undone.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vitreous.data.sources.base import Source, get_label_matrix
from vitreous.evaluation.accuracy import evaluate, evaluate_multilabel
from vitreous.metrics.classification import Metrics, wilson_interval
from vitreous.metrics.headline import find_headline, format_interval, format_named, select_judged
from vitreous.metrics.multilabel import MultiLabelMetrics
from vitreous.predictor import Predictor
from vitreous.runtime.display import Shown
from vitreous.storage.jsonl import RecordWriter, read_records

TESTS = "test.jsonl"


@dataclass(frozen=True)
class SplitFigures(Shown):
    """The figures of one step's weights on one split."""

    step: int
    metrics: dict[str, float]
    """Its headline (top1, map, or none without labels) and its loss."""
    images: int
    """Number of images; 0 if the run doesn't say."""
    which: str = "held-out images"

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95% interval of the accuracy; None for other headlines."""
        if "top1" not in self.metrics or not self.images:
            return None
        return wilson_interval(round(self.metrics["top1"] * self.images), self.images)

    def __str__(self) -> str:
        name, interval = find_headline(self.metrics), self.interval
        inside = f" ({format_interval(interval)})" if interval else ""
        headline = f"{format_named(name, self.metrics[name])}{inside}, " if name else ""
        return f"{headline}loss {self.metrics['loss']:.4f}, at step {self.step:,}, on {self.images:,} {self.which}"


@dataclass(frozen=True)
class TestMeasurement(Shown):
    """One measurement on the test split."""

    __test__ = False  # not a pytest test

    figures: SplitFigures
    when: str
    """UTC, to the second."""
    by: str
    """train or evaluate."""
    fingerprint: str
    """Fingerprint of the images."""

    def __str__(self) -> str:
        return str(self.figures)


def measure_once(run: Path, source: Source, device: str = "auto", workers: int | str = 0) -> TestMeasurement:
    """Measure a run's exported model on its test split, and record it; never twice for the same weights and images.

    Raises:
        VitreousError: no model, images that can't be read, or a record that can't be written.
    """
    predictor = Predictor.load(run, device=device)
    step = int(predictor.folder.origin.get("step") or 0)
    known = [
        one for one in read_measurements(run) if one.figures.step == step and one.fingerprint == source.fingerprint
    ]
    if known:
        return known[0]
    several = get_label_matrix(source) is not None
    metrics, _, _ = (evaluate_multilabel if several else evaluate)(predictor, source, workers=workers)
    return note_measurement(run, "train", step, metrics, source)


def note_measurement(
    run: Path, by: str, step: int, metrics: Metrics | MultiLabelMetrics, source: Source
) -> TestMeasurement:
    """Record among a run's measurements its model's result on the test split; raises StorageError."""
    if isinstance(metrics, MultiLabelMetrics):
        judged = {"map": metrics.mean_average_precision, "loss": metrics.nll * len(source.classes)}
    else:
        judged = {"top1": metrics.top1, "loss": metrics.nll}
    record = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "by": by,
        "step": step,
        "images": len(source),
        "fingerprint": source.fingerprint,
        **select_judged(judged),
    }
    writer = RecordWriter(run / TESTS)
    try:
        writer.append(record)
        writer.sync()
    finally:
        writer.close()
    return _read(record)


def read_measurements(run: Path) -> list[TestMeasurement]:
    """Return every measurement of a run's test split, the first one first."""
    return [_read(record) for record, _ in read_records(run / TESTS)]


def describe_measurements(found: list[TestMeasurement]) -> str:
    """Say how often a test split was measured; each time that it decides something, it becomes more of a validation
    split."""
    first = f"{found[0].when[:10]} {found[0].when[11:16]} UTC"
    if len(found) == 1:
        return f"measured once, {first}, by {found[0].by}"
    return f"measured {len(found)} times since {first}: it can't judge what was chosen by it"


def _read(record: dict[str, Any]) -> TestMeasurement:
    figures = SplitFigures(int(record["step"]), select_judged(record), int(record["images"]), "test images")
    return TestMeasurement(figures, record["when"], record["by"], record["fingerprint"])
