"""The options of each command, as dataclasses: help comes from the field docstrings. Imports no torch."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from vitreous.cli.options.deploy import Export, Quantise
from vitreous.cli.options.loading import Load, LoadOther
from vitreous.cli.options.probes import Cka, Embed, Similar
from vitreous.cli.options.runs import Board, ListRuns
from vitreous.cli.options.serving import Serve
from vitreous.cli.options.sweeps import Sweep
from vitreous.evaluation.probes.options import ProbeOptions
from vitreous.self_training.options import SelfTrainingOptions
from vitreous.training.changes import Changes
from vitreous.training.config import RunConfig


@dataclass(frozen=True)
class Processes:
    """How many processes make up the run. Under torchrun, which starts them itself, only --process-timeout counts."""

    processes: int = 1
    """Processes on this machine, each with its share of every batch; one for each GPU. On several machines: torchrun
    (docs/scaling.md). Never changes an example; sums round differently."""
    restarts: int = 0
    """With --processes: how often all are started again, from the newest checkpoint, after one has failed."""
    process_timeout: float = 10.0
    """Minutes that one process waits for another before the run ends."""


@dataclass(frozen=True)
class Train:
    """Train a model on labelled images, by a recipe; every setting of the recipe can be overridden.

    The settings' defaults shown here are those of no recipe; `--dry-run` shows what a recipe makes of them. Other
    trainers' names, such as --epochs, --lr, --batch-size and --imgsz, are understood too (docs/recipes.md).
    """

    data: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")] = None
    """A folder of class folders, a CSV or JSONL manifest, `digits` (the default), or images drawn from formulas, such as
    'formula:fractals?classes=1000' (docs/data.md)."""
    config: str | None = None
    """Settings that override the recipe's, all or a few; options given here override them. A run folder or its
    config.json, or a JSON or TOML file with the same names, nested (docs/recipes.md)."""
    model: str | None = None
    """A size and a patch, such as S/16 (mu, Ti, S, B, L, H, g, G), a hybrid (R50+B/16), a ResNet (R50x1), an
    EfficientNet (EfficientNet-B0) or a Swin Transformer (Swin-T, SwinV2-B), whose settings are --model.depths and the like; by default the recipe chooses."""
    image: tuple[int, int] | None = None
    """Rows and columns that the model sees, in pixels; by default the recipe chooses."""
    channels: int | None = None
    """Channels that the model sees, kept as they are in the files, with all their bits; by default colours or grey in 8
    bits, and images of more than 4 channels as they are."""
    minutes: float | None = None
    """Train for about this long: the speed is measured first, then the number of steps is fixed."""
    out: str | None = None
    """The run folder, new or empty; by default the next free runs/<data>-<recipe>-<n>."""
    rates: Literal["auto"] | tuple[float, ...] = ()
    """Learning rates to try on a part of the training images, before training with the best on all; auto: the paper's (recipe
    finetune). --out then holds all these runs."""
    folds: int | None = None
    """Cross-validate first, with this many folds of all images, then train on all of them. --out then holds these runs,
    the prediction for each image (predictions.csv), and the model."""
    unlabelled: str | None = None
    """With recipe noisy-student: images to learn from too, whose labels are not read: a folder, a manifest or packed files."""
    self_training: SelfTrainingOptions = field(default_factory=SelfTrainingOptions)
    dry_run: bool = False
    """Describe the run without starting it: data, model, memory, recipe, length, time, differences from the recipe, and
    the run folder. Runs one batch and writes nothing."""
    json: bool = False
    """With --dry-run: print the complete configuration instead, as JSON for --config."""
    launch: Annotated[Processes, tyro.conf.arg(name="")] = field(default_factory=Processes)
    settings: Annotated[RunConfig, tyro.conf.arg(name="")] = field(default_factory=lambda: RunConfig(recipe="auto"))


@dataclass(frozen=True)
class Resume:
    """Resume a run from its newest undamaged checkpoint, to the same bits; or extend a finished run with --duration.

    Settings that are not listed here can't change after a run begins.
    """

    run: Annotated[str, tyro.conf.Positional]
    """The run folder."""
    optimizer: str | None = None
    """The run's own optimizer, if it is a class of another module than torch's (my.module:Class): its code runs only if it is
    named here."""
    changes: Annotated[Changes, tyro.conf.arg(name="")] = field(default_factory=Changes)
    launch: Annotated[Processes, tyro.conf.arg(name="")] = field(default_factory=Processes)


@dataclass(frozen=True)
class Report:
    """Rewrite the report.html of a run."""

    run: Annotated[str, tyro.conf.Positional]
    """The run folder."""


@dataclass(frozen=True)
class Evaluate:
    """Measure a model on labelled images: every image exactly once."""

    model: Annotated[str, tyro.conf.Positional]
    """A model folder or a run folder, or anything else that can be loaded."""
    data: Annotated[str | None, tyro.conf.Positional] = None
    """Labelled images; the validation split is used if there is one. By default those of the run, or all images of a
    cross-validation, each measured by the model that has not seen it."""
    split: Literal["train", "validation", "test"] | None = None
    """Which split of DATA, or of the run. The test split was measured when the run ended; every further measurement is
    recorded and reported."""
    protocol: Literal["accuracy", "few-shot", "linear", "knn", "fine-tune"] = "accuracy"
    """accuracy: the model's own head; few-shot, linear, knn: probes of its frozen features; fine-tune: VTAB's own, the whole
    model trained on each task (docs/evaluation.md)."""
    benchmark: str | None = None
    """DATA is your copy of a benchmark, scored by its own rule: imagenet-real, -v2, -a, -r, -sketch or -c; or vtab, with a
    --protocol that learns (docs/evaluation.md)."""
    tasks: tuple[str, ...] = ()
    """vtab: which tasks, such as dtd eurosat; by default all that the copy has."""
    steps: int = 2500
    """fine-tune: steps of training on each task; 2500 as in the paper."""
    compare: str | None = None
    """Another model to measure on the same images: both side by side, with the images on which they differ."""
    load_other: Annotated[LoadOther, tyro.conf.arg(name="")] = field(default_factory=LoadOther)
    corruptions: tuple[str, ...] | None = None
    """Corruptions of ImageNet-C to measure under too, made on the fly: all, or names such as fog snow."""
    severities: tuple[int, ...] | None = None
    """Severities of the corruptions, 1 to 5; by default all five."""
    merge: int = 0
    """Pairs of similar patches that each block of a ViT merges (token merging): faster, and slightly less accurate."""
    merge_curve: tuple[int, ...] | None = None
    """Measure accuracy and speed under token merging too, for these numbers of pairs; without numbers, for several that
    suit the model."""
    packed: tuple[int, ...] | None = None
    """Measure a ViT at these resolutions too, in pixels, with images in their own aspect and packed into few sequences; without
    numbers, at several around the model's own."""
    speed: bool = True
    """Also time the forward pass."""
    out: str | None = None
    """Folder for report.html, report.json and report.md, new or empty; by default the next free one of evaluations/."""
    json: str | None = None
    """Also write all metrics to this file, which must not exist."""
    overwrite: bool = False
    """Replace an existing --json file once the new one is complete."""
    batch: int = 64
    """Images in one pass through the model."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    engine: Literal["auto", "torch", "onnxruntime", "openvino"] = "auto"
    """torch; for exports onnxruntime or openvino, without torch. auto: whichever
    is faster here, as measured (docs/speed.md)."""
    compile: bool = False
    """Compile the model for an NVIDIA GPU, in some ten seconds."""
    verbose: bool = False
    """Say on standard error how the model was computed, and why."""
    decode: Literal["exact", "reduced"] | None = None
    """exact: decode images whole (the default, unless the model was trained otherwise). reduced: large JPEGs at 1/2,
    1/4 or 1/8 of their size, still at least twice the model's input on each side: several times as fast for photographs
    of many megapixels."""
    broken: Literal["raise", "skip"] = "raise"
    """What to do about files that can't be read: raise, or skip (they are counted)."""
    train: str | None = None
    """Labelled images that a probe learns from; by default the training split of DATA, or of the run."""
    probe: Annotated[ProbeOptions, tyro.conf.arg(name="")] = field(default_factory=ProbeOptions)
    load: Annotated[Load, tyro.conf.arg(name="")] = Load()


@dataclass(frozen=True)
class Predict:
    """Classify images; results come in the order of the arguments.

    Exit code 0: every image was classified; 1: some could not be read (they are named, and stop nothing).
    """

    model: Annotated[str, tyro.conf.Positional]
    """A model folder or a run folder, or anything else that can be loaded."""
    paths: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATHS")]
    """Files, folders, globs, or - for paths on standard input, one a line, or between NULs as find -print0 writes them."""
    null: bool = False
    """Paths on standard input are separated by NULs, even if the name of the first contains a line break."""
    top: int = 1
    """Classes shown for each image, most probable first."""
    threshold: float | None = None
    """Predict unknown if the most probable class is less probable than this; if an image may have several classes, the
    probability from which a class is predicted. By default none (0.5 with several classes, and with --sort-into)."""
    every: float = 1.0
    """For a named video (not one in a folder): seconds from one frame to the next. Frames are called
    clip.mp4@12.0s. Needs PyAV (pip install 'vitreous[video]')."""
    tta: Literal["none", "flip"] = "none"
    """Test-time augmentation: flip averages the probabilities of each image and of its mirror image."""
    unsure_first: bool = False
    """List the images that the model is least sure of first, once all are done."""
    sort_into: str | None = None
    """Also copy the images into this folder, with a subfolder for each class and one, unknown, for those below the
    threshold. Nothing is overwritten or moved: a name that is in use gets a number, and existing files stay. Frames of videos
    are written as PNG."""
    link: Literal["hard", "symbolic"] | None = None
    """With --sort-into: make links instead of copies."""
    format: Literal["table", "jsonl", "csv", "parquet"] | None = None
    """Format of the results; by default --out's extension, or else a table. parquet: pip install 'vitreous[data]'."""
    out: str | None = None
    """Write results to this file, which must not exist, instead of standard output. If the command is killed and run
    again, it continues after the last complete part; the parts are kept beside the file until it is complete."""
    overwrite: bool = False
    """Replace an existing --out file once the new one is complete."""
    on: Literal["here", "ray"] = "here"
    """ray: on a cluster (RAY_ADDRESS) or by a Ray of its own; --out is then a folder of parquet files."""
    actors: int = 0
    """Engines of --on ray; 0: one for each GPU or every 4 cores."""
    batch: int = 32
    """Images in one pass through the model."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "fp32"
    """bf16 is faster where the hardware has it; auto: use it there. int8: what vitreous quantise wrote."""
    merge: int = 0
    """Pairs of similar patches that each block of a ViT merges (token merging): faster, and a little less accurate; vitreous
    evaluate --merge-curve measures both."""
    engine: Literal["auto", "torch", "onnxruntime", "openvino"] = "auto"
    """torch; for exports onnxruntime or openvino, without torch. auto: whichever
    is faster here, as measured (docs/speed.md)."""
    compile: bool = False
    """Compile the model for an NVIDIA GPU, in some ten seconds."""
    verbose: bool = False
    """Say on standard error how the model was computed, and why."""
    decode: Literal["exact", "reduced"] | None = None
    """exact: decode images whole (the default, unless the model was trained otherwise). reduced: large JPEGs at 1/2,
    1/4 or 1/8 of their size, still at least twice the model's input on each side: several times as fast for photographs
    of many megapixels."""
    load: Annotated[Load, tyro.conf.arg(name="")] = Load()


@dataclass(frozen=True)
class Explain:
    """Show what a model looks at on some images: an overlay for each, and one interactive HTML page.

    Exit code 0: every image was explained; 1: some could not be read (they are named, and stop nothing).
    """

    model: Annotated[str, tyro.conf.Positional]
    """A model folder or a run folder, or anything else that can be loaded."""
    paths: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGES")]
    """Files, folders, globs, or - for paths on standard input, one a line, or between NULs as find -print0 writes them."""
    null: bool = False
    """Paths on standard input are separated by NULs, even if the name of the first contains a line break."""
    out: str | None = None
    """The folder to write, new or empty; by default the next free explanations/<model>-<n>."""
    method: str = "auto"
    """What the overlays show: attention, pooling, rollout, relevance, gradient, grad-cam or activation; auto: the
    most informative for this model. The page shows all that apply."""
    layer: int | None = None
    """For attention, gradient, grad-cam and activation: 0 the first, -1 the last (the default)."""
    head: int | None = None
    """For attention, pooling and gradient: 0 the first; by default the mean over all."""
    target: str | None = None
    """For relevance, gradient and grad-cam: the class to explain; by default each image's most probable one."""
    page: int = 8
    """Most images on the page."""
    faithful: int = 2
    """Images on which the maps are compared by deletion and insertion; 0: none."""
    every: float = 1.0
    """For a named video: seconds from one frame to the next. Frames are called clip.mp4@12.0s. Needs PyAV (pip install
    'vitreous[video]')."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    engine: Literal["auto", "torch", "onnxruntime", "openvino"] = "auto"
    """The engine: only torch can look into layers."""
    load: Annotated[Load, tyro.conf.arg(name="")] = Load()


@dataclass(frozen=True)
class Inspect:
    """Describe what a path holds: a model folder, a file of weights, a run folder, a data set or an image."""

    path: Annotated[str, tyro.conf.Positional]
    """A folder, a file, `digits`, or a formula such as 'formula:atoms?classes=10'."""
    review: bool = False
    """Look for what may be wrong with labelled images: near-duplicates, likely wrong labels, outliers, images that are too
    small, blurred or of one colour, confused classes. Writes a page with pictures and a CSV."""
    weights: str | None = None
    """With --review: a model whose frozen features reveal wrong labels and outliers; without it these checks are left out."""
    apply: str | None = None
    """With --review: write a manifest, a new CSV, without near-duplicates, likely wrong labels and images of one colour. No
    image is touched."""
    out: str | None = None
    """With --review: folder for report.html, report.json, report.md and review.csv, new or empty; by default the next
    free one of evaluations/."""
    load: Annotated[Load, tyro.conf.arg(name="")] = Load()


@dataclass(frozen=True)
class Convert:
    """Read weights of any known origin and write them in another format; ends with a numeric proof."""

    source: Annotated[str, tyro.conf.Positional]
    """A model or run folder, a file or folder of weights (safetensors, npz, pth), or owner/name on the Hugging Face Hub."""
    out: Annotated[str, tyro.conf.Positional]
    """The folder to write, new or empty."""
    to: str = "vitreous"
    """The format: vitreous; of ViTs and hybrids google, timm, huggingface, torchvision; of ResNets bit, timm-bit; of EfficientNets
    timm-efficientnet, huggingface-efficientnet; of Swin Transformers timm-swin, huggingface-swin, torchvision-swin."""
    load: Annotated[Load, tyro.conf.arg(name="")] = Load()


@dataclass(frozen=True)
class Shard:
    """Write a data set as tar shards in WebDataset's layout; the same command goes on where a killed one was."""

    source: Annotated[str, tyro.conf.Positional]
    """A folder of class folders or of images, a manifest, or packed files."""
    out: Annotated[str, tyro.conf.Positional]
    """The folder to write, new or begun by the same command."""
    megabytes: float = 256.0
    """Size of the images (MiB) after which a shard is closed."""
    seed: int = 0
    """Seed of the order in which images are written."""


@dataclass(frozen=True)
class Push:
    """Push a model to the Hugging Face Hub, with a model card; `vitreous predict OWNER/NAME` uses it from there.

    Needs a token with write access: HF_TOKEN, or `hf auth login`.
    """

    model: Annotated[str, tyro.conf.Positional]
    """A run folder or a model folder."""
    repository: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OWNER/NAME")]
    """The repository; created if it doesn't exist."""
    private: bool = False
    """Make a new repository private."""
    licence: str = ""
    """The licence of the weights by its SPDX name, such as apache-2.0; by default the card states none."""
    overwrite: bool = False
    """Write to a repository that already holds weights; its history keeps them."""


@dataclass(frozen=True)
class Models:
    """List the models that can be built, with their sizes, and the origins of weights that can be read."""

    pattern: Annotated[str, tyro.conf.Positional] = "*"
    """Names to list, such as "*/16" or "R50*"."""
    pretrained: bool = False
    """List the recommended pre-trained models instead, with size, licence and published accuracy (docs/pretrained.md)."""
    compare: bool = False
    """Measure how fast they are on this machine as well, and show published accuracies with their sources; without names, of a
    dozen models of all families."""
    batch: int | None = None
    """With --compare: images in one pass; by default 8."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """With --compare: where to compute."""


@dataclass(frozen=True)
class Study:
    """Repeat one of the paper's experiments: runs, table, figure, and whether its finding was reproduced.

    Run again with the same options, it continues where it stopped.
    """

    name: Annotated[str | None, tyro.conf.Positional] = None
    """Which study; --list shows them."""
    scale: Literal["laptop", "gpu", "paper", "smoke"] = "laptop"
    """laptop: minutes on a core or two; gpu: half an hour on a GPU; paper: the paper's configuration; smoke: seconds, a
    trial."""
    data: str = "digits"
    """What to train on, as for `train`; laptop scale takes a fixed part of it. For paper scale, ImageNet for example."""
    out: str | None = None
    """The study's folder; by default studies/<name>-<scale>."""
    only: str = "*"
    """Run only the cells whose names fit this pattern, such as "none-*", and those that they need."""
    list: bool = False
    """List the studies, or the cells of the named study."""


KINDS: dict[str, type] = {
    "train": Train,
    "resume": Resume,
    "sweep": Sweep,
    "evaluate": Evaluate,
    "predict": Predict,
    "embed": Embed,
    "similar": Similar,
    "cka": Cka,
    "explain": Explain,
    "serve": Serve,
    "inspect": Inspect,
    "report": Report,
    "runs": ListRuns,
    "board": Board,
    "convert": Convert,
    "shard": Shard,
    "export": Export,
    "quantise": Quantise,
    "push": Push,
    "models": Models,
    "study": Study,
}
