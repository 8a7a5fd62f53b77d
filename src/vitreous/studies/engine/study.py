"""The parts of a study: settings, cells, their results, and the conclusion."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from markupsafe import Markup

from vitreous.data.config import DataConfig
from vitreous.data.dataset import Facts, open_dataset
from vitreous.evaluation.accuracy import evaluate
from vitreous.metrics.seeds import Verdict
from vitreous.metrics.seeds_and_images import Scores
from vitreous.predictor import Predictor
from vitreous.recipes.options import RecipeOptions
from vitreous.reports.blocks import Table
from vitreous.studies.answers import EACH, pack_answers, unpack_answers
from vitreous.training.config import RunConfig

T = TypeVar("T")
Candidate = TypeVar("Choice", bound=Hashable)
Scale = Literal["smoke", "laptop", "gpu", "paper"]
"""laptop: minutes on a core or two; gpu: about half an hour on one modern GPU; paper: the paper's own configuration,
for those who have its data; smoke: seconds, to see that everything works, too small to conclude anything."""


@dataclass(frozen=True)
class Images:
    """The images that a study is given."""

    named: str = ""
    """As the caller named them."""
    fingerprint: str = ""
    """Hash of their names, labels and contents."""
    listed: bytes | None = None
    """Contents of the list of those that are used, which is to stand at the path of the setting's data; None: all are."""


@dataclass(frozen=True)
class Setting:
    """The place and the scale of a study."""

    scale: Scale
    data: DataConfig
    """The training data of the runs: at laptop scale, a part of the named data."""
    facts: Facts
    """Facts about that data."""
    folder: Path
    """The study's folder."""
    images: Images = Images()
    """The named images, by which a study that goes on is compared."""

    def run(self, cell: str) -> Path:
        """Return the run folder of a cell."""
        return self.folder / "runs" / cell

    def choose(self, *, smoke: T, laptop: T, gpu: T, paper: T) -> T:
        """Return the value for this scale."""
        return {"smoke": smoke, "laptop": laptop, "gpu": gpu, "paper": paper}[self.scale]

    def seeds(self, laptop: int, gpu: int = 5, paper: int = 3) -> range:
        """Return the seeds of this scale, from 0."""
        return range(self.choose(smoke=2, laptop=laptop, gpu=gpu, paper=paper))

    def make_recipe_options(self, **recipe_options: Any) -> RecipeOptions:
        """Return a recipe's options, such as model="S/16", image=Size(32, 32), ..."""
        return RecipeOptions(self.facts, self.data, **recipe_options)


@dataclass(frozen=True)
class Trained:
    """A finished run, to be measured."""

    folder: Path
    """The run folder; its model opens with `vitreous.load`."""
    config: RunConfig
    """As the cell specified it."""
    metrics: Mapping[str, float]
    """The last evaluation of the exported weights: step, loss, top1, top5, ece."""
    setting: Setting


Measure = Callable[[Trained], dict[str, Any]]
"""Maps a finished run to numbers by name (or lists of them; JSON values): a pure function of the run's folder."""


def measure_accuracy(trained: Trained) -> dict[str, Any]:
    """Return top-1 accuracy and loss on the validation examples, as the run measured them, and which ones are right."""
    predictor = Predictor.load(trained.folder, device=trained.config.device)
    source = open_dataset(trained.config.data, trained.config.decode).validation
    _, logits, labels = evaluate(predictor, source, batch=256, workers=0)
    right = logits.argmax(1) == labels
    return {**{name: trained.metrics[name] for name in ("top1", "loss")}, EACH: {"top1": pack_answers(right)}}


@dataclass(frozen=True)
class Cell:
    """One run of a study: an ordinary run folder at STUDY/runs/NAME, and its measurement."""

    name: str
    """Unique; letters, digits, dots and dashes, since it names the folder."""
    group: str
    """The condition. Cells of one group differ only in the seed."""
    config: RunConfig
    """Complete, its seed included."""
    measure: Measure = measure_accuracy
    needs: tuple[str, ...] = ()
    """Cells whose results this one starts from; they come before it."""
    prepare: Callable[[Setting], None] | None = None
    """Called before the run begins, to write files that its settings name, such as adapted weights; it may be called
    again."""

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.config.seed


@dataclass(frozen=True)
class CellResult:
    """The result of one cell."""

    cell: str
    group: str
    seed: int
    numbers: dict[str, Any]
    """The measured numbers; empty if the run failed."""
    failed: str | None = None
    """Why there are no numbers: the loss became infinite."""

    def scores(self, number: str) -> float:
        """Return a number, with each image's contribution if the cell recorded them."""
        packed = self.numbers.get(EACH, {}).get(number)
        return float(self.numbers[number]) if packed is None else Scores(unpack_answers(packed))


@dataclass(frozen=True)
class CellResults:
    """The results of the finished cells."""

    all: Sequence[CellResult]
    cell_count: int
    """Number of cells in the whole study."""

    def by_seed(self, group: str, number: str) -> dict[int, float]:
        """Return one number of a group's cells by their seed; cells without it are left out.

        A mean over images is returned as Scores, so that intervals cover images too.
        """
        return {one.seed: one.scores(number) for one in self.all if one.group == group and number in one.numbers}

    def candidates(self, groups: Mapping[Candidate, str], number: str) -> dict[Candidate, dict[int, float]]:
        """Return one number by seed for each eligible choice: it was measured, and failed with no seed.

        Args:
            groups: the conditions to choose from, by what is chosen, such as a learning rate.
            number: the number that measures them.
        """
        failed = {one.group for one in self.failures}
        found = {choice: self.by_seed(group, number) for choice, group in groups.items() if group not in failed}
        return {choice: values for choice, values in found.items() if values}

    def groups(self) -> list[str]:
        """Return the groups in the order of their first cells."""
        return list(dict.fromkeys(one.group for one in self.all))

    @property
    def failures(self) -> list[CellResult]:
        """Cells whose run failed."""
        return [one for one in self.all if one.failed]


@dataclass(frozen=True)
class Figure:
    """A drawing (see `drawing/charts.py`)."""

    name: str
    """Its file: "figure" for the first, "figure-..." for others."""
    caption: str
    svg: Markup


@dataclass(frozen=True)
class Conclusion:
    """What a study concludes."""

    verdicts: Sequence[Verdict]
    tables: Sequence[Table]
    figures: Sequence[Figure]
    notes: Sequence[str] = ()
    """Notes for judging the conclusion: differences from the paper, and what a larger scale would show."""
    numbers: dict[str, Any] = field(default_factory=dict)
    """For results.json, besides the cells'."""


@dataclass(frozen=True)
class Study:
    """One of the paper's experiments."""

    name: str
    title: str
    question: str
    """The question, a sentence."""
    paper: str
    """The paper's finding, with its numbers and their place."""
    here: str
    """How it is repeated here, and when it is called seen: for readers of the page."""
    cells: Callable[[Setting], list[Cell]]
    conclude: Callable[[Setting, CellResults], Conclusion]
    words: Mapping[str, str] = field(default_factory=dict)
    """Descriptions of the numbers, besides top1 and loss, that a page lists for every cell, by name."""
