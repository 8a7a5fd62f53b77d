"""`vitreous embed`: write a model's features of images as vectors."""

import shlex
import sys
from pathlib import Path

from vitreous.cli.load_model import open_model, tell_engine
from vitreous.cli.options.probes import Embed
from vitreous.cli.output import free_file, result_file
from vitreous.cli.parse import parse
from vitreous.training.progress import reporter


def embed(arguments: list[str]) -> int:
    """Run `vitreous embed`."""
    options = parse(Embed, arguments, "embed")
    from vitreous.api.features import embed as vectors
    from vitreous.cli.cluster_job import check_place
    from vitreous.evaluation.probes.feature_file import check_target
    from vitreous.image_paths import expand_paths
    from vitreous.images.video import check_every, check_installed

    check_every(options.every)
    check_installed(options.paths)
    check_place(options)
    if options.on == "ray":
        return embed_on_ray(options)
    target = result_file(options.out, options.overwrite) if options.out else free_file("features", ".parquet")
    check_target(target)
    piped = "-" in options.paths
    paths = expand_paths(options.paths, sys.stdin, options.null) if piped else options.paths
    how = {name: getattr(options, name) for name in ("data", "layer", "precision", "batch", "cache", "broken", "every")}
    of_model = {name: getattr(options, name) for name in ("device", "decode", "engine", "precision")}
    display = reporter()
    try:
        model = open_model(options.model, options.load, **of_model)
        found = vectors(model, paths, out=target, **how, reporter=display)
    finally:
        display.close()
    tell_engine(model, options.verbose)
    print(found)
    print(f"next: {suggest_reading(target)}")
    return 0


def embed_on_ray(options: Embed) -> int:
    """Embed on a cluster, into a folder."""
    from vitreous.cli.cluster_job import embed_on_cluster
    from vitreous.image_paths import expand_images

    how = {name: getattr(options, name) for name in ("device", "batch", "decode", "engine", "precision")}
    model = open_model(options.model, options.load, **how)
    return embed_on_cluster(options, model, how, expand_images(options.paths, sys.stdin, options.null))


def suggest_reading(target: Path) -> str:
    """Return a command that reads the file in Python."""
    if target.suffix.lower() == ".npz":
        code = f"import numpy; print(numpy.load({str(target)!r})['vector'].shape)"
    else:
        code = f"import pyarrow.parquet as p; print(p.read_table({str(target)!r}).schema)"
    return f"python -c {shlex.quote(code)}"
