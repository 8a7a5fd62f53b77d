"""The report's numbers of pseudo labels: what a teacher's labels were, and how many of each class are used."""

import numpy as np

from vitreous.data.run_data import read_data_config
from vitreous.data.sources.pseudo_labels import count_by_class, read_pseudo_labels
from vitreous.reports.blocks import Block, Table, Words
from vitreous.reports.run.contents import RunContents
from vitreous.storage.presence import expand_home

VISIBLE = 20
"""Classes that are always visible."""


def tabulate_pseudo_labels(found: RunContents) -> list[Block] | None:
    """Return how many images the teacher put into each class, and how many of them are used; None without pseudo labels."""
    data = read_data_config(found.record.config, found.record.path)
    if data.pseudo_labels is None:
        return None
    classes = found.record.config["data"]["classes"]
    labels = read_pseudo_labels(expand_home(data.pseudo_labels), classes)
    rows = []
    for number, one in enumerate(count_by_class(labels, classes)):
        confidence = labels.confidence[(labels.labels == number) & (labels.copies > 0)]
        surest = (
            [f"{value:.2f}" for value in (confidence.min(), np.median(confidence))] if len(confidence) else ["–", "–"]
        )
        rows.append((one.name, f"{one.labelled:,}", f"{one.kept:,}", f"{one.examples:,}", *surest))
    kept, examples = int((labels.copies > 0).sum()), int(labels.copies.sum())
    kind = "soft" if labels.targets is not None else "hard"
    lead = (
        f"A teacher labelled {len(labels.names):,} images. {kept:,} of them are used, {examples:,} examples with their copies, as {kind} "
        f"labels; {data.pseudo_ratio:g} of these to each labelled image in a batch."
    )
    heads = ("class", "labelled", "kept", "examples", "least confidence", "median")
    return [Words(lead), Table("Pseudo labels by class", heads, rows, fold_after=VISIBLE)]
