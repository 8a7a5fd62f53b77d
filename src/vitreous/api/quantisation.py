"""`vitreous.quantise`: a model in int8, compared with fp32 on labelled images."""

from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np

from vitreous.api.config_layers import is_same
from vitreous.api.data import Data, find_overlap, open_labelled, open_run_data
from vitreous.api.exports import gather_images, refuse_format
from vitreous.api.models import open_folder
from vitreous.api.names import name_export
from vitreous.api.progress import shows_progress
from vitreous.api.results import Result
from vitreous.data.config import DataConfig
from vitreous.data.dataset import is_built_in, open_dataset
from vitreous.data.listing.manifest import is_multilabel
from vitreous.data.run_data import read_data_config
from vitreous.data.shared_images import Item, find_shared, items
from vitreous.data.sources.base import Source, refuse_multilabel
from vitreous.data.sources.files import check_broken
from vitreous.data.sources.subset import Subset
from vitreous.data.splits import has_splits
from vitreous.data.stream.loader import Examples, load_evaluation_batches
from vitreous.deploy.export import check_text, export_model
from vitreous.deploy.graph import GraphOptions
from vitreous.deploy.int8_torch import TorchInt8, check_family
from vitreous.deploy.quantise import Int8, Int8Target, check_quantisable, check_size, quantise_export
from vitreous.engines.exported_folder import ExportedFolder
from vitreous.errors import CheckpointError, ConfigError, DataError, check_path
from vitreous.evaluation.accuracy import class_indices, outputs
from vitreous.evaluation.throughput import compare_costs
from vitreous.images.inputs import Ready, prepare
from vitreous.predictor import Predictor
from vitreous.run_folder import read_run
from vitreous.runtime.display import align_columns
from vitreous.storage.atomic import atomic_folder, check_new_folder
from vitreous.storage.limits import format_bytes
from vitreous.storage.presence import expand_home
from vitreous.storage.run_config import find_own_run
from vitreous.training.reporter import Reporter, Silent, progress_of
from vitreous.weights.model_folder import ModelFolder

FEWEST = 16
"""Images that calibration takes at least: the ranges of fewer say little."""
HEADS = ("", "top-1", "same class", "size", "one image", "images/s")


@dataclass(frozen=True)
class Measured:
    """A precision on the evaluation images, in the runtime that int8 was made for."""

    precision: str
    top1: float
    agreement: float
    """Share of the images with the class that they have in fp32."""
    bytes: int
    latency: float
    """Seconds of a batch of one image, the median."""
    images_per_second: float
    """Of a large batch."""


@dataclass(frozen=True, eq=False)
class QuantiseResult(Result):
    """A model in int8, beside itself in fp32."""

    path: Path
    """The folder that was written; `vitreous.load` opens it as any model."""
    fp32: Measured
    int8: Measured
    engine: str
    """Who computed both: onnxruntime, openvino or torch."""
    kept: tuple[str, ...]
    """Layers that were left in float32 since they hurt, the worst first."""
    layers: int
    """That could be quantised."""
    calibrated: int
    """Images that the ranges come from; 0: from each batch itself."""
    examples: int
    batch: int
    shared: int = 0
    """Of the calibrated images: those that were measured too."""
    note: str = ""
    """Why both accuracies flatter the model; empty if nothing is known."""

    @property
    def is_slower(self) -> bool:
        """Whether int8 gains nothing, neither for one image nor for many."""
        return self.int8.latency >= self.fp32.latency and self.int8.images_per_second <= self.fp32.images_per_second

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {**asdict(self), "path": str(self.path)}

    def __str__(self) -> str:
        lines = align_columns([HEADS, *(format_row(one) for one in (self.fp32, self.int8))], words=0)
        others = (
            f"{self.calibrated:,}, {self.shared:,} of them among these"
            if self.shared
            else f"{self.calibrated:,} others"
        )
        ranges = f"calibrated on {others}" if self.calibrated else "ranges of each batch's own"
        kept = f"in float32, since they hurt: {', '.join(self.kept)}" if self.kept else "none had to stay in float32"
        return "\n".join(
            [
                *lines,
                f"layers      {self.layers - len(self.kept)} of {self.layers} in int8; {kept}",
                f"measured    {self.examples:,} images, batch {self.batch}, {ranges}, by {self.engine}; speeds are the model's own, without reading images",
                *(["note        int8 is no faster than fp32 here; another --to may be"] if self.is_slower else []),
                *([f"note        {self.note}"] if self.note else []),
                f"written     {self.path}",
                f"next: vitreous predict {self.path} IMAGES...{' --precision int8' if self.engine == 'torch' else ''}",
            ]
        )


def format_row(one: Measured) -> tuple[str, ...]:
    """Return a precision's figures under HEADS."""
    size, speed = format_bytes(one.bytes), f"{one.images_per_second:,.0f}"
    return (one.precision, f"{one.top1:.2%}", f"{one.agreement:.1%}", size, f"{1e3 * one.latency:.3g} ms", speed)


@shows_progress
def quantise(
    model: ModelFolder | Predictor | str | Path,
    data: Data,
    out: str | Path | None = None,
    *,
    to: Int8Target = "onnx",
    dynamic: bool = False,
    calibration: str | Path | None = None,
    images: int = 256,
    most_lost: float = 0.5,
    batch: int = 64,
    device: Literal["cpu", "cuda"] = "cpu",
    broken: str = "raise",
    progress: bool | None = None,
    reporter: Reporter | None = None,
    **load: Any,
) -> QuantiseResult:
    """Write a model in int8, and measure it beside fp32 in the same runtime on labelled images.

    Where accuracy falls by more than is allowed, the layers that hurt most are found, named and kept in float32, twice
    as many each time, until it fits; if half of the layers don't suffice, nothing is written.

    >>> vitreous.quantise("runs/photos-1", "photos", "photos-int8").int8.top1            # doctest: +SKIP
    0.911

    Args:
        model: what `vitreous.load` accepts or returns, with a head, but for an export.
        data: labelled images, measured as `vitreous.evaluate` does; of those without splits of their own, the ones
            that the model's run held out, or else a fifth, unless `calibration` is named.
        out: the folder to write, new or empty; None: the next free exports/<model>-int8-<n>.
        to: onnx, for ONNX Runtime; openvino, by NNCF; torch: a model folder that also computes in int8
            (`vitreous.load(..., precision="int8")`), of models with encoder blocks.
        dynamic: the ranges of dense layers' inputs are each batch's own, in place of those of calibration images
            (onnx).
        calibration: a folder, file or glob of images of the kind that the model was trained on; None: the training
            split of `data`, its own or what holding out leaves.
        images: most of them, evenly spread, that the ranges are taken from.
        most_lost: points of accuracy that may be lost.
        batch: images that pass through the model at once when it is measured.
        device: where both are measured; for torch also cuda, an NVIDIA GPU, where torchao multiplies and both are compiled.
        broken: what to do about files that can't be read: raise, or skip (they are counted).
        progress: show progress; None: only in a notebook or on a terminal.
        reporter: receives the progress instead of that display.
        load: how the weights are loaded, as in `vitreous.load`: image, labels, ...

    Raises:
        ConfigError: a package that is missing, an option out of range, a model without head, or for torch one without
            encoder blocks or a build that has no such products. CheckpointError: nothing that can be loaded, a folder
            that is not empty, or too much accuracy lost. DataError, ImageError: images that can't be used, or too few.
    """
    if batch < 1:
        raise ConfigError(f"batch is {batch}; it must be at least 1")
    if images < FEWEST:
        raise ConfigError(
            f"images is {images}; calibration takes at least {FEWEST}, since the ranges of fewer say little"
        )
    if not most_lost >= 0:
        raise ConfigError(f"most_lost is {most_lost}; it must be points of accuracy, 0 or more")
    check_quantisable(to, dynamic, device)
    check_broken(broken)
    out, display = name_export(model, "int8") if out is None else Path(out), reporter or Silent()
    check_new_folder(out)
    if to == "onnx":
        check_text(out, to)
    refuse_format(load)
    folder, came, _ = open_folder(model, load, display)
    predictor = Predictor(folder, device, compile=device == "cuda")
    predictor.path = came
    predictor.check_head()
    if folder.multilabel:
        raise ConfigError(
            "this model gives several labels an image, but quantising is judged by accuracy, which needs one"
        )
    if to == "torch":
        check_family(folder)
    else:
        check_size(folder)
    display.phase("opening the data")
    source, training = open_parts(data, calibration is None, predictor, broken, display)
    labels = class_indices(source, folder.classes)[source.labels]
    seen = find_overlap(predictor, source, named=True)
    note = (
        f"{seen.trained:,} of the {seen.measured:,} measured images are among those that the model was trained on, so both accuracies flatter it{name_measured(predictor) if seen.held_out == seen.trained else ''}"
        if seen
        else ""
    )
    if training is None:
        pixels, calibrating = gather_named(str(calibration), folder, images)
    else:
        pixels, calibrating = gather_training(training, folder, images)
    if len(pixels) < FEWEST:
        raise DataError(
            f"{calibration or f'the training split of {data}'} has {len(pixels)} images that can be read, and calibration takes at "
            f"least {FEWEST}; name others with --calibration"
        )
    pixels = np.stack(pixels)
    with TemporaryDirectory() as scratch:
        display.phase("calibrating" if to == "torch" else "exporting, and calibrating")
        if to == "torch":
            quantised: Int8 = TorchInt8(folder, pixels, device)
            plain = predictor
        else:
            ready = [Ready(f"image {number}", one) for number, one in enumerate(pixels[:8], 1)]
            exported, _ = export_model(folder, Path(scratch) / "fp32", "onnx", GraphOptions(), ready, came)
            quantised = quantise_export(exported, pixels, Path(scratch), to, dynamic=dynamic)
            plain = Predictor(exported, engine=quantised.engine)
        display.phase(f"evaluating fp32 on {len(source):,} images")
        logits = outputs(plain, source, batch, progress=progress_of(display))
        with atomic_folder(out) as partial:
            small, found, kept = fit(quantised, partial, (source, labels, logits), most_lost, batch, device, display)
            display.phase("measuring the speed")
            fp32, int8 = measure_both((plain, small), (logits, found), labels, batch)
            names = tuple(quantised.layers[name] for name in kept)
            calibrated, shared = (0, 0) if dynamic else (len(pixels), sum(find_shared(calibrating, items(source))))
            layers = len(quantised.layers)
            result = QuantiseResult(
                out, fp32, int8, quantised.engine, names, layers, calibrated, len(source), batch, shared, note
            )
            quantised.finish(partial, result.to_dict() | {"model": came})
    return result


def open_parts(
    data: Data, calibrate: bool, predictor: Predictor, broken: str, display: Reporter
) -> tuple[Source, Source | None]:
    """Return the images to measure on, and if asked for, the training images to calibrate on; of data without splits
    of their own, the parts that the model's run divided them into, or else what is held out and the rest."""
    if calibrate and is_undivided(data, predictor):
        own = is_own_data(data, predictor)
        if own:
            dataset = open_run_data(predictor, broken, display)
        else:
            dataset = open_dataset(DataConfig(str(data), broken=broken), predictor.folder.decode, progress_of(display))
        source, training = dataset.validation, dataset.train
        display.message(
            f"note: {data} has no splits of its own: measured are the {len(source):,} images that "
            f"{'the run held out' if own else 'are held out here'}"
        )
    else:
        source, training = open_labelled(data, predictor, broken, display), None
    refuse_multilabel(source, "quantising")
    if calibrate and training is None:
        training = open_labelled(data, predictor, broken, display, "train")
    return source, training


def is_undivided(data: Data, predictor: Predictor) -> bool:
    """Return whether data have no split to measure on; raises DataError if there is nothing there."""
    if isinstance(data, Source):
        return False
    check_path("the data", data)
    if is_built_in(str(data)) or is_multilabel(Path(data)):
        return False
    return not has_splits(expand_home(data), predictor.folder.classes)


def name_measured(predictor: Predictor) -> str:
    """Name the model that its run measured before the head learned from all images, if there is one, as what to quantise instead to
    see what is lost."""
    run = find_own_run(Path(predictor.path)) if predictor.path else None
    measured = None if run is None else read_run(run).measured
    return "" if measured is None else f"; {measured} hasn't seen them"


def is_own_data(data: str | Path, predictor: Predictor) -> bool:
    """Return whether a model belongs to a run that was trained on these data."""
    run = find_own_run(Path(predictor.path)) if predictor.path else None
    return run is not None and is_same(read_data_config(read_run(run).config, run).path, str(data))


def gather_training(source: Source, folder: ModelFolder, most: int) -> tuple[list[np.ndarray], list[Item]]:
    """Return at most so many training images, evenly spread, as the model sees them, and what they are compared by."""
    chosen = np.unique(np.linspace(0, len(source) - 1, min(most, len(source))).astype(int))
    part = Subset(source, chosen)
    batches = load_evaluation_batches(Examples(part, folder.preprocess, folder.decode), 64)
    return [one.permute(1, 2, 0).numpy() for batch in batches for one in batch.pixels], items(part)


def gather_named(calibration: str, folder: ModelFolder, most: int) -> tuple[list[np.ndarray], list[Item]]:
    """Return at most so many of the named images that can be read, evenly spread, as the model sees them, and their
    files."""
    paths = gather_images(calibration, most)
    ready = [prepare(one, number, folder, "torch").pixels for number, one in enumerate(paths, 1)]
    kept = [(pixels, Path(path).resolve()) for pixels, path in zip(ready, paths, strict=True) if pixels is not None]
    return [pixels for pixels, _ in kept], [path for _, path in kept]


def fit(
    quantised: Int8,
    path: Path,
    images: tuple[Source, np.ndarray, np.ndarray],
    most_lost: float,
    batch: int,
    device: str,
    display: Reporter,
) -> tuple[Predictor, np.ndarray, list[str]]:
    """Keep more and more of the layers that hurt in float32 until accuracy fits; raises CheckpointError if half don't
    suffice."""
    source, labels, logits = images
    before, kept, ranked = float((logits.argmax(1) == labels).mean()), [], None
    while True:
        display.phase(f"evaluating int8 with {len(kept)} layers in float32" if kept else "evaluating int8")
        how = {"precision": "int8", "engine": quantised.engine, "compile": device == "cuda"}
        small = Predictor(quantised.write(path, kept), device, **how)
        found = outputs(small, source, batch, progress=progress_of(display))
        lost = 100 * (before - float((found.argmax(1) == labels).mean()))
        if lost <= most_lost + 1e-9:
            return small, found, kept
        if ranked is None:
            display.phase("finding the layers that hurt")
            ranked = quantised.rank_layers()
        half = len(quantised.layers) // 2
        if len(kept) >= half:
            names = ", ".join(quantised.layers[name] for name in ranked[:3])
            raise CheckpointError(
                f"int8 loses {lost:.2f} points of accuracy ({before:.2%} before), and {most_lost:g} are allowed, with {len(kept)} layers "
                f"in float32; {names} hurt most. Nothing was written; more can be allowed with --most-lost"
            )
        kept = ranked[: min(max(1, 2 * len(kept)), half)]


def measure_both(
    predictors: tuple[Predictor, Predictor], found: tuple[np.ndarray, np.ndarray], labels: np.ndarray, batch: int
) -> tuple[Measured, Measured]:
    """Return both precisions' figures; their passes are timed in turn."""
    one, many = compare_costs(predictors, 1), compare_costs(predictors, batch)
    rows = []
    for place, predictor in enumerate(predictors):
        predicted = found[place].argmax(1)
        rows.append(
            Measured(
                predictor.engine.precision,
                float((predicted == labels).mean()),
                float((predicted == found[0].argmax(1)).mean()),
                count_bytes(predictor.folder),
                1 / one[place].images_per_second,
                many[place].images_per_second,
            )
        )
    return rows[0], rows[1]


def count_bytes(folder: ExportedFolder | ModelFolder) -> int:
    """Return the bytes of a model's files; a model folder keeps its weights in float32."""
    if isinstance(folder, ExportedFolder):
        return sum(file.bytes for file in folder.files)
    return sum(value.numel() * value.itemsize for value in folder.model.state_dict().values())
