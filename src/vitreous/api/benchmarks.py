"""`vitreous.benchmark`: ImageNet's other test sets and VTAB-1k, on the user's own copies."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from vitreous.api.evaluation import as_classifier
from vitreous.api.fine_tuning import STEPS, fine_tune
from vitreous.api.models import ModelLike, as_predictor
from vitreous.api.names import name_model
from vitreous.api.probes import read_options
from vitreous.api.progress import shows_progress
from vitreous.api.results import Reported, add_overlap, describe_skipped, encode_overlap
from vitreous.data.sources.files import check_broken
from vitreous.errors import ConfigError, UnknownName
from vitreous.evaluation.benchmarks.imagenet import BatchOptions, Score, score
from vitreous.evaluation.benchmarks.imagenet_sets import SETS
from vitreous.evaluation.benchmarks.vtab import VTAB, TaskOptions, run_vtab
from vitreous.evaluation.benchmarks.vtab_probes import check_images, vtab_probe
from vitreous.evaluation.benchmarks.vtab_tasks import find_task
from vitreous.evaluation.overlap import Overlap, overlap_of_files
from vitreous.evaluation.probes.features import check_batch
from vitreous.evaluation.probes.layers import find_layer
from vitreous.evaluation.probes.options import PROBES, ProbeOptions, check_read
from vitreous.images.config import DecodeConfig
from vitreous.predictor import Predictor
from vitreous.reports.blocks import Report
from vitreous.reports.evaluation import imagenet as sets
from vitreous.reports.evaluation import vtab
from vitreous.training.reporter import Reporter, Silent, progress_of

VTAB_NAME, FINE_TUNE = "vtab", "fine-tune"
LEARNS_ALL = "a probe on VTAB learns from the benchmark's 1,000 images"
AS_IT_IS = "fine-tuning takes the model as it is; `vitreous convert` it first"


@dataclass(frozen=True, eq=False, repr=False)
class BenchmarkResult(Reported):
    """A model's result on a benchmark, by the benchmark's own rule."""

    benchmark: str
    copy: str
    """The folder of the copy."""
    protocol: str
    """accuracy (the model's own head), few-shot, linear, knn, or fine-tune."""
    score: Score | VTAB
    """Top-1, and the benchmark's own number; for VTAB each task's accuracy, and their averages."""
    model_facts: dict[str, Any]
    """Where the model was loaded from, and how."""
    layer: str = ProbeOptions.layer
    """The probe's layer."""
    steps: int | None = None
    """Steps of fine-tuning on each task."""
    overlap: Overlap | None = None
    """How many of the images the model was trained on; None for none, or if unknown."""
    signal: int | None = None
    """The signal that interrupted fine-tuning; the same call resumes it."""

    @property
    def model(self) -> str:
        """Where the model was loaded from."""
        return self.model_facts["model"]

    def __str__(self) -> str:
        lines = sets.format_lines(self.score) if isinstance(self.score, Score) else vtab.format_lines(self.score)
        skipped = self.score.skipped if isinstance(self.score, Score) else ()
        lines += describe_skipped("files", skipped)
        lines += [f"\nnote: {self.overlap}"] if self.overlap else []
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        steps = {} if self.steps is None else {"steps": self.steps}
        return {**self.score.to_dict(), **steps, **encode_overlap(self.overlap)}

    @cached_property
    def report(self) -> Report:
        """The report: the figures, every task or corruption, and the protocol."""
        how = {"accuracy": ", by its own head", FINE_TUNE: ": trained on each task"}
        lead = f"{self.model} on {self.benchmark}, the copy in {self.copy}"
        lead += how.get(self.protocol, f", layer {self.layer}: {self.protocol}")
        protocol = "" if self.protocol == "accuracy" else f": {self.protocol}"
        title = f"{name_model(self.model)} on {self.benchmark}{protocol}"
        if isinstance(self.score, Score):
            found = sets.build_sections(self.score)
        else:
            found = vtab.build_sections(self.score, vtab.FINE_TUNED if self.protocol == FINE_TUNE else vtab.PROBED)
        data = {"protocol": self.protocol, **self.model_facts, "data": self.copy, "benchmark": self.benchmark}
        return Report(title, f"{lead}.", add_overlap(found, self.overlap), {**data, "results": self.to_dict()})


@shows_progress
def benchmark(
    model: ModelLike,
    name: str,
    copy: str | Path,
    *,
    protocol: str | None = None,
    tasks: Sequence[str] = (),
    steps: int = STEPS,
    batch: int = 64,
    device: str = "auto",
    broken: str = "raise",
    progress: bool | None = None,
    reporter: Reporter | None = None,
    **options: Any,
) -> BenchmarkResult:
    """Measure a model on your own copy of a benchmark, by the benchmark's own rule.

    >>> vitreous.benchmark("vit-b16", "imagenet-a", "copies/imagenet-a").score.top1      # doctest: +SKIP
    0.241
    >>> vitreous.benchmark("vit-b16", "vtab", "copies/vtab-1k", protocol="linear").score.mean  # doctest: +SKIP
    0.682

    Args:
        model: what `vitreous.load` accepts or returns; for ImageNet's sets it must have a head for ImageNet.
        name: imagenet-real, -v2, -a, -r, -sketch or -c, or vtab.
        copy: the folder of the copy; see docs/evaluation.md.
        protocol: for vtab: linear, few-shot or knn (probes of frozen features), or fine-tune (the paper's: the whole
            model is trained on each task, in runs/vtab-MODEL-STEPS). None: the model's own head, for ImageNet's sets.
        tasks: for vtab, such as ("dtd", "eurosat"); empty: all tasks in the copy.
        steps: for fine-tune: training steps per task, at least 1.
        batch: images in one pass through the model, at least 1.
        device: auto, cpu, cuda or mps; for a model that isn't loaded yet.
        broken: what to do with files that can't be read: raise, or skip (they are counted).
        progress: show progress; None: only in a notebook or on a terminal.
        reporter: receives the progress instead of that display.
        options: of a probe on vtab, as for `vitreous.probe`, except shots and seeds: it learns once, from all 1,000
            images.

    Raises:
        UnknownName: no such benchmark, task, option or layer. ConfigError: options that don't go together, or a model
            without a head for ImageNet. CheckpointError: no such model.
        DataError, ImageError: a copy that can't be used. FailedError: fine-tuning broke off.
    """
    protocol, how = protocol or "accuracy", read_options(options)
    check_request(name, protocol, tuple(tasks), steps, how)
    check_broken(broken)
    display, root = reporter or Silent(), Path(copy)
    measured: dict[str, Any] = {"layer": how.layer}
    if protocol == FINE_TUNE:
        said = {"model": find_weights_path(model)}
        chosen = {"steps": steps, "device": device}
        found, signal = fine_tune(said["model"], root, tuple(tasks), chosen, broken, display)
        measured |= {"steps": steps, "signal": signal}
    elif name == VTAB_NAME:
        predictor = as_predictor(model, device)
        found, said = (
            probe_tasks(predictor, root, (protocol, how), batch, TaskOptions(tuple(tasks), broken), display),
            predictor.model_facts,
        )
    else:
        predictor = as_classifier(model, device)
        display.phase("opening the data")
        batches = BatchOptions(batch, "auto", broken, progress_of(display), display.phase)
        found, said = score(predictor, name, root, batches), predictor.model_facts
    seen = overlap_of_files(Path(said["model"]), root, DecodeConfig()) if said["model"] else None
    return BenchmarkResult(name, str(copy), protocol, found, said, **measured, overlap=seen)


def probe_tasks(
    predictor: Predictor,
    root: Path,
    probe: tuple[str, ProbeOptions],
    batch: int,
    task_options: TaskOptions,
    display: Reporter,
) -> VTAB:
    """Measure a model's frozen features on the tasks of VTAB-1k."""

    def report_work(said: str, done: int, total: int) -> None:
        display.phase(said)
        display.progress(done, total, {})

    how = probe[1].features(batch, str(predictor.device))
    find_layer(predictor.folder.model, how.layer)
    check_batch(how)
    task_options = replace(task_options, check=partial(check_images, *probe))
    return run_vtab(predictor.folder, root, vtab_probe(*probe), how, task_options, report_work)


def find_weights_path(model: ModelLike) -> str:
    """Return the weights that fine-tuning starts from; raises ConfigError for a model that was changed after
    loading."""
    if isinstance(model, (str, Path)):
        return str(model)
    if not isinstance(model, Predictor) or not model.path or model.load_options:
        raise ConfigError(AS_IT_IS)
    return model.path


def check_request(name: str | None, protocol: str, tasks: tuple[str, ...], steps: int, how: ProbeOptions) -> None:
    """Raise UserError for an unknown benchmark, or incompatible options."""
    if name not in (None, VTAB_NAME, *SETS):
        raise UnknownName("benchmark", name, (VTAB_NAME, *SETS))
    if protocol in PROBES:
        check_read(protocol, how)
    if steps != STEPS and protocol != FINE_TUNE:
        raise ConfigError("steps is for the protocol fine-tune; leave it out")
    if name == VTAB_NAME:
        check_vtab(protocol, tasks, steps, how)
    elif tasks:
        raise ConfigError("tasks is for the benchmark vtab; leave it out")
    elif protocol == FINE_TUNE:
        raise ConfigError(
            "the protocol fine-tune is for the benchmark vtab; elsewhere: vitreous train --recipe finetune"
        )
    elif protocol != "accuracy" or how.list_changed():
        raise ConfigError(f"{name} is measured by the model's own head; leave out the protocol and options of probes")


def check_vtab(protocol: str, tasks: tuple[str, ...], steps: int, how: ProbeOptions) -> None:
    """Raise UserError for options that are incompatible with VTAB."""
    for task in tasks:
        find_task(task)
    if protocol == "accuracy":
        raise ConfigError(
            "VTAB's tasks have their own classes, to be learned: choose the protocol linear (a probe) or fine-tune (the paper's)"
        )
    if protocol not in (*PROBES, FINE_TUNE):
        raise UnknownName("protocol", protocol, (*PROBES, FINE_TUNE))
    if protocol == FINE_TUNE and how.list_changed():
        raise ConfigError(f"{how.list_changed()[0]} is for a probe, not for fine-tune; leave it out")
    if steps < 1:
        raise ConfigError(f"steps is {steps}; it must be at least 1")
    if how.shots not in (ProbeOptions.shots, ("all",)):
        raise ConfigError(f"{LEARNS_ALL}; leave out train and shots")
    if how.seeds != ProbeOptions.seeds:
        raise ConfigError(f"{LEARNS_ALL}, so there is nothing to draw; leave out seeds")
