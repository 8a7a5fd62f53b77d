"""`vitreous.probe`: the value of a model's frozen features."""

from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

from vitreous.api.data import Data, OwnRun, find_overlap, name_data, open_probe_splits, shorten_name
from vitreous.api.models import ModelLike, as_predictor
from vitreous.api.names import name_model, tell_apart
from vitreous.api.progress import shows_progress
from vitreous.api.results import Reported, add_overlap, encode_overlap, list_left_out
from vitreous.data.sources.base import Source
from vitreous.data.sources.files import check_broken
from vitreous.errors import UnknownName
from vitreous.evaluation.overlap import Overlap
from vitreous.evaluation.probes.features import Features, check_batch, features
from vitreous.evaluation.probes.few_shot import FewShot
from vitreous.evaluation.probes.layers import find_layer
from vitreous.evaluation.probes.measurement import Found, check, measure, scores
from vitreous.evaluation.probes.options import ProbeOptions, check_read
from vitreous.metrics.comparison import compare as compare_logits
from vitreous.predictor import Predictor
from vitreous.reports.blocks import Note, Report, Section, Words
from vitreous.reports.evaluation import comparison
from vitreous.reports.evaluation import probes as shown
from vitreous.reports.evaluation.comparison import ComparisonResult
from vitreous.training.reporter import Reporter, Silent, progress_of


@dataclass(frozen=True, eq=False, repr=False)
class ProbeResult(Reported):
    """The result of a probe of frozen features."""

    model: str
    """Where the model was loaded from."""
    kind: str
    """few-shot, linear or knn."""
    data: str | None
    """The images to measure on, as named; None: those of the model's run."""
    learned: str | None
    """Other data to learn from, as named; None: the training split of the same data."""
    probe: Found
    """Accuracy with its interval, and the settings chosen on the training images."""
    train: Features
    test: Features
    options: ProbeOptions
    comparison: ComparisonResult | None = None
    """The differences from another model with the same probe."""
    other: Found | None = None
    """The probe's result for that model."""
    shared: int = 0
    """How many of the test images are also among those that the probe learned from."""
    overlap: Overlap | None = None
    """How many of the test images the model was trained on; None for none, or if unknown."""
    sources: tuple[Source, Source] = field(kw_only=True, repr=False)
    """The images to learn from and those to measure on."""
    predictor: Predictor = field(kw_only=True, repr=False)

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy on the test images, 0 to 1; for few-shot with the most shots, the mean of the seeds."""
        return self.probe.shots[-1].mean if isinstance(self.probe, FewShot) else self.probe.accuracy

    @property
    def lead(self) -> str:
        """A line that describes the measurement."""
        data = self.data or OwnRun.VALIDATION.value
        how = "drawn" if self.kind == "few-shot" else "learned"
        return (
            f"{self.model}, layer {self.options.layer}: {self.kind} on {len(self.test):,} images of {data}, "
            f"{how} from {len(self.train):,} training images"
        )

    @property
    def leak(self) -> str:
        """A line about the shared images; empty if there are none."""
        every = "all" if self.shared == len(self.test) else f"{self.shared:,}"
        told = f"{every} of the {len(self.test):,} test images are also among the training images; the accuracy flatters the model"
        return told if self.shared else ""

    def __str__(self) -> str:
        lines = [f"{self.lead}\n\n{shown.format_probe(self.probe)}"]
        if self.comparison is not None and self.other is not None:
            lines += ["", f"{self.comparison.names[1]}:", shown.format_probe(self.other)]
            lines += ["", shown.describe_compared(self.probe)] if isinstance(self.probe, FewShot) else []
            lines += comparison.format_lines(self.comparison)
        lines += [f"\nnote: {one}" for one in (self.leak, self.overlap) if one]
        return "\n".join([*lines, *(line for source in self.sources for line in list_left_out(source))])

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as JSON values."""
        found = shown.encode_probe(self.probe)
        if self.comparison is not None and self.other is not None:
            found["comparison"] = {**self.comparison.to_dict(), "other": shown.encode_probe(self.other)}
        if self.shared:
            found["also_learned_from"] = self.shared
        return found | encode_overlap(self.overlap)

    @cached_property
    def report(self) -> Report:
        """The report: the headline, the chosen settings, the confusions, and the comparison if there is one."""
        facts = {"layer": self.options.layer, "precision": self.options.precision, "train": self.learned}
        counts = {"train_images": len(self.train), "results": self.to_dict()}
        data = {"protocol": self.kind, **self.predictor.model_facts, "data": self.data, **facts, **counts}
        title = f"{name_model(self.model)} on {shorten_name(self.data)}: {self.kind}"
        return Report(title, f"{self.lead}.", self._sections(), data)

    def _sections(self) -> list[Section]:
        found = shown.build_probe_sections(self.probe, self.options, self.train, self.test)
        if self.leak:
            found[0] = replace(found[0], blocks=[Note("Not held out:", f"{self.leak}."), *found[0].blocks])
        if self.comparison is not None and self.other is not None:
            one = self.comparison
            first, *more = comparison.build_sections(one.figures, one.names, self.predictor.folder, self.sources[1])
            words = [Words(shown.describe_compared(self.probe))] if isinstance(self.probe, FewShot) else []
            lead = "" if isinstance(self.other, FewShot) else shown.write_headline(self.other)
            alone = [*([Words(lead)] if lead else []), shown.tabulate_probe(self.other)]
            found += [Section("other", f"{one.names[1]} by itself", alone)]
            found += [replace(first, blocks=[*words, *first.blocks]), *more]
        return add_overlap(found, self.overlap)


@shows_progress
def probe(
    model: ModelLike,
    train: Data | None = None,
    test: Data | OwnRun | None = None,
    *,
    kind: str = "linear",
    compare: ModelLike | None = None,
    batch: int = 64,
    device: str = "auto",
    broken: str = "raise",
    progress: bool | None = None,
    reporter: Reporter | None = None,
    **options: Any,
) -> ProbeResult:
    """Measure the value of a model's frozen features: a small classifier learns from some images and is measured on
    others.

    All choices are made on training images, never on test images.

    >>> found = vitreous.probe("runs/photos-1", "flowers/train", "flowers/test", kind="knn", k=(5, 20))  # doctest: +SKIP
    >>> found.accuracy, found.probe.chosen                                               # doctest: +SKIP
    (0.871, 5)

    Args:
        model: what `vitreous.load` accepts or returns, with or without a head.
        train: labelled images to learn from; without `test` both of its splits are used. None: those of the model's
            run.
        test: labelled images to measure on. Their training split, and the validation split of `train`, are ignored.
        kind: few-shot (least squares on a few images of each class), linear, or knn.
        compare: another model, to be measured with the same probe; its classes don't matter.
        batch: images in one pass through the model, at least 1.
        device: auto, cpu, cuda or mps; for a model that isn't loaded yet.
        broken: what to do with files that can't be read: raise, or skip (they are counted).
        progress: show progress; None: only in a notebook or on a terminal.
        reporter: receives the progress instead of that display.
        options: layer, precision and cache for any probe; shots, seeds and l2 for few-shot; solver, l2 and rates for
            linear; k, metric and votes for knn. See `vitreous.evaluation.probes.options.ProbeOptions`.

    Raises:
        UnknownName: an unknown kind, option or layer. ConfigError: an option that the probe doesn't use, or that is out
            of range. CheckpointError: no such model.
        DataError, ImageError: data that can't be used: a single class, a test class without training images, too few.
    """
    how, display = read_options(options), reporter or Silent()
    check_read(kind, how)
    check_broken(broken)
    check_batch(how.features(batch, device))
    predictor = as_predictor(model, device)
    find_layer(predictor.folder.model, how.layer)
    display.phase("opening the data")
    sources, shared = open_probe_splits(train, test, predictor, broken, display)
    rival = None if compare is None else as_predictor(compare, device)
    if rival is not None:
        find_layer(rival.folder.model, how.layer)
    check(kind, how, *sources)
    parts = extract_features(predictor, sources, how, batch, display)
    display.phase(f"measuring: {kind}")
    found = measure(kind, how, *parts)
    other = None
    if rival is not None:
        display.phase(f"the same of {rival.path}")
        other = measure(kind, how, *extract_features(rival, sources, how, batch, display))
    named = test is not None
    return ProbeResult(
        predictor.path, kind, name_data(test if named else train), name_data(train) if named else None, found, *parts, how,
        None if rival is None or other is None else compare_probes(predictor, rival, (found, other), parts),
        other, shared,
        find_overlap(predictor, sources[1], train is not None if test is None else not isinstance(test, OwnRun)),
        sources=sources, predictor=predictor,
    )  # fmt: skip


def read_options(given: dict[str, Any]) -> ProbeOptions:
    """Return the settings of a probe; a single value becomes a tuple of one. Raises UnknownName for an unknown
    setting."""
    known = {one.name: one.default for one in fields(ProbeOptions)}
    for name in given:
        if name not in known:
            raise UnknownName("argument of probe", name, [*known, "kind", "compare", "batch", "device", "broken"])
    several = {name for name, default in known.items() if isinstance(default, tuple)}
    alone = (int, float, str)
    values = {
        name: ((value,) if isinstance(value, alone) else tuple(value)) if name in several else value
        for name, value in given.items()
    }
    return ProbeOptions(**values)


def extract_features(
    predictor: Predictor, sources: tuple[Source, Source], how: ProbeOptions, batch: int, display: Reporter
) -> tuple[Features, Features]:
    """Compute a model's features of the training and the test split."""
    found = []
    for name, source in zip(("training", "test"), sources, strict=True):
        display.phase(f"features of {len(source):,} {name} images")
        options = how.features(batch, str(predictor.device))
        found.append(features(predictor, source, options, progress_of(display)))
    return found[0], found[1]


def compare_probes(
    predictor: Predictor, rival: Predictor, both: tuple[Found, Found], parts: tuple[Features, Features]
) -> ComparisonResult:
    """Return the differences between two models with the same probe on the same images; labels and classes are the same
    for both."""
    classes = parts[0].classes
    mine, theirs = (scores(one, classes) for one in both)
    sure = not any(isinstance(one, FewShot) or not hasattr(one, "logits") for one in both)
    found = compare_logits(mine, theirs, shown.find_labels(*parts), classes, sure=sure)
    return ComparisonResult(rival.path, tell_apart((name_model(predictor.path), name_model(rival.path))), found)
