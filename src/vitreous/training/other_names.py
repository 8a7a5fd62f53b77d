"""Other trainers' names for settings and arguments, and what they are called here. Names are as on a command line, without dashes before them."""

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
    **dict.fromkeys(("distillation", "distillation-type"), "objective.distillation"),
    **dict.fromkeys(("distillation-weight", "distillation-alpha"), "objective.distillation-weight"),
    **dict.fromkeys(("distillation-temperature", "distillation-tau"), "objective.distillation-temperature"),
    "teacher-path": "teacher",
    "drop-path": "regularisation.drop-path",
    **dict.fromkeys(("dropout", "drop"), "regularisation.dropout"),
    **dict.fromkeys(("model-ema-decay", "ema-decay"), "ema"),
    **dict.fromkeys(("batch-size", "bs"), "batch"),
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
    **dict.fromkeys(EPOCHS, 'duration, such as "30ep"'),
    **dict.fromkeys(STEPS, 'duration, such as "1000st"'),
    "warmup-epochs": 'schedule.warmup, such as "5ep"',
    "warmup-steps": 'schedule.warmup, such as "500st"',
    **dict.fromkeys(SIZES, "image, rows and columns such as (224, 224)"),
    **dict.fromkeys(
        DECAY, "optimizer.weight_decay; optimizer.decoupled = false multiplies it by the rate, as torch does"
    ),
    **dict.fromkeys(OPTIMIZER[1:], "optimizer.name"),
    "blr": "optimizer.lr with optimizer.batch_rule = linear and optimizer.base_batch = 256",
    "pretrained": "weights",
    **dict.fromkeys((*RUN_NAME, "project"), "out, the run folder"),
}
"""Names, each with what is similar here."""


def find_own_name(name: str) -> str | None:
    """Return what another trainer's name for a setting or an argument is called here; None: it is unknown.

    >>> find_own_name("learning_rate"), find_own_name("epochs"), find_own_name("batch")
    ('optimizer.lr', 'duration, such as "30ep"', None)
    """
    name = name.replace("_", "-")
    return SIMILAR.get(name) or (SAME[name].replace("-", "_") if name in SAME else None)
