"""What is learned without labels: probes on CIFAR-10 features of recipes `masked-patches` and `mae`, beside a random model.

    python benchmarks/self_supervision.py --data FOLDER [--minutes 10] [--parts random masked-patches mae small-vit]
        [--images N] [--threads N] [--json FILE] [--quick]

FOLDER is as for cifar10.py. Each recipe trains for the same time on the 50,000 training images, the first two without their
labels; `random` is the same model as it is initialised, `small-vit` the supervised recipe for comparison. Then the frozen
features of the training images (--images of them) and of the 10,000 test images go to the linear probe and to k nearest
neighbours of `vitreous.evaluation`, which choose their settings on the training images. Each probe reads what the head would
read, and the mean over the patches after each block: what is predicted without labels is colours, and the last blocks turn
to that, so that the middle ones may hold more. The block is chosen like the settings, by the linear probe's accuracy on
training images held out; the test images have no say.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cifar10 import unpacked

from vitreous.data.config import DataConfig
from vitreous.data.dataset import Dataset, open_dataset
from vitreous.data.sources.base import Source
from vitreous.data.sources.subset import draw_subset
from vitreous.evaluation.probes.features import FeatureOptions, Features, layer_chunks
from vitreous.evaluation.probes.knn import knn
from vitreous.evaluation.probes.layers import find_layer
from vitreous.evaluation.probes.linear import linear_probe
from vitreous.images.config import DecodeConfig
from vitreous.model.factory import create
from vitreous.recipes.catalog import configure
from vitreous.recipes.options import RecipeOptions
from vitreous.training.run import train
from vitreous.weights.model_folder import ModelFolder, load_model

PARTS = ("random", "masked-patches", "mae", "small-vit")


def model_of(part: str, dataset: Dataset, data: DataConfig, minutes: float, folder: Path) -> ModelFolder:
    """Return the model of one part, trained where it is to be trained."""
    recipe = "mae" if part == "random" else part
    config = configure(recipe, RecipeOptions(dataset.facts, data, minutes=minutes))
    if part == "random":
        return ModelFolder(create(config.model, 0).eval(), config.preprocess, DecodeConfig(), ())
    result = train(replace(config, evaluate_every="100%"), folder / part)
    assert result.model is not None
    return load_model(result.model)


def probed(folder: ModelFolder, dataset: Dataset, images: int) -> dict[str, dict[str, Any]]:
    """Return the accuracy of both probes on what the head reads and on the block that was chosen."""
    blocks = [f"block.{index}:mean" for index in range(len(folder.model.blocks))]
    learn, test = (
        layered(folder, part, ["features", *blocks])
        for part in (draw_subset(dataset.train, images), dataset.validation)
    )
    line = {name: linear_probe(learn[name], test[name]) for name in learn}
    best = max(blocks, key=lambda name: max(accuracy for _, accuracy in line[name].tried))
    found: dict[str, dict[str, Any]] = {}
    for kind, name in (("head", "features"), ("block", best)):
        near = knn(learn[name], test[name])
        found[kind] = {"layer": name, "linear": line[name].accuracy, "knn": near.accuracy}
        found[kind] |= {"linear_interval": line[name].interval, "knn_interval": near.interval}
    found["every"] = {name: one.accuracy for name, one in line.items()}
    return found


def layered(folder: ModelFolder, source: Source, names: list[str]) -> dict[str, Features]:
    """Return the features of several layers; each image passes through the model once."""
    layers = [find_layer(folder.model, name) for name in names]
    chunks = zip(*layer_chunks(folder, source, layers, FeatureOptions(batch=256)), strict=True)
    return {
        name: Features(np.concatenate(parts), source.labels, tuple(source.names), source.classes)
        for name, parts in zip(names, chunks, strict=True)
    }


def line_of(part: str, one: dict[str, Any]) -> str:
    """Write what one kind of features reached."""
    words = [f"{part:16} {one['layer']:14}"]
    for probe in ("linear", "knn"):
        low, high = one[f"{probe}_interval"]
        words.append(f"{probe} {one[probe]:.1%} ({low:.1%} to {high:.1%})")
    return "  ".join(words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10.0, help="of training, for each part")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--images", type=int, default=50_000, help="training images that the probes learn from")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the time, 2,000 images for the probes")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    minutes = asked.minutes / 20 if asked.quick else asked.minutes
    images = 2_000 if asked.quick else asked.images
    found: dict[str, dict[str, dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = unpacked(asked.data, Path(place))
        data = DataConfig(str(folder / "train"), validation=str(folder / "test"))
        dataset = open_dataset(data)
        for part in asked.parts:
            started = time.perf_counter()
            found[part] = probed(model_of(part, dataset, data, minutes, Path(place)), dataset, images)
            for kind in ("head", "block"):
                print(line_of(part, found[part][kind]), flush=True)
            print(f"{part}: {time.perf_counter() - started:.0f} s in all", flush=True)
    if asked.json:
        record = {"minutes": minutes, "threads": asked.threads, "images": images, "parts": found}
        asked.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
