"""The others in the race on CIFAR-10 (`cifar10.py`): loops that anyone could write around a model, from plain to hard to beat.

Each sees random crops to 32 px after padding by 4 pixels, flips with probability 1/2, batches of 128, images normalised by
CIFAR-10's mean and standard deviation, cross entropy; the rate rises linearly over the first 5% of the time and ends at zero
exactly at the deadline.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from timm_peer import timm_model
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from vitreous.model.config import ViTConfig
from vitreous.training.muon import Muon

MEAN = torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1)
STD = torch.tensor([0.2470, 0.2435, 0.2616]).view(3, 1, 1)
BATCH, PADDING, WARMUP = 128, 4, 0.05


@dataclass(frozen=True)
class Peer:
    """One contender: a model and every setting of its loop."""

    model: Literal["timm", "cnn"]
    optimizer: Literal["adamw", "muon", "sgd"]
    lr: float
    """Peak rate; with Muon, of the matrices of the blocks: the rest takes AdamW at 0.003."""
    rates: tuple[float, ...]
    """What is tried for `lr` in the search."""
    data: Literal["files", "memory"]
    """files: Pillow and torch's DataLoader, each image opened each time; memory: decoded once, augmented as a batch."""
    weight_decay: float
    schedule: Literal["cosine", "linear"]
    half: float = 0.0
    """Share of the time, from the start, in which images are seen at half their rows and columns."""
    sincos: bool = False
    """Positions start from sines and cosines."""
    smoothing: float = 0.0
    bf16: bool = False
    """Training under autocast to bfloat16."""
    seed: int = 0


PEERS = {
    "plain": Peer("timm", "adamw", 1e-3, (5e-4, 1e-3, 2e-3, 4e-3), "files", 0.05, "cosine"),
    "tricks-adamw": Peer("timm", "adamw", 1e-3, (5e-4, 1e-3, 2e-3, 4e-3), "memory", 0.05, "linear", half=0.92, sincos=True),
    "tricks-muon": Peer("timm", "muon", 0.01, (0.005, 0.01, 0.02, 0.04), "memory", 0.05, "linear", half=0.92, sincos=True),
    "cnn": Peer("cnn", "sgd", 0.2, (0.1, 0.2, 0.4, 0.8), "memory", 5e-4, "linear", half=0.5, smoothing=0.1),
    "cnn-bf16": Peer("cnn", "sgd", 0.2, (0.1, 0.2, 0.4, 0.8), "memory", 5e-4, "linear", half=0.5, smoothing=0.1, bf16=True),
}  # fmt: skip
"""plain: the loop that one writes first. tricks: the general means of recipe `small` around timm's model, and timm's
attention by plain products where those are faster. cnn: a small ResNet of nine layers."""


class Pictures(Dataset):
    """JPEGs, read with Pillow one by one."""

    def __init__(self, files: list[tuple[Path, int]], augment: bool) -> None:
        self.files, self.augment = files, augment

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.files[index]
        image = decoded(path)
        return (pixels_of(cropped(image) if self.augment else image) / 255 - MEAN) / STD, label


def decoded(path: Path) -> Image.Image:
    with Image.open(path) as file:
        return file.convert("RGB")


def pixels_of(image: Image.Image) -> Tensor:
    data = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return data.view(image.height, image.width, 3).permute(2, 0, 1)


def cropped(image: Image.Image) -> Image.Image:
    cols, rows = image.size
    left, top = (int(torch.randint(2 * PADDING + 1, ())) for _ in range(2))
    image = ImageOps.expand(image, PADDING).crop((left, top, left + cols, top + rows))
    return ImageOps.mirror(image) if torch.rand(()) < 0.5 else image


def batches_from_files(files: list[tuple[Path, int]]) -> Iterator[tuple[Tensor, Tensor]]:
    loader = DataLoader(Pictures(files, augment=True), batch_size=BATCH, shuffle=True, drop_last=True)
    while True:
        yield from loader


def normalised(pixels: Tensor) -> Tensor:
    """Normalise uint8 pixels by CIFAR-10's mean and standard deviation."""
    return (pixels / 255 - MEAN) / STD


def batches_from_memory(
    files: list[tuple[Path, int]], size: int = BATCH, scale: Callable[[Tensor], Tensor] = normalised
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield shuffled batches of images that were decoded once, each cropped and flipped at random."""
    pixels = torch.stack([pixels_of(decoded(path)) for path, _ in files])
    labels = torch.tensor([label for _, label in files])
    pixels = F.pad(pixels.float(), (PADDING,) * 4, mode="reflect").to(torch.uint8)
    side = torch.arange(32)
    while True:
        for chosen in torch.randperm(len(labels)).split(size):
            if len(chosen) < size:
                continue
            rows, cols = (torch.randint(2 * PADDING + 1, (size, 1)) + side for _ in range(2))
            cols = torch.where(torch.rand(size, 1) < 0.5, cols, cols.flip(1))
            batch = pixels[chosen[:, None, None], :, rows[:, :, None], cols[:, None, :]].permute(0, 3, 1, 2)
            yield scale(batch), labels[chosen]


class TimmModel(nn.Module):
    """timm's ViT, at the resolution of the images that come: positions are averaged over the cells of a coarser grid."""

    def __init__(self, shape: ViTConfig, sincos: bool) -> None:
        super().__init__()
        self.model, self.grid = timm_model(shape), shape.grid
        self.model.patch_embed.strict_img_size = False
        if sincos:
            from vitreous.model.positions.added import encode_places

            self.model.pos_embed.data.copy_(encode_places(shape).reshape(self.model.pos_embed.shape))

    def forward(self, images: Tensor) -> Tensor:
        model, rows = self.model, images.shape[2] // self.model.patch_embed.patch_size[0]
        places = model.pos_embed.unflatten(1, self.grid).movedim(3, 1)
        places = F.adaptive_avg_pool2d(places, rows).flatten(2).mT
        return model.forward_head(model.norm(model.blocks(model.patch_embed(images) + places)))


class ResNet9(nn.Module):
    """Nine layers: a root, three stages that halve rows and columns, residual pairs in the first and last."""

    def __init__(self, width: int = 32, classes: int = 10) -> None:
        super().__init__()

        def unit(inputs: int, outputs: int) -> nn.Module:
            return nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
            )

        self.root = unit(3, width)
        self.stages = nn.ModuleList(unit(width * 2**n, width * 2 ** (n + 1)) for n in range(3))
        self.pairs = nn.ModuleList(nn.Sequential(unit(side, side), unit(side, side)) for side in (2 * width, 8 * width))
        self.head = nn.Linear(8 * width, classes)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.root(images.contiguous(memory_format=torch.channels_last))
        for index, stage in enumerate(self.stages):
            maps = F.max_pool2d(stage(maps), 2)
            if index != 1:
                maps = maps + self.pairs[index // 2](maps)
        return self.head(maps.amax(dim=(2, 3))) * 0.125


def build(peer: Peer, shape: ViTConfig) -> nn.Module:
    torch.manual_seed(peer.seed)
    return ResNet9(classes=shape.classes) if peer.model == "cnn" else TimmModel(shape, peer.sincos)


def optimizers(peer: Peer, model: nn.Module) -> list[torch.optim.Optimizer]:
    if peer.optimizer == "sgd":
        settings = {"momentum": 0.9, "nesterov": True, "weight_decay": peer.weight_decay}
        return [torch.optim.SGD(model.parameters(), lr=peer.lr, **settings)]
    named = list(model.named_parameters())
    muon = [p for name, p in named if peer.optimizer == "muon" and p.ndim == 2 and ".blocks." in f".{name}"]
    rest = [p for _, p in named if all(p is not other for other in muon)]
    lr, betas = (peer.lr, (0.9, 0.999)) if peer.optimizer == "adamw" else (3e-3, (0.9, 0.95))
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(rest, lr=lr, betas=betas, weight_decay=peer.weight_decay, fused=True)
    ]
    if muon:
        groups = [{"params": [p], "parts": 3 if p.shape[0] == 3 * p.shape[1] else 1} for p in muon]
        found.append(Muon(groups, lr=peer.lr))
    return found


def train_peer(
    peer: Peer, shape: ViTConfig, files: list[tuple[Path, int]], seconds: float
) -> tuple[nn.Module, int, float]:
    """Train until the deadline; return the model, the images seen and the seconds taken."""
    model = build(peer, shape)
    parts = optimizers(peer, model)
    peaks = [[group["lr"] for group in part.param_groups] for part in parts]
    started, images, told = time.perf_counter(), 0, 0.0
    source = batches_from_files if peer.data == "files" else batches_from_memory
    for pixels, labels in source(files):
        share = (time.perf_counter() - started) / seconds
        if share >= 1:
            break
        for part, peak in zip(parts, peaks, strict=True):
            for group, lr in zip(part.param_groups, peak, strict=True):
                group["lr"] = lr * rate(peer, share)
        if share < peer.half:
            pixels = F.avg_pool2d(pixels, 2)
        with torch.autocast("cpu", torch.bfloat16, enabled=peer.bf16):
            loss = F.cross_entropy(model(pixels), labels, label_smoothing=peer.smoothing)
        loss.backward()
        for part in parts:
            part.step()
            part.zero_grad(set_to_none=True)
        images += len(labels)
        if share >= told:
            print(f"  {share:4.0%} of the time, {images:,} images, loss {float(loss.detach()):.3f}", flush=True)
            told += 0.1
    return model, images, time.perf_counter() - started


def rate(peer: Peer, share: float) -> float:
    """Return the share of the peak rate after this share of the time."""
    if share < WARMUP:
        return share / WARMUP
    rest = (share - WARMUP) / (1 - WARMUP)
    return 1 - rest if peer.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * rest))


@torch.inference_mode()
def answers(model: nn.Module, files: list[tuple[Path, int]]) -> np.ndarray:
    """Return which of the images the model gets right, in order."""
    model.eval()
    loader = DataLoader(Pictures(files, augment=False), batch_size=250)
    return torch.cat([model(pixels).argmax(1) == labels for pixels, labels in loader]).numpy()
