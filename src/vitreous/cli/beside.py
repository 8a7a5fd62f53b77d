"""Two models measured by the same probe, side by side."""

from dataclasses import replace
from typing import TYPE_CHECKING

from vitreous.api.names import apart
from vitreous.cli.accuracy import compared_lines
from vitreous.cli.options.commands import Evaluate

if TYPE_CHECKING:
    from vitreous.cli.probe import Measured
    from vitreous.data.dataset import Source
    from vitreous.evaluation.probes.features import Features
    from vitreous.weights.model_folder import ModelFolder


def beside(
    options: Evaluate,
    both: "tuple[Measured, Measured]",
    parts: "tuple[Features, Features]",
    shown: "tuple[ModelFolder, Source]",
) -> "Measured":
    """Return a model's measurement with what tells it from another's on the same test images.

    Args:
        options: both models' names.
        both: what the probe found of the model and of the other.
        parts: training and test features, of either: their labels and classes are what counts.
        shown: the model that pictures are prepared for, and the test images.

    Raises:
        ImageError: an image that was there a moment ago can't be read any more.
    """
    from vitreous.api.names import model_name
    from vitreous.metrics.comparison import compare
    from vitreous.reports.blocks import Part, Words
    from vitreous.reports.evaluation.comparison import parts as compared_parts
    from vitreous.reports.evaluation.probes import labels_of

    mine, theirs = both
    names = apart((model_name(options.model), model_name(str(options.compare))))
    sure = options.protocol == "linear"
    found = compare(mine.logits, theirs.logits, labels_of(*parts), parts[0].classes, sure=sure)
    first, *more = compared_parts(found, names, *shown)
    words = [Words("With the most shots, as seed 0 draws them.")] if options.protocol == "few-shot" else []
    alone = Part(
        "other", f"{names[1]} by itself", [*([Words(theirs.headline)] if theirs.headline else []), theirs.table]
    )
    result = {"with": options.compare, **found.to_dict(), "other": theirs.data}
    own = "\n\n".join(filter(None, (theirs.headline, str(theirs.table))))
    lines = ["", f"{names[1]}:", own]
    return replace(
        mine,
        parts=[*mine.parts, alone, replace(first, blocks=[*words, *first.blocks]), *more],
        data={**mine.data, "comparison": result},
        lines=[*lines, *(["", words[0].words] if words else []), *compared_lines(found, names)],
    )
