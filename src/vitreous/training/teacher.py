"""The teacher of a distilled run: any model that can be loaded, which sees the student's views as it was trained to see images.

The student's augmented view is resized to the teacher's size, whole, and normalised by the teacher's mean and deviation
(2012.12877, section 4; "same view" in 2106.05237). Where every epoch shows the same views, their logits are computed once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vitreous.data.dataset import Dataset
from vitreous.data.stream.loader import Examples, load_evaluation_batches
from vitreous.errors import ConfigError
from vitreous.evaluation.benchmarks.imagenet_classes import BACKGROUND, CLASSES, find_outputs, wnids
from vitreous.evaluation.probes.feature_cache import model_hash
from vitreous.images.config import AugmentConfig, PreprocessConfig
from vitreous.images.tensors import interpolate, normalize, resize_levels
from vitreous.model.factory import Model
from vitreous.runtime.device import choose_device
from vitreous.runtime.memory import read_memory
from vitreous.shapes import Float, Int64, Pixels, Size
from vitreous.training.config import RunConfig
from vitreous.training.distributed import ALONE, World
from vitreous.training.reporter import Reporter
from vitreous.weights.adaptation import is_numbered, knows_all
from vitreous.weights.loading import open_model
from vitreous.weights.model_folder import ModelFolder

LUMA = (19595, 38470, 7471)
"""ITU-R 601 in 65,536ths, as Pillow converts colours to grey."""
CACHED = 256
"""Images at a time whose logits are computed once for the whole run."""
CACHE_SHARE = 8
"""The logits of fixed views may fill one part in this many of the memory."""


@dataclass(frozen=True)
class Teacher:
    """Maps a student's pixels to logits over the student's classes."""

    model: Model
    preprocess: PreprocessConfig
    """The teacher's own."""
    outputs: Int64[Tensor, " label"]
    """The teacher's output for each of the student's classes."""
    sha256: str
    """Of architecture, weights and preprocessing."""
    temperature: float = 1.0
    """Divisor of the logits that calibrates them."""
    fixed: Float[Tensor, "example label"] | None = None
    """The logits of all training examples, if every epoch shows the same views."""

    def __call__(
        self, pixels: Pixels[Tensor, "batch channel row col"], indices: Int64[Tensor, " batch"]
    ) -> Float[Tensor, "batch label"]:
        """Return logits for the student's pixels before they are normalised; `indices` in the source of the training examples."""
        if self.fixed is not None:
            return self.fixed[indices.to(self.fixed.device)].to(pixels.device)
        return self.answer(pixels)

    @torch.no_grad()
    def answer(self, pixels: Pixels[Tensor, "batch channel row col"]) -> Float[Tensor, "batch label"]:
        """Compute logits for the student's pixels."""
        view = resize_view(convert_channels(pixels, self.preprocess.channels), self.preprocess)
        logits = self.model(normalize(view, self.preprocess)).float()
        return logits[:, self.outputs] / self.temperature


def open_teacher(config: RunConfig, dataset: Dataset, reporter: Reporter, world: World = ALONE) -> Teacher | None:
    """Load the teacher that a configuration names, onto this process's device; None if it names none.

    Raises:
        CheckpointError: nothing there that can be loaded.
        ConfigError: a model without a head, of other classes or channels; or data with several labels an image.
    """
    if config.teacher is None:
        return None
    with world.take_turns():
        folder, report = open_model(config.teacher, listener=reporter)
    if report is not None:
        reporter.message(f"teacher: {report}")
    outputs = match_outputs(folder, dataset, config.teacher)
    check_channels(folder.preprocess, config)
    if is_numbered(folder.classes):
        reporter.message("the teacher's outputs have no names: they are taken to be the data's classes in their order")
    device = world.place(choose_device(config.device))
    model = folder.model.to(device).eval().requires_grad_(False)
    rows = torch.tensor(outputs, device=device)
    teacher = Teacher(model, folder.preprocess, rows, model_hash(folder), folder.temperature)
    reporter.message(
        f"teacher: {folder.description} from {config.teacher}, which sees {folder.preprocess.size[0]}x{folder.preprocess.size[1]}"
    )
    return fix_views(teacher, config, dataset, reporter, world)


def match_outputs(folder: ModelFolder, dataset: Dataset, name: str) -> list[int]:
    """Return the teacher's output for each class of the data: by name; of ImageNet's classes by WordNet id; or in their order if
    the outputs have no names; raises ConfigError."""
    labels, names = dataset.facts.classes, folder.classes
    if dataset.facts.multilabel or folder.multilabel:
        which = "the data has" if dataset.facts.multilabel else f"the teacher {name} was trained on"
        raise ConfigError(f"{which} several labels an image, but distillation needs one; leave out --teacher")
    if not names:
        raise ConfigError(
            f"the teacher {name} has no head, so it knows no classes; give one that was trained on labels"
        )
    if knows_all(names, labels):
        place = {label: row for row, label in enumerate(names)}
        return [place[label] for label in labels]
    if len(names) in (CLASSES, BACKGROUND) and set(labels) <= set(wnids()):
        rows, number = find_outputs(names), {wnid: index for index, wnid in enumerate(wnids())}
        return [int(rows[number[label]]) for label in labels]
    if is_numbered(names) and len(names) == len(labels):
        return list(range(len(labels)))
    raise ConfigError(
        f"the teacher {name} knows {describe_classes(names)}, but the data has {describe_classes(labels)}; give a teacher "
        "that knows all classes of the data by name"
    )


def describe_classes(names: Sequence[str]) -> str:
    """Return the number of classes, and the first names."""
    return f"{len(names):,} classes ({', '.join(names[:3])}{', ...' * (len(names) > 3)})"


def check_channels(preprocess: PreprocessConfig, config: RunConfig) -> None:
    """Refuse a teacher that sees channels which can't be made of the student's; raises ConfigError."""
    theirs, ours = preprocess.channels, config.preprocess.channels
    if theirs != ours and not ({theirs, ours} == {1, 3} and not config.preprocess.keeps_channels):
        raise ConfigError(
            f"the teacher {config.teacher} sees {theirs} channels, but the student {ours}, and only grey and colours of 8 bits "
            "are converted; give a teacher for the same channels"
        )


def convert_channels(
    pixels: Pixels[Tensor, "batch channel row col"], channels: int
) -> Pixels[Tensor, "batch channel2 row col"]:
    """Repeat grey into colours, or weigh colours into grey, as `convert_mode` does."""
    if pixels.shape[1] == channels:
        return pixels
    if channels == 3:
        return pixels.expand(-1, 3, -1, -1)
    weights = torch.tensor(LUMA, device=pixels.device).view(1, 3, 1, 1)
    weighted = (pixels * weights).sum(1, keepdim=True) + 0x8000  # exact in float32 too, as a device renders
    return weighted.div_(0x10000).floor_() if weighted.is_floating_point() else (weighted >> 16).to(torch.uint8)


def resize_view(pixels: Pixels[Tensor, "batch channel row col"], preprocess: PreprocessConfig) -> Tensor:
    """Resize a view to a model's size, whole: nothing of it is cropped, whatever its aspect."""
    size, kernel = Size(*preprocess.size), preprocess.interpolation
    antialias = preprocess.antialias or kernel == "lanczos"
    if pixels.shape[2:] == tuple(size):
        return pixels
    if preprocess.keeps_channels:
        return interpolate(pixels, size, kernel, antialias=antialias)
    return resize_levels(pixels, size, kernel, antialias=antialias)


def has_fixed_views(augment: AugmentConfig) -> bool:
    """Return whether every epoch shows the same view of each image: the evaluation crop alone."""
    mixed = (augment.mixup or augment.cutmix) and augment.mix_probability
    coloured = augment.randaugment[0] or augment.three_augment or augment.colour_jitter
    return augment.crop == "eval" and not (augment.flip or coloured or augment.erase or mixed)


def fix_views(teacher: Teacher, config: RunConfig, dataset: Dataset, reporter: Reporter, world: World) -> Teacher:
    """Return the teacher with the logits of all training images, if every epoch shows the same views of them.

    They are computed in the source's order and in parts of the same size, divided among the processes, so that they are the same
    bits whenever the run is resumed.
    """
    count, classes = len(dataset.learned), len(dataset.facts.classes)
    if not has_fixed_views(config.augment) or 4 * count * classes > read_memory() // CACHE_SHARE:
        return teacher
    reporter.phase(f"computing the teacher's logits of {count:,} images")
    share, found = (world.rank, world.size), {}
    device, decode = teacher.outputs.device, config.decode
    batches = load_evaluation_batches(
        Examples(dataset.learned, config.preprocess, decode), CACHED, config.workers, share, device
    )
    for number, part in enumerate(batches):
        world.pulse.beat()
        found[number * world.size + world.rank] = teacher.answer(part.pixels.to(device, non_blocking=True)).cpu()
    together = {number: logits for one in world.gather(found) for number, logits in one.items()}
    return replace(
        teacher, fixed=world.share(torch.cat([together[number] for number in sorted(together)] or [torch.empty(0)]))
    )
