"""CIFAR-10 from scratch in minutes on a CPU: recipe `small` beside a plain loop around timm's ViT of the same shape.

    python benchmarks/cifar10.py --data FOLDER [--minutes 15] [--threads N] [--parts timm vitreous] [--json FILE] [--quick]

FOLDER holds train/ and test/ with one folder of JPEGs a class, or train.tar and test.tar with the same inside. Both
parts train for the same time on all 50,000 training images, one after the other, and see the 10,000 test images once,
at the end, outside that time. Neither starting a process, scanning the files nor measuring a step counts.

`vitreous` is the product as it comes: configure("small", minutes=...), train(config, out). Nothing is set here but
where the validation images are and that they are looked at only after the last step.

`timm` is the loop that one writes first, with settings that suit the job, all printed:
  model      timm's VisionTransformer with the image, patch, width, depth, heads, MLP and pooling of the recipe's model;
             timm's own initialisation
  data       Pillow: open, convert to RGB, random crop to 32 px after zero padding by 4, flip with probability 1/2,
             torch DataLoader with shuffling; normalised by CIFAR-10's mean and standard deviation
  loss       cross entropy
  precision  float32, or bfloat16 under autocast (--timm-precision)
  optimizer  AdamW (fused), peak rate 1e-3 (--lr), weight decay 0.05, betas 0.9 and 0.999, batch 128
  schedule   linear warm-up over 5% of the time, then cosine to zero, by the clock: it ends exactly at the deadline
"""

import argparse
import json
import math
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from PIL import Image, ImageOps
from timm_peer import timm_model
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from vitreous.data.config import DataConfig
from vitreous.data.sources import open_dataset
from vitreous.images.config import DecodeConfig
from vitreous.model.config import ViTConfig
from vitreous.recipes.catalog import configure
from vitreous.recipes.request import Request
from vitreous.runs import read_run
from vitreous.training.config import RunConfig
from vitreous.training.run import train

MEAN = torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1)
STD = torch.tensor([0.2470, 0.2435, 0.2616]).view(3, 1, 1)


@dataclass(frozen=True)
class PlainLoop:
    """Every setting of the loop around timm."""

    batch: int = 128
    lr: float = 1e-3
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: float = 0.05
    padding: int = 4
    workers: int = 0
    """Processes that decode; 0: the training process does it, and both cores are the products'."""
    seed: int = 0
    precision: str = "fp32"
    """fp32, or bf16 under autocast."""


@dataclass(frozen=True)
class Outcome:
    """What one part came to."""

    name: str
    correct: int
    examples: int
    images: int
    """Training images seen."""
    seconds: float
    """Spent in training."""
    parameters: int

    @property
    def accuracy(self) -> float:
        return self.correct / self.examples

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95% interval of the accuracy."""
        n, p, z = self.examples, self.accuracy, 1.96
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return centre - half, centre + half

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{self.name}: {self.accuracy:.2%} of {self.examples:,} test images (95% interval {low:.2%} to {high:.2%}); "
            f"{self.images:,} images in {self.seconds:.0f} s ({self.images / self.seconds:.0f}/s), {self.parameters:,} parameters"
        )


class Pictures(Dataset):
    """One folder of JPEGs a class, read with Pillow."""

    def __init__(self, folder: Path, padding: int | None) -> None:
        classes = sorted(path for path in folder.iterdir() if path.is_dir())
        self.files = [(path, label) for label, name in enumerate(classes) for path in sorted(name.iterdir())]
        self.padding = padding

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.files[index]
        with Image.open(path) as file:
            image = file.convert("RGB")
        if self.padding is not None:
            image = augmented(image, self.padding)
        data = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        pixels = data.view(image.height, image.width, 3).permute(2, 0, 1)
        return (pixels / 255 - MEAN) / STD, label


def augmented(image: Image.Image, padding: int) -> Image.Image:
    cols, rows = image.size
    left, top = (int(torch.randint(2 * padding + 1, ())) for _ in range(2))
    image = ImageOps.expand(image, padding).crop((left, top, left + cols, top + rows))
    return ImageOps.mirror(image) if torch.rand(()) < 0.5 else image


def run_timm(data: Path, shape: ViTConfig, seconds: float, settings: PlainLoop) -> Outcome:
    torch.manual_seed(settings.seed)
    model = timm_model(shape)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"timm: {parameters:,} parameters, {asdict(settings)}", flush=True)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=0.0, weight_decay=settings.weight_decay, betas=settings.betas, fused=True
    )
    loader = DataLoader(
        Pictures(data / "train", settings.padding),
        batch_size=settings.batch,
        shuffle=True,
        drop_last=True,
        num_workers=settings.workers,
        persistent_workers=settings.workers > 0,
    )
    images, told, started = 0, 0.0, time.perf_counter()
    for pixels, labels in endless(loader):
        share = (time.perf_counter() - started) / seconds
        if share >= 1:
            break
        warm, rest = share / settings.warmup, (share - settings.warmup) / (1 - settings.warmup)
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * (warm if warm < 1 else 0.5 * (1 + math.cos(math.pi * rest)))
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
            loss = nn.functional.cross_entropy(model(pixels), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        images += len(labels)
        if share >= told:
            print(f"  {share:4.0%} of the time, {images:,} images, loss {float(loss.detach()):.3f}", flush=True)
            told += 0.1
    spent = time.perf_counter() - started
    correct, examples = count_correct(model, Pictures(data / "test", None))
    return Outcome("timm", correct, examples, images, spent, parameters)


def endless(loader: DataLoader) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from loader


def count_correct(model: nn.Module, pictures: Pictures) -> tuple[int, int]:
    model.eval()
    correct = 0
    with torch.inference_mode():
        for pixels, labels in DataLoader(pictures, batch_size=250):
            correct += int((model(pixels).argmax(1) == labels).sum())
    return correct, len(pictures)


class Lines:
    """A Reporter that prints a line now and then."""

    def __init__(self) -> None:
        self.told = 0.0

    def message(self, text: str) -> None:
        print(f"  {text}", flush=True)

    def phase(self, name: str) -> None:
        self.message(name)

    def progress(self, done: int, total: int, numbers: dict[str, float]) -> None:
        if "loss" in numbers and done / total >= self.told:
            self.message(f"{done / total:4.0%} of the steps, loss {numbers['loss']:.3f}")
            self.told = done / total + 0.1

    def evaluation(self, step: int, numbers: dict[str, float], best: bool) -> None:
        self.message(f"step {step}: top-1 {numbers['top1']:.2%}")

    def close(self) -> None:
        pass


def recipe(data: Path, minutes: float) -> RunConfig:
    """Return what recipe `small` makes of this data, looking at the test images only at the end."""
    where = DataConfig(path=str(data / "train"), validation=str(data / "test"))
    facts = open_dataset(where, DecodeConfig()).facts
    config = configure("small", Request(facts, where, minutes=minutes))
    return replace(config, evaluate_every="100%", export="last")


def run_vitreous(config: RunConfig) -> Outcome:
    print(f"vitreous: {config}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        result = train(config, Path(folder) / "run", Lines())
        run = read_run(result.run)
        last = [record for record in run.metrics if record["kind"] == "train"][-1]
        held_out = run.config["data"]["validation"]
        return Outcome(
            name="vitreous",
            correct=round(result.metrics["top1"] * held_out),
            examples=held_out,
            images=last["samples"],
            seconds=last["seconds"],
            parameters=run.config["parameters"],
        )


def unpacked(data: Path, into: Path) -> Path:
    """Return the folder with train/ and test/, unpacked from tars if need be."""
    if (data / "train").is_dir():
        return data
    for part in ("train", "test"):
        with tarfile.open(data / f"{part}.tar") as tar:
            tar.extractall(into, filter="data")
    return into


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=15.0, help="of training, for each part")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--parts", nargs="+", choices=["timm", "vitreous"], default=["timm", "vitreous"])
    parser.add_argument("--lr", type=float, default=PlainLoop.lr, help="peak learning rate of the loop around timm")
    parser.add_argument("--timm-workers", type=int, default=PlainLoop.workers, help="processes that decode for it")
    parser.add_argument("--timm-precision", choices=["fp32", "bf16"], default=PlainLoop.precision)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="20 seconds a part: does it run at all?")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    plain = PlainLoop(lr=options.lr, workers=options.timm_workers, precision=options.timm_precision)
    minutes = 1 / 3 if options.quick else options.minutes
    with tempfile.TemporaryDirectory() as folder:
        data = unpacked(options.data, Path(folder))
        config = recipe(data, minutes)
        print(f"{minutes:g} minutes for each part on {options.threads} threads; {config.model}")
        runs = {
            "timm": lambda: run_timm(data, config.model, 60 * minutes, plain),
            "vitreous": lambda: run_vitreous(config),
        }
        outcomes = []
        for part in options.parts:
            outcomes.append(runs[part]())
            print(outcomes[-1], flush=True)
    if options.json:
        record = {
            "minutes": minutes,
            "threads": options.threads,
            "torch": torch.__version__,
            "model": asdict(config.model),
            "timm": asdict(plain),
            "vitreous": asdict(config),
            "results": [asdict(o) | {"accuracy": o.accuracy, "interval": o.interval} for o in outcomes],
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
