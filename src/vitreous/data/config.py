"""Where examples come from: settings only, no torch."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

Policy = Literal["raise", "skip"]


@dataclass(frozen=True)
class DataConfig:
    """A data set and how it is split and read."""

    path: str = "digits"
    """A folder of class folders, a CSV or JSONL manifest, shards (.tar), parquet, MNIST's or CIFAR's files, a data set on the
    Hugging Face Hub (hf:OWNER/NAME), `digits` (scikit-learn's 1,797 handwritten digits), or images drawn from formulas, such as
    `formula:fractals?classes=1000&images=100&size=32&seed=0` (see docs/data.md)."""
    validation: str | None = None
    """Where the validation examples are, if they are not inside `path`: a separate folder or manifest."""
    holdout: float = 0.2
    """Share of the examples held out for validation, stratified by class, if the data isn't split already; above 0,
    below 1."""
    split_seed: int = 0
    """Seed of that split. It is separate from the run's seed, so that runs with several seeds share one validation
    set."""
    tuning_holdout: float = 0.0
    """Share of the training examples held out in place of the validation examples, so that settings are chosen without
    looking at the latter; stratified by class, 0 (off) to below 1."""
    folds: int = 0
    """Number of parts for cross-validation into which all training examples are divided, including those that would be
    held out; stratified by class, drawn with `split_seed`; 0: off. Set by --folds."""
    fold: int = 0
    """The fold that is held out, counted from 0; -1: none, train on all of them."""
    test_split: Literal["stand-in", "once", "hidden"] = "stand-in"
    """Role of a test split in the data. once: never used for training or choices, and measured once at the end;
    `vitreous train` sets this. hidden: not even measured, as in all runs of a self-training except the last. stand-in:
    used for validation if the data has no validation split, otherwise left out, as in earlier versions."""
    broken: Policy = "raise"
    """What to do about files that can't be read: raise, or skip (they are counted and listed)."""
    labels: Literal["needed", "optional"] = "needed"
    """optional: accept a folder of images without class folders, as one class; for training without labels."""
    scan: Literal["first", "later"] = "first"
    """When images are checked. first: all of them before training. later: 256 before training, the others when their
    turn comes, so that the first batch waits only for the listing; broken images are then found during training, and
    duplicates are not."""
    verify: Literal["full", "header"] = "full"
    """How the scan checks images: it decodes each one, or reads headers only. The result is cached."""

    unlabelled: str | None = None
    """Further images to learn from, with the labels that a teacher gave them (`pseudo_labels`): a folder of images, a
    manifest or packed files. Their own labels, if there are any, are not read."""
    pseudo_labels: str | None = None
    """The teacher's labels: a CSV with path, label, confidence and copies, as recipe noisy-student writes it
    (docs/recipes.md)."""
    pseudo_ratio: float = 1.0
    """Pseudo-labelled examples per labelled example in every batch, above 0: with 3, they are three quarters of the
    batch."""

    RENAMED: ClassVar[dict[str, str]] = {"tune": "tuning_holdout"}
    """Settings that had other names in files of layout 1."""

    @property
    def paths(self) -> tuple[str | None, ...]:
        """Every setting that may be a path; the first is that of the data itself."""
        return self.path, self.validation, self.unlabelled, self.pseudo_labels

    def relocate(self, find: Callable[[str], str]) -> "DataConfig":
        """Return the same settings with `find` applied to each path."""
        names = ("path", "validation", "unlabelled", "pseudo_labels")
        found = {name: path and find(path) for name, path in zip(names, self.paths, strict=True)}
        return replace(self, **found)
