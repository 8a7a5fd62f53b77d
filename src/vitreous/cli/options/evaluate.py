"""The options of `vitreous evaluate`, and the check of which go together, made before a model or data is opened.
Imports no torch."""

from dataclasses import dataclass, field, fields
from typing import Annotated, Literal

import tyro

from vitreous.cli.options.loading import Load, LoadOther
from vitreous.errors import ConfigError
from vitreous.evaluation.probes.options import PROBES, READERS, ProbeOptions, check_solver

OF_ACCURACY = ("split", "corruptions", "severities", "merge", "merge_curve", "packed", "speed")
"""Options of Evaluate that only the accuracy protocol reads."""
VTAB, FINE_TUNE = "vtab", "fine-tune"


@dataclass(frozen=True)
class Evaluate:
    """Measure a model on labelled images: every image exactly once."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A model folder or a run folder, or anything else that can be loaded."""
    data: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[DATA]")] = None
    """Labelled images; the validation split is used if there is one. By default those of the run; for a
    cross-validation all its images, each measured by the model that has not seen it."""
    split: Literal["train", "validation", "test"] | None = None
    """Which split of DATA, or of the run. The test split was measured when the run ended; every further measurement is
    recorded and reported."""
    protocol: Literal["accuracy", "few-shot", "linear", "knn", "fine-tune"] = "accuracy"
    """accuracy: the model's own head; few-shot, linear, knn: probes of its frozen features; fine-tune: VTAB's own
    protocol, which trains the whole model on each task (docs/evaluation.md)."""
    benchmark: str | None = None
    """DATA is your copy of a benchmark, scored by the benchmark's own rule: imagenet-real, -v2, -a, -r, -sketch or -c;
    or vtab, with any --protocol but accuracy (docs/evaluation.md)."""
    tasks: tuple[str, ...] = ()
    """vtab: which tasks, such as dtd eurosat; by default all tasks in the copy."""
    steps: int = 2500
    """fine-tune: training steps per task; 2500 as in the paper."""
    compare: str | None = None
    """Another model to measure on the same images. The report shows both side by side, with the images on which they
    differ."""
    load_other: Annotated[LoadOther, tyro.conf.arg(name="")] = field(default_factory=LoadOther)
    corruptions: tuple[str, ...] | None = None
    """Also measure under corruptions of ImageNet-C, made on the fly: all, or names such as fog snow."""
    severities: tuple[int, ...] | None = None
    """Severities of the corruptions, 1 to 5; by default all five."""
    merge: int = 0
    """Pairs of similar patches that each block of a ViT merges (token merging): faster, and a little less accurate."""
    merge_curve: tuple[int, ...] | None = None
    """Also measure accuracy and speed under token merging, with these numbers of pairs; without numbers, with several
    that suit the model."""
    packed: tuple[int, ...] | None = None
    """Also measure a ViT at these resolutions (pixels), with images in their own aspect ratio and packed into few
    sequences; without numbers, at several around the model's own."""
    speed: bool = True
    """Also time the forward pass."""
    out: str | None = None
    """Folder for report.html, report.json and report.md, new or empty; by default the next free one of evaluations/."""
    json: str | None = None
    """Also write all metrics to this file, which must not exist."""
    overwrite: bool = False
    """Replace an existing --json file once the new one is complete."""
    batch: int = 64
    """Images in one pass through the model."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    engine: Literal["auto", "torch", "onnxruntime", "openvino"] = "auto"
    """torch; for exports onnxruntime or openvino, without torch. auto: the faster one here, as measured
    (docs/speed.md)."""
    compile: bool = False
    """Compile for an NVIDIA GPU, which takes some ten seconds."""
    verbose: bool = False
    """Report the engine used, and why, on standard error."""
    decode: Literal["exact", "reduced"] | None = None
    """exact: decode images at full size (the default, unless the model was trained otherwise). reduced: decode large
    JPEGs at 1/2, 1/4 or 1/8 of their size, but at least twice the model's input on each side; several times as fast for
    large photographs."""
    broken: Literal["raise", "skip"] = "raise"
    """What to do with files that can't be read: raise, or skip (they are counted)."""
    train: str | None = None
    """Labelled images that a probe learns from; by default the training split of DATA, or of the run."""
    probe: Annotated[ProbeOptions, tyro.conf.arg(name="")] = field(default_factory=ProbeOptions)
    load: Annotated[Load, tyro.conf.arg(name="")] = Load()


def check(options: Evaluate) -> None:
    """Raise UserError for options that the protocol or the benchmark doesn't read."""
    check_protocol(options)
    fine_tuned = options.protocol == FINE_TUNE or options.steps != Evaluate.steps
    if options.benchmark is not None or options.tasks or fine_tuned:
        check_benchmark(options)
    for name in find_changes(options.load_other, LoadOther()):
        if options.compare is None:
            raise ConfigError(f"{format_option(name)} describes the weights of --compare; give both, or neither")


def check_protocol(options: Evaluate) -> None:
    """Raise ConfigError for an option that the protocol doesn't read."""
    given = [("train", PROBES)] if options.train is not None else []
    given += [(name, READERS.get(name, PROBES)) for name in options.probe.list_changed()]
    given += [(name, ("accuracy",)) for name in find_changes(options, Evaluate("")) if name in OF_ACCURACY]
    for name, readers in given:
        if options.protocol not in readers:
            raise ConfigError(
                f"{format_option(name)} is for --protocol {' or '.join(readers)}, not for {options.protocol}; leave it out"
            )
    check_solver(options.protocol, options.probe)


def check_benchmark(options: Evaluate) -> None:
    """Raise UserError for an unknown benchmark, or options that don't go with it."""
    from vitreous.api.benchmarks import AS_IT_IS, LEARNS_ALL, check_request

    check_request(options.benchmark, options.protocol, options.tasks, options.steps, options.probe)
    if options.benchmark == VTAB and options.train is not None:
        raise ConfigError(f"{LEARNS_ALL}; leave out train and shots")
    if options.protocol == FINE_TUNE and (options.load != Load() or options.decode):
        raise ConfigError(AS_IT_IS)
    if options.data is None:
        raise ConfigError(f"name your copy of the benchmark: vitreous evaluate {options.model} COPY --benchmark ...")
    for name in [*find_changes(options, Evaluate("")), *find_changes(options.load_other, LoadOther())]:
        if name in ("compare", *vars(LoadOther()), *OF_ACCURACY):
            raise ConfigError(f"{format_option(name)} doesn't go with --benchmark; leave it out")


def format_option(name: str) -> str:
    """Return an option as users type it to change its default."""
    return f"--no-{name}" if name in ("cache", "speed") else f"--{name.replace('_', '-')}"


def find_changes(given: Evaluate | LoadOther, standard: Evaluate | LoadOther) -> list[str]:
    """Return the names of the settings that differ from `standard`."""
    return [one.name for one in fields(given) if getattr(given, one.name) != getattr(standard, one.name)]
