"""Memory and time of an evaluation on very many images by very many classes, with a small model on tiny random pixels.

    python benchmarks/evaluation_memory.py --images 1000000 --classes 1000
    python benchmarks/evaluation_memory.py --images 1000000 --classes 1000 --compare
    python benchmarks/evaluation_memory.py --images 1000000 --classes 1000 --multilabel

What is measured is what `vitreous evaluate` does: every image through the model, all figures, intervals, ranking, temperature, and the
table and the mistakes of the report; with --compare a second model too, whose classes are in another order; with --multilabel several
labels an image, three on average. Printed are the highest resident memory above that before it, of the process alone, and the
seconds of each part. Pixels are drawn from the image's number, so the images themselves take no memory; labels do.
"""

import argparse
import resource
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np
import torch

from vitreous.api.evaluation import EvaluationResult, Rival, compare_with
from vitreous.evaluation.accuracy import evaluate, evaluate_multilabel
from vitreous.evaluation.details import details
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.model.config import ViTConfig
from vitreous.model.factory import create
from vitreous.predictor import Predictor
from vitreous.runtime.processor import read_cpu_model
from vitreous.storage.scratch import allocate_rows, iterate_blocks
from vitreous.training.reporter import Silent
from vitreous.weights.model_folder import ModelFolder

SIZE = 8
LABELS = 3
"""Of an image, on average, where it may have several."""


@dataclass(frozen=True)
class DrawnSource:
    """Images drawn from their numbers."""

    classes: tuple[str, ...]
    labels: np.ndarray
    names: tuple[str, ...]
    label_matrix: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def fingerprint(self) -> str:
        """Identify them."""
        return f"drawn-{len(self)}"

    def read(self, index: int) -> np.ndarray:
        """Return the pixels of an image."""
        return np.frombuffer(
            np.uint64([index, index * 31, index * 997, 7, index, 3, index * 13, 1]).tobytes(), np.uint8
        ).reshape(SIZE, SIZE, 1)


class Peak(threading.Thread):
    """The highest resident memory of this process while it runs, by looking often."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.highest = self.start_bytes = read_resident()
        self.over = threading.Event()

    def run(self) -> None:
        """Look, every 10 ms."""
        while not self.over.wait(0.01):
            self.highest = max(self.highest, read_resident())


def read_resident() -> int:
    """Return the resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def build_predictor(names: tuple[str, ...], seed: int, multilabel: bool = False) -> Predictor:
    """Return a small model with a head that is sure enough; of several labels an image it gives three on average."""
    config = ViTConfig(
        image=(SIZE, SIZE),
        patch=(SIZE, SIZE),
        channels=1,
        width=32,
        depth=1,
        heads=1,
        mlp_width=32,
        classes=len(names),
    )
    model = create(config, seed)
    torch.nn.init.normal_(model.head.weight, std=0.3, generator=torch.Generator().manual_seed(seed))
    if multilabel:
        torch.nn.init.constant_(
            model.head.bias, -0.3 * config.width**0.5 * NormalDist().inv_cdf(1 - LABELS / len(names))
        )
    preprocess = PreprocessConfig(size=(SIZE, SIZE), mode="L", crop=1.0)
    return Predictor(ModelFolder(model, preprocess, DecodeConfig(), names, {}, multilabel=multilabel), device="cpu")


def build_source(images: int, names: tuple[str, ...], multilabel: bool) -> DrawnSource:
    """Return the images with random labels."""
    rng = np.random.default_rng(0)
    files = tuple(f"{number}.png" for number in range(images))
    if not multilabel:
        return DrawnSource(names, rng.integers(len(names), size=images), files)
    matrix = allocate_rows(images, len(names), np.bool_)  # as a manifest's labels are
    for place in iterate_blocks(matrix):
        matrix[place] = rng.random(matrix[place].shape, np.float32) < LABELS / len(names)
    return DrawnSource(names, np.full(images, -1), files, matrix)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--classes", type=int, default=1000)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--compare", action="store_true")
    kind.add_argument("--multilabel", action="store_true")
    options = parser.parse_args()
    names = tuple(f"class {number}" for number in range(options.classes))
    predictor = build_predictor(names, 0, options.multilabel)
    peak, times = Peak(), {}
    peak.start()

    def lap(name: str, since: float) -> float:
        now = time.perf_counter()
        times[name] = (now - since, peak.highest - peak.start_bytes)
        return now

    since = time.perf_counter()
    source = build_source(options.images, names, options.multilabel)
    since = lap("labels", since)
    measure = evaluate_multilabel if options.multilabel else evaluate
    metrics, logits, targets = measure(predictor, source, batch=1024)
    since = lap("images through the model, and metrics", since)
    more = comparison = None
    if not options.multilabel:
        more = details(logits, targets, names)
        since = lap("intervals, ranking, temperature", since)
    if options.compare:
        order = np.random.default_rng(1).permutation(options.classes)
        other = build_predictor(tuple(names[place] for place in np.argsort(order)), 1)
        rival = Rival(other, ("drawn", "other"), names, order)
        comparison = compare_with(rival, source, (logits, targets), None, 1024, Silent())
        since = lap("the other model, and the comparison", since)
    found = EvaluationResult(
        "drawn", None, metrics, logits, targets, more, comparison=comparison, source=source, predictor=predictor
    )
    rows = len(found.columns["right"])
    assert found.report.sections
    lap("report", since)
    peak.over.set()
    print(f"{read_cpu_model()}, {torch.get_num_threads()} threads; {rows:,} images, {options.classes:,} classes")
    print(f"logits: {logits.nbytes / 2**30:.2f} GiB, {'in a file' if isinstance(logits, np.memmap) else 'in memory'}")
    for name, (seconds, most) in times.items():
        print(f"{name:40} {seconds:8.1f} s   at most {most / 2**30:.2f} GiB above the start so far")
    print(f"peak above the start: {(peak.highest - peak.start_bytes) / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
