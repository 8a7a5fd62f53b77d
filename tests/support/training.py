"""A run that takes a moment, and ways to look at what it leaves."""

import hashlib

from vitreous.data.config import DataConfig
from vitreous.images.config import AugmentConfig, PreprocessConfig
from vitreous.model.names import build_vit_config
from vitreous.training.config import OptimizerConfig, RunConfig, ScheduleConfig
from vitreous.training.reporter import Silent
from vitreous.weights.model_folder import load_model

TINY = RunConfig(
    data=DataConfig("digits", holdout=0.05),
    preprocess=PreprocessConfig(size=(8, 8), mode="L", crop=1.0),
    augment=AugmentConfig(crop="pad", crop_pad=1, flip=False, mixup=0.2),
    model=build_vit_config("mu/4", image=(8, 8), channels=1, classes=10, depth=2),
    optimizer=OptimizerConfig(lr=3e-3),
    schedule=ScheduleConfig(warmup="10%"),
    duration="12st",
    batch=32,
    seed=3,
    workers=0,
    device="cpu",
    precision="fp32",
    evaluate_every="4st",
    export="last",
)


TIMED = frozenset(("seconds", "images_per_second", "data_wait", "memory"))
"""What the clock and the memory say in a training record."""


class Listener(Silent):
    """Keeps what it is told."""

    def __init__(self):
        self.messages, self.steps, self.best = [], [], []

    def message(self, text):
        self.messages.append(text)

    def progress(self, done, total, numbers):
        self.steps.append((done, total))

    def evaluation(self, step, numbers, best):
        self.best.append((step, best))


def exported(run):
    return {name: tensor.clone() for name, tensor in load_model(run).model.state_dict().items()}


def digest(run):
    return hashlib.sha256((run / "model" / "model.safetensors").read_bytes()).hexdigest()
