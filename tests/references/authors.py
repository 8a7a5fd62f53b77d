"""Random weights under the names and in the layouts of Google's npz files: vision_transformer's hybrids, big_transfer."""

from pathlib import Path

import numpy as np
import torch

WIDTH, HEADS, MLP, DEPTH, CLASSES = 64, 4, 256, 2, 10
IMAGE = 64


class Drawn(dict[str, np.ndarray]):
    """Arrays by name, drawn one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(3)

    def draw(self, name: str, *shape: int, scale: float = 1.0, middle: float = 0.0) -> None:
        self[name] = (middle + scale * torch.randn(shape, generator=self.generator)).numpy()

    def norm(self, name: str, *shape: int, scale: str = "scale", bias: str = "bias") -> None:
        self.draw(f"{name}/{scale}", *shape, scale=0.1, middle=1.0)
        self.draw(f"{name}/{bias}", *shape, scale=0.1)

    def dense(self, name: str, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> None:
        self.draw(f"{name}/kernel", *inputs, *outputs, scale=float(np.prod(inputs)) ** -0.5)
        self.draw(f"{name}/bias", *outputs, scale=0.1)

    def convolution(self, folder: str, ending: str, size: int, inputs: int, outputs: int) -> None:
        """A hybrid's convolution and its norm."""
        self.draw(f"{folder}conv{ending}/kernel", size, size, inputs, outputs)
        self.norm(f"{folder}gn{ending}", 1, 1, 1, outputs)

    def save(self, path: Path) -> Path:
        np.savez(path, **self)
        return path


def hybrid(units: tuple[int, ...], cells: int, pre_logits: bool = False) -> Drawn:
    """A hybrid of vision_transformer for images of 64 pixels; `cells` of the stem's map, down and across, make a patch."""
    found = Drawn()
    inputs = stem(found, units)
    found.dense("embedding", (cells, cells, inputs), (WIDTH,))
    grid = IMAGE // (4 * 2 ** max(0, len(units) - 1) * cells)
    found.draw("cls", 1, 1, WIDTH)
    found.draw("Transformer/posembed_input/pos_embedding", 1, 1 + grid * grid, WIDTH)
    for index in range(DEPTH):
        block = f"Transformer/encoderblock_{index}"
        found.norm(f"{block}/LayerNorm_0", WIDTH)
        for part in ("query", "key", "value"):
            found.dense(f"{block}/MultiHeadDotProductAttention_1/{part}", (WIDTH,), (HEADS, WIDTH // HEADS))
        found.dense(f"{block}/MultiHeadDotProductAttention_1/out", (HEADS, WIDTH // HEADS), (WIDTH,))
        found.norm(f"{block}/LayerNorm_2", WIDTH)
        found.dense(f"{block}/MlpBlock_3/Dense_0", (WIDTH,), (MLP,))
        found.dense(f"{block}/MlpBlock_3/Dense_1", (MLP,), (WIDTH,))
    found.norm("Transformer/encoder_norm", WIDTH)
    if pre_logits:
        found.dense("pre_logits", (WIDTH,), (WIDTH,))
    found.dense("head", (WIDTH,), (CLASSES,))
    return found


def stem(found: Drawn, units: tuple[int, ...]) -> int:
    """Draw a hybrid's stem; return the channels that it puts out."""
    found.convolution("", "_root", 7, 3, 64)
    inputs = 64
    for stage, count in enumerate(units):
        inner = 64 * 2**stage
        for unit in range(count):
            folder = f"block{stage + 1}/unit{unit + 1}/"
            if unit == 0:
                found.convolution(folder, "_proj", 1, inputs, 4 * inner)
            found.convolution(folder, "1", 1, inputs, inner)
            found.convolution(folder, "2", 3, inner, inner)
            found.convolution(folder, "3", 1, inner, 4 * inner)
            inputs = 4 * inner
    return inputs


NEWER = {"MultiHeadDotProductAttention_1": "MultiHeadDotProductAttention_0", "LayerNorm_2": "LayerNorm_1"}
NEWER |= {"MlpBlock_3": "MlpBlock_0"}


def newer(arrays: Drawn) -> Drawn:
    """The same weights as the authors' newer code saves them: blocks' parts counted by kind, group norms flat."""
    found = Drawn()
    for name, array in arrays.items():
        for old, new in NEWER.items():
            name = name.replace(old, new)
        found[name] = array.reshape(-1) if name.startswith("gn") or "/gn" in name else array
    return found


def bit(units: tuple[int, ...], width: int = 1) -> Drawn:
    """A ResNet of big_transfer."""
    found = Drawn()
    kernel = "standardized_conv2d/kernel"
    found.draw("/".join(("resnet", "root_block", kernel)), 7, 7, 3, 64 * width)
    inputs = 64 * width
    for stage, count in enumerate(units):
        inner = 64 * width * 2**stage
        for unit in range(count):
            folder = f"resnet/block{stage + 1}/unit{unit + 1:02d}"
            if unit == 0:
                found.draw(f"{folder}/a/proj/{kernel}", 1, 1, inputs, 4 * inner)
            for part, size, given, made in (
                ("a", 1, inputs, inner),
                ("b", 3, inner, inner),
                ("c", 1, inner, 4 * inner),
            ):
                found.norm(f"{folder}/{part}/group_norm", given, scale="gamma", bias="beta")
                found.draw(f"{folder}/{part}/{kernel}", size, size, given, made)
            inputs = 4 * inner
    found.norm("resnet/group_norm", inputs, scale="gamma", bias="beta")
    found.draw("resnet/head/conv2d/kernel", 1, 1, inputs, CLASSES, scale=inputs**-0.5)
    found.draw("resnet/head/conv2d/bias", CLASSES, scale=0.1)
    return found
