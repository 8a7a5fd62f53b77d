"""A model's result on one of ImageNet's other test sets, as sections of a report and as lines."""

from vitreous.data.listing.listing import format_names
from vitreous.evaluation.benchmarks.imagenet import Score
from vitreous.evaluation.benchmarks.imagenet_c import SEVERITIES, BaselineErrors
from vitreous.evaluation.benchmarks.imagenet_sets import SETS
from vitreous.metrics.headline import format_interval
from vitreous.reports.blocks import Block, Note, Numbers, Section, Table, Words

ASSUMED = (
    "the model's outputs are taken to be in ImageNet's order, since their names are neither WordNet ids nor numbers"
)


def build_sections(found: Score) -> list[Section]:
    """Return the report's sections: the figures, ImageNet-C's table, what was measured."""
    kind = SETS[found.benchmark]
    blocks: list[Block] = [Numbers(list_figures(found))]
    if found.corrupted is not None:
        blocks.append(tabulate_corruptions(found.corrupted))
        if found.corrupted.missing:
            blocks.append(Note("No mCE:", f"the copy lacks {format_names(found.corrupted.missing)}."))
    if describe_count(found):
        blocks.append(Note("Another number of images:", describe_count(found)))
    if found.assumed:
        blocks.append(Note("Assumed:", f"{ASSUMED}."))
    method = Words(f"{kind.title} (arXiv {kind.paper}). {kind.asks}")
    return [Section("results", "Results", blocks), Section("method", "Method", [method])]


def list_figures(found: Score) -> list[tuple[str, str, str]]:
    """Return the figures, the benchmark's own first."""
    top = ("Top-1", f"{found.top1:.2%}", format_interval(found.interval, 2))
    more = [("Top-5", f"{found.top5:.2%}", "")] if found.top5 is not None else []
    counted = [
        ("Images", f"{found.images:,}", f"{found.left_out:,} without a label left out" if found.left_out else "")
    ]
    if found.corrupted is not None and found.corrupted.mce is not None:
        return [("mCE", f"{found.corrupted.mce:.1%}", "of AlexNet's errors; lower is better"), top, *counted]
    return [top, *more, *counted]


def describe_count(found: Score) -> str:
    """Say so if the copy differs in size from the benchmark; "" if it has all images."""
    images, whole = found.images + found.left_out + len(found.skipped), SETS[found.benchmark].images
    return f"the copy has {images:,}; the benchmark has {whole:,}." if whole not in (0, images) else ""


def tabulate_corruptions(found: BaselineErrors) -> Table:
    """Return the errors under each corruption, and relative to AlexNet's."""
    rows = [
        (
            one.corruption,
            "–" if one.relative is None else f"{one.relative:.1%}",
            f"{one.mean:.2%}",
            *("–" if value is None else f"{value:.2%}" for value in one.errors),
        )
        for one in found.corruptions
    ]
    heads = ("corruption", "CE", "mean error", *(f"severity {level}" for level in SEVERITIES))
    return Table("Top-1 error under each corruption; CE: divided by AlexNet's", heads, rows)


def format_lines(found: Score) -> list[str]:
    """Return what the terminal shows."""
    shown = [f"{name:8} {value}" + (f"   ({small})" if small else "") for name, value, small in list_figures(found)]
    if found.corrupted is not None:
        shown += ["", str(tabulate_corruptions(found.corrupted))]
        if found.corrupted.missing:
            shown.append(f"no mCE: the copy lacks {format_names(found.corrupted.missing)}")
    if describe_count(found):
        shown.append(f"note: {describe_count(found)}")
    if found.assumed:
        shown.append(f"note: {ASSUMED}")
    return [SETS[found.benchmark].title, *shown]
