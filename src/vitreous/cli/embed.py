"""`vitreous embed`: write what a model makes of images as vectors."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vitreous.cli.load_model import open_taken
from vitreous.cli.options.probes import Embed
from vitreous.cli.output import free_file, result_file
from vitreous.cli.parse import parse
from vitreous.cli.progress import reporter
from vitreous.errors import ConfigError

if TYPE_CHECKING:
    from vitreous.data.dataset import Source
    from vitreous.images.config import DecodeConfig


def embed(arguments: list[str]) -> int:
    """Run `vitreous embed`."""
    options = parse(Embed, arguments, "embed")
    from vitreous.evaluation.probes.feature_file import check_target, write_features
    from vitreous.evaluation.probes.features import FeatureOptions, features
    from vitreous.evaluation.probes.layers import find_layer

    target = result_file(options.out, options.overwrite) if options.out else free_file("features", ".parquet")
    check_target(target)
    display = reporter()
    try:
        folder = open_taken(options.model, options.taken)
        find_layer(folder.model, options.layer)
        display.phase("opening the images")
        sources = embed_sources(options, folder.decode)
        how = FeatureOptions(options.layer, options.precision, options.batch, options.device, cache=options.cache)
        found = {}
        for part, source in sources.items():
            display.phase(f"features of {len(source):,} {part} images".replace("  ", " "))
            found[part] = features(folder, source, how, lambda done, total: display.progress(done, total, {}))
        write_features(target, found, {"model": options.model, "layer": options.layer, "precision": options.precision})
    finally:
        display.close()
    count, width = sum(map(len, found.values())), next(iter(found.values())).vectors.shape[1]
    print(f"{count:,} vectors of length {width:,} are in {target}")
    for source in sources.values():
        skipped = getattr(source, "skipped", ())
        if skipped:
            print(f"{len(skipped):,} images can't be read and were left out; the first: {skipped[0][1]}")
    print(f"next: {reading(target)}")
    return 0


def embed_sources(options: Embed, decode: "DecodeConfig") -> "dict[str, Source]":
    """Return the images by the part of the data that they belong to.

    Raises:
        ConfigError: neither images nor data are named, or both. DataError: images that can't be read.
    """
    from vitreous.data.parts import names_data, open_images, open_parts
    from vitreous.image_paths import expand_paths

    paths, data = options.paths, options.data
    if data is None and len(paths) == 1 and names_data(paths[0]):
        paths, data = (), paths[0]
    if (data is None) == (not paths):
        raise ConfigError(
            "name either images (files, folders, globs, or -) or labelled data by --data DATA, and one of the two"
        )
    if data is not None:
        return open_parts(data, decode, options.broken)
    return {"": open_images(expand_paths(paths, sys.stdin, options.null), decode, options.broken)}


def reading(target: Path) -> str:
    """Say how to read a file in Python."""
    if target.suffix.lower() == ".npz":
        return f"python -c \"import numpy; print(numpy.load('{target}')['vector'].shape)\""
    return f"python -c \"import pyarrow.parquet as p; print(p.read_table('{target}').schema)\""
