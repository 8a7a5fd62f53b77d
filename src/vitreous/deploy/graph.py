"""The model as one graph for other runtimes; its inputs and outputs are chosen before it is traced."""

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vitreous.deploy.half_precision import DTYPES, NarrowProducts, narrow_weights
from vitreous.engines.exported_folder import GraphConfig, Target
from vitreous.engines.torch_engine import to_probabilities
from vitreous.errors import ConfigError, UnknownName
from vitreous.model.convnet import ConvNet
from vitreous.model.convolutions import StdConv, pad_same, standardise_kernel
from vitreous.model.swin import Swin
from vitreous.model.token_merging import Merging
from vitreous.runtime.device import check_bf16
from vitreous.shapes import Float, Pixels
from vitreous.weights.model_folder import Computing, ModelFolder

OPSET = 20
"""Version of ONNX's operator set that is written: the first with GELU as one operator."""
CHOICES = {"logits": ("logits",), "features": ("features",), "both": ("logits", "features")}
"""Choices of the outputs."""


@dataclass(frozen=True)
class GraphOptions:
    """The graph's inputs and outputs."""

    outputs: Literal["logits", "features", "both"] | None = None
    """None: logits, or features for a model without a head."""
    preprocess_inside: bool = False
    """Include normalisation, and the step from logits to probabilities, in the graph."""
    dynamic_image: bool = False
    """Accept images of other sizes too."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Precision of the weights and of the values that they multiply."""

    def __post_init__(self) -> None:
        if self.outputs is not None and self.outputs not in CHOICES:
            raise UnknownName("outputs", self.outputs, CHOICES)


class FixedConv(nn.Conv2d):
    """A standardised convolution whose kernel was standardised beforehand."""

    def __init__(self, before: StdConv) -> None:
        channels = before.in_channels, before.out_channels
        super().__init__(*channels, before.kernel_size, before.stride, before.padding, bias=False)
        self.fixed = before.fixed
        self.weight = nn.Parameter(standardise_kernel(before.weight, before.epsilons), requires_grad=False)

    def forward(self, maps: Float[Tensor, "batch inputs row col"]) -> Float[Tensor, "batch outputs row2 col2"]:
        """Convolve."""
        if not self.fixed:
            maps = pad_same(maps, self.kernel_size[0], self.stride[0])
        return super().forward(maps)


def fix_kernels(model: Computing) -> Computing:
    """Replace standardised convolutions by plain ones, in place: exporters would leave their standardisation to be
    computed in every pass."""
    for module in list(model.modules()):
        for name, part in module.named_children():
            if isinstance(part, StdConv):
                setattr(module, name, FixedConv(part))
    return model


class Graph(nn.Module):
    """A model with the chosen inputs and outputs.

    Args:
        folder: the model.
        config: its inputs and outputs.
        target: openvino narrows weights when they are written, not in the graph; onnx expresses attention as products
            and a softmax of explicit precision.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, folder: ModelFolder, config: GraphConfig, target: Target = "torch") -> None:
        super().__init__()
        self.model = fix_kernels(copy.deepcopy(folder.computing).cpu().float().eval().requires_grad_(False))
        self.config, self.folder = config, folder
        self.products: AbstractContextManager[object] = nullcontext()
        if config.precision in DTYPES and target != "openvino":
            dtype = DTYPES[config.precision]
            narrow_weights(self.model, dtype)
            self.products = NarrowProducts(dtype, fused=target != "onnx")
        self.classes = bool(folder.classes)
        scale, shift = folder.preprocess.compute_scale(folder.preprocess.channels)
        self.register_buffer("scale", torch.tensor(scale).view(1, -1, 1, 1))
        self.register_buffer("shift", torch.tensor(shift).view(1, -1, 1, 1))

    def forward(self, pixels: Pixels[Tensor, "batch ..."]) -> tuple[Float[Tensor, "batch value"], ...]:
        """Return the outputs in their order."""
        if self.config.inputs == "pixels":
            pixels = pixels.permute(0, 3, 1, 2).float() * self.scale - self.shift
        with self.products:
            found = self._outputs(pixels)
        return tuple(found[name] for name in self.config.outputs)

    def _outputs(self, images: Float[Tensor, "batch channel row col"]) -> dict[str, Tensor]:
        wanted, model = self.config.outputs, self.model
        found = {}
        if isinstance(model, (ConvNet, Swin)):
            found["features"] = model.features(images)
            if self.classes:
                found["logits"] = model.head(found["features"])
        else:
            # With merged patches also how many of them each token consists of.
            vit, sequence = (
                (model.model, model.tokens(images)) if isinstance(model, Merging) else (model, (model.tokens(images),))
            )
            if "features" in wanted:
                found["features"] = vit.represent(*sequence)
            if self.classes:
                found["logits"] = vit.logits(*sequence)
        if "probabilities" in wanted:
            found["probabilities"] = to_probabilities(found["logits"], self.folder)
        return found

    def example(self) -> Pixels[Tensor, "batch ..."]:
        """Return a batch of two: with one, the exporter would treat the batch size as a constant."""
        rows, cols = self.config.image
        channels = self.folder.preprocess.channels
        if self.config.inputs == "normalised":
            return torch.zeros(2, channels, rows, cols)
        kept = self.folder.preprocess.keeps_channels
        return torch.zeros(2, rows, cols, channels, dtype=torch.float32 if kept else torch.uint8)


def plan_graph(folder: ModelFolder, options: GraphOptions, target: Target = "torch") -> GraphConfig:
    """Return the settled inputs and outputs.

    Raises:
        ConfigError: logits for a model without a head, other image sizes for a model whose positions belong to one
            grid, or a precision that the target lacks.
    """
    check_exportable(target, options.precision)
    headless = not folder.classes
    if headless and options.outputs in ("logits", "both"):
        raise ConfigError(f"this model has no head, so it can't give {options.outputs}; choose --outputs features")
    outputs = CHOICES[options.outputs or ("features" if headless else "logits")]
    if options.preprocess_inside and "logits" in outputs:
        outputs = ("probabilities", *outputs)
    if options.dynamic_image:
        check_dynamic(folder)
    inputs = "pixels" if options.preprocess_inside else "normalised"
    size, dynamic = tuple(folder.preprocess.size), options.dynamic_image
    opset = OPSET if target == "onnx" else None
    return GraphConfig(inputs, outputs, size, dynamic, opset, options.precision, merge=folder.merge)


def check_exportable(target: Target, precision: str) -> None:
    """Refuse a precision that a target can't store, or that can't be run here; raises UnknownName, ConfigError."""
    if precision not in ("fp32", *DTYPES):
        raise UnknownName("precision of an export", precision, ("fp32", *DTYPES))
    if precision == "bf16" and target in ("onnx", "openvino"):
        instead = (
            "ONNX Runtime can't compute bf16 on a CPU, so the export couldn't be compared with the model; choose --precision fp16, or --to torch"
            if target == "onnx"
            else "export in fp32 or fp16; OpenVINO then computes in bf16 with --precision bf16 of predict and evaluate"
        )
        raise ConfigError(f"exports to {target} are fp32 or fp16, not bf16: {instead}")
    check_bf16(precision, torch.device("cpu"))


def check_dynamic(folder: ModelFolder) -> None:
    """Raise ConfigError for images of any size if a part of the model is made for one size."""
    model = folder.model
    if isinstance(model, ConvNet):
        return
    if isinstance(model, Swin):
        raise ConfigError(
            f"a Swin Transformer's windows and masks are laid out for one grid, here {model.config.maps[0]} patches, and are "
            "constants in an export; leave out --dynamic-image, and export again with --image ROWS COLS for another size"
        )
    config = model.config
    part = f"positions ({config.positions})"
    if config.positions == "none":
        part = f"rotary positions ({config.rotary.kind})" if config.rotary.kind != "none" else "patch grid"
    raise ConfigError(
        f"a ViT's {part} are made for one grid, here {model.grid} patches, and are constants in an export; leave out "
        "--dynamic-image, and export again with --image ROWS COLS for another size"
    )
