"""Memory and time of an evaluation on very many images by very many classes, with a small model on tiny random pixels.

    python benchmarks/evaluation_memory.py --images 1000000 --classes 1000

What is measured is what `vitreous evaluate` does: every image through the model, all figures, intervals, ranking, temperature, and the
table and the mistakes of the report. Printed are the highest resident memory above that before it, of the process alone, and the
seconds of each part. Pixels are drawn from the image's number, so the images themselves take no memory.
"""

import argparse
import resource
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vitreous.api.evaluation import EvaluationResult
from vitreous.evaluation.accuracy import evaluate
from vitreous.evaluation.details import details
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.model.config import ViTConfig
from vitreous.model.factory import create
from vitreous.predictor import Predictor
from vitreous.runtime.processor import read_cpu_model
from vitreous.weights.model_folder import ModelFolder

SIZE = 8


@dataclass(frozen=True)
class DrawnSource:
    """Images drawn from their numbers."""

    classes: tuple[str, ...]
    labels: np.ndarray
    names: tuple[str, ...]

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


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--classes", type=int, default=1000)
    options = parser.parse_args()
    config = ViTConfig(
        image=(SIZE, SIZE),
        patch=(SIZE, SIZE),
        channels=1,
        width=32,
        depth=1,
        heads=1,
        mlp_width=32,
        classes=options.classes,
    )
    model = create(config)
    torch.nn.init.normal_(model.head.weight, std=0.3, generator=torch.Generator().manual_seed(0))
    names = tuple(f"class {number}" for number in range(options.classes))
    folder = ModelFolder(model, PreprocessConfig(size=(SIZE, SIZE), mode="L", crop=1.0), DecodeConfig(), names, {})
    predictor = Predictor(folder, device="cpu")
    labels = np.random.default_rng(0).integers(options.classes, size=options.images)
    source = DrawnSource(names, labels, tuple(f"{number}.png" for number in range(options.images)))
    peak, times = Peak(), {}
    peak.start()

    def lap(name: str, since: float) -> float:
        now = time.perf_counter()
        times[name] = (now - since, peak.highest - peak.start_bytes)
        return now

    since = time.perf_counter()
    metrics, logits, targets = evaluate(predictor, source, batch=1024)
    since = lap("images through the model, and metrics", since)
    more = details(logits, targets, names)
    since = lap("intervals, ranking, temperature", since)
    found = EvaluationResult("drawn", None, metrics, logits, targets, more, source=source, predictor=predictor)
    rows = len(found.columns["right"])
    assert found.report.sections
    lap("report", since)
    peak.over.set()
    print(f"{read_cpu_model()}, {torch.get_num_threads()} threads; {rows:,} images, {options.classes:,} classes")
    print(f"logits: {logits.nbytes / 2**30:.2f} GiB, {'in a file' if isinstance(logits, np.memmap) else 'in memory'}")
    for name, (seconds, most) in times.items():
        print(f"{name:40} {seconds:8.1f} s   at most {most / 2**30:.2f} GiB above the start so far")
    print(
        f"peak above the start: {(peak.highest - peak.start_bytes) / 2**30:.2f} GiB; top-1 {metrics.top1:.4f}, AUROC {more.ranking.auroc:.4f}"
    )


if __name__ == "__main__":
    main()
