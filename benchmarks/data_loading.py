"""Time and memory to the first training step from very many files, and random reads from shards and parquet, beside peers.

    python benchmarks/data_loading.py make FOLDER --files 200000 --folders 1000
    python benchmarks/data_loading.py start FOLDER
    python benchmarks/data_loading.py read FOLDER

`start`: each in a process of its own, from its beginning (imports included) to the end of the first step of the same small ViT on 64
images of 64 x 64 by two workers: vitreous, looking at every image first or with --scan later; timm's ImageDataset, loader and model; Hugging Face
`datasets` (imagefolder) with torch's DataLoader and timm's model. The first start has empty caches of its own, the second finds those of the first; the
file system's cache is warm for all, and all modules are compiled, as pip leaves them. Memory is the highest sum of the processes' proportional share (PSS).

`read`: the bytes of images at random places, one after another in one thread: from tar shards beside webdataset's random access (wids), from parquet
beside `datasets`, whose Arrow file in its cache is written before, as vitreous's unpacked file is.

The JPEGs are 64 x 64, of a few kilobytes, each with bytes of its own. Needs timm, datasets and, for `read`, webdataset below 1 (later ones have no wids).
"""

import argparse
import compileall
import contextlib
import importlib
import io
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

import vitreous
from vitreous.runtime.processor import read_cpu_model

HEAD = """
import os, sys, time
sys.path.insert(0, {here!r})
def tell():
    used = os.times()
    alive = sum(float(part) for child in open(f"/proc/self/task/{{os.getpid()}}/children").read().split()
        for part in open(f"/proc/{{child}}/stat").read().rpartition(")")[2].split()[11:13]) / os.sysconf("SC_CLK_TCK")
    print("STEP", time.time(), sum(used[:4]) + alive, flush=True)
    os._exit(0)
"""
MODEL = "dict(img_size=64, patch_size=16, embed_dim=64, depth=2, num_heads=2, num_classes={classes})"
STARTS = {
    "vitreous, every image looked at": """
import vitreous
class First(vitreous.Callback):
    def on_step(self, step, numbers, model): tell()
vitreous.train({folder!r}, out={out!r}, recipe="small-vit", image=(64, 64), model="mu/16", settings=dict(
    batch=64, workers=2, device="cpu", precision="fp32", duration="2st", data=dict(scan={scan!r})), callbacks=[First()], progress=False)
""",
    "timm": """
import timm_peer; timm_peer.let_torchvision_load()
import torch
from timm.data import create_dataset, create_loader
from timm.models.vision_transformer import VisionTransformer
model = VisionTransformer(**{model})
loader = create_loader(create_dataset("", root={folder!r}, split="train", is_training=True), (3, 64, 64), 64, is_training=True,
    num_workers=2, use_prefetcher=False, persistent_workers=False)
images, labels = next(iter(loader))
optimizer = torch.optim.AdamW(model.parameters())
torch.nn.functional.cross_entropy(model(images), labels).backward(); optimizer.step(); tell()
""",
    "datasets": """
import timm_peer; timm_peer.let_torchvision_load()
import numpy, torch
from datasets import load_dataset
from timm.models.vision_transformer import VisionTransformer
found = load_dataset("imagefolder", data_dir={folder!r}, split="train")
def collate(rows):
    images = torch.stack([torch.from_numpy(numpy.array(row["image"].convert("RGB").resize((64, 64)))) for row in rows])
    return images.permute(0, 3, 1, 2) / 255, torch.tensor([row["label"] for row in rows])
loader = torch.utils.data.DataLoader(found, 64, shuffle=True, num_workers=2, collate_fn=collate)
model = VisionTransformer(**{model})
images, labels = next(iter(loader))
optimizer = torch.optim.AdamW(model.parameters())
torch.nn.functional.cross_entropy(model(images), labels).backward(); optimizer.step(); tell()
""",
}
STARTS["vitreous, --scan later"] = STARTS["vitreous, every image looked at"]


def make(folder: Path, files: int, folders: int) -> None:
    """Write the files."""
    rng = np.random.default_rng(0)
    bases = []
    for _ in range(200):
        stream = io.BytesIO()
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
        bases.append(stream.getvalue())
    for number in range(folders):
        (folder / "photos" / f"class{number:04}").mkdir(parents=True, exist_ok=True)
    for number in range(files):
        base, comment = bases[number % len(bases)], f"{number:010}".encode()
        data = base[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + base[2:]
        (folder / "photos" / f"class{number % folders:04}" / f"{number:07}.jpg").write_bytes(data)
    print(f"{files:,} files in {folders:,} folders")


def measure_start(name: str, folder: Path, caches: Path, out: Path) -> tuple[float, float, float]:
    """Return seconds to the first step, the processor's seconds of all processes, and the highest memory in MiB."""
    classes = sum(1 for _ in (folder / "photos").iterdir())
    fields = {"folder": str(folder / "photos"), "out": str(out), "scan": "later" if "later" in name else "first"}
    code = HEAD.format(here=str(Path(__file__).parent)) + STARTS[name].format(
        model=MODEL.format(classes=classes), **fields
    )
    shutil.rmtree(out, ignore_errors=True)
    environment = {
        **os.environ,
        "VITREOUS_CACHE": str(caches / "vitreous"),
        "HF_HOME": str(caches / "hf"),
        "HF_HUB_OFFLINE": "1",
    }
    began, highest = time.time(), 0.0
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=caches,
    )
    while process.poll() is None:
        highest = max(highest, read_memory(process.pid))
        time.sleep(0.2)
    said, errors = process.communicate()
    if "STEP" not in said:
        raise SystemExit(f"{name}: {errors[-2000:]}")
    at, used = map(float, said.split("STEP ")[1].split()[:2])
    return at - began, used, highest


def read_memory(pid: int) -> float:
    """Return the memory of a process and all below it in MiB; 0 if one of them begins or ends meanwhile: what it shares would
    count twice."""
    tree = list_tree(pid)
    total = sum(map(read_pss, tree))
    return total if list_tree(pid) == tree and all(map(is_alive, tree)) else 0.0


def is_alive(pid: int) -> bool:
    """Return whether a process has memory yet; one that has ended has none."""
    with contextlib.suppress(OSError):
        return not Path(f"/proc/{pid}/statm").read_text().startswith("0 ")
    return False


def list_tree(pid: int) -> list[int]:
    """Return a process and all below it."""
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            found += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
    return found


def read_pss(pid: int) -> float:
    """Return a process's proportional share of memory in MiB."""
    with contextlib.suppress(OSError, StopIteration):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / 1024
    return 0.0


def start(folder: Path, only: str) -> None:
    """Measure all starts."""
    print(f"{read_cpu_model()}, {os.cpu_count()} cores")
    compileall.compile_dir(Path(vitreous.__file__).parent, quiet=1)
    for name in ("vitreous, --scan later", "timm", "datasets", "vitreous, every image looked at"):
        if only not in name:
            continue
        caches = folder / "caches"
        shutil.rmtree(caches, ignore_errors=True)
        caches.mkdir()
        for which in ("first", "second"):
            seconds, used, memory = measure_start(name, folder, caches, folder / "run")
            print(f"{name:34} {which:7} {seconds:8.1f} s {used:8.1f} s of the processor {memory:8.0f} MiB", flush=True)
        shutil.rmtree(caches)


def write_packed(folder: Path, count: int) -> None:
    """Write the first files as shards and as a parquet file."""
    import pyarrow
    import pyarrow.parquet

    if (folder / "tables").exists():
        return
    chosen = folder / "chosen"
    for file in sorted((folder / "photos").rglob("*.jpg"))[:count]:
        (chosen / file.parent.name).mkdir(parents=True, exist_ok=True)
        os.link(file, chosen / file.parent.name / file.name)
    vitreous.shard(chosen, folder / "shards", size=16 * 2**20, progress=False)
    files = sorted(chosen.rglob("*.jpg"))
    rows = {
        "image": [{"bytes": file.read_bytes(), "path": file.name} for file in files],
        "label": [file.parent.name for file in files],
    }
    (folder / "tables").mkdir()
    pyarrow.parquet.write_table(pyarrow.table(rows), folder / "tables" / "train.parquet", row_group_size=1000)


def read(folder: Path, count: int, rounds: int) -> None:
    """Measure random reads, interleaved."""
    write_packed(folder, count)
    os.environ["VITREOUS_CACHE"], os.environ["HF_HOME"] = (
        str(folder / "caches" / "vitreous"),
        str(folder / "caches" / "hf"),
    )
    import datasets

    wids = importlib.import_module("wids")  # of webdataset, which the project does not declare

    from vitreous.data.config import DataConfig
    from vitreous.data.dataset import open_dataset

    def open_own(path: Path):
        found = open_dataset(DataConfig(str(path), holdout=0.001, scan="later")).train
        return found.read, len(found)

    plan = json.loads((folder / "shards" / "shards.json").read_text())
    shards = [{"url": str(folder / "shards" / one["url"]), "nsamples": one["nsamples"]} for one in plan["shardlist"]]
    listed = wids.ShardListDataset(shards, transformations=[], keep=True)
    table = datasets.Dataset.from_parquet(
        str(folder / "tables" / "train.parquet"), cache_dir=str(folder / "caches" / "arrow")
    )
    table = table.cast_column("image", datasets.Image(decode=False))
    kinds = {
        "tar shards": (open_own(folder / "shards"), (lambda index: listed[index][".jpg"].getvalue(), len(listed))),
        "parquet": (
            open_own(folder / "tables" / "train.parquet"),
            (lambda index: table[index]["image"]["bytes"], len(table)),
        ),
    }
    print(f"{read_cpu_model()}; one thread, {count:,} images, medians of {rounds} interleaved rounds")
    for name, ((own, ours), (theirs, others)) in kinds.items():
        rates: dict[str, list[float]] = {"own": [], "peer": []}
        draw = random.Random(0)
        for round_ in range(rounds + 1):
            for side, function, length in (("own", own, ours), ("peer", theirs, others)):
                places = [draw.randrange(length) for _ in range(2000)]
                began, total = time.perf_counter(), 0
                for place in places:
                    total += len(function(place))
                assert total > 2000 * 500
                if round_:
                    rates[side].append(2000 / (time.perf_counter() - began))
        own_rate, peer_rate = (statistics.median(rates[side]) for side in ("own", "peer"))
        peer = "webdataset" if name == "tar shards" else "datasets"
        print(
            f"{name:12} vitreous {own_rate:9,.0f} images/s   {peer:10} {peer_rate:9,.0f} images/s   ratio {own_rate / peer_rate:.2f}",
            flush=True,
        )


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "start", "read"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--folders", type=int, default=1000)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    if options.what == "make":
        make(options.folder, options.files, options.folders)
    elif options.what == "start":
        start(options.folder.resolve(), options.only)
    else:
        read(options.folder.resolve(), options.images, options.rounds)


if __name__ == "__main__":
    main()
