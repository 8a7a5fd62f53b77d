"""`vitreous.explain`: where a model looks, as arrays or as a folder of overlays with a page."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from vitreous.api.models import ModelLike, as_predictor
from vitreous.api.names import name_model
from vitreous.api.progress import shows_progress
from vitreous.api.results import Result
from vitreous.errors import ConfigError, check_count
from vitreous.images.inputs import Image, is_single
from vitreous.images.video import check_every, expand_videos
from vitreous.insight.explanation import Explanation, open_inside
from vitreous.insight.explanation import explain as look
from vitreous.insight.methods import MapOptions, settle_options
from vitreous.predictor import Predictor
from vitreous.reports.explanation.contents import Compared, PageOptions
from vitreous.reports.explanation.page import MAPS, PAGE, write_explanation
from vitreous.reports.notebook import embed_page
from vitreous.training.reporter import Reporter, Silent


@dataclass(frozen=True, eq=False, repr=False)
class ExplanationResult(Result):
    """A folder with an overlay for each image, and an interactive page."""

    model: str
    """Where the model was loaded from."""
    folder: Path
    method: str
    """The kind of the overlays."""
    images: int
    """Number of readable images, which have an overlay."""
    broken: tuple[str, ...]
    """Why the others couldn't be read, one line each."""
    faithfulness: Mapping[str, Compared]
    """Deletion and insertion curves of each method's maps, means over the first images; empty for a model without a
    head."""

    @property
    def path(self) -> Path:
        """The page."""
        return self.folder / PAGE

    def __str__(self) -> str:
        overlays = f"overlays   {self.images:,} of {self.method}, in {self.folder / MAPS}"
        return f"{overlays}\npage       {self.path}"

    def _repr_html_(self) -> str:
        """Return the page in a frame of its own."""
        return embed_page(self.path.read_text(encoding="utf-8"))


@overload
def explain(
    model: ModelLike,
    images: Image | Iterable[Image],
    method: str = "auto",
    layer: int | None = None,
    head: int | None = None,
    target: str | int | None = None,
    *,
    every: float = 1.0,
    out: None = None,
    device: str = "auto",
    progress: bool | None = None,
) -> Explanation: ...
@overload
def explain(
    model: ModelLike,
    images: Image | Iterable[Image],
    method: str = "auto",
    layer: int | None = None,
    head: int | None = None,
    target: str | int | None = None,
    *,
    every: float = 1.0,
    out: str | Path,
    page: int = 8,
    faithful: int = 2,
    device: str = "auto",
    progress: bool | None = None,
    reporter: Reporter | None = None,
) -> ExplanationResult: ...
@shows_progress
def explain(
    model: ModelLike,
    images: Image | Iterable[Image],
    method: str = "auto",
    layer: int | None = None,
    head: int | None = None,
    target: str | int | None = None,
    *,
    every: float = 1.0,
    out: str | Path | None = None,
    page: int | None = None,
    faithful: int | None = None,
    device: str = "auto",
    progress: bool | None = None,
    reporter: Reporter | None = None,
) -> Explanation | ExplanationResult:
    """Return where a model looks in some images as arrays, or write overlays and a page into a folder.

    >>> found = vitreous.explain("runs/photos-1", ["a.jpg", "b.jpg"], "rollout")         # doctest: +SKIP
    >>> found.maps.shape                                                                 # doctest: +SKIP
    (2, 14, 14)
    >>> vitreous.explain("runs/photos-1", ["a.jpg", "b.jpg"], out="explanation").path    # doctest: +SKIP
    PosixPath('explanation/index.html')

    Args:
        model: what `vitreous.load` accepts or returns; with or without head.
        images: one image or many, each a path, bytes of a file, a uint8 array, or a Pillow image.
        method: attention, pooling, rollout, relevance, gradient, grad-cam or activation; auto: the most informative
            one.
        layer: for attention, gradient, grad-cam and activation: 0 the first, -1 the last; None: the last.
        head: for attention, pooling and gradient: 0 the first; None: the mean over heads.
        target: for relevance, gradient and grad-cam: a class by name or number; None: the most probable one.
        out: a folder, new or empty, for an overlay of each image and a page; images are then read one batch at a time.
            None: all arrays are returned.
        every: of a video's path, seconds from one frame to the next.
        page: with `out`: most images on the page, at least 1; None: 8.
        faithful: with `out`: images on which the maps are compared by deletion and insertion; 0: none; None: 2.
        device: auto, cpu, cuda or mps; for a model that isn't loaded yet.
        progress: show progress; None: only in a notebook or on a terminal.
        reporter: with `out`: receives the progress instead of that display.

    Raises:
        ConfigError: something that the model or the method doesn't have, or `page` or `faithful` without `out`.
        CheckpointError: no such model.
        ImageError: an image that can't be read; with `out` it is left out and listed in `broken`.
        DataError: no images, or with `out` none that can be read; nothing is written.
        StorageError: the disk is full or read-only.
    """
    if out is None and (page is not None or faithful is not None):
        raise ConfigError("page and faithful describe the page; add out=FOLDER, or leave them out")
    page, faithful = 8 if page is None else page, 2 if faithful is None else faithful
    check_page(page, faithful)
    predictor = as_predictor(model, device)
    if out is None:
        return look(predictor, expand(images, every, predictor), method, layer, head, target)
    ready, display = open_inside(predictor), reporter or Silent()
    map_options = settle_options(MapOptions(method, layer, head, target), ready.folder)
    many, given = expand(images, every, predictor), [images] if is_single(images) else images
    total = len(given) if isinstance(given, list | tuple) else 0

    def progress(doing: str, done: int) -> None:
        looking = doing == "looking"
        display.phase(doing if looking or not done else f"{doing} {done}")
        if looking:
            display.progress(done, max(total, done), {})

    name = name_model(predictor.path)
    found = write_explanation(Path(out), ready, many, PageOptions(map_options, page, faithful), name, progress)
    broken, compared = tuple(found.broken), dict(found.compared)
    return ExplanationResult(predictor.path, Path(out), map_options.method, found.count, broken, compared)


def expand(images: Image | Iterable[Image], every: float, predictor: Predictor) -> Iterable[Image]:
    """Return the given images as a sequence, with videos' paths replaced by their frames. Raises ConfigError for
    `every`."""
    check_every(every)
    return expand_videos([images] if is_single(images) else images, every, predictor.folder.decode.max_pixels)


def check_page(images: int, compared: int) -> None:
    """Raise ConfigError for a page of no images, or a negative number of images to compare maps on."""
    check_count("page", images)
    check_count("faithful", compared, 0)
