"""Random weights under the names and in the layouts of Google's npz files: vision_transformer's hybrids, big_transfer.

And what the authors' code makes of them, in float64: bit_pytorch/models.py and bit_jax/models.py of big_transfer,
vit_jax/models_resnet.py of vision_transformer.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

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

    def shrink(self, low: float, high: float) -> "Drawn":
        """Give each output of each standardised kernel a deviation between two, as trained ones have."""
        for name, array in self.items():
            if array.ndim == 4 and array.shape[3] > 1 and ("conv" in name and "head" not in name):
                spread = torch.rand(array.shape[3], generator=self.generator).numpy()
                self[name] = (low * (high / low) ** spread * array).astype(np.float32)
        return self

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


def kernel_of(array: np.ndarray, deviation: bool) -> Tensor:
    """The standardised kernel: 1e-10 on the variance in big_transfer, 1e-5 on the deviation in vision_transformer."""
    kernel = torch.from_numpy(array).double().permute(3, 2, 0, 1)
    kernel = kernel - kernel.mean((1, 2, 3), keepdim=True)
    variance = kernel.square().mean((1, 2, 3), keepdim=True)
    return kernel / (variance.sqrt() + 1e-5 if deviation else (variance + 1e-10).sqrt())


def normed(maps: Tensor, arrays: Drawn, scale: str, bias: str, epsilon: float) -> Tensor:
    """Group norm of 32 groups."""
    groups = maps.unflatten(1, (32, -1))
    mean = groups.mean((2, 3, 4), keepdim=True)
    variance = (groups - mean).square().mean((2, 3, 4), keepdim=True)
    flat = ((groups - mean) / (variance + epsilon).sqrt()).flatten(1, 2)
    weights = (torch.from_numpy(arrays[name]).double().view(-1, 1, 1) for name in (scale, bias))
    return flat * next(weights) + next(weights)


def bit_logits(arrays: Drawn, units: tuple[int, ...], images: Tensor) -> Tensor:
    """big_transfer's ResNet V2."""

    def convolved(maps: Tensor, name: str, stride: int = 1) -> Tensor:
        kernel = kernel_of(arrays[f"{name}/standardized_conv2d/kernel"], deviation=False)
        return F.conv2d(maps, kernel, None, stride, kernel.shape[2] // 2)

    def active(maps: Tensor, name: str) -> Tensor:
        return normed(maps, arrays, f"{name}/gamma", f"{name}/beta", 1e-5).relu()

    z = F.max_pool2d(F.pad(convolved(images.double(), "resnet/root_block", 2), (1, 1, 1, 1)), 3, 2)
    for stage, count in enumerate(units):
        for unit in range(count):
            name, stride = f"resnet/block{stage + 1}/unit{unit + 1:02d}", 2 if stage and not unit else 1
            y = active(z, f"{name}/a/group_norm")
            z = z if unit else convolved(y, f"{name}/a/proj", stride)
            y = active(convolved(y, f"{name}/a"), f"{name}/b/group_norm")
            y = active(convolved(y, f"{name}/b", stride), f"{name}/c/group_norm")
            z = z + convolved(y, f"{name}/c")
    pooled = active(z, "resnet/group_norm").mean((2, 3))
    head = (torch.from_numpy(arrays[f"resnet/head/conv2d/{part}"]).double() for part in ("kernel", "bias"))
    return pooled @ next(head)[0, 0] + next(head)


def hybrid_maps(arrays: Drawn, units: tuple[int, ...], images: Tensor) -> Tensor:
    """What vision_transformer's ResNet gives to the patch embedding."""

    def convolved(maps: Tensor, folder: str, ending: str, stride: int = 1) -> Tensor:
        kernel = kernel_of(arrays[f"{folder}conv{ending}/kernel"], deviation=True)
        maps = F.conv2d(same(maps, kernel.shape[2], stride), kernel, None, stride)
        return normed(maps, arrays, f"{folder}gn{ending}/scale", f"{folder}gn{ending}/bias", 1e-6)

    def same(maps: Tensor, size: int, stride: int, value: float = 0.0) -> Tensor:
        rows, cols = (max(0, (-(-side // stride) - 1) * stride + size - side) for side in maps.shape[2:])
        return F.pad(maps, (cols // 2, cols - cols // 2, rows // 2, rows - rows // 2), value=value)

    z = convolved(images.double(), "", "_root", 2).relu()
    z = F.max_pool2d(same(z, 3, 2, -torch.inf), 3, 2)
    for stage, count in enumerate(units):
        for unit in range(count):
            folder, stride = f"block{stage + 1}/unit{unit + 1}/", 2 if stage and not unit else 1
            y = convolved(z, folder, "1").relu()
            y = convolved(convolved(y, folder, "2", stride).relu(), folder, "3")
            z = ((z if unit else convolved(z, folder, "_proj", stride)) + y).relu()
    return z
