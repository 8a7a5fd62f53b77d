"""`vitreous predict`: images to labels, as a table, JSON lines or CSV."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
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

if TYPE_CHECKING:
    from vitreous.predictor import Prediction


def predict(arguments: list[str]) -> int:
    """Run `vitreous predict`."""
    options = parse(Predict, arguments, "predict")
    if not options.paths:
        raise ConfigError("name the images: files, folders, globs, or - for paths on standard input")
    if options.out:
        result_file(options.out, options.overwrite)
        endure()
    from vitreous.image_paths import expand_paths

    how = {"device": options.device, "batch": options.batch, "precision": options.precision, "top": options.top}
    predictor = open_classifier(options.model, options.load, **how)
    passed: Counter[str] = Counter()
    found = expand_paths(options.paths, sys.stdin, options.null, passed)
    filled: list[str] = []
    results = noted(predictor.predict_many(found), filled)
    with output(options.out) as stream:
        done, broken = WRITERS[options.format](results, stream, Layout(options.top, predictor.folder.several))
    if passed:
        print(f"vitreous: passed over: {describe_ignored(passed)}", file=sys.stderr)
    if filled:
        said = f"{len(filled):,} images lack their last bytes, which are grey; the first: {escape(filled[0])}"
        print(f"vitreous: {said}", file=sys.stderr)
    if broken:
        print(f"vitreous: {broken:,} of {done + broken:,} images could not be read", file=sys.stderr)
    if options.out:
        print(f"{done:,} predictions are in {options.out}")
    return 1 if broken else 0


def noted(results: "Iterable[Prediction]", filled: list[str]) -> "Iterator[Prediction]":
    """Pass predictions on, and note the names of images that lack their last bytes."""
    for one in results:
        if one.filled:
            filled.append(one.name)
        yield one
