"""`vitreous predict`: images to labels, as a table, JSON lines or CSV."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vitreous.cli.load_model import open_classifier
from vitreous.cli.options.commands import Predict
from vitreous.cli.output import output, result_file
from vitreous.cli.parse import parse
from vitreous.cli.prediction_formats import WRITERS, Layout
from vitreous.cli.streams import endure
from vitreous.data.listing.ignored import describe_ignored
from vitreous.data.listing.scan_report import escape
from vitreous.errors import ConfigError
from vitreous.images.video import SUFFIXES, check_every, check_installed

if TYPE_CHECKING:
    from vitreous.api.sorting import Sorter
    from vitreous.prediction import Prediction
    from vitreous.predictor import Predictor


def predict(arguments: list[str]) -> int:
    """Run `vitreous predict`."""
    options = parse(Predict, arguments, "predict")
    if not options.paths:
        raise ConfigError("name the images: files, folders, globs, or - for paths on standard input")
    if options.out:
        result_file(options.out, options.overwrite)
        endure()
    check_every(options.every)
    check_installed(options.paths)
    if options.link and not options.sort_into:
        raise ConfigError("--link says how --sort-into puts images into its folder; name that too")
    predictor, sorter = opened(options)
    passed: Counter[str] = Counter()
    filled: list[str] = []
    results = noted(classified(options, predictor, sorter, passed), filled)
    multilabel = predictor.folder.multilabel
    guess = not multilabel and predictor.decision.threshold is not None
    layout = Layout(options.top, multilabel, guess, predictor.folder.decode.at_least is not None)
    with output(options.out) as stream:
        done, broken = WRITERS[options.format](results, stream, layout)
    if passed:
        hint = (
            "; name a video itself to classify its frames" if SUFFIXES & {ending.lower() for ending in passed} else ""
        )
        print(f"vitreous: passed over: {describe_ignored(passed)}{hint}", file=sys.stderr)
    if filled:
        said = f"{len(filled):,} images lack their last bytes, which are grey; the first: {escape(filled[0])}"
        print(f"vitreous: {said}", file=sys.stderr)
    if broken:
        print(f"vitreous: {broken:,} of {done + broken:,} images could not be read", file=sys.stderr)
    if options.out:
        print(f"{done:,} predictions are in {options.out}")
    if sorter is not None:
        print("\n".join(map(escape, str(sorter.result).splitlines())), file=sys.stdout if options.out else sys.stderr)
    return 1 if broken or (sorter is not None and sorter.failed) else 0


def opened(options: Predict) -> "tuple[Predictor, Sorter | None]":
    """Load the model, and make ready to sort if that is wanted; raises ConfigError."""
    how = {
        name: getattr(options, name)
        for name in ("device", "batch", "precision", "top", "threshold", "tta", "engine", "decode")
    }
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


def classified(
    options: Predict, predictor: "Predictor", sorter: "Sorter | None", passed: Counter[str]
) -> "Iterator[Prediction]":
    """Yield predictions in the order that is wanted; each image is sorted before it is told."""
    from vitreous.image_paths import expand_paths

    found = expand_paths(options.paths, sys.stdin, options.null, passed)
    results = predictor.predict_many(found if sorter is None else sorter.outside(found), options.every)
    if options.unsure_first:
        results = iter(sorted(results, key=lambda one: (one.error is not None, one.certainty)))
    for one in results:
        if sorter is not None:
            sorter.put(one)
        yield one


def noted(results: "Iterable[Prediction]", filled: list[str]) -> "Iterator[Prediction]":
    """Pass predictions on, and note the names of images that lack their last bytes."""
    for one in results:
        if one.filled:
            filled.append(one.name)
        yield one
