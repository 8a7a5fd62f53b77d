"""Files of photographs to a file of labels, whole processes: start, imports, scan and first batch are inside what is measured.

    python benchmarks/photographs.py PHOTOGRAPHS [--rounds 3] [--cells Ti B large] [--images 2000] [--json out.json]

Ti, B   ViT-Ti/16 and B/16 at 224 on --images photographs of 500x375 (JPEG, quality 92)
large   Ti/16 on a tenth as many of 12 megapixels (4000x3000, quality 90): vitreous with and without --decode reduced, timm with and
        without Pillow's draft

The files are made of the photographs below PHOTOGRAPHS, cut to 4:3 and scaled, each as often as it takes. Large ones are enlarged:
they cost what large ones cost, but have less detail.

Peers: a script with timm and a DataLoader of two workers, and transformers' pipeline, in float32, with the same weights and the
same transform (resized to 224x224, bicubic); bfloat16 too where the processor has it. vitreous also in int8, calibrated on some of the photographs. Interleaved; every ratio is the median over
the rounds of timm's time in float32 / own time, so above 1 is faster. Limits of the same run: JPEGs decoded and nothing else
(libjpeg-turbo, a thread for each core), and the model's products at the speed of the fastest product of large matrices.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg
import torch
from limits import find_precision, measure_int8, measure_products
from PIL import Image, ImageOps

import vitreous
from vitreous.api.quantisation import gather_named
from vitreous.deploy.int8_torch import TorchInt8
from vitreous.engines.int8_linear import check_int8
from vitreous.errors import ConfigError
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.images.decode import decode
from vitreous.model.count import count_flops
from vitreous.model.factory import create
from vitreous.model.names import build_vit_config
from vitreous.runtime.device import has_fast_bf16, read_cpu_vendor
from vitreous.weights.model_folder import ModelFolder, save_model

HERE = Path(__file__).parent
COMPILED = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
"""The environment of processes that are timed: Python keeps what it compiled, as it does where pip installs."""
CLASSES = tuple(f"class {number}" for number in range(1000))
PREPROCESS = PreprocessConfig(resize="squash", crop=1.0)
CALIBRATION = 64
"""Photographs that int8 is calibrated on."""
TIMM = """
import csv, sys
sys.path.insert(0, sys.argv[1])
import torch
from pathlib import Path
from PIL import Image
from safetensors.torch import load_file
from timm_peer import timm_model
from vitreous.model.names import build_vit_config
model = timm_model(build_vit_config(sys.argv[3])).eval()
model.load_state_dict(load_file(sys.argv[2]))
import timm.data
mean = (0.5,) * 3
transform = timm.data.create_transform(224, mean=mean, std=mean, interpolation="bicubic", crop_pct=1.0, crop_mode="squash")
files = sorted(map(str, Path(sys.argv[4]).iterdir()))
draft, bf16 = sys.argv[6] == "draft", sys.argv[7] == "bf16"
class Files(torch.utils.data.Dataset):
    def __len__(self):
        return len(files)
    def __getitem__(self, index):
        image = Image.open(files[index])
        if draft:
            image.draft("RGB", (448, 448))
        return transform(image.convert("RGB"))
loader = torch.utils.data.DataLoader(Files(), 32, num_workers=2)
found = []
with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
    for batch in loader:
        found += model(batch).float().softmax(1).max(1).indices.tolist()
with open(sys.argv[5], "w") as out:
    csv.writer(out).writerows([("name", "label"), *((name, f"class {label}") for name, label in zip(files, found))])
"""
TRANSFORMERS = """
import csv, sys
sys.path.insert(0, sys.argv[1])
from timm_peer import let_torchvision_load
let_torchvision_load()
from pathlib import Path
from transformers import pipeline
files = sorted(map(str, Path(sys.argv[3]).iterdir()))
classify = pipeline("image-classification", model=sys.argv[2], batch_size=32, top_k=1)
found = [one[0]["label"] for one in classify(files)]
with open(sys.argv[4], "w") as out:
    csv.writer(out).writerows([("name", "label"), *zip(files, found)])
"""


@dataclass(frozen=True)
class Cell:
    """One table."""

    name: str
    model: str
    size: tuple[int, int]
    """Columns and rows of the photographs."""
    quality: int
    share: float
    """Of --images."""


CELLS = {
    "Ti": Cell("500x375 to labels, Ti/16", "Ti/16", (500, 375), 92, 1.0),
    "B": Cell("500x375 to labels, B/16", "B/16", (500, 375), 92, 1.0),
    "large": Cell("12 megapixels to labels, Ti/16", "Ti/16", (4000, 3000), 90, 0.1),
}


def write_photographs(source: Path, folder: Path, cell: Cell, count: int) -> list[Path]:
    """Write so many photographs of the cell's size, and return them."""
    folder.mkdir(parents=True)
    originals = sorted(path for path in source.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    for number, path in enumerate(originals[:count]):
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
        fitted = ImageOps.fit(upright, cell.size, Image.Resampling.BICUBIC)
        fitted.save(folder / f"{number:05}.jpg", quality=cell.quality)
    for number in range(len(originals), count):
        (folder / f"{number:05}.jpg").write_bytes((folder / f"{number % len(originals):05}.jpg").read_bytes())
    return sorted(folder.iterdir())


def write_models(folder: Path, name: str, images: Path) -> None:
    """Write one model as vitreous, timm and transformers read it, and in int8, calibrated on images; its head tells photographs apart."""
    model = create(build_vit_config(name, classes=len(CLASSES)))
    with torch.no_grad():
        model.head.weight.normal_(generator=torch.Generator().manual_seed(0))
    own = ModelFolder(model, PREPROCESS, DecodeConfig(), CLASSES, {})
    save_model(folder / "vitreous", own)
    small = TorchInt8(own, np.stack(gather_named(str(images), own, CALIBRATION)[0]))
    small.write(folder / "int8", ())
    small.finish(folder / "int8", {})
    for kind in ("timm", "huggingface"):
        vitreous.convert(folder / "vitreous", folder / kind, to=kind)


def list_contenders(cell: Cell, models: Path, images: Path, out: Path, bf16: bool) -> dict[str, list[str]]:
    """Return the command of each contender by its name; each writes <out>/<name>.csv."""
    python = sys.executable
    timm = [python, "-c", TIMM, str(HERE), str(models / "timm" / "model.safetensors"), cell.model, str(images)]

    def predict(name: str, precision: str, *options: str) -> list[str]:
        own = str(models / ("int8" if precision == "int8" else "vitreous"))
        told = ["--out", str(out / f"{name}.csv"), "--precision", precision]
        return [python, "-m", "vitreous", "predict", own, str(images), *told, *options]

    large = cell.share < 1
    found = {"timm fp32": [*timm, str(out / "timm fp32.csv"), "whole", "fp32"]}
    found |= {"timm fp32, draft": [*timm, str(out / "timm fp32, draft.csv"), "draft", "fp32"]} if large else {}
    hub = [python, "-c", TRANSFORMERS, str(HERE), str(models / "huggingface"), str(images)]
    found["transformers fp32"] = [*hub, str(out / "transformers fp32.csv")]
    for precision in ("fp32", *["bf16"] * bf16, *["int8"] * computes_int8()):
        for name, more in {"": (), **({", reduced": ("--decode", "reduced")} if large else {})}.items():
            said = f"vitreous {precision}{name}"
            found[said] = predict(said, precision, *more)
    return found | (
        {"timm bf16": [*timm, str(out / "timm bf16.csv"), "draft" if large else "whole", "bf16"]} if bf16 else {}
    )


def computes_int8() -> bool:
    """Return whether the torch engine computes in int8 on this processor."""
    try:
        check_int8()
    except ConfigError:
        return False
    return True


def run(command: list[str], out: Path) -> float:
    """Return the seconds that a process takes to its end."""
    out.unlink(missing_ok=True)
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=COMPILED)
    return time.perf_counter() - started


def read_labels(path: Path) -> list[str]:
    with path.open(newline="") as file:
        return [row["label"] for row in csv.DictReader(file)]


def measure_decoding(files: list[Path], decoder: Callable[[bytes], object]) -> float:
    """Return the images that all cores decode in a second, and do nothing else."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        started = time.perf_counter()
        for _ in pool.map(lambda path: decoder(path.read_bytes()), files):
            pass
        return len(files) / (time.perf_counter() - started)


def measure(cell: Cell, source: Path, count: int, rounds: int, bf16: bool) -> dict[str, object]:
    """Run all contenders in turn, and print and return what they took."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_photographs(source, folder / "images", cell, round(count * cell.share))
        write_models(folder / "models", cell.model, folder / "images")
        (folder / "out").mkdir()
        write_photographs(source, folder / "first", cell, 2)
        for one, command in list_contenders(
            cell, folder / "models", folder / "first", folder / "out", bf16
        ).items():  # modules are compiled, and files read, once
            run(command, folder / "out" / f"{one}.csv")
        runs = list_contenders(cell, folder / "models", folder / "images", folder / "out", bf16)
        times: dict[str, list[float]] = {one: [] for one in runs}
        limits: dict[str, list[float]] = {"decoding": [], "decoding reduced": [], "fp32": [], "bf16": [], "int8": []}
        flops = count_flops(build_vit_config(cell.model, classes=len(CLASSES)))
        for _ in range(rounds):
            for one, command in runs.items():
                times[one].append(run(command, folder / "out" / f"{one}.csv"))
            limits["decoding"].append(measure_decoding(files[:200], simplejpeg.decode_jpeg))
            limits["decoding reduced"].append(
                measure_decoding(files[:200], lambda data: decode(data, at_least=(448, 448)))
            )
            for precision in ("fp32", *["bf16"] * bf16):
                kind = torch.float32 if precision == "fp32" else torch.bfloat16
                limits[precision].append(measure_products(kind) / flops)
            limits["int8"].append(measure_int8() / flops)
        labels = {one: read_labels(folder / "out" / f"{one}.csv") for one in runs}
        return show(
            cell, len(files), times, {key: statistics.median(each) for key, each in limits.items() if each}, labels
        )


def show(
    cell: Cell, count: int, times: dict[str, list[float]], limits: Mapping[str, float], labels: dict[str, list[str]]
) -> dict[str, object]:
    """Print one cell's table; return its figures."""
    print(
        f"\n{count:,} photographs of {cell.name}; limits: {', '.join(f'{key} {value:.0f}' for key, value in limits.items())} images/s"
    )
    print("\n| contender | times timm fp32 | images/s | of the lower limit | labels as timm |\n|---|---|---|---|---|")
    found: dict[str, object] = {}
    for name, own in times.items():
        rate = count / statistics.median(own)
        reduced = "reduced" in name or "draft" in name
        lower = min(limits["decoding reduced" if reduced else "decoding"], limits[find_precision(name)])
        ratio = statistics.median(base / mine for base, mine in zip(times["timm fp32"], own, strict=True))
        same = sum(one == two for one, two in zip(labels[name], labels["timm fp32"], strict=True)) / count
        print(f"| {name} | {ratio:.2f} | {rate:.1f} | {rate / lower:.0%} | {same:.1%} |", flush=True)
        found[name] = {
            "ratio": ratio,
            "images_per_second": rate,
            "of_limit": rate / lower,
            "same_labels": same,
            "seconds": own,
        }
    return {"cell": cell.name, "images": count, "limits": dict(limits), "contenders": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    bf16 = has_fast_bf16(torch.device("cpu"))
    model = next(
        (line.partition(": ")[2] for line in read_cpu_vendor().splitlines() if line.startswith("model name")), ""
    )
    print(f"torch {torch.__version__}, {os.cpu_count()} cores of {model or 'an unnamed processor'}, bf16 {bf16}")
    found = [measure(CELLS[name], given.photographs, given.images, given.rounds, bf16) for name in given.cells]
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
