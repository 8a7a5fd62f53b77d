"""`vitreous.evaluate`: a model's own head on labelled images, and its cost."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from vitreous.api.conditions import (
    check_corruptions,
    draw_merge_curve,
    draw_packed_curve,
    list_numbers,
    measure_corruptions,
)
from vitreous.api.data import Data, OwnRun, find_overlap, name_data, open_labelled, shorten_name
from vitreous.api.measured_images import (
    choose_measured_model,
    describe_images,
    find_own_folds,
    measure_out_of_fold,
    note_test,
)
from vitreous.api.models import ModelLike, as_predictor
from vitreous.api.names import name_model, tell_apart
from vitreous.api.progress import shows_progress
from vitreous.api.results import Reported, add_overlap, encode_overlap, list_left_out
from vitreous.data.sources.base import Source, get_label_matrix
from vitreous.data.sources.files import check_broken
from vitreous.errors import ConfigError, check_count
from vitreous.evaluation.accuracy import evaluate as measure
from vitreous.evaluation.accuracy import evaluate_multilabel, outputs
from vitreous.evaluation.details import Details, details
from vitreous.evaluation.merge_curve import MergeCurve, choose_merges
from vitreous.evaluation.overlap import Overlap
from vitreous.evaluation.packed_curve import PackedCurve, choose_sides
from vitreous.evaluation.robustness import Robustness, check_colours
from vitreous.evaluation.throughput import Cost, cost
from vitreous.metrics.classification import Metrics
from vitreous.metrics.comparison import compare as compare_logits
from vitreous.metrics.comparison import match_classes
from vitreous.metrics.multilabel import MultiLabelMetrics
from vitreous.predictor import CLAIMED, Predictor
from vitreous.reports.blocks import Report, Section, Words
from vitreous.reports.evaluation import accuracy, comparison, merge_curve, multilabel, packed_curve
from vitreous.reports.evaluation import robustness as corrupted
from vitreous.reports.evaluation.comparison import ComparisonResult
from vitreous.reports.mistakes import build_mistakes, build_multilabel_mistakes
from vitreous.runtime.data_frames import Tabular
from vitreous.shapes import Float32, Int64
from vitreous.storage.scratch import allocate_rows, iterate_blocks, release, reorder_columns
from vitreous.training.reporter import Reporter, Silent, progress_of

IMAGES = "images.csv"
"""A table next to the report: the result for each image."""
MOST_LISTED = 2**26
"""Number of probabilities in that table, at most."""


@dataclass(frozen=True, eq=False, repr=False)
class EvaluationResult(Reported, Tabular):
    """The result of a model's own head on labelled images."""

    model: str
    """Where the model was loaded from."""
    data: str | None
    """The images as named; None: the validation split of the model's run."""
    metrics: Metrics | MultiLabelMetrics
    """Accuracy, loss, calibration, ...; for multilabel models average precision, F1, ..."""
    logits: Float32[np.ndarray, "example label"]
    """In the order of the images and of the model's classes; many are in a temporary file, mapped."""
    targets: np.ndarray
    """Each image's class number, (example); for multilabel models which classes it has, (example label)."""
    details: Details | None = None
    """Intervals, ranking of the classes, and the effect of temperature scaling; None for multilabel models."""
    cost: Cost | None = None
    """None if not measured."""
    comparison: ComparisonResult | None = None
    corruptions: Robustness | None = None
    merging: MergeCurve | None = None
    """Accuracy and speed under token merging; None if not measured."""
    packing: PackedCurve | None = None
    """Accuracy by resolution, with images in their own aspect ratio and packed; None if not measured."""
    overlap: Overlap | None = None
    """How many of the images the model was trained on; None for none, or if unknown."""
    measured: str = OwnRun.VALIDATION.value
    """Description of the images."""
    source: Source = field(kw_only=True, repr=False)
    """The images."""
    predictor: Predictor = field(kw_only=True, repr=False)

    def __str__(self) -> str:
        if isinstance(self.metrics, MultiLabelMetrics):
            lines = [*multilabel.format_lines(self.metrics), *([str(self.cost)] if self.cost else [])]
        else:
            lines = [str(self.metrics), "", str(self.details)]
        lines += comparison.format_lines(self.comparison) if self.comparison else []
        lines += corrupted.format_lines(self.corruptions) if self.corruptions else []
        lines += merge_curve.format_lines(self.merging) if self.merging else []
        lines += packed_curve.format_lines(self.packing) if self.packing else []
        lines += [f"\nmeasured on {self.measured}"]
        if (least := self.predictor.folder.decode.at_least) is not None:
            lines += [
                f"decoded at reduced scale: large JPEGs at 1/2, 1/4 or 1/8, but at least {least[0]}x{least[1]} pixels"
            ]
        lines += [f"\nnote: {self.overlap}"] if self.overlap else []
        return "\n".join([*lines, *list_left_out(self.source)])

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as JSON values."""
        found = self.metrics.to_dict()
        if self.details is not None:
            found |= self.details.to_dict()
        elif self.cost is not None:
            found["cost"] = self.cost.to_dict()
        if self.comparison is not None:
            costs = self.comparison.costs
            found["comparison"] = {**self.comparison.to_dict(), "cost": costs[1].to_dict() if costs else None}
        if self.corruptions is not None:
            found["corruptions"] = self.corruptions.to_dict()
        if self.merging is not None:
            found["merging"] = self.merging.to_dict()
        if self.packing is not None:
            found["packing"] = self.packing.to_dict()
        return found | {"measured": self.measured} | encode_overlap(self.overlap)

    @property
    def probabilities(self) -> Float32[np.ndarray, "example label"]:
        """Each class's probability: the softmax of the logits or, for multilabel models, their sigmoids."""
        found = allocate_rows(*self.logits.shape)
        for place, block in self._iterate_probabilities():
            found[place] = block
            release(found)
        return found

    def _iterate_probabilities(self) -> Iterator[tuple[slice, Float32[np.ndarray, "example label"]]]:
        multilabel = isinstance(self.metrics, MultiLabelMetrics)
        for place in iterate_blocks(self.logits):
            logits = torch.from_numpy(np.array(self.logits[place]))
            yield place, (logits.sigmoid() if multilabel else logits.softmax(1)).numpy()

    @property
    def lists_all(self) -> bool:
        """Whether the table of images has each class's probability."""
        return self.logits.size <= MOST_LISTED

    @cached_property
    def answers(self) -> tuple[Int64[np.ndarray, " example"], Float32[np.ndarray, " example"]]:
        """The number of each image's most probable class, and its probability."""
        found = [(block.argmax(1), block.max(1)) for _, block in self._iterate_probabilities()]
        return np.concatenate([one for one, _ in found]), np.concatenate([one for _, one in found])

    @property
    def columns(self) -> dict[str, Any]:
        """The result for each image, as columns: path, label, prediction, right, probability, and each class's probability.

        For multilabel models, labels and predictions are separated by ;, and the prediction has no probability. Beyond
        `MOST_LISTED` probabilities in all, those of the classes are left out.
        """
        classes, each = self.predictor.folder.classes, {}
        if self.lists_all:
            found = self.probabilities
            each = {f"probability of {name}": found[:, place] for place, name in enumerate(classes)}
        if isinstance(self.metrics, MultiLabelMetrics):
            label, prediction, right = self._join_labels()
            return {"path": self.source.names, "label": label, "prediction": prediction, "right": right} | each
        predicted, sure = self.answers
        label, prediction = ([classes[at] for at in side.tolist()] for side in (self.targets, predicted))
        right = (predicted == self.targets).tolist()
        known = {"path": self.source.names, "label": label, "prediction": prediction, "right": right}
        return known | {"probability": sure} | each

    def _join_labels(self) -> tuple[list[str], list[str], list[bool]]:
        """Return each image's labels, its predicted labels, and whether the two are the same."""
        classes, true, predicted, right = self.predictor.folder.classes, [], [], []
        for place, block in self._iterate_probabilities():
            claimed, targets = block >= CLAIMED, self.targets[place]
            true += [join_names(classes, row) for row in targets]
            predicted += [join_names(classes, row) for row in claimed]
            right += (claimed == targets).all(1).tolist()
            release(self.targets)
        return true, predicted, right

    @cached_property
    def report(self) -> Report:
        """The report: figures, mistakes as pictures, confusions, classes, calibration, cost, and further
        measurements."""
        lead = f"{self.model} on {len(self.source):,} images, by its own head: {self.measured}."
        said = {"protocol": "accuracy", **self.predictor.model_facts, "data": self.data, "results": self.to_dict()}
        return Report(
            f"{name_model(self.model)} on {shorten_name(self.data)}: accuracy",
            lead,
            self._sections(),
            said,
            {IMAGES: self.columns},
        )

    def _sections(self) -> list[Section]:
        if isinstance(self.metrics, MultiLabelMetrics):
            found = multilabel.build_sections(self.metrics)
            found += [Section("cost", "Cost", [accuracy.list_costs(self.cost)])] if self.cost else []
            wrong = build_multilabel_mistakes(
                self.predictor.folder, self.source, self._iterate_probabilities(), self.targets
            )
        else:
            found = accuracy.build_sections(self.metrics, self.details)
            wrong = build_mistakes(self.predictor.folder, self.source, *self.answers, self.targets)
        listed = (
            f"Every image is listed in {IMAGES}{'' if self.lists_all else ', without the probability of each class'}."
        )
        found.insert(2, Section("mistakes", "Mistakes", [*wrong, Words(listed)]))
        if self.comparison is not None:
            one = self.comparison
            found += comparison.build_sections(one.figures, one.names, self.predictor.folder, self.source, one.costs)
        if self.corruptions is not None:
            found += corrupted.build_sections(self.corruptions, self.predictor, self.source)
        if self.merging is not None:
            found += merge_curve.build_sections(self.merging)
        if self.packing is not None:
            found += packed_curve.build_sections(self.packing)
        return add_overlap(found, self.overlap)


def join_names(classes: Sequence[str], which: np.ndarray) -> str:
    """Return the names of some classes in one field of a table."""
    return ";".join(classes[at] for at in np.flatnonzero(which))


@shows_progress
def evaluate(
    model: ModelLike,
    data: Data | None = None,
    *,
    split: str | None = None,
    compare: ModelLike | None = None,
    corruptions: str | Sequence[str] | None = None,
    severities: int | Sequence[int] | None = None,
    merge_curve: int | Sequence[int] | None = None,
    packed: int | Sequence[int] | None = None,
    speed: bool = True,
    batch: int = 64,
    device: str = "auto",
    broken: str = "raise",
    progress: bool | None = None,
    reporter: Reporter | None = None,
) -> EvaluationResult:
    """Measure a model's own head on labelled images; each passes through it exactly once.

    >>> found = vitreous.evaluate("runs/photos-1", "photos/val", batch=64)               # doctest: +SKIP
    >>> found.metrics.top1, found.logits.shape, found.save("report")                     # doctest: +SKIP
    (0.913, (1200, 12), PosixPath('report/report.html'))

    Args:
        model: what `vitreous.load` accepts or returns, with a head.
        data: labelled images; the validation split is used if there is one. None: those of the model's run, measured by
            the model before its head learned from them too, if it did; for a cross-validation all its images, each measured
            by the model that has not seen it. Classes are matched by name. Images may have several labels (a manifest with
            a column labels).
        split: train, validation or test, if the data has its own splits. A run's test split was measured once, at the end
            of the run; every further measurement is recorded in the run's test.jsonl, and reported.
        compare: another model, to be measured on the same images; it must know the same classes.
        corruptions: corruptions of ImageNet-C under which to measure too, made on the fly: "all", or some by name.
        severities: of the corruptions, 1 to 5; None: all five.
        merge_curve: numbers of pairs of patches to merge in each block, to measure a ViT's accuracy and speed under
            token merging; (): several that suit the model; None: none.
        packed: resolutions in pixels, to measure a ViT at each of them with images in their own aspect ratio, packed
            into few sequences; (): several around the model's own; None: none.
        speed: also time the forward pass.
        batch: images in one pass through the model, at least 1.
        device: auto, cpu, cuda or mps; for a model that isn't loaded yet.
        broken: what to do with files that can't be read: raise, or skip (they are counted).
        progress: show progress; None: only in a notebook or on a terminal.
        reporter: receives the progress instead of that display.

    Raises:
        ConfigError: a model without a head, an option out of range, a model that can't merge patches or pack images; or, for
            a multilabel model, a comparison, corruptions, a merge curve or packed images. CheckpointError: no such model.
        DataError, ImageError: data that can't be used, or a class that a model doesn't know.
    """
    display, requested = reporter or Silent(), check_corruptions(corruptions, severities)
    check_count("batch", batch)
    check_broken(broken)
    predictor = choose_measured_model(as_classifier(model, device), data, split)
    if requested is not None:
        check_colours(predictor)
    merges = None if merge_curve is None else choose_merges(predictor, list_numbers("merge_curve", merge_curve))
    sides = None if packed is None else choose_sides(predictor, list_numbers("packed", packed))
    rival = None if compare is None else load_rival(predictor, compare, device)
    display.phase("opening the data")
    multilabel = predictor.folder.multilabel
    only_one = not (rival is requested is merges is sides is None)
    if multilabel and only_one:
        refuse_multilabel(f"{predictor.path} gives")
    folds = find_own_folds(predictor, data, split, alone=not only_one and not predictor.folder.merge)
    if folds is not None:
        display.phase("measuring each fold by the model that has not seen it")
        source, found = measure_out_of_fold(folds, predictor.folder.classes)
    else:
        source = open_labelled(data, predictor, broken, display, split)
        if get_label_matrix(source) is not None and only_one:
            refuse_multilabel(f"{name_data(data) or OwnRun.VALIDATION.value} has")
        multilabel = multilabel or get_label_matrix(source) is not None
        display.phase(f"evaluating on {len(source):,} images")
        how = evaluate_multilabel if multilabel else measure
        found = how(predictor, source, batch, progress=progress_of(display))
    metrics, logits, targets = found
    measured = describe_images(predictor, data, split, source, folds)
    if data is None and split == "test":
        measured = f"{measured}; {note_test(predictor, metrics, source, display)}"
    if speed:
        display.phase("measuring the speed")
    price = cost(predictor, batch) if speed else None
    more = None if multilabel else details(logits, targets, predictor.folder.classes, price)
    return EvaluationResult(
        predictor.path, name_data(data), metrics, logits, targets, more, price,
        None if rival is None else compare_with(rival, source, (logits, targets), price, batch, display),
        None if requested is None else measure_corruptions(requested, predictor, source, batch, display),
        None if merges is None else draw_merge_curve(merges, predictor, (source, targets), batch, display),
        None if sides is None else draw_packed_curve(sides, predictor, (source, targets), batch, display),
        find_overlap(predictor, source, named=data is not None), measured,
        source=source, predictor=predictor,
    )  # fmt: skip


@dataclass(frozen=True)
class Rival:
    """Another model with the same classes."""

    predictor: Predictor
    names: tuple[str, str]
    """Distinct names: of the model, and of this one."""
    classes: tuple[str, ...]
    """The model's classes."""
    order: np.ndarray
    """For each class of the model, its index among this one's."""


def as_classifier(model: ModelLike, device: str) -> Predictor:
    """Return a model that can classify; raises ConfigError for one without a head."""
    predictor = as_predictor(model, device, merges=True)
    predictor.check_head()
    return predictor


def load_rival(predictor: Predictor, compare: ModelLike, device: str) -> Rival:
    """Load the model to compare with.

    Raises:
        CheckpointError: no such model. DataError: it knows other classes. ConfigError: it has no head, or is
            multilabel.
    """
    rival = as_classifier(compare, device)
    names = tell_apart((name_model(predictor.path), name_model(rival.path)))
    if rival.folder.multilabel:
        refuse_multilabel(f"{rival.path} gives")
    classes = predictor.folder.classes
    return Rival(rival, names, classes, match_classes(classes, rival.folder.classes, names))


def refuse_multilabel(what: str) -> None:
    """Raise ConfigError because images have several labels; `what` has them, verb included."""
    raise ConfigError(
        f"{what} several labels per image, but comparisons, corruptions, merge curves and packed images need one label per image"
    )


def compare_with(
    rival: Rival,
    source: Source,
    own: tuple[np.ndarray, np.ndarray],
    price: Cost | None,
    batch: int,
    display: Reporter,
) -> ComparisonResult:
    """Measure the other model on the same images; the first model's logits and cost, and the labels, are known."""
    display.phase(f"evaluating {rival.names[1]}")
    logits, labels = own
    other = outputs(rival.predictor, source, batch, progress=progress_of(display))
    reorder_columns(other, rival.order)
    costs = () if price is None else (price, cost(rival.predictor, batch))
    found = compare_logits(logits, other, labels, rival.classes)
    return ComparisonResult(rival.predictor.path, rival.names, found, costs)
