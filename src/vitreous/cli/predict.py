"""`vitreous predict`: classify images; results as a table, JSON lines, CSV or parquet."""

import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitreous.characters import escape
from vitreous.cli.cluster_job import check_place
from vitreous.cli.load_model import open_classifier, tell_engine
from vitreous.cli.options.predict import Predict
from vitreous.cli.output import choose_stream, is_replaceable, output, result_file
from vitreous.cli.parse import parse
from vitreous.cli.prediction_formats import WRITERS, Layout, choose_format, suggest_reading
from vitreous.cli.prediction_job import PART, PredictionJob, describe_job, is_own
from vitreous.cli.streams import endure
from vitreous.data.listing.ignored_files import describe_ignored
from vitreous.errors import ConfigError
from vitreous.image_paths import expand_images, expand_paths
from vitreous.images.formats import VIDEO_SUFFIXES, is_video
from vitreous.images.inputs import Packed
from vitreous.images.video import check_every, check_installed
from vitreous.training.progress import Pace, reporter

if TYPE_CHECKING:
    from vitreous.api.sorting import Sorter
    from vitreous.prediction import Prediction
    from vitreous.predictor import Predictor


def predict(arguments: list[str]) -> int:
    """Run `vitreous predict`."""
    options = parse(Predict, arguments, "predict")
    format = check(options)
    predictor, sorter = open_predictor(options)
    passed: Counter[str] = Counter()
    if options.on == "ray":
        from vitreous.cli.cluster_job import classify_on_cluster

        source = expand_images(options.paths, sys.stdin, options.null, passed)
        code = classify_on_cluster(options, predictor, choose_how(options), source, choose_layout(options, predictor))
        report_end(options, passed, [], (0, 0))
        return code
    filled: list[str] = []
    if sorter is None:
        source = expand_images(options.paths, sys.stdin, options.null, passed)
    else:
        source = sorter.select_outside(expand_paths(options.paths, sys.stdin, options.null, passed))
    with ExitStack() as stack:
        if is_unseen(options):
            source = count_paths(source, stack)
        results, whole = predictor.predict_many(source, options.every), None
        if options.out and is_replaceable(Path(options.out)):
            images = [one if isinstance(one, Packed) else str(one) for one in source]
            job = stack.enter_context(begin_job(options, predictor, format, images))
            results, whole = job.run(build_classify(options, predictor, job, stack)), job.note_made
        results = note_filled(order_predictions(results, options, sorter), filled)
        with output(options.out, format == "parquet", whole) as stream:
            done, broken = WRITERS[format](results, stream, choose_layout(options, predictor))
    tell_engine(predictor, options.verbose)
    report_end(options, passed, filled, (done, broken))
    if options.out:
        reading = suggest_reading(format, options.out, "labels" if predictor.folder.multilabel else "label")
        following = f"next: {reading}" if reading else f"next: vitreous explain {shlex.quote(options.model)} IMAGES..."
        print(f"{done:,} predictions are in {options.out}\n{following}", file=choose_stream(options.out))
    if sorter is not None:
        print("\n".join(map(escape, str(sorter.result).splitlines())), file=sys.stdout if options.out else sys.stderr)
    return 1 if broken or (sorter is not None and sorter.failed) else 0


def check(options: Predict) -> str:
    """Return the format of the results; raises ConfigError for unsuitable options, before any long work."""
    if not options.paths:
        raise ConfigError("name the images: files, folders, globs, or - for paths on standard input")
    check_place(options)
    format = choose_format(options.format, options.out)
    if options.out and options.on == "here":
        result_file(options.out, options.overwrite or is_own(Path(options.out)))
        endure()
    check_every(options.every)
    check_installed(options.paths)
    if options.link and not options.sort_into:
        raise ConfigError("--link is for --sort-into; add --sort-into FOLDER, or leave it out")
    return format


def report_end(options: Predict, passed: Counter[str], filled: list[str], counted: tuple[int, int]) -> None:
    """Report on standard error which files were ignored, incomplete or unreadable."""
    if passed:
        hint = (
            "; name a video itself to classify its frames"
            if VIDEO_SUFFIXES & {ending.lower() for ending in passed}
            else ""
        )
        print(f"vitreous: ignored: {describe_ignored(passed)}{hint}", file=sys.stderr)
    if filled:
        said = f"{len(filled):,} images lack their last bytes, and the missing part is grey; the first: {escape(filled[0])}"
        print(f"vitreous: {said}", file=sys.stderr)
    done, broken = counted
    if broken:
        print(f"vitreous: {broken:,} of {done + broken:,} images could not be read", file=sys.stderr)


def choose_layout(options: Predict, predictor: "Predictor") -> Layout:
    """Return which columns are written for each prediction."""
    multilabel = predictor.folder.multilabel
    guess = not multilabel and predictor.decision.threshold is not None
    return Layout(options.top, multilabel, guess, predictor.folder.decode.at_least is not None)


def begin_job(options: Predict, predictor: "Predictor", format: str, paths: list[str | Packed]) -> PredictionJob:
    """Begin a job in parts, or reopen one that a killed command left; raises ConfigError, RunLocked."""
    assert options.out is not None
    if len(paths) > PART or any(is_video(path) for path in paths if isinstance(path, str)):
        predictor.fix_engine()  # otherwise the parts of one file might come from several engines
    how = {"every": options.every, "format": format, "unsure_first": options.unsure_first}
    return PredictionJob(Path(options.out), describe_job(predictor, paths, **how), paths)


def build_classify(
    options: Predict, predictor: "Predictor", job: PredictionJob, stack: ExitStack
) -> "Callable[[int], Iterator[Prediction]]":
    """Return a function that skips the given number of images, classifies the rest, and shows progress."""
    display, pace = reporter(), Pace()
    stack.callback(display.close)
    moving = any(is_video(path) for path in job.paths if isinstance(path, str))

    def classify(behind: int) -> "Iterator[Prediction]":
        total = len(job.paths)
        said = f", continuing after the first {behind:,}" if behind else ""
        display.phase(f"classifying {total:,} {'files' if moving else 'images'} into {escape(str(job.out))}{said}")
        for count, one in enumerate(predictor.predict_many(job.paths, options.every, behind), start=behind + 1):
            if not moving and (count % predictor.batch == 0 or count == total):
                display.progress(count, total, pace.add_to(count, total, {}))
            yield one

    return classify


def is_unseen(options: Predict) -> bool:
    """Return whether standard error is shown to a person, but the predictions are not."""
    return not (options.out or "-" in options.paths or sys.stdout.isatty()) and sys.stderr.isatty()


def count_paths(source: Iterable[Path | Packed], stack: ExitStack) -> Iterator[Path | Packed]:
    """Yield paths, and show their number on standard error."""
    from vitreous.api.sorting import count_files

    display = reporter(sys.stderr)
    stack.callback(display.close)
    return count_files(source, display)


def open_predictor(options: Predict) -> "tuple[Predictor, Sorter | None]":
    """Load the model, and prepare sorting if requested; raises ConfigError."""
    how = choose_how(options)
    if options.sort_into is None:
        return open_classifier(options.model, options.load, **how), None
    from vitreous.api.sorting import THRESHOLD, Sorter, check_folder

    check_folder(Path(options.sort_into))
    if options.threshold is None:
        how["threshold"] = THRESHOLD
    predictor = open_classifier(options.model, options.load, **how)
    sorter = Sorter(predictor, Path(options.sort_into), options.link)
    sorter.refuse_inside(options.paths)
    return predictor, sorter


def choose_how(options: Predict) -> dict[str, Any]:
    """Return the arguments for `vitreous.load` other than those about the weights."""
    names = ("device", "batch", "precision", "top", "threshold", "tta", "engine", "compile", "decode", "merge")
    return {name: getattr(options, name) for name in names}


def order_predictions(
    results: "Iterator[Prediction]", options: Predict, sorter: "Sorter | None"
) -> "Iterator[Prediction]":
    """Yield predictions in the requested order; each image is sorted into its folder first."""
    if options.unsure_first:
        results = iter(sorted(results, key=lambda one: (one.error is not None, one.certainty)))
    for one in results:
        if sorter is not None:
            sorter.put(one)
        yield one


def note_filled(results: "Iterable[Prediction]", filled: list[str]) -> "Iterator[Prediction]":
    """Yield the predictions, and collect the names of images that lack their last bytes."""
    for one in results:
        if one.filled:
            filled.append(one.name)
        yield one
