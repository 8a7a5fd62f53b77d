"""The model card: README.md of a repository on the Hub, with metadata for its pages (YAML) and text for people."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitreous.metrics.headline import format_interval
from vitreous.weights.compatibility import describe
from vitreous.weights.model_folder import ModelFolder
from vitreous.weights.recommended import find_recommended

MOST_CLASSES = 200
"""Most class names in a card; all are in config.json."""


@dataclass(frozen=True)
class Figure:
    """A figure on held-out images."""

    name: str
    """For people: top-1, mAP."""
    kind: str
    """The Hub's name: accuracy, mean_average_precision."""
    value: float
    """A share, 0 to 1."""
    images: int
    interval: tuple[float, float] | None = None
    """95%; None if unknown."""
    which: str = "held-out images"

    def __str__(self) -> str:
        inside = f" ({format_interval(self.interval)})" if self.interval else ""
        return f"{self.name} {self.value:.1%}{inside} on {self.images:,} {self.which}"


@dataclass(frozen=True)
class Training:
    """The history of a model, for people; unknown facts are empty."""

    data: str = ""
    """The name of the data set, without its path on somebody's machine."""
    images: int = 0
    recipe: str = ""
    epochs: float = 0.0
    weights: str = ""
    """The weights that it started from: a name on the Hub, or a local one; empty: from scratch."""
    figures: tuple[Figure, ...] = field(default=())
    handover: tuple[str, ...] = ()
    """The models of the run, one sentence each: its best and its last evaluation, which of them this is, and why."""

    @property
    def base(self) -> str:
        """The repository that it started from; empty if it is not one."""
        name = self.weights.partition("@")[0]
        return name if name.count("/") == 1 and "@" in self.weights else ""


def write_card(repository: str, licence: str, folder: ModelFolder, training: Training) -> str:
    """Return the card's text.

    Args:
        repository: owner/name.
        licence: by its SPDX name; empty if none is stated.
        folder: the model.
        training: how it came to be.
    """
    from huggingface_hub import ModelCardData

    task = "image-classification" if folder.classes else "image-feature-extraction"
    data = ModelCardData(
        license=licence or None,
        library_name="vitreous",
        pipeline_tag=task,
        tags=["vitreous", type(folder.model).__name__.lower(), task],
        base_model=training.base or None,
        model_name=repository.partition("/")[2] if training.figures else None,
        eval_results=[_result(one, task, training) for one in training.figures] or None,
        metrics=sorted({one.kind for one in training.figures}) or None,
    )
    parts = [f"---\n{data.to_yaml()}\n---\n", f"# {repository.partition('/')[2]}\n"]
    parts += (
        _describe_model(folder)
        + _describe_training(training)
        + _results(training)
        + _classes(folder)
        + _use(repository, folder)
    )
    return "\n".join([*parts, *_limits(folder, training)])


def _result(figure: Figure, task: str, training: Training) -> Any:
    from huggingface_hub import EvalResult

    return EvalResult(
        task_type=task,
        dataset_type="imagefolder",
        dataset_name=training.data or "held-out images",
        dataset_split="validation",
        metric_type=figure.kind,
        metric_name=figure.name,
        metric_value=round(figure.value, 4),
    )


def _describe_model(folder: ModelFolder) -> list[str]:
    rows, cols = folder.model.config.image
    does = "classifies images" if folder.classes else "turns images into features; it has no head"
    return [f"{describe(folder.model.config)} that {does}, of {rows}x{cols} pixels.\n"]


def _describe_training(training: Training) -> list[str]:
    if not training.recipe:
        return ["## Training\n", f"Converted from {training.weights or 'weights of another origin'}.\n"]
    told = f"Recipe `{training.recipe}` of [vitreous](https://pypi.org/project/vitreous/)"
    told += f", {training.epochs:.3g} epochs" if training.epochs else ""
    told += f", on {training.images:,} images of {training.data!r}" if training.images else f", on {training.data!r}"
    start = f"the weights {training.weights}" if training.weights else "random weights"
    known = find_recommended(training.weights) if training.weights else None
    licence = f" (licence {known.licence}, whose terms go on)" if known else ""
    return [
        "## Training\n",
        f"{told}, starting from {start}{licence}. The run's full settings are not part of this repository.\n",
    ]


def _results(training: Training) -> list[str]:
    if not training.figures:
        return ["## Results\n", "None are known: measure it on your own images.\n"]
    return ["## Results\n", "\n".join(f"- {one}" for one in (*training.figures, *training.handover)), ""]


def _classes(folder: ModelFolder) -> list[str]:
    if not folder.classes:
        return []
    shown = ", ".join(f"`{name}`" for name in folder.classes[:MOST_CLASSES])
    more = f", ... ({len(folder.classes):,} in all, in `config.json`)" if len(folder.classes) > MOST_CLASSES else ""
    multilabel = "\n\nAn image may have several of them, or none." if folder.multilabel else ""
    return ["## Classes\n", f"{shown}{more}{multilabel}\n"]


def _use(repository: str, folder: ModelFolder) -> list[str]:
    call = 'print(model("a.jpg").label)' if folder.classes else 'print(model.features("a.jpg"))'
    command = "predict" if folder.classes else "embed"
    return [
        "## Use\n",
        f'```python\nimport vitreous\n\nmodel = vitreous.load("{repository}")\n{call}\n```\n',
        f"```bash\nvitreous {command} {repository} images/\n```\n",
    ]


def _limits(folder: ModelFolder, training: Training) -> list[str]:
    lines = ["It knows images like those it was trained on, and no others."]
    if folder.classes and not folder.multilabel:
        lines.append("Every image gets one of the classes above, even one that shows none of them.")
    if training.figures:
        lines.append("The figures are of images held out from the same data.")
    return ["## Limits\n", " ".join(lines) + "\n"]


def name_place(text: str) -> str:
    """Return the last part of a path, which reveals nothing about the machine; a name on the Hub, or of a formula,
    as it is."""
    return text if not Path(text).is_absolute() and text.count("/") <= 1 else Path(text).name


def remove_places(origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return the origin of a model without paths of somebody's machine."""
    return {
        key: name_place(value) if key in ("data", "weights", "file") and isinstance(value, str) else value
        for key, value in origin.items()
    }
