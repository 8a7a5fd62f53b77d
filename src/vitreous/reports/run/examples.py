"""The report's pictures: mistakes, positions, attention, and training examples."""

from collections.abc import Sequence

import numpy as np
import torch

from vitreous.data.stream.loader import Example, TrainStream
from vitreous.data.stream.packed_images import PackedStream, get_view
from vitreous.drawing.images import draw_overlay
from vitreous.images.config import AugmentConfig, DecodeConfig, PreprocessConfig
from vitreous.images.pixels import select_visible
from vitreous.images.tensors import normalize
from vitreous.insight.methods import MapOptions, compute_heat
from vitreous.metrics.classification import Judged
from vitreous.model.config import ViTConfig
from vitreous.model.swin import Swin
from vitreous.model.swin_config import SwinConfig
from vitreous.predictor import Predictor
from vitreous.reports.blocks import Block, Note, Words
from vitreous.reports.image_grid import Line, Picture, Tile, Tiles, read_input
from vitreous.reports.mistakes import build_mistakes as mistakes_of_classes
from vitreous.reports.mistakes import build_multilabel_mistakes, list_labels, sort_by_confidence
from vitreous.reports.position_maps import build_position_maps
from vitreous.reports.run import examples_multilabel
from vitreous.reports.run.contents import MeasuredMultilabel, RunContents, is_unlabelled, read_kind
from vitreous.reports.run.results import explain_unmeasured
from vitreous.settings import from_dict
from vitreous.shapes import Float, Pixels, Size

LOOKED_AT, HEADS, TRAINING = 6, 16, 24
"""Most pictures of each kind."""
QUERIES = {
    "class": "the [class] token attends",
    "class+mean": "the [class] token and the patches, half and half, attend",
    "mean": "the patches, on average, attend",
    "max": "the patches that hold the maxima attend",
    "map": "the patches that are pooled attend",
}
"""The part of the last block that represents the image."""
WINDOWS = "the patches, on average, attend within their windows"


def list_mistakes(found: RunContents) -> Sequence[Block]:
    """Return the most confident wrong predictions: often wrong labels, or gaps in the data."""
    measured = found.measured or found.measured_multilabel
    if measured is None or found.dataset is None or found.predictor is None:
        return explain_unmeasured(found)
    folder, source = found.predictor.folder, found.dataset.validation
    if isinstance(measured, MeasuredMultilabel):
        every = [(slice(0, len(source)), measured.probabilities)]
        return build_multilabel_mistakes(folder, source, every, measured.targets, "validation images")
    one = measured.judged
    return mistakes_of_classes(folder, source, one.predicted, one.confidence, one.labels, "validation images")


def build_positions(found: RunContents) -> Sequence[Block] | None:
    """Return the similarity of the position embeddings of all pairs of places."""
    if read_kind(found) != ViTConfig.KIND:
        return None
    if found.trunk is None:
        return [Note("No model:", found.missing["trunk"])]
    return build_position_maps(found.trunk)


def build_attention(found: RunContents) -> Sequence[Block] | None:
    """Return where the model looks, on a few validation examples."""
    if read_kind(found) not in (ViTConfig.KIND, SwinConfig.KIND):
        return None
    if found.predictor is None:
        return [Note("No model:", found.missing["predictor"])]
    if found.dataset is None or not (found.measured or found.measured_multilabel):
        return explain_unmeasured(found)
    model, folder, chosen = found.predictor.model, found.predictor.folder, choose_examples(found)
    exact = [read_input(folder, found.dataset.validation, index) for index, _, _ in chosen]
    heat, pixels = find_last_layer(found.predictor, exact), [select_visible(one, folder.preprocess) for one in exact]
    pairs = [
        Tile(Picture(image, shown), lines, second=Picture(draw_overlay(image, heads.mean(0)), "where it looks"))
        for (_, shown, lines), image, heads in zip(chosen, pixels, heat, strict=True)
    ]
    each = [
        Tile(Picture(draw_overlay(pixels[0], head), f"head {number}"), [Line("", f"head {number}")])
        for number, head in enumerate(heat[0][:HEADS])
    ]
    query = WINDOWS if isinstance(model, Swin) else QUERIES[model.config.pool]
    lead = (
        f"What {query} to in the last of {model.config.depth} blocks, mean over {len(heat[0])} heads; "
        "yellow is most, relative to each picture."
    )
    return [Words(lead), Tiles(pairs, "pairs"), Tiles(each, title="Each head, on the first example")]


def choose_examples(found: RunContents) -> list[tuple[int, str, list[Line]]]:
    """Return a few validation examples: indices, true classes and predictions."""
    names = found.classes
    if found.measured_multilabel is not None:
        return examples_multilabel.choose_examples(found.measured_multilabel, names, LOOKED_AT)
    assert found.measured is not None
    judged, chosen = found.measured.judged, []
    for index in pick_examples(judged, LOOKED_AT):
        true, best, right = names[judged.labels[index]], names[judged.predicted[index]], bool(judged.right[index])
        lines = [Line(best, f"{judged.confidence[index]:.1%}", wrong=not right)]
        chosen.append((index, true, lines if right else [*lines, Line("", f"true: {true}")]))
    return chosen


def pick_examples(judged: Judged, most: int) -> list[int]:
    """Return the first correct examples of different classes, and the most confident mistake last."""
    right, wrong = np.flatnonzero(judged.right), np.flatnonzero(~judged.right)
    _, first = np.unique(judged.labels[right], return_index=True)
    spread = right[first][np.linspace(0, len(first) - 1, min(most - 1, len(first))).astype(int)] if len(first) else []
    surest = sort_by_confidence(judged.confidence, wrong)
    return [*map(int, spread), *map(int, surest[: most - len(spread) if not len(spread) else 1])]


def find_last_layer(
    predictor: Predictor, pixels: Sequence[Pixels[np.ndarray, "row col channel"]]
) -> list[Float[np.ndarray, "head row2 col2"]]:
    """Return each picture's attention in the last block, by head: from the tokens that the classifier reads to the
    patches."""
    stacked = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).to(predictor.device)
    images = normalize(stacked, predictor.folder.preprocess)
    _, heads = compute_heat(predictor.model, images, [], MapOptions("attention"))
    assert heads is not None
    return list(heads.double().cpu().numpy())


def build_training_batch(found: RunContents) -> list[Block] | None:
    """Return the first examples of the run's training stream, augmented and mixed as the model saw them; none for a run
    without steps.
    """
    if found.steps == 0:
        return None
    if found.dataset is None:
        return [Note("No data:", found.missing["dataset"])]
    settings, classes = found.settings, found.dataset.train.classes
    stream = TrainStream(
        found.dataset.learned,
        settings.get("seed", 0),
        from_dict(AugmentConfig, settings.get("augment") or {}, "augment"),
        from_dict(PreprocessConfig, settings.get("preprocess") or {}, "preprocess"),
        from_dict(DecodeConfig, settings.get("decode") or {}, "decode"),
    )
    if settings.get("packed"):
        patch = Size(*settings["model"]["patch"])
        stream = PackedStream(**vars(stream), patch=patch, smallest=settings["packed"])
    tiles = []
    for sample in range(min(TRAINING, settings.get("batch", TRAINING))):
        one = stream.example(sample)
        shown = Picture(select_visible(get_view(one), stream.preprocess), name_label(one, classes))
        tiles.append(Tile(shown, [Line("", name_label(one, classes))]))
    lead = "The first training examples, cropped, augmented and mixed by this run's settings."
    lead += "" if is_unlabelled(found) else " Do they still show what their labels say?"
    share = settings.get("low_resolution", 1.0)
    if share != 1.0:
        lead += (
            f" Until {settings.get('low_resolution_duration') or settings.get('low_resolution_until')} of the "
            f"run the model saw them at {share:g} times these rows and columns."
        )
    return [Words(lead), Tiles(tiles)]


def name_label(one: Example, classes: Sequence[str]) -> str:
    """Format an example's label, or its labels; for a mixture both with their weights."""
    own, other = (list_labels(which, classes) for which in (one.label, one.partner))
    if one.weight == 1 or own == other:
        return own
    return f"{one.weight:.0%} {own} + {1 - one.weight:.0%} {other}"
