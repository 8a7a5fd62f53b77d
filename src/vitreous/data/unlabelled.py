"""Images without labels, to be labelled by a teacher and learned from."""

from collections.abc import Sequence

from vitreous.data.config import DataConfig
from vitreous.data.listing.listing import format_names
from vitreous.data.listing.scan import Progress, scan, scan_sample
from vitreous.data.shared_images import Item, find_shared, items
from vitreous.data.sources.base import Source, refuse_multilabel
from vitreous.data.sources.digits import DIGITS
from vitreous.data.sources.files import ScannedListing, build_source, build_unscanned_source, keep_readable
from vitreous.data.sources.pseudo_labels import PseudoLabelled, join_pseudo_labelled, read_pseudo_labels
from vitreous.data.splits import list_splits
from vitreous.data.synthetic.formula import is_formula
from vitreous.errors import ConfigError, DataError
from vitreous.images.config import DecodeConfig
from vitreous.storage.presence import expand_home


def open_unlabelled(
    config: DataConfig, decode: DecodeConfig = DecodeConfig(), progress: Progress | None = None
) -> Source:
    """Open the unlabelled images: of data with splits of its own those for training; all are of one class.

    Args:
        config: names them, and says how they are scanned, and what is done about broken ones.
        decode: limits of decoding.
        progress: called with (files scanned, files in all).

    Raises:
        DataError: nothing there, or images that can't be read, unless they are to be skipped.
    """
    path = config.unlabelled or ""
    if path == DIGITS or is_formula(path):
        raise DataError(f"the unlabelled images are {path}; give a folder of images, a manifest or packed files")
    listing = list_splits(expand_home(path), optional=True).train
    assert listing is not None
    if config.scan == "later":
        records = scan_sample(listing, decode, config.verify)
    else:
        records = scan(listing, decode, config.verify, progress)
    scanned = keep_readable(ScannedListing(listing, records), config.broken)
    found = build_source(scanned, tuple(sorted(set(listing.labels))), decode, ScannedListing(listing, records).broken)
    refuse_multilabel(found, "self-training")
    return found


def open_pseudo_labelled(train: Source, config: DataConfig, decode: DecodeConfig) -> tuple[PseudoLabelled, str]:
    """Return the training examples together with the pseudo-labelled ones, and a note on how many these are.

    Raises:
        DataError: the images or their labels can't be used. ConfigError: no unlabelled images are named.
    """
    if config.unlabelled is None or config.pseudo_labels is None:
        raise ConfigError("data.pseudo_labels are for data.unlabelled; give both, or neither")
    refuse_multilabel(train, "self-training")
    images = open_unlabelled(config, decode)
    labels = read_pseudo_labels(expand_home(config.pseudo_labels), train.classes)
    found = join_pseudo_labelled(train, images, labels, config.pseudo_ratio, config.pseudo_labels)
    kept = int((labels.copies > 0).sum())
    note = (
        f"{kept:,} of {len(images):,} unlabelled images have {'hard' if labels.targets is None else 'soft'} pseudo labels, "
        f"{len(found.others):,} with their copies; of {found.every:,} examples {found.labelled_of:,} are labelled"
    )
    return found, note


def list_held_out(validation: Source, config: DataConfig, decode: DecodeConfig) -> Sequence[Item]:
    """Return the images that nothing may be learned from: a run's validation images, and those of the data's test split, even if
    this run doesn't measure them."""
    if config.path == DIGITS or is_formula(config.path):
        return items(validation)
    test = list_splits(expand_home(config.path), optional=True, multilabel=True).test
    if test is None:
        return items(validation)
    return items(validation) + items(build_unscanned_source(test, tuple(sorted(set(test.labels))), decode))


def refuse_held_out(found: PseudoLabelled, validation: Source, config: DataConfig, decode: DecodeConfig) -> None:
    """Refuse to learn from the images that a run, or a test of it, is measured on; raises DataError."""
    shared = find_shared(items(found.others), list_held_out(validation, config, decode))
    names = sorted({name for name, held_out in zip(found.others.names, shared, strict=True) if held_out})
    if names:
        raise DataError(
            f"{len(names):,} pseudo-labelled images are among the validation or test images: {format_names(names)}; take them out "
            f"of {config.pseudo_labels}, or give them 0 copies"
        )
