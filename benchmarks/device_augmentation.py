"""Images a second of augmentation on the device beside that on the CPU path, both computed by one core of a CPU.

    python benchmarks/device_augmentation.py [--images 192] [--rounds 5]

From JPEG bytes to a normalised batch, with the same draws. `cpu`: a worker decodes and augments. `device`: a worker decodes to a canvas and
draws (`worker`), and torch renders the batch (`rendering`); where there is a GPU, rendering is its work, and the workers are spared the
rest. Seconds of the processor, one thread, interleaved, medians; the JPEGs are those of `loader.py`. No GPU is measured here.
"""

import argparse
import statistics
import time
from dataclasses import dataclass

import numpy as np
import torch
from loader import jpegs

from vitreous.data.stream.canvases import CanvasStream, render_batches
from vitreous.data.stream.loader import TrainStream, load_train_batches
from vitreous.images.config import AugmentConfig, DecodeConfig, PreprocessConfig
from vitreous.runtime.device import tune_cpu
from vitreous.runtime.processor import read_cpu_model

BATCH = 64
SETTINGS = {
    "crop and flip": {},
    "RandAugment (2, 15), mixup, cutmix, erasing": {
        "randaugment": (2, 15.0),
        "mixup": 0.5,
        "cutmix": 1.0,
        "erase": 0.25,
    },
}
SIZES = ((500, 375), (2000, 1500))


@dataclass(frozen=True)
class Files:
    """JPEG files in memory."""

    files: list[bytes]
    names: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> bytes:
        """Return a file."""
        return self.files[index % len(self.files)]


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    tune_cpu()
    count = options.images // BATCH * BATCH
    preprocess, device = PreprocessConfig(size=(224, 224)), torch.device("cpu")
    print(f"{read_cpu_model()}, one thread; {count} images to 224x224, medians of {options.rounds} rounds")
    for cols, rows in SIZES:
        files = jpegs(cols, rows, 16)
        names = tuple(f"{number}.jpg" for number in range(count))
        source = Files(files, names, np.arange(count) % 2, ("a", "b"), f"{cols}")
        for title, more in SETTINGS.items():
            times: dict[str, list[float]] = {"cpu": [], "worker": [], "rendering": []}
            for round_ in range(options.rounds + 1):
                augment = AugmentConfig(crop="inception", flip=True, **more)
                began = time.process_time()
                for _ in load_train_batches(
                    TrainStream(source, round_, augment, preprocess, DecodeConfig()), 0, BATCH, count, 0
                ):
                    pass
                middle = time.process_time()
                stream = CanvasStream(source, round_, augment, preprocess, DecodeConfig())
                batches = list(load_train_batches(stream, 0, BATCH, count, 0))
                third = time.process_time()
                for _ in render_batches(batches, augment, preprocess, device):
                    pass
                if round_:
                    for name, seconds in zip(
                        times, (middle - began, third - middle, time.process_time() - third), strict=True
                    ):
                        times[name].append(seconds)
            rates = {name: count / statistics.median(one) for name, one in times.items()}
            both = 1 / (1 / rates["worker"] + 1 / rates["rendering"])
            print(
                f"{cols}x{rows}, {title}: cpu {rates['cpu']:.0f} images/s; device: worker {rates['worker']:.0f}, rendering "
                f"{rates['rendering']:.0f}, both {both:.0f} images/s",
                flush=True,
            )


if __name__ == "__main__":
    main()
