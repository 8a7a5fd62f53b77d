"""Other trainers' names for options, and the options of vitreous that they stand for. `cli/translate.py` translates them.

A name is accepted if it means exactly the same as an option of vitreous. If it means almost the same, an error says what to
write.
"""

import re
from collections.abc import Callable, Iterable

from vitreous.errors import ConfigError
from vitreous.training.other_names import DECAY, EPOCHS, OPTIMIZER, RUN_NAME, SAME, SIZES, STEPS

Convert = Callable[[str, list[str]], list[str]]
"""Turns a name, as it was typed, and its values into this program's arguments; raises ConfigError."""

RENAMED = {
    **{f"--{name}": f"--{own}" for name, own in SAME.items()},
    "-b": "--batch",
    "-j": "--workers",
    "-a": "--model",
    "-c": "--config",
    **dict.fromkeys(("--topk", "--top-k", "-k"), "--top"),
    "--conf": "--threshold",
    "--format": "--to",
}
"""Names, each with the equivalent option, which accepts the same values."""
PLACES = {
    **dict.fromkeys(("--data", "--data-dir", "--data-path", "--dataset", "--train-dir"), ("data",)),
    **dict.fromkeys(("--images", "--source", "--input"), ("paths", "source")),
    **dict.fromkeys(("--model", "--weights", "--checkpoint", "--ckpt", "--pretrained"), ("model", "source")),
    **dict.fromkeys(("--out", "--output", "--output-dir"), ("out",)),
    "--run": ("run",),
}
"""Names for positional arguments: each stands for the first of these that the command has."""
MIXED = "give --precision bf16; only exports are offered in fp16, as attention overflows in it in training"
FOLDER = "each run has a folder of its own, which is never overwritten; leave it out, or name a new one with --out"
SCHEDULE = "give --schedule.kind: cosine, linear, rsqrt, constant or steps"
CLASSES = "the classes are those of the data; leave it out"
INSTEAD = {
    "--sweep": "give --rates auto, or the learning rates to try; vitreous sweep compares any settings",
    "--resume": "a run is continued by another command, vitreous resume RUN",
    **dict.fromkeys(("--num-classes", "--nc"), CLASSES),
    **dict.fromkeys(("--amp", "--fp16", "--half"), MIXED),
    "--bf16": "give --precision bf16",
    **dict.fromkeys(("--cpu", "--no-cuda"), "give --device cpu"),
    **dict.fromkeys(("--cuda", "--gpu"), "give --device cuda"),
    "--int8": "vitreous quantise writes a model in int8",
    "--opset": "the opset is fixed (docs/export.md); leave it out",
    **dict.fromkeys(("--exist-ok", "--overwrite"), FOLDER),
    "--verbose": "progress is always shown; leave it out",
    "--base-lr": "give --optimizer.lr with --optimizer.batch-rule and the batch that it is for, --optimizer.base-batch",
    "--min-lr": "give --schedule.final, a share of the peak rate: min-lr / lr",
    "--lrf": "give --schedule.final, a share of the peak rate",
    **dict.fromkeys(("--gpus", "--accelerator"), "give --device: auto, cpu, cuda or mps; only one device is used"),
    "--augment": "give its settings, such as --augment.mixup 0.2 or --augment.randaugment 2 10",
    "--aa": "give --augment.randaugment LAYERS MAGNITUDE, such as 2 10",
    **dict.fromkeys(("--sched", "--scheduler", "--lr-scheduler", "--cos-lr"), SCHEDULE),
}
"""Names that mean something else in vitreous, with what to write instead; also for commands without the intended
option."""
PROJECT = "--project"
"""The folder of all runs; with --name it makes the run folder."""
FIRST_GPU = ("0", "cuda:0", "gpu:0")


def dash(names: Iterable[str]) -> tuple[str, ...]:
    """Return names as options."""
    return tuple(f"--{name}" for name in names)


def get_value(name: str, values: list[str]) -> str:
    """Return the one value of an option; raises ConfigError."""
    if len(values) != 1 or not values[0]:
        raise ConfigError(f"{name} needs a value")
    return values[0]


def convert_duration(option: str, unit: str) -> tuple[str, Convert]:
    """Return an option, and the conversion of a number into a duration: --epochs 30 is 30ep."""

    def convert(name: str, values: list[str]) -> list[str]:
        value = get_value(name, values)
        if not re.fullmatch(r"\d+(\.\d+)?", value):
            raise ConfigError(f"{name} is {value!r}; it must be a number, or give {option} 30{unit}")
        return [option, value + unit]

    return option, convert


def convert_size(name: str, values: list[str]) -> list[str]:
    """Convert --imgsz and the like to rows and columns; a single number stands for both."""
    if not (1 <= len(values) <= 2 and all(value.isdecimal() for value in values)):
        raise ConfigError(f"{name} is {' '.join(values)!r}; it must be a whole number, or two: rows and columns")
    return ["--image", values[0], values[-1]]


def convert_decay(name: str, values: list[str]) -> list[str]:
    """Convert weight decay as torch and timm define it: multiplied by the learning rate."""
    return ["--optimizer.weight-decay", get_value(name, values), "--optimizer.no-decoupled"]


def convert_optimizer(name: str, values: list[str]) -> list[str]:
    """Convert the optimizer's name to lower case, unless it is a module:Class."""
    value = get_value(name, values)
    return ["--optimizer.name", value if ":" in value else value.lower()]


def convert_base_rate(name: str, values: list[str]) -> list[str]:
    """Convert the rate for a batch of 256 examples (2111.06377's blr): the rate scales with the batch."""
    return [
        "--optimizer.lr",
        get_value(name, values),
        "--optimizer.batch-rule",
        "linear",
        "--optimizer.base-batch",
        "256",
    ]


def convert_weights(name: str, values: list[str]) -> list[str]:
    """Convert the name of weights; a bare "yes" doesn't say which."""
    if len(values) != 1 or values[0].lower() in ("true", "false", "1", "0", "yes", "no", ""):
        raise ConfigError(
            f"{name} doesn't say which weights; give --weights with a model or run folder, a file of weights, or owner/name on "
            "the Hugging Face Hub, auto for recommended ones, or none to train from scratch"
        )
    return ["--weights", values[0]]


def convert_run_name(name: str, values: list[str]) -> list[str]:
    """Convert the run's name to its folder in runs/."""
    return ["--out", f"runs/{get_value(name, values)}"]


def convert_project(name: str, values: list[str]) -> list[str]:
    """Convert the folder of all runs; `cli/translate.py` joins it with the run's name."""
    return [PROJECT, get_value(name, values)]


def translate_device(value: str) -> str:
    """Return vitreous's name for a device: the first GPU is cuda; raises ConfigError for other GPUs."""
    if value.lower() in FIRST_GPU:
        return "cuda"
    match = re.fullmatch(r"(?:cuda:|gpu:)?(\d+)(?:,\d+)*", value.lower())
    if match:
        raise ConfigError(
            f"--device is {value!r}; only the first visible device is used, so make that GPU the only visible one: "
            f"CUDA_VISIBLE_DEVICES={match[1]} vitreous ... --device cuda"
        )
    return value


IMAGE_SIZES = dash(SIZES)
CONVERTED: dict[str, tuple[str, Convert]] = {
    **dict.fromkeys(dash(EPOCHS), convert_duration("--duration", "ep")),
    **dict.fromkeys(dash(STEPS), convert_duration("--duration", "st")),
    "--warmup-epochs": convert_duration("--schedule.warmup", "ep"),
    "--warmup-steps": convert_duration("--schedule.warmup", "st"),
    **dict.fromkeys(IMAGE_SIZES, ("--image", convert_size)),
    **dict.fromkeys(dash(DECAY), ("--optimizer.weight-decay", convert_decay)),
    **dict.fromkeys(dash(OPTIMIZER), ("--optimizer.name", convert_optimizer)),
    "--blr": ("--optimizer.batch-rule", convert_base_rate),
    "--pretrained": ("--weights", convert_weights),
    **dict.fromkeys(dash(RUN_NAME), ("--recipe", convert_run_name)),
    PROJECT: ("--recipe", convert_project),
}
"""Names, each with an option that the command must have, and the conversion of its values into arguments."""
