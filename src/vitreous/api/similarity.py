"""`vitreous.cka`: measure the similarity of two models' layers on the same images."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vitreous.api.models import ModelLike, as_predictor
from vitreous.api.names import name_model, tell_apart
from vitreous.api.progress import shows_progress
from vitreous.api.results import Reported
from vitreous.data.dataset import name_dataset
from vitreous.data.labelled_images import open_source
from vitreous.data.sources.files import check_broken
from vitreous.data.sources.subset import draw_subset
from vitreous.evaluation.probes.cka import CKA, check_images
from vitreous.evaluation.probes.cka import cka as compare_layers
from vitreous.evaluation.probes.features import FeatureOptions
from vitreous.reports.blocks import Report
from vitreous.reports.evaluation.cka import build_cka_sections, describe_cka, encode_cka
from vitreous.runtime.data_frames import Tabular
from vitreous.training.reporter import Reporter, Silent, progress_of


@dataclass(frozen=True, eq=False, repr=False)
class CKAResult(Reported, Tabular):
    """The similarity of each pair of layers of two models."""

    models: tuple[str, str]
    """Where the models were loaded from."""
    data: str
    cka: CKA
    """The matrix, 0 to 1, with the names of its rows (layers of the first model) and columns."""

    @property
    def names(self) -> tuple[str, str]:
        """Distinct short names of the models."""
        first, second = self.models
        names = name_model(first), name_model(second)
        return names if first == second else tell_apart(names)

    @property
    def columns(self) -> dict[str, list[Any]]:
        """The similarity of each pair of layers, as columns: layer (of the first model), other (of the second), cka."""
        rows, cols = self.cka.rows, self.cka.cols
        return {
            "layer": [row for row in rows for _ in cols],
            "other": [col for _ in rows for col in cols],
            "cka": self.cka.matrix.ravel().tolist(),
        }

    def __str__(self) -> str:
        return describe_cka(self.cka, self.names)

    def to_dict(self) -> dict[str, Any]:
        """Return the matrix and its layers as JSON values."""
        return encode_cka(self.cka)

    @cached_property
    def report(self) -> Report:
        """The report: the map, each layer's nearest layer, and the method."""
        first, second = self.models
        lead = f"Linear CKA of the layers of {first} and {second}, on {self.cka.examples:,} images of {self.data}."
        title = f"{self.names[0]} and {self.names[1]} on {name_dataset(self.data)}: CKA"
        data = {"protocol": "cka", "model": first, "other": second, "data": self.data}
        return Report(title, lead, build_cka_sections(self.cka, self.names), data | self.to_dict())


@shows_progress
def cka(
    model: ModelLike,
    other: ModelLike,
    data: str | Path,
    *,
    images: int = 2000,
    unbiased: bool = False,
    batch: int = 64,
    precision: str = "fp32",
    device: str = "auto",
    broken: str = "raise",
    progress: bool | None = None,
    reporter: Reporter | None = None,
) -> CKAResult:
    """Compare how two models represent the same images, layer by layer: centred kernel alignment.

    >>> found = vitreous.cka("runs/photos-1", "runs/photos-2", "photos/").cka            # doctest: +SKIP
    >>> found.matrix.shape == (len(found.rows), len(found.cols))                         # doctest: +SKIP
    True

    Args:
        model: what `vitreous.load` accepts or returns, with or without a head.
        other: another model, of any kind and size; or the same.
        data: labelled images; the validation split is used if there is one. The labels are ignored.
        images: most images to compare on, at least 4; if there are more, this many are drawn at random.
        unbiased: estimate from minibatches, without the bias that few images and wide features cause.
        batch: images in one pass through the models, at least 1; the minibatch of `unbiased`.
        precision: fp32; bf16 (autocast); auto: bf16 on hardware with fast bf16 arithmetic.
        device: auto, cpu, cuda or mps.
        broken: what to do with files that can't be read: raise, or skip.
        progress: show progress; None: only in a notebook or on a terminal.
        reporter: receives the progress instead of that display.

    Raises:
        ConfigError: images or batch out of range. DataError, ImageError: data that can't be used.
        CheckpointError: no such model.
    """
    check_images(images)
    check_broken(broken)
    display = reporter or Silent()
    both = as_predictor(model, device), as_predictor(other, device)
    display.phase("opening the data")
    folders = both[0].folder, both[1].folder
    source = draw_subset(open_source(str(data), None, folders[0].decode, broken), images)
    display.phase(f"comparing on {len(source):,} images")
    how = FeatureOptions(precision=precision, batch=batch, device=str(both[0].device))
    found = compare_layers(folders, source, how, unbiased, progress_of(display))
    return CKAResult((both[0].path, both[1].path), str(data), found)
