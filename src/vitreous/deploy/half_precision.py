"""Programs whose products are computed in 16 bits: dense layers, convolutions and attention. Sums, norms and softmax
stay in float32."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from vitreous.model.attention import attention_weights
from vitreous.weights.model_folder import Computing

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
PRODUCTS = (F.linear, F.conv2d, torch.matmul, Tensor.matmul, Tensor.__matmul__)


def narrow_weights(model: Computing, dtype: torch.dtype) -> Computing:
    """Store weights and biases of dense layers and convolutions in 16 bits, in place."""
    for part in model.modules():
        if isinstance(part, (nn.Linear, nn.Conv2d)):
            part.to(dtype)
    return model


class NarrowProducts(TorchFunctionMode):
    """While it is active, every matrix product takes its inputs in 16 bits and returns float32.

    Args:
        dtype: float16 or bfloat16.
        fused: keep torch's attention kernel, which computes its softmax in float32 anyway; otherwise attention becomes
            two products with a softmax in float32 between them.
    """

    def __init__(self, dtype: torch.dtype, *, fused: bool) -> None:
        super().__init__()
        self.dtype, self.fused = dtype, fused

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call one of torch's functions."""
        if func is F.scaled_dot_product_attention and not self.fused:
            q, k, v, *mask = args
            with self:  # torch leaves a mode while it handles a call
                return attention_weights(q, k, mask[0] if mask else None) @ v
        if func in PRODUCTS or func is F.scaled_dot_product_attention:
            return func(
                *map(self._narrow, args), **{key: self._narrow(value) for key, value in (kwargs or {}).items()}
            ).float()
        return func(*args, **(kwargs or {}))

    def _narrow(self, value: Any) -> Any:
        return value.to(self.dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
