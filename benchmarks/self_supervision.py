"""What is learned without labels: probes on CIFAR-10 features of recipes `masked-patches` and `mae`, beside a random model.

    python benchmarks/self_supervision.py --data FOLDER [--minutes 10] [--parts random masked-patches mae small]
        [--images N] [--threads N] [--json FILE] [--quick]

FOLDER is as for cifar10.py. Each recipe trains for the same time on the 50,000 training images, the first two without their
labels; `random` is the same model as it is initialised, `small` the supervised recipe for comparison. Then the frozen
features of the training images (--images of them) and of the 10,000 test images go to the linear probe and to k nearest
neighbours of `vitreous.evaluate`, which choose their settings on the training images.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from cifar10 import unpacked

from vitreous.checkpoints.folder import ModelFolder, load_model
from vitreous.data.config import DataConfig
from vitreous.data.sources import Dataset, open_dataset
from vitreous.data.subset import subset
from vitreous.evaluate.features import FeatureOptions, features
from vitreous.evaluate.knn import knn
from vitreous.evaluate.linear import linear_probe
from vitreous.images.config import DecodeConfig
from vitreous.model.kinds import create
from vitreous.recipes.catalog import configure
from vitreous.recipes.request import Request
from vitreous.training.run import train

PARTS = ("random", "masked-patches", "mae", "small")


def model_of(part: str, dataset: Dataset, data: DataConfig, minutes: float, folder: Path) -> ModelFolder:
    """Return the model of one part, trained where it is to be trained."""
    recipe = "mae" if part == "random" else part
    config = configure(recipe, Request(dataset.facts, data, minutes=minutes))
    if part == "random":
        return ModelFolder(create(config.model, 0).eval(), config.preprocess, DecodeConfig(), ())
    result = train(replace(config, evaluate_every="100%"), folder / part)
    assert result.model is not None
    return load_model(result.model)


def probed(folder: ModelFolder, dataset: Dataset, images: int) -> dict[str, float]:
    """Return the accuracy of both probes on a model's features."""
    options = FeatureOptions(batch=256, cache=False)
    learn = features(folder, subset(dataset.train, images), options)
    test = features(folder, dataset.validation, options)
    line, near = linear_probe(learn, test), knn(learn, test)
    return {
        "linear": line.accuracy,
        "linear_low": line.interval[0],
        "linear_high": line.interval[1],
        "knn": near.accuracy,
        "knn_low": near.interval[0],
        "knn_high": near.interval[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10.0, help="of training, for each part")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--images", type=int, default=50_000, help="training images that the probes learn from")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the time, 2,000 images for the probes")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    minutes = options.minutes / 20 if options.quick else options.minutes
    images = 2_000 if options.quick else options.images
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = unpacked(options.data, Path(place))
        data = DataConfig(str(folder / "train"), validation=str(folder / "test"))
        dataset = open_dataset(data)
        for part in options.parts:
            started = time.perf_counter()
            found[part] = probed(model_of(part, dataset, data, minutes, Path(place)), dataset, images)
            one = found[part]
            print(
                f"{part:16} linear {one['linear']:.2%} ({one['linear_low']:.1%} to {one['linear_high']:.1%}), "
                f"k-NN {one['knn']:.2%} ({one['knn_low']:.1%} to {one['knn_high']:.1%}), "
                f"{time.perf_counter() - started:.0f} s in all",
                flush=True,
            )
    if options.json:
        record = {"minutes": minutes, "threads": options.threads, "images": images, "parts": found}
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
