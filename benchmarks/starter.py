"""Train the starter weights that come in the package, by the product's own commands, and write their model folder.

    python benchmarks/starter.py CIFAR10_TRAIN_FOLDER OUT

A ResNet of three basic units (1.2 million parameters) learns CIFAR-10's 50,000 training images (four fifths of them; the rest is held
out): random areas and aspects of the image, two thirds of the steps at 16 x 16 pixels, Muon. About an hour of one core. What is
written sees images of 48 x 48, at which the features of photographs separate best (see src/vitreous/weights/starter/README.md).
"""

import argparse
from dataclasses import replace
from pathlib import Path

import vitreous
from vitreous.training.progress import reporter
from vitreous.weights.model_folder import ModelFolder, load_model, save_model

SETTINGS = {
    "model": {"units": (1, 1, 1), "root": "2x2", "root_channels": 64, "groups": 8},
    "optimizer": {
        "name": "muon",
        "lr": 3e-3,
        "muon_lr": 0.02,
        "betas": (0.9, 0.95),
        "weight_decay": 0.05,
        "decoupled": False,
        "clip": 0.0,
    },
    "objective": {"smoothing": 0.1},
    "augment": {"crop": "inception", "crop_area": (0.35, 1.0), "flip": True},
    "schedule": {"kind": "linear", "warmup": "3%"},
    "low_resolution": 0.5,
    "low_resolution_duration": "65%",
    "duration": "18ep",
    "batch": 128,
    "ema": 0.999,
    "evaluate_every": "10%",
    "checkpoint_every": "3min",
    "workers": 0,
    "precision": "fp32",
}
IMAGE = (48, 48)


def main() -> None:
    """Train, or go on, and write the model folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="the class folders of CIFAR-10's training images")
    parser.add_argument("out", type=Path, help="where the run and the model folder go")
    given = parser.parse_args()
    run = given.out / "run"
    if (run / "config.json").exists():
        result = vitreous.resume(run, reporter=reporter())
    else:
        result = vitreous.train(
            given.data, recipe="small", model="R10x1", out=run, settings=SETTINGS, reporter=reporter()
        )
    write(load_model(result.run), given.out / "starter", result.metrics)


def write(folder: ModelFolder, out: Path, metrics: dict[str, float]) -> None:
    """Write the model folder: for another size of image, and without the paths of this machine."""
    origin = {
        "recipe": "benchmarks/starter.py",
        "data": "CIFAR-10, 40,000 training images",
        "step": folder.origin["step"],
        "metrics": metrics,
    }
    preprocess = replace(folder.preprocess, size=IMAGE, crop=1.0)
    save_model(out, replace(folder, model=folder.model.resize(IMAGE), preprocess=preprocess, origin=origin))


if __name__ == "__main__":
    main()
