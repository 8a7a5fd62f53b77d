"""`vitreous.push_to_hub`: push a model to the Hugging Face Hub, with a card."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitreous.api.models import ModelLike, as_predictor
from vitreous.api.progress import shows_progress
from vitreous.api.results import Result
from vitreous.data.dataset import DIGITS
from vitreous.data.synthetic.formula import is_formula
from vitreous.evaluation.final_test import read_measurements
from vitreous.evaluation.handover import describe_handover
from vitreous.evaluation.refit import find_refit
from vitreous.metrics.classification import wilson_interval
from vitreous.predictor import Predictor
from vitreous.run_folder import read_run
from vitreous.storage.run_config import find_last_run, find_run
from vitreous.training.reporter import Reporter
from vitreous.weights.model_card import Figure, Training, name_place, write_card
from vitreous.weights.upload import upload


@dataclass(frozen=True, repr=False)
class PushResult(Result):
    """A model that was pushed."""

    repository: str
    url: str
    commit: str
    """40 hexadecimal digits; repository@commit always names this model."""
    card: str
    """The text of its README.md."""

    def __str__(self) -> str:
        return f"pushed      {self.url}\ncommit      {self.commit}"


@shows_progress
def push_to_hub(
    model: ModelLike,
    repository: str,
    *,
    private: bool = False,
    licence: str = "",
    overwrite: bool = False,
    progress: bool | None = None,
    reporter: Reporter | None = None,
) -> PushResult:
    """Push a model to the Hugging Face Hub, with a card that describes it; `vitreous.load(repository)` opens it again.

    >>> vitreous.push_to_hub("runs/photos-1", "me/photos", private=True)                 # doctest: +SKIP

    Args:
        model: a run folder, a model folder, or a model that is loaded.
        repository: owner/name; created if it doesn't exist.
        private: make a new repository private.
        licence: the SPDX name of the weights' licence, such as "apache-2.0"; the card states one only if it is given.
        overwrite: write to a repository that already holds weights; its history keeps them.
        progress: show progress; None: only in a notebook or on a terminal.
        reporter: receives the progress of uploads instead of that display.

    Raises:
        CheckpointError: there is nothing that can be loaded, no token with write access, or the repository already holds
            weights.
        DownloadFailed: the Hub doesn't accept the model now.
    """
    predictor = as_predictor(model, "cpu")
    training = describe_training(predictor)
    card = write_card(repository, licence, predictor.folder, training)
    made = upload(predictor.folder, repository, card, private=private, overwrite=overwrite, listener=reporter)
    return PushResult(repository, made.url, made.commit, card)


def describe_training(predictor: Predictor) -> Training:
    """Return the known history of a model: from its origin, and from its run if a run was named."""
    origin = predictor.folder.origin
    data, weights = str(origin.get("data") or ""), str(origin.get("weights") or origin.get("file") or "")
    images, figures, handover = 0, (), ()
    run = find_run(Path(predictor.path)) if predictor.path else None
    if run is not None and not predictor.load_options:
        record = read_run(run)
        refit = find_refit(origin)
        images = refit.images if refit else int(record.config["data"]["train"])
        found = record.evaluation_at(origin.get("step"))
        figures = describe_figures(found, int(record.config["data"]["validation"])) if found else ()
        told = describe_handover(record)
        handover = told.describe_for_others(int(origin["step"])) if told and found else ()
    elif "folds" in origin and predictor.path and not predictor.load_options:
        images, figures = int(origin["folds"]["images"]), (describe_folds(origin["folds"]),)
        last = find_last_run(Path(predictor.path))
        handover = tuple(f"test: {one}" for one in read_measurements(last)[-1:]) if last else ()
    return Training(
        data=data if data == DIGITS or is_formula(data) else name_place(data),
        images=images,
        recipe=str(origin.get("recipe") or ""),
        epochs=float(origin.get("epochs") or 0),
        weights=name_place(weights),
        figures=figures,
        handover=handover,
    )


def describe_folds(folds: dict[str, Any]) -> Figure:
    """Return the result of a cross-validation, over all images."""
    which = f"images, each predicted by a model that had not seen it ({folds['count']} folds)"
    share = folds["right"] / folds["images"]
    return Figure("top-1", "accuracy", share, int(folds["images"]), (folds["low"], folds["high"]), which)


def describe_figures(metrics: dict[str, Any], images: int) -> tuple[Figure, ...]:
    """Return the figures of an evaluation that a card states."""
    if "top1" in metrics:
        interval = wilson_interval(round(metrics["top1"] * images), images)
        return (Figure("top-1", "accuracy", metrics["top1"], images, interval),)
    return (Figure("mAP", "mean_average_precision", metrics["map"], images),) if "map" in metrics else ()
