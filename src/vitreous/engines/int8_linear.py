"""Dense layers in int8 by oneDNN: uint8 inputs with one scale per tensor, int8 weights with one scale per output channel. CPU only.

Products are summed in 32 bits. Without VNNI the processor first adds pairs of them in 16 bits, which saturate silently. Such a
processor is detected by a product of the largest factors, and gets weights of 7 bits, whose pairs fit.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from vitreous.engines.packed_linear import ACTIVATIONS, PackedLinear, Packing
from vitreous.errors import ConfigError
from vitreous.shapes import Float, Float32, Int8, UInt8

STEPS = 255
"""Steps between the lowest and the highest uint8 value."""
BITS = {8: 127, 7: 63}
"""Largest magnitude of a weight by its bits: 2 x 255 x 63 fits in 16 bits, 2 x 255 x 127 doesn't."""

SUM = ("add", 1.0, "none", [], "")
"""oneDNN's arguments for adding a residual after a product, with nothing after it."""

Range = tuple[float, float]
"""Lowest and highest value of a layer's inputs."""


@dataclass(frozen=True)
class Int8Packing:
    """Which layers are int8, and how the others are laid out."""

    rest: Packing
    """The packing of all other layers: in float32, as is the residual stream."""
    attends: torch.dtype
    """Precision of q, k and v, and of attention's products, in blocks with plain attention."""
    ranges: Mapping[str, Range]
    """Range of each int8 layer's inputs, by the layer's name in the model."""


AnyPacking = Packing | Int8Packing


def get_rest(packing: AnyPacking) -> Packing:
    """Return how layers that aren't int8 are laid out."""
    return packing.rest if isinstance(packing, Int8Packing) else packing


def get_attending_type(name: str, packing: AnyPacking) -> torch.dtype:
    """Return the precision of attention's products after a layer, named as in the model."""
    return packing.attends if isinstance(packing, Int8Packing) and name in packing.ranges else get_rest(packing).dtype


def pack_layer(
    name: str,
    weight: Float32[Tensor, "out in"],
    bias: Float32[Tensor, " out"] | None,
    packing: AnyPacking,
    activation: str = "none",
    gives: torch.dtype = torch.float32,
) -> "PackedLinear | Int8Linear":
    """Return a layer, named as in the model, in int8 if its range is known, else in the packing's precision; `gives`:
    the type of an int8 layer's results."""
    if isinstance(packing, Packing):
        return PackedLinear(weight, bias, packing, activation)
    if name in packing.ranges:
        return Int8Linear(weight, bias, packing.ranges[name], activation, gives, packing.rest.rows[0])
    return PackedLinear(weight, bias, packing.rest, activation)


def round_weight(weight: Float[Tensor, "out in"]) -> tuple[Int8[Tensor, "out in"], Float32[Tensor, " out"]]:
    """Return a weight in steps of a scale per output, and the scales."""
    weight, largest = weight.detach().float(), BITS[find_bits()]
    scale = weight.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / largest
    return (weight / scale[:, None]).round().clamp(-largest, largest).to(torch.int8), scale


def find_steps(inputs: Range) -> tuple[float, int]:
    """Return the step of uint8 values that cover a range, 0 included, and the value that stands for 0."""
    low, high = min(inputs[0], 0.0), max(inputs[1], 0.0)
    scale = max((high - low) / STEPS, torch.finfo(torch.float32).tiny)
    return scale, min(STEPS, max(0, round(-low / scale)))


def round_values(values: Float[Tensor, "*shape"], scale: float, zero: int) -> UInt8[Tensor, "*shape"]:
    """Return values rounded to the nearest steps of a scale around `zero`."""
    rounded = torch.quantize_per_tensor(values.float(), scale, zero, torch.quint8)
    if not rounded.is_contiguous():
        return rounded.int_repr()
    # the same memory as uint8: int_repr copies it one value at a time
    return torch.empty(0, dtype=torch.uint8).set_(rounded.untyped_storage(), 0, rounded.shape)


class Int8Linear(nn.Module):
    """A dense layer in int8, and the activation after it.

    Args:
        weight: in float32; it is rounded here.
        bias: added in float32.
        inputs: range of the inputs; values beyond it become the outermost value.
        activation: a name of `ACTIVATIONS`.
        gives: type of the results.
        rows: number of tokens in a pass for which the weight is laid out; other numbers work too.
    """

    def __init__(
        self,
        weight: Float32[Tensor, "out in"],
        bias: Float32[Tensor, " out"] | None,
        inputs: Range,
        activation: str = "none",
        gives: torch.dtype = torch.float32,
        rows: int = 1,
    ) -> None:
        super().__init__()
        self.scale, self.zero = find_steps(inputs)
        self.gives = gives
        rounded, weight_scale = round_weight(weight)
        packed = torch.ops.onednn.qlinear_prepack(rounded, [rows, weight.shape[1]])
        weight_zero = torch.zeros(len(weight), dtype=torch.int32)
        self.factors = (self.scale, self.zero, packed, weight_scale, weight_zero)
        """The product's arguments after the inputs."""
        self.bias = None if bias is None else bias.detach().float()
        kind, algorithm = ACTIVATIONS[activation]
        self.activation = (kind, [], algorithm)
        self.results = (1.0, 0, gives)
        """Scale, zero and type of the results."""
        pointwise = torch.ops.onednn.qlinear_pointwise
        self.multiply, self.multiply_add = pointwise.default, pointwise.binary

    def join(self, following: "Int8Linear") -> None:
        """Return results as uint8 inputs of the following layer, the only one that reads them."""
        self.gives = torch.uint8
        self.results = (following.scale, following.zero, torch.uint8)

    def forward(self, values: Float[Tensor, "... in"] | UInt8[Tensor, "... in"]) -> Tensor:
        """Return the activated product of values, or of values from `round_values`."""
        return self.multiply(self._round(values), *self.factors, self.bias, *self.results, *self.activation)

    def add(
        self, values: Float[Tensor, "... in"] | UInt8[Tensor, "... in"], residual: Float[Tensor, "... out"]
    ) -> Float[Tensor, "... out"]:
        """Return the product plus what passes it by, which keeps its precision; the layer has no activation."""
        if residual.dtype != self.gives:
            return residual + self(values)
        return self.multiply_add(
            self._round(values), *self.factors, residual.contiguous(), self.bias, *self.results, 1.0, 0, *SUM
        )

    def _round(self, values: Tensor) -> UInt8[Tensor, "... in"]:
        return values if values.dtype == torch.uint8 else round_values(values, self.scale, self.zero)


def check_int8() -> None:
    """Raise ConfigError if this processor's int8 sums saturate even with weights of 7 bits, or torch has no such
    products."""
    try:
        exact = is_exact(find_bits())
    except (RuntimeError, AttributeError) as error:
        said = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"this build of torch has no int8 products for this processor ({said}); choose --precision fp32"
        ) from error
    if not exact:
        raise ConfigError(
            "int8 sums overflow silently in torch on this processor; choose --precision fp32, or an export: vitreous quantise MODEL DATA --to onnx"
        )


def find_bits() -> int:
    """Return the bits of weights with which this processor's sums are exact: 8 with VNNI, otherwise 7."""
    return 8 if is_exact(8) else 7


@cache
def is_exact(bits: int) -> bool:
    """Return whether a product of the largest factors, with weights of this many bits, is correct."""
    weights = torch.full((32, 64), BITS[bits], dtype=torch.int8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns once that these types will be removed
        inputs = round_values(torch.full((16, 64), 127.0), 1.0, 128)
    packed, zeros = torch.ops.onednn.qlinear_prepack(weights, [16, 64]), torch.zeros(32, dtype=torch.int32)
    found = torch.ops.onednn.qlinear_pointwise(
        inputs, 1.0, 128, packed, torch.ones(32), zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )
    return bool((found == 64 * BITS[bits] * 127).all())
