"""`vitreous.convert`: weights of any known origin in another format, with a numeric proof."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitreous.api.models import open_folder
from vitreous.api.progress import shows_progress
from vitreous.api.results import Result
from vitreous.errors import UnknownName
from vitreous.predictor import Predictor
from vitreous.training.reporter import Reporter, Silent
from vitreous.weights.conversion import OURS, Proof, formats
from vitreous.weights.conversion import convert as write
from vitreous.weights.model_folder import ModelFolder
from vitreous.weights.options import Report


@dataclass(frozen=True, repr=False)
class ConversionResult(Result):
    """A model written in a format, and read back."""

    path: Path
    """The folder that was written."""
    to: str
    """Its format."""
    proof: Proof
    """How far the outputs of both models differ on the same images, and what the format doesn't record."""
    report: Report | None
    """The report on reading the weights, if there is anything to report."""

    def __str__(self) -> str:
        lost = [f"lost        {self.proof.lost}"] if self.proof.lost else []
        return "\n".join([f"proof       {self.proof}", *lost, f"written     {self.path} ({self.to})"])


@shows_progress
def convert(
    source: ModelFolder | Predictor | str | Path,
    path: str | Path,
    to: str = OURS,
    *,
    progress: bool | None = None,
    reporter: Reporter | None = None,
    **load: Any,
) -> ConversionResult:
    """Read a model of any known origin, write it in a format, read that back, and run both on the same images.

    >>> vitreous.convert("runs/photos-1", "photos-timm", to="timm").proof.difference     # doctest: +SKIP
    0.0

    Args:
        source: what `vitreous.load` accepts or returns, except an export.
        path: the folder to write, new or empty.
        to: vitreous, google, timm, huggingface or torchvision.
        progress: show progress; None: only in a notebook or on a terminal.
        reporter: receives the report on the weights, before anything is written, instead of that display.
        load: how the weights are loaded, as in `vitreous.load`: family, image, labels, ...

    Raises:
        UnknownName: no such format. ConfigError: options for a model that is already loaded. CheckpointError: nothing that can be loaded, a format that can't express this model
            (nothing is written), or a folder that is not empty. StorageError: the disk is full or read-only.
    """
    if to not in formats():
        raise UnknownName("format", to, formats())
    folder, _, report = open_folder(source, load, reporter or Silent())
    return ConversionResult(Path(path), to, write(folder, path, to), report)
