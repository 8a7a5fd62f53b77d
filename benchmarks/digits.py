"""Digits: recipe `small` over several seeds, beside scikit-learn's SVM and k-NN on the same split.

    python benchmarks/digits.py [--seeds 5] [--json FILE]

The split is the product's own: the fixed, stratified fifth of scikit-learn's 1,797 handwritten digits (360 images) that
`make demo` holds out. Every run keeps its last weights (no selection on the held-out images); the SVM and the k-NN are
tuned by five-fold cross-validation on the training part alone.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from vitreous.data.config import DataConfig
from vitreous.data.dataset import Dataset, open_dataset
from vitreous.data.sources.base import Source
from vitreous.images.config import DecodeConfig
from vitreous.recipes.catalog import configure
from vitreous.recipes.options import RecipeOptions
from vitreous.training.run import train


def arrays(source: Source) -> tuple[np.ndarray, np.ndarray]:
    pixels = np.stack([np.asarray(source.read(index)).reshape(-1) for index in range(len(source))])
    return pixels / 255.0, np.asarray(source.labels)


def peers(dataset: Dataset) -> dict[str, float]:
    train_x, train_y = arrays(dataset.train)
    test_x, test_y = arrays(dataset.validation)
    searches = {
        "SVM (RBF)": GridSearchCV(SVC(), {"C": [1, 3, 10, 30], "gamma": ["scale", 0.01, 0.03, 0.1]}, cv=5),
        "k-NN": GridSearchCV(
            KNeighborsClassifier(), {"n_neighbors": [1, 3, 5], "weights": ["uniform", "distance"]}, cv=5
        ),
    }
    return {name: search.fit(train_x, train_y).score(test_x, test_y) for name, search in searches.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    dataset = open_dataset(DataConfig("digits"), DecodeConfig())
    config = configure("small", RecipeOptions(dataset.facts, DataConfig("digits")))
    accuracies, seconds = [], []
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            result = train(replace(config, seed=seed, evaluate_every=config.duration), Path(folder) / "run")
            accuracies.append(result.metrics["top1"])
            seconds.append(time.perf_counter() - started)
        print(f"seed {seed}: {accuracies[-1]:.2%} in {seconds[-1]:.0f} s", flush=True)
    spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    print(f"\nvitreous, recipe small   {statistics.mean(accuracies):.2%} +- {spread:.2%} over {options.seeds} seeds")
    others = peers(dataset)
    for name, accuracy in others.items():
        print(f"{name:24} {accuracy:.2%}")
    if options.json:
        options.json.write_text(json.dumps({"vitreous": accuracies, "seconds": seconds, **others}, indent=1))


if __name__ == "__main__":
    main()
