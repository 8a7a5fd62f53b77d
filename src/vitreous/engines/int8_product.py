"""int8 products as functions that can be traced into a graph. Tracing itself takes neither weights in oneDNN's layout, nor the
operator's empty list of scalars: so the operator comes as text, and its tensors are inputs of the graph. CPU only."""

from collections.abc import Callable

import torch
from torch import Tensor

from vitreous.engines.int8_linear import SUM, Int8Linear

TYPES = {torch.uint8: 0, torch.float32: 6, torch.bfloat16: 15}
"""torch's numbers of types, as its graphs have them."""
CONSTANTS = {float: "float", int: "int", str: "str"}


class Int8Product:
    """An int8 layer's product in a graph.

    Args:
        layer: with the type of results that it has by now.
        place: of the first of its tensors among all that are inputs of the graph.
    """

    def __init__(self, layer: Int8Linear, place: int) -> None:
        _, _, packed, scale, zero = layer.factors
        self.layer = layer
        self.tensors = (packed, scale, zero) if layer.bias is None else (packed, scale, zero, layer.bias)
        self.place = slice(place, place + len(self.tensors))
        self._multiply, self._multiply_add = build_product(layer, False), build_product(layer, True)

    def multiply(self, values: Tensor, held: tuple[Tensor, ...]) -> Tensor:
        """As `Int8Linear.forward`; `held`: the tensors that are inputs of the graph."""
        return self._multiply(self._round(values), *held[self.place])

    def add(self, values: Tensor, residual: Tensor, held: tuple[Tensor, ...]) -> Tensor:
        """As `Int8Linear.add`, for a residual in float32."""
        return self._multiply_add(self._round(values), residual, *held[self.place])

    def _round(self, values: Tensor) -> Tensor:
        if values.dtype == torch.uint8:
            return values
        return torch.quantize_per_tensor(values.float(), self.layer.scale, self.layer.zero, torch.quint8).int_repr()


def build_product(layer: Int8Linear, residual: bool) -> Callable[..., Tensor]:
    """Return an int8 layer's product as a function of uint8 inputs, of what is added to it if anything is, and of the layer's tensors;
    raises RuntimeError if torch has no such functions."""
    scale, gives_zero, gives = layer.results
    kind, _, algorithm = layer.activation
    other = ["%residual"] if residual else []
    inputs = ["%values", *other, "%weight", "%weight_scale", "%weight_zero", *["%bias"] * (layer.bias is not None)]
    lines: list[str] = []

    def hold(value: float | str) -> str:
        name = f"%constant{len(lines)}"
        said = f'"{value}"' if isinstance(value, str) else repr(value)
        lines.append(f"  {name} : {CONSTANTS[type(value)]} = prim::Constant[value={said}]()")
        return name

    if layer.bias is None:
        lines.append("  %bias : NoneType = prim::Constant()")
    before = [
        "%values",
        hold(layer.scale),
        hold(layer.zero),
        "%weight",
        "%weight_scale",
        "%weight_zero",
        *other,
        "%bias",
    ]
    arguments = [*before, hold(scale), hold(gives_zero), hold(TYPES[gives])]
    lines.append("  %none : Scalar?[] = prim::ListConstruct()")
    if residual:
        sort, factor, unary, _, unary_algorithm = SUM
        arguments += [hold(1.0), hold(0), hold(sort), hold(factor), hold(unary), "%none", hold(unary_algorithm)]
    else:
        arguments += [hold(kind), "%none", hold(algorithm)]
    text = "\n".join(
        [
            f"graph({', '.join(f'{name} : Tensor' for name in inputs)}):",
            *lines,
            f"  %found : Tensor = onednn::qlinear_pointwise({', '.join(arguments)})",
            "  return (%found)",
        ]
    )
    try:
        product: Callable[..., Tensor] = torch._C._create_function_from_graph("product", torch._C.parse_ir(text))
    except AttributeError as error:
        raise RuntimeError(f"this build of torch has no functions from text ({error})") from error
    return product
