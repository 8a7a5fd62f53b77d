"""Other trainers' names for settings and arguments, and what they are called here. Names are as on a command line, without dashes before them."""

from collections.abc import Collection

EPOCHS = ("epochs", "num-epochs", "max-epochs", "num-train-epochs")
STEPS = ("steps", "max-steps", "num-steps", "iterations", "iters")
SIZES = ("imgsz", "img-size", "image-size", "input-size", "resolution")
DECAY = ("wd", "weight-decay")
OPTIMIZER = ("optimizer", "opt", "optim")
RUN_NAME = ("name", "run-name", "exp-name", "experiment")
SAME = {
    **dict.fromkeys(("lr", "lr0", "learning-rate"), "optimizer.lr"),
    "momentum": "optimizer.momentum",
    **dict.fromkeys(("clip-grad", "grad-clip", "max-grad-norm"), "optimizer.clip"),
    "patience": "early-stop.patience",
    **dict.fromkeys(("label-smoothing", "smoothing"), "objective.smoothing"),
    "mixup": "augment.mixup",
    "cutmix": "augment.cutmix",
    "reprob": "augment.erase",
    "augment-on": "augment.on",
    "broken": "data.broken",
    **dict.fromkeys(("distillation", "distillation-type"), "objective.distillation"),
    **dict.fromkeys(("distillation-weight", "distillation-alpha"), "objective.distillation-weight"),
    **dict.fromkeys(("distillation-temperature", "distillation-tau"), "objective.distillation-temperature"),
    "teacher-path": "teacher",
    "drop-path": "regularisation.drop-path",
    **dict.fromkeys(("dropout", "drop"), "regularisation.dropout"),
    **dict.fromkeys(("model-ema-decay", "ema-decay"), "ema"),
    **dict.fromkeys(("batch-size", "bs", "per-device-train-batch-size"), "batch"),
    "num-workers": "workers",
    **dict.fromkeys(("arch", "architecture", "model-name"), "model"),
    **dict.fromkeys(("checkpoint", "ckpt", "initial-checkpoint", "finetune"), "weights"),
    "unlabeled": "unlabelled",
    **dict.fromkeys(("val-dir", "val-data", "validation-dir", "validation-data"), "data.validation"),
    **dict.fromkeys(("val-split", "validation-split", "test-size"), "data.holdout"),
    "scan": "data.scan",
    **dict.fromkeys(("output", "output-dir", "out-dir", "save-dir"), "out"),
    **dict.fromkeys(("cfg", "config-file"), "config"),
}
"""Names, each with one that accepts the same values."""
SIMILAR = {
    **dict.fromkeys(EPOCHS, ("duration", 'such as "30ep"')),
    **dict.fromkeys(STEPS, ("duration", 'such as "1000st"')),
    "warmup-epochs": ("schedule.warmup", 'such as "5ep"'),
    "warmup-steps": ("schedule.warmup", 'such as "500st"'),
    **dict.fromkeys(SIZES, ("image", "rows and columns such as (224, 224)")),
    **dict.fromkeys(DECAY, ("optimizer.weight_decay", "times the rate, as in torch, if optimizer.decoupled is false")),
    **dict.fromkeys(OPTIMIZER[1:], ("optimizer.name", "")),
    "blr": ("optimizer.lr", "with optimizer.batch_rule linear and optimizer.base_batch 256"),
    **dict.fromkeys(("min-lr", "lrf"), ("schedule.final", "a share of the peak rate")),
    **dict.fromkeys(
        ("sched", "scheduler", "lr-scheduler"), ("schedule.kind", "cosine, linear, rsqrt, constant or steps")
    ),
    **dict.fromkeys(
        ("amp", "fp16", "half"), ("precision", '"bf16"; float16 is not offered, as attention overflows in it')
    ),
    "pretrained": ("weights", ""),
    **dict.fromkeys((*RUN_NAME, "project"), ("out", "the run folder")),
}
"""Names, each with what is similar here, and what to know of its values."""
ARGUMENTS = ("out", "config", "image", "model", "weights", "teacher", "unlabelled")
"""Arguments of `vitreous.train` that these names may stand for, besides settings."""
SETTINGS = {"unlabelled": "data.unlabelled"}
"""Settings by the names of arguments that stand for them."""


def explain_name(name: str, known: Collection[str], part: str = "") -> str | None:
    """Say what another trainer's name is called here, among known names of settings, dotted, or arguments; None: it is unknown, or
    nothing in the group of settings that it was given in.

    >>> explain_name("learning_rate", ["optimizer.lr"]), explain_name("epochs", ["duration"])
    ('here it is optimizer.lr', 'here it is duration, such as "30ep"')
    >>> explain_name("output_dir", ["duration"]), explain_name("batch", ["batch"])
    ('here it is the argument out, which is no setting', None)
    """
    own, hint = find_own_name(name)
    own = SETTINGS.get(own, own) if own not in known else own
    if part and not own.startswith(f"{part}."):
        return None
    if own in known:
        return f"here it is {own}{', ' * bool(hint)}{hint}"
    return f"here it is the argument {own}, which is no setting" if own in ARGUMENTS else None


def find_own_name(name: str) -> tuple[str, str]:
    """Return what another trainer's name stands for here, and what to know of its values; empty: it is unknown."""
    name = name.replace("_", "-")
    return SIMILAR.get(name) or (SAME.get(name, "").replace("-", "_"), "")
