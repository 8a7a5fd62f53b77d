"""`vitreous predict` and `vitreous embed` with `--on ray`: what an actor loads, and what it writes about its images."""

import shlex
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from vitreous.characters import escape
from vitreous.cli.load_model import keywords
from vitreous.cli.prediction_formats import Layout, write_parquet
from vitreous.cli.prediction_job import PART, describe_job
from vitreous.cluster import Actors, ClusterResult, JobFolder, Make, check_ray, run_parts
from vitreous.errors import ConfigError
from vitreous.images.inputs import Packed
from vitreous.images.video import is_video
from vitreous.training.progress import Pace, reporter

if TYPE_CHECKING:
    from vitreous.api.actors import ActorModel
    from vitreous.predictor import Predictor

Images = list[str | Packed]
NO_COUNTERPART = {
    "sort_into": "--sort-into",
    "unsure_first": "--unsure-first",
    "overwrite": "--overwrite",
    "data": "--data",
}
"""Options that a job on a cluster doesn't support."""


def check_place(options: Any) -> None:
    """Raise ConfigError, before any long work, for options that don't go with where the job runs, on a cluster or
    here."""
    if options.on != "ray":
        if options.actors:
            raise ConfigError("--actors is for --on ray; add that, or leave it out")
        return
    for name, typed in NO_COUNTERPART.items():
        if getattr(options, name, None):
            raise ConfigError(f"{typed} works on one machine only; leave it out with --on ray, or leave out --on")
    if not options.out:
        raise ConfigError("--on ray writes a folder of parquet files; name it with --out FOLDER")
    if getattr(options, "format", None) not in (None, "parquet"):
        raise ConfigError(f"--on ray writes parquet, not {options.format}; leave out --format")
    if options.actors < 0:
        raise ConfigError(
            f"--actors is {options.actors}; it must be at least 1, or 0 for as many as the cluster can use"
        )
    check_ray()


def begin_classifying(model: "ActorModel", every: float, layout: Layout) -> Make:
    """Load the model in an actor; return a function that classifies a part into its file."""
    predictor = model.load()

    def classify(images: Images, file: BinaryIO) -> None:
        write_parquet(predictor.predict_many(images, every), file, layout)

    return classify


def classify_on_cluster(
    options: Any, predictor: "Predictor", how: dict[str, Any], source: Iterable[Any], layout: Layout
) -> int:
    """Classify images on a cluster into the folder --out; print what was done, and return the exit code."""
    begin = partial(begin_classifying, choose_loading(options, predictor, how), options.every, layout)
    facts = {"every": options.every, "format": "ray", "work": "predict"}
    return carry_out(options, predictor, list_images(source), begin, facts)


def embed_on_cluster(options: Any, predictor: "Predictor", how: dict[str, Any], source: Iterable[Any]) -> int:
    """Write images' vectors on a cluster into the folder --out; print what was done, and return the exit code."""
    from vitreous.api.actors import plan_embedding

    begin = plan_embedding(predictor, choose_loading(options, predictor, how), options.layer, options.precision)
    images = list_images(source)
    if moving := next((one for one in images if isinstance(one, str) and is_video(one)), None):
        raise ConfigError(
            f"{moving} is a video, and videos are embedded on one machine only; leave it out, or leave out --on"
        )
    facts = {"layer": options.layer, "vectors": options.precision, "format": "ray", "work": "embed"}
    return carry_out(options, predictor, images, begin, facts)


def list_images(source: Iterable[Any]) -> Images:
    """Return images as their paths, as given, or packed images unchanged."""
    return [one if isinstance(one, Packed) else str(one) for one in source]


def choose_loading(options: Any, predictor: "Predictor", how: dict[str, Any]) -> "ActorModel":
    """Return how actors load the model: with the engine that was chosen here, so that all compute alike."""
    from vitreous.api.actors import ActorModel

    predictor.fix_engine()
    model = str(Path(options.model).absolute()) if Path(options.model).exists() else options.model
    return ActorModel(model, {**how, "engine": predictor.engine.name, **keywords(options.load)})


def carry_out(options: Any, predictor: "Predictor", images: Images, begin: Any, facts: dict[str, Any]) -> int:
    """Divide the images into parts of whole batches, and let the cluster make the parts' files."""
    size = -(-PART // options.batch) * options.batch
    parts = [images[first : first + size] for first in range(0, len(images), size)]
    out, display, pace = Path(options.out), reporter(), Pace()
    try:
        with JobFolder(out, describe_job(predictor, images, **facts), len(parts)) as folder:
            display.phase(f"{len(images):,} images in {len(parts):,} parts, on Ray")
            found = run_parts(
                parts,
                folder,
                begin,
                Actors(options.actors, options.device),
                lambda done, total: display.progress(done, total, pace.add_to(done, total, {})),
            )
    except KeyboardInterrupt:
        print("vitreous: the same command continues with the missing parts", file=sys.stderr)
        raise
    finally:
        display.close()
    return report_cluster(found, out, options)


def report_cluster(found: ClusterResult, out: Path, options: Any) -> int:
    """Print what was done, and what could not be; return the exit code."""
    print(f"{found}, in {out}")
    if found.broken:
        print(f"vitreous: {found.broken:,} of {found.images:,} images could not be read", file=sys.stderr)
    for number, reason in found.failed[:5]:
        print(f"vitreous: gave up on part {number}: {escape(reason)}", file=sys.stderr)
    if found.failed:
        print(f"vitreous: {len(found.failed):,} parts are missing; the same command tries them again", file=sys.stderr)
    reading = f"import pyarrow.parquet as p; print(p.read_table({str(out)!r}).schema)"
    print(f"next: python -c {shlex.quote(reading)}")
    return 1 if found.broken or found.failed else 0
