"""Few images and weights that know other classes: the default command beside training from scratch and a timm loop.

    python benchmarks/few.py --data CIFAR10 --kept FOLDER --search        choose the timm loop's settings, on training images alone
    python benchmarks/few.py --data CIFAR10 --kept FOLDER [--sizes 10 50 200 1000] [--seeds 3] [--parts ...] [--seconds 60] [--json FILE]

CIFAR10 holds train/ and test/ with one folder of JPEGs a class (or tars, see `cifar10.py`). A small ViT learns every second class in
the order of their names by recipe `small-vit`; what it learned is taken to the other five, of which so many training images a
class are drawn for each seed. All learn from the same images and are measured once on the five classes' 5,000 test images, or on `--tests` of them a class.

    default     `vitreous train DATA --weights PRETRAINED`, no further option; it holds out a fifth of DATA for itself
    scratch     `vitreous train DATA --weights none --minutes M`
    timm        timm's VisionTransformer with the same weights (same logits: checked) and a new head, fine-tuned on all of DATA: AdamW,
                flips and random windows after padding, cosine, label smoothing
    timm-probe  scikit-learn's LogisticRegressionCV on that model's standardised features of all of DATA

Time is the process's own, of one core and one thread, start and imports apart. The default goes first; scratch and timm train for as
long as it took in all for that draw, their reading of images apart. With `--seconds` the default is asked for so much by `--minutes`.
`--search` tries rates, and shares of that time, of the timm loop by other draws (seeds from 100 on), measured on training images that are
in none of them; it also says which of timm and timm-probe is the better one there. Intervals hold seeds and images: a two-way bootstrap.
"""

import argparse
import csv
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from cifar10 import Files, files_of, interval, unpacked
from cifar10_peers import Peer, batches_from_memory, decoded, optimizers, pixels_of, rate
from timm_peer import let_torchvision_load
from torch import Tensor, nn
from torch.nn import functional as F

import vitreous
from vitreous.storage.atomic import write_atomically

PARTS = ("default", "scratch", "timm", "timm-probe")
SHAPE = {"width": 96, "depth": 4, "heads": 3, "mlp_width": 384}
"""Of the ViT, with patches of 4 x 4, mean pooling and no [class]: half a million parameters."""
RATES, SHARES = (3e-4, 1e-3, 3e-3, 1e-2), (0.3, 1.0)
"""Peak rates of the timm loop, and shares of its time, that the search tries."""
CHOSEN = {10: (3e-3, 1.0), 50: (3e-3, 1.0), 200: (1e-3, 1.0), 1000: (3e-3, 1.0)}
"""Rate and share, by images a class, that a search of two draws chose of 0.001, 0.003, 0.01 and 0.03; for 1,000 one draw, of 0.0003, 0.001 and 0.003."""
HELD_OUT, SEARCH_SEED = 400, 100
"""Training images a class that the search measures on, and its first seed."""


@dataclass(frozen=True)
class Fit:
    """What one part came to on one draw."""

    correct: np.ndarray
    """Which of the images that were measured on, in order."""
    seconds: float
    """Of the process, measuring apart."""

    def keep(self, file: Path) -> None:
        record = {"seconds": self.seconds, "correct": self.correct.astype(int).tolist()}
        write_atomically(file, json.dumps(record).encode())

    @classmethod
    def kept(cls, file: Path) -> "Fit":
        record = json.loads(file.read_text())
        return cls(np.array(record["correct"], dtype=bool), record["seconds"])


@dataclass(frozen=True)
class Draw:
    """Training images of the five classes, and those to measure on."""

    train: Files
    test: Files
    classes: list[str]

    def write(self, file: Path) -> Path:
        with file.open("w", newline="") as text:
            table = csv.writer(text)
            table.writerow(("path", "label"))
            table.writerows((path.resolve(), self.classes[label]) for path, label in self.train)
        return file


def halves(files: Files, first: int) -> Files:
    """Return the files of every second class, labelled anew."""
    return [(path, label // 2) for path, label in files if label % 2 == first]


def draw(data: Path, size: int, seed: int, tests: int | None = None) -> Draw:
    """Draw so many training images a class, and the same `tests` test images a class for every seed.

    None: the search's, training images that no draw has among those that it learns from.
    """
    files = halves(files_of(data / "train"), 1)
    apart, rest = [], []
    for own in by_class(files):
        own = shuffled(own, SEARCH_SEED)
        apart, rest = [*apart, *own[:HELD_OUT]], [*rest, own[HELD_OUT:]]
    train = [one for own in rest for one in shuffled(own, seed)[:size]]
    classes = [own[0][0].parent.name for own in rest]
    if tests is None:
        return Draw(train, apart, classes)
    return Draw(
        train,
        [one for own in by_class(halves(files_of(data / "test"), 1)) for one in shuffled(own, 0)[:tests]],
        classes,
    )


def by_class(files: Files) -> list[Files]:
    return [[one for one in files if one[1] == label] for label in range(5)]


def shuffled(files: Files, seed: int) -> Files:
    return [files[n] for n in np.random.default_rng(seed).permutation(len(files))]


def pretrain(data: Path, kept: Path, images: str) -> Path:
    """Return a run that has learned the other five classes, trained unless it is there."""
    run = kept / "pretrained"
    if (run / "report.html").exists():  # the last that a run writes
        return run
    if (run / "config.json").exists():
        vitreous.resume(run)
        return run
    with (kept / "source.csv").open("w", newline="") as text:
        table = csv.writer(text)
        table.writerow(("path", "label", "split"))
        for folder, split in (("train", "train"), ("test", "val")):
            files = halves(files_of(data / folder), 0)
            table.writerows((path.resolve(), path.parent.name, split) for path, _ in files)
    settings = {"model": SHAPE, "duration": images, "evaluate_every": "100%", "checkpoint_every": "3min", "workers": 0}
    vitreous.train(kept / "source.csv", recipe="small-vit", weights="none", out=run, settings=settings)
    return run


def timm_twin(run: Path, kept: Path) -> nn.Module:
    """Return timm's model with the weights of a run, its logits held against the run's."""
    let_torchvision_load()
    import timm

    folder = kept / "timm"
    if not folder.exists():
        vitreous.convert(run, folder, to="timm")
    twin = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    images = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(twin(images), vitreous.load(run).model(images), rtol=1e-4, atol=1e-5)
    return twin


def scaled(pixels: Tensor) -> Tensor:
    """Bring uint8 pixels to -1..1, as the weights take them."""
    return pixels / 127.5 - 1


def memory(files: Files) -> tuple[Tensor, Tensor]:
    return torch.stack([pixels_of(decoded(path)) for path, _ in files]), torch.tensor([label for _, label in files])


def learn(twin: nn.Module, files: Files, seconds: float, lr: float, seed: int) -> nn.Module:
    """Fine-tune all of timm's model, with a new head, until the time is over."""
    torch.manual_seed(seed)
    twin.reset_classifier(5)  # type: ignore[operator]
    peer = Peer("timm", "adamw", lr, (), "memory", 0.05, "cosine", smoothing=0.1)
    (optimizer,) = optimizers(peer, twin.train())
    batches = batches_from_memory(files, min(64, len(files) // 2), scaled)
    images = next(batches)  # what is read once
    started = time.process_time()
    while (share := (time.process_time() - started) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = lr * rate(peer, share)
        pixels, labels = images
        F.cross_entropy(twin(pixels), labels, label_smoothing=peer.smoothing).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        images = next(batches)
    return twin.eval()


@torch.inference_mode()
def outputs(twin: nn.Module, pixels: Tensor, features: bool = False) -> np.ndarray:
    """Return logits, or the pooled features."""
    parts = [scaled(part) for part in pixels.split(250)]
    found = [
        twin.forward_head(twin.forward_features(part), pre_logits=True) if features else twin(part)  # type: ignore[operator]
        for part in parts
    ]
    return torch.cat(found).numpy()


def fit_timm(name: str, twin: nn.Module, given: Draw, seconds: float, lr: float, seed: int) -> Fit:
    started = time.process_time()
    if name == "timm":
        learn(twin, given.train, seconds, lr, seed)
        spent = time.process_time() - started
        pixels, labels = memory(given.test)
        return Fit(outputs(twin, pixels).argmax(1) == labels.numpy(), spent)
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pixels, labels = memory(given.train)
    head = make_pipeline(
        StandardScaler(),
        LogisticRegressionCV(
            Cs=np.logspace(-4, 1, 6),
            cv=5,
            max_iter=1000,
            l1_ratios=(0,),
            scoring="neg_log_loss",
        ),
    )
    head.fit(outputs(twin, pixels, features=True), labels.numpy())
    spent = time.process_time() - started
    pixels, labels = memory(given.test)
    return Fit(head.predict(outputs(twin, pixels, features=True)) == labels.numpy(), spent)


def fit_vitreous(given: Draw, **wishes: object) -> Fit:
    """Train by the command's own function, on a cache of its own: nothing is there from another draw."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VITREOUS_CACHE"] = f"{folder}/cache"
        data = given.write(Path(folder) / "few.csv")
        seed = wishes.pop("seed")
        started = time.process_time()
        run = vitreous.train(data, out=Path(folder) / "run", settings={"seed": seed}, **wishes).run
        spent = time.process_time() - started
        print(f"  recipe {json.loads((run / 'config.json').read_text())['config']['recipe']}", flush=True)
        found = vitreous.load(run)([path for path, _ in given.test])
        return Fit(
            np.array([one.label == given.classes[label] for one, (_, label) in zip(found, given.test, strict=True)]),
            spent,
        )


def fit(
    name: str, given: Draw, size: int, seed: int, seconds: float, limit: float | None, run: Path, kept: Path
) -> Fit:
    """Fit one part. `seconds`: the equal time; `limit`: what was asked for, or None."""
    if name == "default":
        minutes = {"minutes": limit / 60} if limit else {}
        return fit_vitreous(given, weights=str(run), seed=seed, **minutes)
    if name == "scratch":
        return fit_vitreous(given, weights="none", seed=seed, minutes=seconds / 60)
    lr, share = CHOSEN[size]
    return fit_timm(name, timm_twin(run, kept), given, seconds * share, lr, seed)


def race(options: argparse.Namespace, data: Path, run: Path) -> dict[tuple[str, int], list[Fit]]:
    """Fit every part to every draw; what is kept is not done again."""
    results: dict[tuple[str, int], list[Fit]] = {}
    for size in options.sizes:
        for seed in range(options.seeds):
            given, seconds = draw(data, size, seed, options.tests), 0.0
            for name in dict.fromkeys(("default", *options.parts)):
                file = options.kept / f"{name}-{size}-{seed}-{options.seconds or 'default'}.json"
                if not file.exists():
                    fit(name, given, size, seed, seconds, options.seconds, run, options.kept).keep(file)
                found = Fit.kept(file)
                seconds = seconds or found.seconds  # the default's, which comes first
                results.setdefault((name, size), []).append(found)
                print(
                    f"{size} a class, seed {seed}: {name} {found.correct.mean():.1%} in {found.seconds:.1f} s",
                    flush=True,
                )
    return results


def search(options: argparse.Namespace, data: Path, run: Path) -> None:
    """Print what each setting of the timm loop reaches on held-out training images, by the time of the default's first draw."""
    for size in options.sizes:
        seconds = Fit.kept(options.kept / f"default-{size}-0-{options.seconds or 'default'}.json").seconds
        draws = [draw(data, size, SEARCH_SEED + 1 + n) for n in range(options.seeds)]
        tried = [("timm", lr, share) for lr in options.rates for share in options.shares] + [("timm-probe", 0.0, 1.0)]
        reached = {}
        for name, lr, share in tried:
            fits = [
                fit_timm(name, timm_twin(run, options.kept), given, seconds * share, lr, SEARCH_SEED + n)
                for n, given in enumerate(draws)
            ]
            reached[name, lr, share] = float(np.mean([one.correct.mean() for one in fits]))
            told = f"{name}, rate {lr:g}, {share:g} of {seconds:.1f} s: {reached[name, lr, share]:.1%}"
            print(f"{size} a class: {told} of {len(draws[0].test):,} held-out training images", flush=True)
        print(f"{size} a class: best {max(reached, key=reached.__getitem__)}, set to {CHOSEN[size]}", flush=True)


def rows(results: dict[tuple[str, int], list[Fit]]) -> Iterator[dict]:
    """Yield for each part and size the mean, its interval, and that of the default less this part, on the same images."""
    for (name, size), found in results.items():
        correct = np.stack([one.correct for one in found]).astype(float)
        gain = np.stack([one.correct for one in results["default", size]]).astype(float) - correct
        yield {
            "images a class": size,
            "part": name,
            "mean": float(correct.mean()),
            "interval": interval(correct),
            "default less this": float(gain.mean()),
            "interval of that": interval(gain),
            "seconds": float(np.median([one.seconds for one in found])),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--kept", type=Path, required=True, help="folder of the pre-trained weights and of what is finished"
    )
    parser.add_argument("--images", default="0.25Mex", help="that the pre-training sees")
    parser.add_argument("--sizes", type=int, nargs="+", choices=CHOSEN, default=tuple(CHOSEN), help="images a class")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, help="of training that the default is asked for")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--search", action="store_true")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="that the search tries")
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES, help="of the time that the search tries")
    parser.add_argument("--tests", type=int, default=1000, help="test images a class that are measured on")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    # on one core nobody starts a worker, whose time would be another process's
    os.sched_setaffinity(0, list(os.sched_getaffinity(0))[-1:])
    time.perf_counter = time.process_time
    torch.set_num_threads(1)
    options.kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        data = unpacked(options.data, Path(folder))
        run = pretrain(data, options.kept, options.images)
        if options.search:
            search(options, data, run)
            return
        table = list(rows(race(options, data, run)))
    for row in table:
        print(row)
    if options.json:
        options.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
