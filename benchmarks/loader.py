"""Images a second on one core: JPEG bytes to an augmented training tensor, beside the same steps in Pillow.

    python benchmarks/loader.py [--quick]

Steps: decode, random resized crop to 224x224 (area 5% to 100%, bicubic with antialias), flip, channels first. Pillow:
Image.open, convert, crop and resize (its `box` argument, without a detour over a cropped copy), mirror, to a tensor;
"Pillow with draft" also lets libjpeg decode at a reduced scale where the crop is shrunk, which the usual pipelines don't.
Both take the very same crops. The JPEGs (quality 90, 4:2:0) are cut from scikit-learn's two photographs: at 500x375
shrunk a little, at 2000x1500 four of them enlarged and tiled. Interleaved, one thread, glibc's malloc set up for both
as training sets it up; medians of the rounds' ratios.
"""

import argparse
import io
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor

from vitreous.images.augment import Box, augment, draw_inception_box
from vitreous.images.config import AugmentConfig, DecodeConfig, PreprocessConfig
from vitreous.runtime.device import tune_cpu
from vitreous.shapes import Size

AUGMENT, PREPROCESS, DECODE = AugmentConfig(crop="inception"), PreprocessConfig(size=(224, 224)), DecodeConfig()
SIZES = ((500, 375), (2000, 1500))
Loader = Callable[[bytes, int], Tensor]


def jpegs(cols: int, rows: int, count: int) -> list[bytes]:
    """Cut photographs of natural statistics from scikit-learn's two."""
    rng = np.random.default_rng(0)
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    tiles = 1 if cols <= 640 else 2
    found = []
    for _ in range(count):
        canvas = Image.new("RGB", (cols, rows))
        for place in range(tiles**2):
            photo = photos[rng.integers(len(photos))]
            left, top = rng.integers(0, 100), rng.integers(0, 60)
            part = photo.crop((left, top, left + 533, top + 367)).resize((cols // tiles, rows // tiles), Image.LANCZOS)
            canvas.paste(part, (place % tiles * (cols // tiles), place // tiles * (rows // tiles)))
        stream = io.BytesIO()
        canvas.save(stream, "JPEG", quality=90)
        found.append(stream.getvalue())
    return found


def ours(data: bytes, seed: int) -> Tensor:
    pixels = augment(data, AUGMENT, PREPROCESS, DECODE, np.random.default_rng(seed))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def pillow(data: bytes, seed: int, draft: bool = False) -> Tensor:
    rng = np.random.default_rng(seed)
    with Image.open(io.BytesIO(data)) as file:
        cols, rows = file.size
        box = draw_inception_box(Size(rows, cols), AUGMENT, rng)
        if draft:
            file.draft("RGB", (round(cols * 224 / box.cols), round(rows * 224 / box.rows)))
        image = file.convert("RGB")
    part = image.resize((224, 224), Image.BICUBIC, box=scaled(box, image.width / cols, image.height / rows))
    if rng.random() < 0.5:
        part = part.transpose(Image.FLIP_LEFT_RIGHT)
    return torch.from_numpy(np.array(part)).permute(2, 0, 1).contiguous()


def scaled(box: Box, x: float, y: float) -> tuple[float, float, float, float]:
    return box.left * x, box.top * y, (box.left + box.cols) * x, (box.top + box.rows) * y


def seconds(load: Loader, files: list[bytes], seed: int) -> float:
    started = time.perf_counter()
    for number, data in enumerate(files):
        load(data, seed + number)
    return time.perf_counter() - started


def difference(files: list[bytes]) -> float:
    """Return the mean absolute difference of the two results, in grey levels of 255."""
    return statistics.mean(
        (ours(data, seed).float() - pillow(data, seed).float()).abs().mean().item() for seed, data in enumerate(files)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    rounds = 3 if parser.parse_args().quick else 15
    torch.set_num_threads(1)
    tune_cpu()
    loaders: dict[str, Loader] = {
        "vitreous": ours,
        "Pillow": pillow,
        "Pillow with draft": lambda data, seed: pillow(data, seed, draft=True),
    }
    for cols, rows in SIZES:
        files = jpegs(cols, rows, 16)
        times: dict[str, list[float]] = {name: [] for name in loaders}
        for turn in range(rounds + 1):
            for name, load in loaders.items():
                times[name].append(seconds(load, files, 1000 * turn))
        mine = times["vitreous"][1:]
        rate = len(files) / statistics.median(mine)
        print(f"{cols}x{rows}, {sum(map(len, files)) / len(files) / 1000:.0f} kB each: {rate:.0f} images/s on one core")
        for name in list(loaders)[1:]:
            ratio = statistics.median(other / own for other, own in zip(times[name][1:], mine, strict=True))
            print(f"  {ratio:.2f} times {name}")
        print(f"  mean difference from Pillow {difference(files):.2f} of 255")


if __name__ == "__main__":
    main()
