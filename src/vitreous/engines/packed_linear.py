"""Dense layers whose weights are laid out in advance for the processor's matrix products, by oneDNN or MKL. CPU only.

torch's own layer lays out its weight in every pass, copies the bias into the result first, and goes through the result again
for the activation.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.runtime.processor import is_x86, read_cpu_vendor
from vitreous.shapes import Float, Float32

ACTIVATIONS = {"none": ("none", ""), "gelu": ("gelu", "none"), "gelu-tanh": ("gelu", "tanh"), "silu": ("swish", "")}
"""Activations after a product: vitreous's name -> oneDNN's name and algorithm."""


@dataclass(frozen=True)
class Packing:
    """How weights are laid out."""

    library: Literal["mkl", "onednn"]
    """mkl for float32 on Intel's processors, where its products are faster; onednn everywhere else, with the activation
    inside the product."""
    dtype: torch.dtype
    """Type of the product's factors, float32 or bfloat16; sums are in float32."""
    rows: tuple[int, ...]
    """Number of tokens in a pass: MKL's layout is for one number of tokens; for others torch's own layer is used."""


def choose_packing(dtype: torch.dtype, rows: tuple[int, ...]) -> Packing | None:
    """Return this processor's packing for a precision; None if there is none."""
    if not is_x86():
        return None
    if dtype == torch.float32 and torch.backends.mkl.is_available() and "AuthenticAMD" not in read_cpu_vendor():
        return Packing("mkl", dtype, rows)
    return Packing("onednn", dtype, rows) if torch.backends.mkldnn.is_available() else None


class PackedLinear(nn.Module):
    """A dense layer, and the activation after it, with a weight that was laid out in advance.

    The result is in the packing's precision.
    """

    def __init__(
        self,
        weight: Float32[Tensor, "out in"],
        bias: Float32[Tensor, " out"] | None,
        packing: Packing,
        activation: str = "none",
    ) -> None:
        super().__init__()
        self.activation, self.packing = activation, packing
        self.weight = weight.detach()
        self.bias = None if bias is None else bias.detach().to(packing.dtype)
        if packing.library == "mkl":
            lay_out = torch.ops.mkl._mkl_reorder_linear_weight
            self.packed = {rows: lay_out(self.weight, rows) for rows in packing.rows}
        else:
            lay_out = torch.ops.mkldnn._reorder_linear_weight
            self.packed = {0: lay_out(self.weight.to(packing.dtype), packing.rows[0])}
            pointwise = torch.ops.mkldnn._linear_pointwise
            self.multiply, self.multiply_add = (
                pointwise.default,
                pointwise.binary,
            )  # chosen once: choosing takes as long as a call

    def forward(self, values: Float[Tensor, "... in"]) -> Float[Tensor, "... out"]:
        """Return the activated product."""
        values = values.to(self.packing.dtype)
        if self.packing.library == "onednn":
            kind, algorithm = ACTIVATIONS[self.activation]
            return self.multiply(values, self.packed[0], self.bias, kind, [], algorithm)
        rows = values.numel() // values.shape[-1]
        if rows in self.packed:
            found = torch.ops.mkl._mkl_linear(values, self.packed[rows], self.weight, self.bias, rows)
        else:
            found = F.linear(values, self.weight, self.bias)
        return self._activate(found)

    def add(self, values: Float[Tensor, "... in"], residual: Float[Tensor, "... out"]) -> Float[Tensor, "... out"]:
        """Return the product plus the residual, which keeps its precision; the layer has no activation."""
        if self.packing.library == "onednn" and residual.dtype == self.packing.dtype:
            return self.multiply_add(values.to(self.packing.dtype), residual, self.packed[0], self.bias, "add")
        found = self(values)
        return found.add_(residual) if found.dtype == residual.dtype else residual + found

    def _activate(self, found: Tensor) -> Tensor:
        if self.activation == "silu":
            return F.silu(found, inplace=True)
        if self.activation == "none":
            return found
        return torch.ops.aten.gelu_(found, approximate=ACTIVATIONS[self.activation][1])
