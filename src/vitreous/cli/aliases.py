"""Other trainers' names for options: what each of them is here. `cli/translate.py` puts them into arguments.

A name is taken where it means exactly what an option here means; where it means nearly that, there is a word on what to write.
"""

import re
from collections.abc import Callable

from vitreous.errors import ConfigError

Convert = Callable[[str, list[str]], list[str]]
"""From a name as it was given and its values to this program's arguments; raises ConfigError."""

RENAMED = {
    **dict.fromkeys(("--lr", "--lr0", "--learning-rate"), "--optimizer.lr"),
    "--momentum": "--optimizer.momentum",
    **dict.fromkeys(("--clip-grad", "--grad-clip", "--max-grad-norm"), "--optimizer.clip"),
    "--patience": "--early-stop.patience",
    **dict.fromkeys(("--label-smoothing", "--smoothing"), "--objective.smoothing"),
    "--mixup": "--augment.mixup",
    "--cutmix": "--augment.cutmix",
    "--reprob": "--augment.erase",
    "--drop-path": "--regularisation.drop-path",
    **dict.fromkeys(("--dropout", "--drop"), "--regularisation.dropout"),
    **dict.fromkeys(("--model-ema-decay", "--ema-decay"), "--ema"),
    **dict.fromkeys(("--batch-size", "--bs", "-b"), "--batch"),
    **dict.fromkeys(("--num-workers", "-j"), "--workers"),
    **dict.fromkeys(("--arch", "--architecture", "--model-name", "-a"), "--model"),
    **dict.fromkeys(("--checkpoint", "--ckpt", "--initial-checkpoint", "--finetune"), "--weights"),
    **dict.fromkeys(("--val-dir", "--val-data", "--validation-dir", "--validation-data"), "--data.validation"),
    **dict.fromkeys(("--val-split", "--validation-split", "--test-size"), "--data.holdout"),
    **dict.fromkeys(("--output", "--output-dir", "--out-dir", "--save-dir"), "--out"),
    **dict.fromkeys(("--cfg", "--config-file", "-c"), "--config"),
    **dict.fromkeys(("--topk", "--top-k", "-k"), "--top"),
}
"""Names with the option that takes the same values."""
PLACES = {
    **dict.fromkeys(("--data", "--data-dir", "--data-path", "--dataset", "--train-dir"), ("data",)),
    **dict.fromkeys(("--images", "--source", "--input"), ("paths", "source")),
    **dict.fromkeys(("--model", "--weights", "--checkpoint", "--ckpt", "--pretrained"), ("model", "source")),
    **dict.fromkeys(("--out", "--output", "--output-dir"), ("out",)),
    "--run": ("run",),
}
"""Names for arguments that have none here, where a command has one of these."""
MIXED = "give --precision bf16; float16 is not offered, as attention overflows in it"
SCHEDULE = "give --schedule.kind: cosine, linear, rsqrt, constant or steps"
CLASSES = "the classes are those of the data; leave it out"
INSTEAD = {
    "--resume": "a run goes on by a command of its own, vitreous resume RUN",
    **dict.fromkeys(("--num-classes", "--nc"), CLASSES),
    **dict.fromkeys(("--amp", "--fp16", "--half"), MIXED),
    "--blr": "give --optimizer.lr, the rate at this batch: blr x batch / 256",
    "--base-lr": "give --optimizer.lr, the rate at this batch, whatever batch the base is of",
    "--min-lr": "give --schedule.final, a share of the peak rate: min-lr / lr",
    "--lrf": "give --schedule.final, a share of the peak rate",
    **dict.fromkeys(("--gpus", "--accelerator"), "give --device: auto, cpu, cuda or mps; one device is used"),
    "--augment": "give its settings, such as --augment.mixup 0.2 or --augment.randaugment 2 10",
    "--aa": "give --augment.randaugment LAYERS MAGNITUDE, such as 2 10",
    **dict.fromkeys(("--sched", "--scheduler", "--lr-scheduler"), SCHEDULE),
}
"""Names that mean something else here, with what to write; of commands that have none of the options meant, too."""
PROJECT = "--project"
"""Where runs are kept: makes a folder with --name."""
FIRST_GPU = ("0", "cuda:0", "gpu:0")


def one(name: str, values: list[str]) -> str:
    """Return the one value of an option; raises ConfigError."""
    if len(values) != 1 or not values[0]:
        raise ConfigError(f"{name} needs a value")
    return values[0]


def amount(option: str, unit: str) -> tuple[str, Convert]:
    """Return an option and what makes a duration of a number: 30 of --epochs is 30ep."""

    def convert(name: str, values: list[str]) -> list[str]:
        value = one(name, values)
        if not re.fullmatch(r"\d+(\.\d+)?", value):
            raise ConfigError(f"{name} is {value!r}; it must be a number, or give {option} 30{unit}")
        return [option, value + unit]

    return option, convert


def size(name: str, values: list[str]) -> list[str]:
    """Rows and columns of --imgsz and the like: one number is both."""
    if not (1 <= len(values) <= 2 and all(value.isdecimal() for value in values)):
        raise ConfigError(f"{name} is {' '.join(values)!r}; it must be a whole number, or two: rows and columns")
    return ["--image", values[0], values[-1]]


def decay(name: str, values: list[str]) -> list[str]:
    """Weight decay as torch and timm mean it: times the learning rate."""
    return ["--optimizer.weight-decay", one(name, values), "--optimizer.no-decoupled"]


def optimizer(name: str, values: list[str]) -> list[str]:
    """The optimizer's name, in whatever case."""
    return ["--optimizer.name", one(name, values).lower()]


def pretrained(name: str, values: list[str]) -> list[str]:
    """Weights by their place; a bare yes says not which."""
    if len(values) != 1 or values[0].lower() in ("true", "false", "1", "0", "yes", "no", ""):
        raise ConfigError(
            f"{name} doesn't say which weights; give --weights with a model or run folder, a file of weights, or owner/name on "
            "the Hugging Face Hub, or leave it out to train from scratch"
        )
    return ["--weights", values[0]]


def run_name(name: str, values: list[str]) -> list[str]:
    """The run's name, which is its folder in runs/."""
    return ["--out", f"runs/{one(name, values)}"]


def project(name: str, values: list[str]) -> list[str]:
    """Where runs are kept; `cli/translate.py` joins it with the run's name."""
    return [PROJECT, one(name, values)]


def device(value: str) -> str:
    """Return a device as vitreous names it: the first GPU is cuda; raises ConfigError for others."""
    if value.lower() in FIRST_GPU:
        return "cuda"
    match = re.fullmatch(r"(?:cuda:|gpu:)?(\d+)(?:,\d+)*", value.lower())
    if match:
        raise ConfigError(
            f"--device is {value!r}; one device is used, the first that is to be seen, so show that GPU alone: "
            f"CUDA_VISIBLE_DEVICES={match[1]} vitreous ... --device cuda"
        )
    return value


SIZES = ("--imgsz", "--img-size", "--image-size", "--input-size", "--resolution")
CONVERTED: dict[str, tuple[str, Convert]] = {
    **dict.fromkeys(("--epochs", "--num-epochs", "--max-epochs", "--num-train-epochs"), amount("--duration", "ep")),
    **dict.fromkeys(("--steps", "--max-steps", "--num-steps", "--iterations", "--iters"), amount("--duration", "st")),
    "--warmup-epochs": amount("--schedule.warmup", "ep"),
    "--warmup-steps": amount("--schedule.warmup", "st"),
    **dict.fromkeys(SIZES, ("--image", size)),
    **dict.fromkeys(("--wd", "--weight-decay"), ("--optimizer.weight-decay", decay)),
    **dict.fromkeys(("--optimizer", "--opt", "--optim"), ("--optimizer.name", optimizer)),
    "--pretrained": ("--weights", pretrained),
    **dict.fromkeys(("--name", "--run-name", "--exp-name", "--experiment"), ("--recipe", run_name)),
    PROJECT: ("--recipe", project),
}
"""Names with an option that a command must have, and what turns their values into its arguments."""
