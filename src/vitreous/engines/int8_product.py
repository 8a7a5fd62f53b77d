"""int8 products as functions that can be traced into a graph. Tracing accepts neither weights in oneDNN's layout nor
the operator's empty list of scalars, so the operator is given as text, and its tensors are inputs of the graph. CPU
only."""

from collections.abc import Callable
from decimal import Decimal

import torch
from torch import Tensor

from vitreous.engines.int8_linear import SUM, Int8Linear

TYPES = {torch.uint8: 0, torch.float32: 6, torch.bfloat16: 15}
"""torch's numbers for types, as in its graphs."""
KINDS = {float: "float", int: "int", str: "str"}
"""Types of constants, by their names in graphs."""


class Int8Product:
    """An int8 layer's product in a graph.

    Args:
        layer: the layer, whose type of results is settled.
        first: index of its first tensor among the inputs of the graph.
    """

    def __init__(self, layer: Int8Linear, first: int) -> None:
        _, _, packed, scale, zero = layer.factors
        self.layer = layer
        self.tensors = (packed, scale, zero) if layer.bias is None else (packed, scale, zero, layer.bias)
        self.places = slice(first, first + len(self.tensors))
        self._multiply, self._multiply_add = build_product(layer, False), build_product(layer, True)

    def multiply(self, values: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
        """As `Int8Linear.forward`; `inputs`: the tensors passed to the graph."""
        return self._multiply(self._round(values), *inputs[self.places])

    def add(self, values: Tensor, residual: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
        """As `Int8Linear.add`, for a residual in float32."""
        return self._multiply_add(self._round(values), residual, *inputs[self.places])

    def _round(self, values: Tensor) -> Tensor:
        if values.dtype == torch.uint8:
            return values
        return torch.quantize_per_tensor(values.float(), self.layer.scale, self.layer.zero, torch.quint8).int_repr()


def build_product(layer: Int8Linear, residual: bool) -> Callable[..., Tensor]:
    """Return an int8 layer's product as a function of uint8 inputs, of the residual if there is one, and of the layer's
    tensors; raises RuntimeError if torch has no such functions."""
    scale, zero, gives = layer.results
    activation, _, algorithm = layer.activation
    added = ["%residual"] if residual else []
    inputs = ["%values", *added, "%weight", "%weight_scale", "%weight_zero", *["%bias"] * (layer.bias is not None)]
    lines = ["  %empty : Scalar?[] = prim::ListConstruct()"]
    if layer.bias is None:
        lines.append("  %bias : NoneType = prim::Constant()")

    def add_constant(value: float | str) -> str:
        name = f"%constant{len(lines)}"
        lines.append(f"  {name} : {KINDS[type(value)]} = prim::Constant[value={write_constant(value)}]()")
        return name

    weights = ["%weight", "%weight_scale", "%weight_zero", *added, "%bias"]
    arguments = ["%values", add_constant(layer.scale), add_constant(layer.zero), *weights]
    arguments += map(add_constant, (scale, zero, TYPES[gives]))
    if residual:
        operation, factor, activation, _, algorithm = SUM
        arguments += map(add_constant, (1.0, 0, operation, factor))
    arguments += [add_constant(activation), "%empty", add_constant(algorithm)]
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


def write_constant(value: float | str) -> str:
    """Write a constant as graphs are read, a number without a decimal point, which programs may have set to a comma.

    >>> write_constant(0.25), write_constant(1e-7), write_constant(3), write_constant("gelu")
    ('25e-2', '1e-7', '3', '"gelu"')
    """
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, int):
        return str(value)
    sign, digits, power = Decimal(repr(value)).as_tuple()
    return f"{'-' * sign}{''.join(map(str, digits))}e{power}"
